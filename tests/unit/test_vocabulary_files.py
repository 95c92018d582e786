"""What an export says of its vocabularies is enough to encode users and items without this package."""

from __future__ import annotations

import json
import math
import sys
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.declarations import declaration
from towerrec.data.encoders import Encoders
from towerrec.data.time import days_of
from towerrec.data.vocabulary_files import described
from towerrec.schema import FeatureSpec

DOCS = str(Path(__file__).parents[2] / "docs")
sys.path.insert(0, DOCS)
try:
    from encode import encoded
finally:
    sys.path.remove(DOCS)

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


def by_the_rules(rule: dict[str, Any], spec: FeatureSpec, row: dict[str, Any], today: str | None = None) -> Any:
    """A value as `docs/encode.py` encodes it, with what stands there where it gives nothing."""
    absent = {"categorical": 1, "numeric": float(rule["kind"] == "missing")}.get(spec.kind, 0)
    width = spec.width if spec.kind in ("multi", "vector") else 1
    found = np.full(width, absent, dtype=np.float64)
    values = np.ravel(encoded(rule, row, today))
    found[: len(values)] = values
    return found if spec.kind in ("multi", "vector") else found[0]


def test_every_kind_of_feature_is_encoded_by_the_rules_as_the_encoders_do():
    fitted = encoders()
    rules = json.loads(json.dumps(described(fitted, "user", fitted.schema), ensure_ascii=False))
    assert (rules["padding"], rules["unknown"], rules["first"], rules["timezone"]) == (0, 1, 2, ZONE)
    want = fitted.encode("user", ASKED).columns
    of_table = {name: rule for name, rule in rules["inputs"].items() if not rule.get("context")}
    assert list(of_table) == list(want)
    specs = {spec.name: spec for spec in fitted.schema.features}
    for name, rule in of_table.items():
        got = [by_the_rules(rule, specs[name], row) for row in ASKED.to_dicts()]
        np.testing.assert_allclose(np.array(got), want[name].numpy(), rtol=1e-6, atol=1e-6, err_msg=rule["how"])


def test_the_moment_of_a_request_is_encoded_by_the_rules_as_the_encoders_do():
    fitted = encoders()
    moment = datetime(2020, 9, 6, 23, 30, tzinfo=UTC)  # Monday the 7th, 7:30, in Shanghai
    local = moment.astimezone(ZoneInfo(ZONE))
    at: NDArray[np.int64] = np.full(5, int(moment.timestamp() * 1000))
    specs = {spec.name: spec for spec in fitted.schema.features}
    rules = described(fitted, "user", fitted.schema)["inputs"]
    row = {"hour": local.hour, "weekday": local.weekday()}
    want = fitted.user_context(at[:1])
    assert {name: by_the_rules(rules[name], specs[name], row) for name in row} == {n: int(want[n][0]) for n in row}
    assert by_the_rules(rules["hour"], specs["hour"], {}) == 1
    today = local.date()
    born = [today.replace(day=7), today.replace(day=4), date(2019, 1, 1), date(2030, 1, 1), None]
    popularity = np.array([0.0, 0.5, 3.0, 100.0, 1.0], dtype=np.float32)
    days = days_of(pl.Series(born, dtype=pl.Date))
    want = fitted.item_context(at, {"age": days}, {"now": popularity})
    rules = described(fitted, "item", fitted.schema)["inputs"]
    rows = [
        {"born": None if day is None else str(day), "now": float(p)} for day, p in zip(born, popularity, strict=True)
    ]
    for name in ("age", "now"):
        got = [by_the_rules(rules[name], specs[name], row, str(today)) for row in rows]
        assert got == want[name].tolist(), name
    assert by_the_rules(rules["age"], specs["age"], rows[0]) == 1, "of no moment, no age is known"
