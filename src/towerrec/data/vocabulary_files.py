"""Vocabularies and statistics as one plain JSON per side, with the rules in words: enough to encode a user elsewhere.

Nothing here reads them back: this package encodes by `encoders.json` of the catalogue, which holds the same values.
"""

from __future__ import annotations

from typing import Any

from towerrec.data.column_encoders import CLIP, Bucket, Categorical, ColumnEncoder, Numeric
from towerrec.data.encoders import COMPUTED_KINDS, ContextEncoder, Encoders
from towerrec.data.list_encoders import Multi, Text, Vector
from towerrec.data.vocabulary import Vocabulary
from towerrec.schema import FIRST, PAD, UNKNOWN, FeatureSchema, Side

FORMAT = 1

_VALUE = {
    "int": ('as a whole number of 64 bits: 3, 3.0, "3" and "3.0" are 3, true is 1, what is no whole number is missing'),
    "str": "as text, character by character",
}
_HOW = {
    Categorical: "index = 2 + place of the value in `values`, compared {compared}; 1 if it is missing or not there",
    Multi: (
        "of every value of the list the index, 2 + its place in `values`, compared {compared}; values that are not "
        "there are left out, so are repeats; the first {width}, then 0 up to that length"
    ),
    Text: (
        "the texts of `columns` (lists joined by spaces) in Unicode NFKC, lower case, every run of characters other "
        "than letters, digits, marks and symbols one space, trimmed (unknown, none, null, nan, na are empty), joined "
        "by a space; of every place the n-grams of `lengths`, long ones first, none across a space; of the code points "
        "c of an n-gram h = n, h = h * 0x9E3779B97F4A7C15 + c for each, then h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9, "
        "h = (h ^ h >> 27) * 0x94D049BB133111EB, h = h ^ h >> 31, all modulo 2 ** 64; h modulo `buckets` is a value, "
        "encoded like a list: index = 2 + its place in `hashes`, others and repeats left out, the first {width}, then 0"
    ),
    Numeric: (
        "x = the number ({transform}); (x - mean) / deviation, no less than -{clip:g} and no more than {clip:g}; 0 if "
        "it is {missing}"
    ),
    Bucket: "2 + how many of `edges` are at most the number; 1 if it is {missing}",
    Vector: "(vector - mean) / deviation, place by place{unit}; all 0 if it is missing",
}
_NO_NUMBER = "missing, NaN, infinite or beyond 3.4e38"
_MISSING = f"1 if the number is {_NO_NUMBER}, otherwise 0"
_CONTEXT = {
    "hour": "2 + hour of the moment (0 to 23) in `timezone`; 1 if it is not known",
    "weekday": "2 + weekday of the moment (0 is Monday) in `timezone`; 1 if it is not known",
    "age_days": (
        "age = whole days from the date in `columns` to the day of the moment in `timezone`, at least 0; 2 + how many "
        "of `edges` are at most the age; 1 if either is not known"
    ),
    "recent": (
        "popularity = training positives of the item, each halved every `half_life_days`, over their mean over all "
        "items; 2 + how many of `edges` are at most it; 1 if there are none"
    ),
}


def described(encoders: Encoders, side: Side, schema: FeatureSchema) -> dict[str, Any]:
    """How the inputs of one tower are made from raw columns, as plain builtins.

    `inputs` has one entry per encoded feature, in the order of the encoders: the `columns` it reads, its kind, the
    parameters of its rule, and the rule in words (`how`).
    """
    inputs: dict[str, dict[str, Any]] = {}
    for kind, encoder in encoders.encoders:
        if encoder.side == side:
            inputs |= _of_columns(kind, encoder)
    inputs |= {encoder.name: _of_moment(encoder) for encoder in encoders.context if encoder.side == side}
    return {
        "format": FORMAT,
        "side": side,
        "schema_fingerprint": schema.fingerprint,
        "schema": schema.to_dict(),
        "timezone": encoders.timezone,
        "padding": PAD,
        "unknown": UNKNOWN,
        "first": FIRST,
        "inputs": inputs,
    }


def _of_columns(kind: str, encoder: ColumnEncoder) -> dict[str, dict[str, Any]]:
    parameters = {
        key: value
        for key, value in vars(encoder).items()
        if key not in ("name", "side", "group", "columns", "vocabulary", "indicator")
    }
    vocabulary = getattr(encoder, "vocabulary", None)
    if isinstance(vocabulary, Vocabulary):
        known = "hashes" if isinstance(encoder, Text) else "values"
        parameters |= {"type": vocabulary.type, known: list(vocabulary.values)}
    note = " (counted in training rows: a new row has none, so it is missing)" if kind in COMPUTED_KINDS else ""
    read = {"columns": list(encoder.columns)}
    inputs = {encoder.name: {"kind": kind, **read, **parameters, "how": _rule(encoder) + note}}
    for spec in encoder.specs()[1:]:
        inputs[spec.name] = {"kind": "missing", **read, "transform": "none", "how": _MISSING + note}
    return inputs


def _of_moment(encoder: ContextEncoder) -> dict[str, Any]:
    parameters: dict[str, Any] = {"edges": list(encoder.edges)}
    if encoder.kind in ("hour", "weekday"):
        parameters = {"type": "int", "values": list(range(24 if encoder.kind == "hour" else 7))}
    if encoder.kind == "recent":
        parameters["half_life_days"] = encoder.half_life_days
    columns = [encoder.column] if encoder.kind == "age_days" else [encoder.name]
    return {"kind": encoder.kind, "columns": columns, **parameters, "context": True, "how": _CONTEXT[encoder.kind]}


def _rule(encoder: ColumnEncoder) -> str:
    rule = _HOW[type(encoder)]
    if isinstance(encoder, Categorical):
        return rule.format(compared=_VALUE[encoder.vocabulary.type])
    if isinstance(encoder, Multi):
        return rule.format(compared=_VALUE[encoder.vocabulary.type], width=encoder.width)
    if isinstance(encoder, Text):
        return rule.format(width=encoder.width)
    if isinstance(encoder, Numeric):
        transform = "its sign times log(1 + |x|)" if encoder.transform == "log1p" else "as it is"
        return rule.format(transform=transform, clip=CLIP, missing=_NO_NUMBER)
    if isinstance(encoder, Bucket):
        return rule.format(missing=_NO_NUMBER)
    if isinstance(encoder, Vector):
        return rule.format(unit=", then divided by its length" if encoder.normalise == "unit" else "")
    return rule
