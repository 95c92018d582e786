"""Columns of a user or an item as the towers of an exported folder read them, every kind of feature, with numpy alone.

`encoded(rule, row)` takes a rule of `vocabularies/{user,item}.json` and raw columns by their names, and gives what
stands in the input of that name: nothing where nothing is known, for there stands `absent` of `towers/towers.json`.
The age of an item also needs the day of the moment, such as "2020-09-05".
"""

import unicodedata

import numpy as np


def encoded(rule, row, today=None):
    kind, said = rule["kind"], [row[name] for name in rule["columns"] if row.get(name) is not None]
    if not said or (kind == "age_days" and today is None):
        return []
    if kind == "text":
        return places(rule, "hashes", [hashed(gram) % rule["buckets"] for gram in ngrams(rule["lengths"], said)])
    if "values" in rule:
        return places(rule, "values", said[0] if isinstance(said[0], list) else said)
    x = np.array(max(days(today) - days(said[0]), 0) if kind == "age_days" else said[0], dtype=np.float64)
    if not (np.abs(x) <= 3.4e38).all() or (kind == "recent" and x == 0):
        return []
    if "edges" in rule:
        return [2 + np.searchsorted(rule["edges"], x, side="right")]
    if kind == "missing":
        return [0]
    x = np.sign(x) * np.log1p(np.abs(x)) if rule.get("transform") == "log1p" else x
    x = (x - rule["mean"]) / rule["deviation"]
    if kind == "vector":
        return x / max(np.linalg.norm(x), 1e-12) if rule["normalise"] == "unit" else x
    return [np.clip(x, -10, 10)]


def places(rule, known, values):
    place = {str(value): 2 + number for number, value in enumerate(rule[known])}
    words = [str(int(value) if isinstance(value, bool) else value) for value in values]
    words = [word.removesuffix(".0") if rule["type"] == "int" else word for word in words]
    return list(dict.fromkeys(place[word] for word in words if word in place))[: rule.get("width", 1)]


def days(date):
    return np.datetime64(date).astype("datetime64[D]").astype(int)


def ngrams(lengths, texts):
    words = []
    for text in texts:
        text = unicodedata.normalize("NFKC", " ".join(text) if isinstance(text, list) else str(text)).lower()
        kept = "".join(letter if unicodedata.category(letter)[0] in "LNMS" else " " for letter in text).split()
        words += [] if kept in (["unknown"], ["none"], ["null"], ["nan"], ["na"]) else kept
    begins = [(word, at) for word in words for at in range(len(word))]
    return [word[at : at + n] for word, at in begins for n in sorted(lengths, reverse=True) if at + n <= len(word)]


def hashed(gram):
    h = len(gram)
    for letter in gram:
        h = (h * 0x9E3779B97F4A7C15 + ord(letter)) % 2**64
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        h = (h ^ h >> shift) * factor % 2**64
    return h ^ h >> 31
