"""What an export says of its vocabularies is enough to encode users and items without this package."""

from __future__ import annotations

import json
import math
import unicodedata
from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.declarations import declaration
from towerrec.data.encoders import Encoders
from towerrec.data.vocabulary_files import described

DECLARED: dict[str, dict[str, Any]] = {
    "user_id": {"side": "user", "kind": "id"},
    "city": {"side": "user", "kind": "categorical"},
    "level": {"side": "user", "kind": "categorical"},
    "likes": {"side": "user", "kind": "multi", "max_length": 2},
    "about": {"side": "user", "kind": "text", "columns": ["bio", "motto"], "ngrams": [1, 2], "buckets": 64},
    "fans": {"side": "user", "kind": "numeric", "transform": "log1p"},
    "days": {"side": "user", "kind": "bucket", "buckets": 3},
    "face": {"side": "user", "kind": "vector", "normalise": "unit"},
    "hour": {"side": "user", "kind": "hour"},
    "weekday": {"side": "user", "kind": "weekday"},
    "item_id": {"side": "item", "kind": "id"},
    "age": {"side": "item", "kind": "age_days", "column": "born", "buckets": 3},
    "now": {"side": "item", "kind": "recent", "buckets": 3},
}
KNOWN = pl.DataFrame(
    {
        "user_id": [2**62, -3, 5],
        "city": ["鸡西", "a", None],
        "level": [1.0, 3.0, None],
        "likes": [["x", "y"], ["z", "x", "q"], []],
        "bio": ["Ｈello, World!", "看猫 cats", "unknown"],
        "motto": [None, "再来", "x"],
        "fans": [0.0, 10.0, None],
        "days": [1, 2, 9],
        "face": [[3.0, 4.0], [1.0, 0.0], None],
    }
)
ASKED = pl.DataFrame(
    {
        "user_id": [5, 2**62, 7, -3],
        "city": ["a", "nowhere", None, "鸡西"],
        "level": [3.0, 2.0, None, 1.0],
        "likes": [["q", "x", "x", "y"], None, ["new", "z"], []],
        "bio": ["HELLO cats?", None, "看猫", "N/A none"],
        "motto": ["world", "x", None, None],
        "fans": [1e9, None, math.inf, -10.0],
        "days": [0, 3, None, 9],
        "face": [[0.0, 2.0], None, [1.0, 1.0], [3.0, 4.0]],
    }
)
ZONE = "Asia/Shanghai"


def encoders() -> Encoders:
    return Encoders.fit(
        [declaration(name, plain) for name, plain in DECLARED.items()],
        users=KNOWN,
        items=pl.DataFrame({"item_id": [1, 2]}),
        train_users=pl.Series([True] * KNOWN.height),
        train_items=pl.Series([True, True]),
        train_ages={"age": np.array([0, 3, 40, -1], dtype=np.int32)},
        train_recent={"now": np.array([0.0, 0.5, 2.0, 7.0], dtype=np.float32)},
        timezone=ZONE,
    )


def by_the_rules(rule: dict[str, Any], row: dict[str, Any]) -> Any:
    """A value encoded as `how` says, with Python and NumPy alone."""
    value = row.get(rule["columns"][0])
    match rule["kind"]:
        case "id" | "categorical" | "hour" | "weekday":
            return 2 + rule["values"].index(value) if value in rule["values"] else 1
        case "multi":
            return padded([2 + rule["values"].index(v) for v in value or [] if v in rule["values"]], rule["width"])
        case "text":
            found = [hashed(gram) % rule["buckets"] for gram in grams(rule, [row[name] for name in rule["columns"]])]
            return padded([2 + rule["hashes"].index(h) for h in found if h in rule["hashes"]], rule["width"])
        case "vector":
            x = np.zeros(len(rule["mean"])) if value is None else (np.array(value) - rule["mean"]) / rule["deviation"]
            return x / max(float(np.linalg.norm(x)), 1e-12) if rule["normalise"] == "unit" else x
    missing = value is None or not math.isfinite(value)
    match rule["kind"]:
        case "missing":
            return float(missing)
        case "bucket":
            return 1 if missing else 2 + sum(edge <= value for edge in rule["edges"])
        case "age_days":
            return 1 if missing or value < 0 else 2 + sum(edge <= value for edge in rule["edges"])
        case "recent":
            return 1 if missing or value == 0 else 2 + sum(edge <= value for edge in rule["edges"])
    x = 0.0 if missing else math.copysign(math.log1p(abs(value)), value) if rule["transform"] == "log1p" else value
    return 0.0 if missing else min(max((x - rule["mean"]) / rule["deviation"], -10.0), 10.0)


def padded(values: list[int], width: int) -> list[int]:
    distinct = list(dict.fromkeys(values))[:width]
    return distinct + [0] * (width - len(distinct))


def grams(rule: dict[str, Any], texts: list[str | None]) -> list[str]:
    clean = []
    for text in texts:
        kept = "".join(
            letter if unicodedata.category(letter)[0] in "LNMS" else " "
            for letter in unicodedata.normalize("NFKC", text or "").lower()
        )
        words = " ".join(kept.split())
        clean.append("" if words in ("unknown", "none", "null", "nan", "na") else words)
    joined = " ".join(clean).strip()
    lengths = sorted(rule["lengths"], reverse=True)
    windows = [joined[at : at + n] for at in range(len(joined)) for n in lengths if at + n <= len(joined)]
    return [window for window in windows if " " not in window]


def hashed(gram: str) -> int:
    h = len(gram)
    for letter in gram:
        h = (h * 0x9E3779B97F4A7C15 + ord(letter)) % 2**64
    h = (h ^ h >> 30) * 0xBF58476D1CE4E5B9 % 2**64
    h = (h ^ h >> 27) * 0x94D049BB133111EB % 2**64
    return h ^ h >> 31


def test_every_kind_of_feature_is_encoded_by_the_rules_as_the_encoders_do():
    fitted = encoders()
    rules = json.loads(json.dumps(described(fitted, "user", fitted.schema), ensure_ascii=False))
    assert (rules["padding"], rules["unknown"], rules["first"], rules["timezone"]) == (0, 1, 2, ZONE)
    want = fitted.encode("user", ASKED).columns
    of_table = {name: rule for name, rule in rules["inputs"].items() if not rule.get("context")}
    assert list(of_table) == list(want)
    for name, rule in of_table.items():
        got = [by_the_rules(rule, row) for row in ASKED.to_dicts()]
        np.testing.assert_allclose(np.array(got), want[name].numpy(), rtol=1e-6, atol=1e-6, err_msg=rule["how"])


def test_the_moment_of_a_request_is_encoded_by_the_rules_as_the_encoders_do():
    fitted = encoders()
    moment = datetime(2020, 9, 6, 23, 30, tzinfo=UTC)  # Monday the 7th, 7:30, in Shanghai
    local = moment.astimezone(ZoneInfo(ZONE))
    at: NDArray[np.int64] = np.full(4, int(moment.timestamp() * 1000))
    rules = described(fitted, "user", fitted.schema)["inputs"]
    row = {"hour": local.hour, "weekday": local.weekday()}
    want = fitted.user_context(at[:1])
    assert {name: by_the_rules(rules[name], row) for name in row} == {name: int(want[name][0]) for name in row}
    assert by_the_rules(rules["hour"], {}) == 1
    epoch, today = date(1970, 1, 1), local.date()
    born = [today.replace(day=7), today.replace(day=4), date(2019, 1, 1), date(2030, 1, 1)]
    popularity = np.array([0.0, 0.5, 3.0, 100.0], dtype=np.float32)
    days = np.array([(day - epoch).days for day in born], dtype=np.int32)
    want = fitted.item_context(at, {"age": days}, {"now": popularity})
    rules = described(fitted, "item", fitted.schema)["inputs"]
    ages = [max((today - day).days, 0) for day in born]
    assert [by_the_rules(rules["age"], {"born": age}) for age in ages] == want["age"].tolist()
    assert [by_the_rules(rules["now"], {"now": float(p)}) for p in popularity] == want["now"].tolist()
