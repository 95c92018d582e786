"""What a log, a side table or a column of ids can have wrong, and what must come of it.

Each `Fault` is one small log with one thing wrong. `prepared` prepares it; what a fault leads to is part of the fault:
words of a named error, or what is dropped, counted or kept. The tests go through them one by one, and
`benchmarks/faults_data.py` counts them.
"""

from __future__ import annotations

import datetime
import decimal
import itertools
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from towerrec.data.labels import Column, Label, Liked, WatchRatio
from towerrec.data.prepare import Prepared, prepare
from towerrec.data.sources.interactions import Interactions
from towerrec.data.splits import RandomRows

USERS, ITEMS, ROWS = 12, 15, 120
SPOILT = (3, 77)
"""Rows in which a number of the log is spoilt."""


@dataclass(frozen=True)
class Fault:
    """A log with something wrong, and what it must lead to.

    Attributes:
        name: One word for it.
        kind: `numbers`, `features`, `ids` or `side ids`.
        log: Its rows.
        format: `parquet` or `csv`.
        users: A side table of users.
        label: What is learnt.
        features: The `features` group of the config.
        refused: Words of the error; none where the log can be used.
        counted: What the cleaning must count.
        ids: Type that user ids must get, None where that is not what it is about.
        used: Features that must be there, and those that must not (with a minus before).
    """

    name: str
    kind: str
    log: pl.DataFrame
    format: str = "parquet"
    users: pl.DataFrame | None = None
    label: Label = field(default_factory=Column)
    features: Mapping[str, Any] = field(default_factory=lambda: {"auto": True})
    refused: tuple[str, ...] = ()
    counted: Mapping[str, int] = field(default_factory=dict)
    ids: type[pl.DataType] | None = None
    used: tuple[str, ...] = ()

    @property
    def id(self) -> str:
        """Of a test."""
        return f"{self.kind}: {self.name} ({self.format})"


def prepared(fault: Fault, folder: Path) -> Prepared:
    """Prepare the log of a fault.

    Raises:
        ValueError: As the fault says.
    """
    written(fault.log, folder / f"log.{fault.format}")
    side = {} if fault.users is None else {"users": str(written(fault.users, folder / f"users.{fault.format}"))}
    log = str(folder / f"log.{fault.format}")
    columns = {"label": "liked", "timestamp": "t"}
    return prepare(
        source=Interactions(interactions=log, columns=columns, **side),
        split=RandomRows(val=0.1, test=0.2),
        label=fault.label,
        features=fault.features,
        cache_dir=folder / "cache",
    )


def trouble(fault: Fault, folder: Path) -> str | None:
    """What differs from what a fault must lead to, None where nothing does."""
    try:
        made = prepared(fault, folder)
    except ValueError as error:
        missing = [word for word in fault.refused if word not in str(error)]
        return f"the error lacks {missing}: {error}" if missing or not fault.refused else None
    if fault.refused:
        return f"was not refused with {fault.refused}"
    cleaning = {name: rows for name, rows in made.report["cleaning"].items() if name not in ("rows_read", "rows_kept")}
    if cleaning != dict(fault.counted):
        return f"the cleaning counted {cleaning}, not {dict(fault.counted)}"
    if fault.ids is not None and made.user_ids.dtype != fault.ids:
        return f"user ids are {made.user_ids.dtype}, not {fault.ids}"
    return _not_finite(made) or _wrong_features(made, fault.used)


def _not_finite(made: Prepared) -> str | None:
    columns = [*made.users.columns.items(), *made.items.columns.items()]
    for split in ("train", "val", "test"):
        columns += [("label", made.store.rows(split).label), ("value", made.store.values(split))]
        columns.append(("grade", made.store.grades(split)))
    bad = [name for name, column in columns if not column.isfinite().all()]
    try:
        json.dumps(made.report, allow_nan=False)
    except ValueError:
        bad.append("the report")
    return f"not finite: {bad}" if bad else None


def _wrong_features(made: Prepared, used: Sequence[str]) -> str | None:
    there = {spec.name for spec in made.schema.features}
    wrong = [name for name in used if (name.lstrip("-") in there) == name.startswith("-")]
    return f"of the features {wrong} are not as they must be: {sorted(there)}" if wrong else None


def written(frame: pl.DataFrame, path: Path) -> Path:
    """The frame as a file, by the ending."""
    frame.write_parquet(path) if path.suffix == ".parquet" else frame.write_csv(path)
    return path


def rows(seed: int = 0) -> pl.DataFrame:
    """A log in which nothing is wrong."""
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": draw.integers(0, USERS, ROWS),
            "item_id": draw.integers(0, ITEMS, ROWS),
            "liked": draw.integers(0, 2, ROWS).astype(float),
            "watch_ratio": draw.random(ROWS) * 4,
            "play_duration_ms": draw.integers(1000, 9000, ROWS).astype(float),
            "duration_ms": draw.integers(1000, 9000, ROWS).astype(float),
            "t": 1_600_000_000 + np.arange(ROWS) * 60.0,
        }
    )


# --- numbers of the log ----------------------------------------------------------------------------------------------

NUMBERS: dict[str, float | None] = {
    "null": None,
    "nan": math.nan,
    "inf": math.inf,
    "-inf": -math.inf,
    "1e308": 1e308,
    "-1e308": -1e308,
    "1e39": 1e39,
    "subnormal": 5e-324,
    "-0.0": -0.0,
}
# What becomes of a row with such a number. None: it stays. A word: it is dropped, and counted under that word.
NO, IMPOSSIBLE, ZERO = "no", "impossible", "zero"
BECOMES: dict[str, dict[str, str | None]] = {
    "liked": dict.fromkeys(("null", "nan", "inf", "-inf", "1e308", "-1e308", "1e39"), NO),
    "watch_ratio": dict.fromkeys(("nan", "inf", "-inf", "1e308", "-1e308", "1e39"), IMPOSSIBLE) | {"null": NO},
    "play_duration_ms": dict.fromkeys(("nan", "inf", "-inf", "1e308", "-1e308", "1e39"), IMPOSSIBLE),
    "duration_ms": dict.fromkeys(("nan", "inf", "-inf", "1e308", "-1e308", "1e39"), IMPOSSIBLE)
    # Milliseconds that float32 rounds to 0 are still a duration.
    | {"-0.0": ZERO},
    # NaN and infinity are no time, which is nothing wrong; the others are a time that no calendar has.
    "t": dict.fromkeys(("1e308", "-1e308", "1e39"), IMPOSSIBLE),
}
LABELS: dict[str, Label] = {"liked": Column(binary=False, positive="> 0.5"), "watch_ratio": WatchRatio(log=True)}
_NAMES = {"liked": "label_raw", "t": "timestamp_ms"}


def number_faults() -> Iterator[Fault]:
    """Every number in every column of the log, as Float64 and Float32 in Parquet, and in CSV."""
    kinds = (("parquet", pl.Float64), ("parquet", pl.Float32), ("csv", pl.Float64))
    for (column, fates), (word, value), (format, dtype) in itertools.product(BECOMES.items(), NUMBERS.items(), kinds):
        small = dtype == pl.Float32
        if small and (column == "t" or (value is not None and math.isfinite(value) and value != 0)):
            continue  # Float32 holds neither these numbers nor seconds of today
        values = [value if place in SPOILT else old for place, old in enumerate(rows()[column])]
        log = rows().with_columns(pl.Series(column, values, dtype=dtype))
        fate = fates.get(word)
        counted = {} if fate is None else {f"{fate} {_NAMES.get(column, column)}": len(SPOILT)}
        name = f"{column} {word}" + (" float32" if small else "")
        label = LABELS.get(column, Liked())
        yield Fault(name, "numbers", log, format=format, label=label, counted=counted)


def text_faults() -> Iterator[Fault]:
    """Words in a CSV that stand for no number: an empty field, NaN and inf are known, others make the column text."""
    text = ("holds String", "data.null_values=[NA]")
    for word, refused in (("", ()), ("NaN", ()), ("inf", ()), ("nan", text), (" ", text), ("NULL", text)):
        values = [
            {"": None}.get(word, word) if place in SPOILT else str(old) for place, old in enumerate(rows()["liked"])
        ]
        log = rows().with_columns(pl.Series("liked", values))
        counted = {} if refused else {"no label_raw": len(SPOILT)}
        yield Fault(f"liked {word!r}", "numbers", log, format="csv", refused=refused, counted=counted)


# --- features --------------------------------------------------------------------------------------------------------

_LEFT_OUT: dict[str, tuple[list[Any], Any]] = {
    "constant": ([7.5] * USERS, None),
    "constant integer": ([7] * USERS, None),
    "all NaN": ([math.nan] * USERS, None),
    "all infinite": ([math.inf, -math.inf] * (USERS // 2), None),
    "all beyond float32": ([1e308, -1e308] * (USERS // 2), None),
    "all null": ([None] * USERS, pl.Null),
    "all null numbers": ([None] * USERS, pl.Float64),
    "all null text": ([None] * USERS, pl.String),
    "all null lists": ([None] * USERS, pl.List(pl.Int64)),
    "all null vectors": ([None] * USERS, pl.List(pl.Float32)),
    "all null dates": ([None] * USERS, pl.Date),
    "empty lists": ([[]] * USERS, pl.List(pl.Int64)),
    "empty lists of nothing": ([[]] * USERS, pl.List(pl.Null)),
    "empty vectors": ([[]] * USERS, pl.List(pl.Float32)),
    "lists of lists": ([[[1], [2]]] * USERS, None),
    "durations": ([datetime.timedelta(days=day) for day in range(USERS)], None),
}
_USED: dict[str, tuple[list[Any], Any]] = {
    "some NaN": ([1.5, 2.5, math.nan] * (USERS // 3), None),
    "some infinite": ([1.5, 2.5, math.inf] * (USERS // 3), None),
    "some beyond float32": ([1.5, 2.5, 1e308] * (USERS // 3), None),
    "as large as float32": ([3e38, -3e38, 0.5] * (USERS // 3), None),
    "subnormal": ([5e-324 * i for i in range(USERS)], None),
    "one text per row": ([f"word{i}" for i in range(USERS)], None),
    "one number per row": ([i * 1000 for i in range(USERS)], None),
    "64-bit numbers": ([-(2**63), 2**63 - 1] * (USERS // 2), None),
    "unsigned numbers": ([2**64 - 1 - i for i in range(USERS)], pl.UInt64),
    "128-bit numbers": ([2**100 + i for i in range(USERS)], pl.Int128),
    "decimals": ([decimal.Decimal("1.25"), decimal.Decimal(3)] * (USERS // 2), None),
    "booleans": ([True, False] * (USERS // 2), None),
    "categories": (["x", "y"] * (USERS // 2), pl.Categorical),
    "an enum": (["x", "y"] * (USERS // 2), pl.Enum(["x", "y"])),
    "bytes": ([b"a", b"b"] * (USERS // 2), None),
    "structs": ([{"x": 1}, {"x": 2}] * (USERS // 2), None),
    "lists of booleans": ([[True], [False, True]] * (USERS // 2), None),
    "constant vectors": ([[1.0, 2.0]] * USERS, pl.List(pl.Float32)),
    "arrays": ([[float(i), 2.0] for i in range(USERS)], pl.Array(pl.Float32, 2)),
}
_REFUSED: dict[str, tuple[list[Any], Any, tuple[str, ...]]] = {
    "vectors with NaN": ([[1.0, math.nan]] * USERS, pl.List(pl.Float32), ("feature 'a'", "12 vectors hold NaN")),
    "vectors with null": ([[1.0, None]] * USERS, pl.List(pl.Float32), ("feature 'a'", "12 vectors hold NaN")),
    "vectors beyond float32": ([[1.0, 1e308]] * USERS, pl.List(pl.Float64), ("feature 'a'", "infinite")),
    "vectors of two lengths": ([[1.0], [1.0, 2.0]] * 6, pl.List(pl.Float32), ("must all have length 1", "[1, 2]")),
}
_DECLARED: dict[str, tuple[str, list[Any], Any, tuple[str, ...]]] = {
    "no number": ("numeric", ["a", "b"] * 6, None, ("feature 'a'", "cannot be read as numbers")),
    "no list": ("multi", ["a", "b"] * 6, None, ("feature 'a'", "needs lists")),
    "no vector": ("vector", [1.0, 2.0] * 6, None, ("feature 'a'", "lists of floats")),
    "vectors all empty": ("vector", [[]] * USERS, pl.List(pl.Float32), ("feature 'a'", "all empty")),
    "vectors all null": ("vector", [None] * USERS, pl.List(pl.Float32), ("feature 'a'", "has a vector")),
    "constant number": ("numeric", [7.5] * USERS, None, ()),
    "null number": ("numeric", [None] * USERS, pl.Null, ()),
    "NaN number": ("numeric", [math.nan] * USERS, None, ()),
    "null buckets": ("bucket", [None] * USERS, pl.Float64, ()),
    "infinite buckets": ("bucket", [math.inf] * USERS, None, ()),
    "null category": ("categorical", [None] * USERS, pl.Null, ()),
    "null list": ("multi", [None] * USERS, pl.List(pl.String), ()),
    "empty list": ("multi", [[]] * USERS, pl.List(pl.Int64), ()),
}


def feature_faults() -> Iterator[Fault]:
    """Columns of a side table that say nothing, hold what is no number, or have a type of their own."""
    for name, (values, dtype) in _LEFT_OUT.items():
        yield Fault(name, "features", rows(), users=_side(values, dtype), used=("-a",))
    for name, (values, dtype) in _USED.items():
        yield Fault(name, "features", rows(), users=_side(values, dtype), used=("a",))
    for name, (values, dtype, refused) in _REFUSED.items():
        yield Fault(name, "features", rows(), users=_side(values, dtype), refused=refused)
    for name, (kind, values, dtype, refused) in _DECLARED.items():
        yield Fault(
            f"{name}, declared",
            "features",
            rows(),
            users=_side(values, dtype),
            features={"auto": True, "declared": {"a": {"side": "user", "kind": kind, "column": "a"}}},
            refused=refused,
            used=("a",),
        )


def _side(values: Sequence[Any], dtype: Any) -> pl.DataFrame:
    return pl.DataFrame({"user_id": range(USERS), "a": pl.Series(values, dtype=dtype)})


# --- ids -------------------------------------------------------------------------------------------------------------

TEXTS = [
    *("007", "7", "7.0", "1.0", "nan", "None", "null", "true", " ", " a", "a", "-5", "=1+1", "a,b", 'q"q', "a\nb"),
    *("用户", "😀", "\u202ea", "a\x00b", "x" * 3000, "9223372036854775808", "1e5"),
]
INTEGERS = [-(2**63), -(2**53) - 1, -1, 0, 7, 2**53, 2**53 + 1, 2**63 - 2, 2**63 - 1]
UNSIGNED = [2**63, 2**63 + 1, 2**64 - 1, 2**53 + 1, 5]
_LARGE = ("where different ids may already have become one number",)
_NO_ID = {"no user_id": ROWS // 3}
# Ids, their type in the file, what they are kept as (None: refused with these words), rows without one.
_IDS: dict[str, tuple[list[Any], Any, type[pl.DataType] | None, tuple[str, ...], Mapping[str, int]]] = {
    "negative and 64 bits": (INTEGERS, pl.Int64, pl.Int64, (), {}),
    "Int8": ([-128, 0, 127], pl.Int8, pl.Int64, (), {}),
    "Int16": ([-5, 0, 5], pl.Int16, pl.Int64, (), {}),
    "Int32": ([-5, 0, 5], pl.Int32, pl.Int64, (), {}),
    "UInt8": ([0, 1, 255], pl.UInt8, pl.Int64, (), {}),
    "UInt16": ([0, 1, 5], pl.UInt16, pl.Int64, (), {}),
    "UInt32": ([0, 1, 5], pl.UInt32, pl.Int64, (), {}),
    "UInt64 that 63 bits hold": ([0, 1, 2**63 - 1], pl.UInt64, pl.Int64, (), {}),
    "UInt64": (UNSIGNED, pl.UInt64, pl.String, (), {}),
    "Int128 that 64 bits hold": ([-(2**63), 1, 2**63 - 1], pl.Int128, pl.Int64, (), {}),
    "Int128": ([2**100, 1, 2], pl.Int128, pl.String, (), {}),
    "text": (TEXTS, pl.String, pl.String, (), {}),
    "an empty text": (["", "a", "b"], pl.String, pl.String, (), _NO_ID),
    "gaps": ([None, 1, 2], pl.Int64, pl.Int64, (), _NO_ID),
    "whole floats": ([None, 1.0, 2.0], pl.Float64, pl.Int64, (), _NO_ID),
    "whole floats and NaN": ([math.nan, 1.0, 2.0], pl.Float64, pl.Int64, (), _NO_ID),
    "whole floats and infinity": ([math.inf, 1.0, 2.0], pl.Float64, pl.Int64, (), _NO_ID),
    "floats up to 2^53": ([1.0, 2.0**53], pl.Float64, pl.Int64, (), {}),
    "floats beyond 2^53": ([1.0, 2.0**53 + 2], pl.Float64, None, _LARGE, {}),
    "small floats beyond 2^24": ([1.0, 2.0**24 + 2], pl.Float32, None, _LARGE, {}),
    "a float of 1e300": ([1.0, 1e300], pl.Float64, None, _LARGE, {}),
    "decimals": ([1.5, 2.0], pl.Float64, None, ("holds decimal numbers",), {}),
    "Categorical": (["b", "a"], pl.Categorical, pl.String, (), {}),
    "Enum": (["b", "a"], pl.Enum(["b", "a"]), pl.String, (), {}),
    "bytes of text": ([b"b", b"a"], pl.Binary, pl.String, (), {}),
    "bytes of no text": ([b"b", b"\xff"], pl.Binary, None, ("column 'user_id'", "invalid utf8"), {}),
    "whole Decimal": ([decimal.Decimal(1), decimal.Decimal(2)], pl.Decimal(10, 2), pl.Int64, (), {}),
    "Decimal": ([decimal.Decimal("1.5"), decimal.Decimal(2)], pl.Decimal(10, 2), None, ("decimal numbers",), {}),
    "booleans": ([True, False], pl.Boolean, pl.String, (), {}),
    "dates": ([datetime.date(2020, 1, 1), datetime.date(2021, 1, 1)], pl.Date, pl.String, (), {}),
    "nothing": ([None], pl.Null, None, ("no row of the log is left", "'no user_id': 120"), {}),
    "lists": ([[1], [2]], None, None, ("holds List(Int64)",), {}),
    "structs": ([{"a": 1}, {"a": 2}], None, None, ("holds Struct",), {}),
    "durations": ([datetime.timedelta(1)], None, None, ("holds Duration",), {}),
}
# CSV says no types: what looks like numbers is numbers, unless one begins with a zero.
_IDS_OF_CSV: dict[str, tuple[list[Any], type[pl.DataType] | None, tuple[str, ...], Mapping[str, int]]] = {
    "negative and 64 bits": (INTEGERS, pl.Int64, (), {}),
    "unsigned": (UNSIGNED, pl.String, (), {}),
    "text": (TEXTS, pl.String, (), {}),
    "leading zeros": (["007", "7", "08", "8"], pl.String, (), {}),
    "a leading zero behind a minus": (["-07", "-7"], pl.String, (), {}),
    "zero itself": (["0", "1", "-1"], pl.Int64, (), {}),
    "gaps": ([None, 1, 2], pl.Int64, (), _NO_ID),
    "whole floats": (["1.0", "2.0", None], pl.Int64, (), _NO_ID),
    "NaN": (["NaN", "1.0", "2.0"], pl.Int64, (), _NO_ID),
    "a word among numbers": (["nan", "1.0", "2"], pl.String, (), {}),
    "decimals": (["1.5", "2.0"], None, ("holds decimal numbers",), {}),
}


def id_faults() -> Iterator[Fault]:
    """Ids of every type, in Parquet and as CSV writes them."""
    for name, (ids, dtype, kept, refused, counted) in _IDS.items():
        yield Fault(name, "ids", _with_ids(ids, dtype), ids=kept, refused=refused, counted=counted)
    for name, (ids, kept, refused, counted) in _IDS_OF_CSV.items():
        log = _with_ids(ids, None)
        yield Fault(name, "ids", log, format="csv", ids=kept, refused=refused, counted=counted)


def _with_ids(ids: Sequence[Any], dtype: Any) -> pl.DataFrame:
    column = pl.Series("user_id", ids, dtype=dtype)
    return rows().with_columns(column.gather([row % len(ids) for row in range(ROWS)]))


_NUMBERS = list(range(USERS))
_ZEROS = [f"{number:03d}" for number in _NUMBERS]
_APART = ("so nothing would be joined",)
# Ids of the log, ids of the side table, words of the error; None: the table is joined.
_PAIRS: dict[str, tuple[list[Any], list[Any], tuple[str, ...]]] = {
    "numbers and their text": (_NUMBERS, [str(number) for number in _NUMBERS], ()),
    "text and its numbers": ([str(number) for number in _NUMBERS], _NUMBERS, ()),
    "numbers and floats": (_NUMBERS, [float(number) for number in _NUMBERS], ()),
    "text and floats": ([str(number) for number in _NUMBERS], [float(number) for number in _NUMBERS], ()),
    "zeros and zeros": (_ZEROS, _ZEROS, ()),
    "some strangers": (_NUMBERS, [*_NUMBERS[:3], *range(100, 109)], ()),
    "only strangers": (_NUMBERS, list(range(100, 112)), _APART),
    "zeros and numbers": (_ZEROS, _NUMBERS, _APART),
    "text and dates": (["a", "b"] * 6, [datetime.date(2020, 1, 1 + day) for day in range(12)], _APART),
    "numbers and words": (_NUMBERS, [f"user{number}" for number in _NUMBERS], ("the ids of the log are integers",)),
    "numbers and truth": (_NUMBERS, [True, False], ("the ids of the log are integers",)),
    "numbers and larger ones": (_NUMBERS, [2**64 - 1 - n for n in _NUMBERS], ("the ids of the log are integers",)),
    "numbers and decimals": (_NUMBERS, [number + 0.5 for number in _NUMBERS], ("decimal numbers",)),
    "numbers and lists": (_NUMBERS, [[number] for number in _NUMBERS], ("holds List(Int64)",)),
    "twice": (_NUMBERS, [2, 2], ("id 2 has more than one row",)),
    "nobody": (_NUMBERS, [], ("describes nobody",)),
    "nobody with an id": (_NUMBERS, [None, None], ("describes nobody",)),
}


def side_faults() -> Iterator[Fault]:
    """Ids of another type in the side table than in the log: joined or refused, never nothing joined in silence."""
    for name, (own, others, refused) in _PAIRS.items():
        unsigned = any(isinstance(i, int) and i >= 2**63 for i in others)
        ids = pl.Series("user_id", others, dtype=pl.UInt64 if unsigned else None, strict=False)
        users = pl.DataFrame({"user_id": ids, "age": [number + 0.5 for number in range(len(others))]})
        for format in ("parquet", "csv"):
            if format == "csv" and isinstance(ids.dtype, pl.List):
                continue
            used = () if refused else ("age",)
            log = _with_ids(own, None)
            yield Fault(name, "side ids", log, format=format, users=users, refused=refused, used=used)


def all_faults() -> list[Fault]:
    """All of them."""
    made = (number_faults(), text_faults(), feature_faults(), id_faults(), side_faults())
    return list(itertools.chain.from_iterable(made))
