"""The declared features: one entry each in conf/features, used or removed by one word."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from typing import Any

# What each kind may say besides side, kind and group.
KEYS: dict[str, frozenset[str]] = {
    "id": frozenset({"min_count"}),
    "categorical": frozenset({"column", "min_count"}),
    "multi": frozenset({"column", "min_count", "max_length"}),
    "numeric": frozenset({"column", "transform"}),
    "bucket": frozenset({"column", "buckets"}),
    "text": frozenset({"columns", "ngrams", "buckets", "min_count", "max_length"}),
    "vector": frozenset({"column", "path", "id_column", "normalise"}),
    "statistic": frozenset({"of", "smoothing", "half_life_days"}),
    "daily": frozenset({"column", "per", "smoothing"}),
    "hour": frozenset(),
    "weekday": frozenset(),
    "age_days": frozenset({"column", "buckets"}),
    "recent": frozenset({"half_life_days", "buckets"}),
}
SIDES: dict[str, str] = {"hour": "user", "weekday": "user", "age_days": "item", "recent": "item", "daily": "item"}
STATISTICS = ("views", "positive_rate", "mean_label", "recent_positives")
TRANSFORMS = ("none", "log1p")
NORMALISE = ("none", "unit", "standard")


@dataclass(frozen=True)
class Declaration:
    """One declared feature.

    Args:
        name: Its name, unique.
        side: `user` or `item`.
        kind: `id` (the row's own id), `categorical`, `multi` (list of values), `numeric`, `bucket` (a number cut at
            quantiles), `text` (hashed character n-grams), `vector`, `statistic` (counted in training rows), `daily`
            (counters of the days before the split), `hour`, `weekday`, `age_days` (of the moment of a row), `recent`
            (popularity of the item just before a row, from earlier training positives).
        group: Word that selects or drops it with its siblings.
        column: Column it reads; its own name where not given.
        columns: Columns joined into one text.
        min_count: Rarer values count as unknown (n-grams: are left out).
        max_length: Longest list kept (128 for texts).
        transform: `none` or `log1p` (sign kept), before standardising.
        buckets: Quantile buckets, or hash buckets of a text.
        ngrams: Lengths of the character n-grams.
        path: Parquet file with an id column and a list column (vector).
        id_column: The id column in that file; `user_id` or `item_id` where not given.
        normalise: Of a vector: `none`, `unit` length, or `standard` (mean 0, deviation 1 in each place).
        of: Statistic: `views`, `positive_rate`, `mean_label` or `recent_positives` (as of the last training moment).
        per: Daily counter to divide by (`like_cnt` per `play_cnt`).
        smoothing: Rows of average behaviour mixed into a rate or mean.
        half_life_days: After how many days a positive counts half (`recent`, `recent_positives`).
    """

    name: str
    side: str
    kind: str
    group: str = ""
    column: str = ""
    columns: tuple[str, ...] = ()
    min_count: int = 1
    max_length: int = 64
    transform: str = "none"
    buckets: int = 16
    ngrams: tuple[int, ...] = (1, 2, 3)
    path: str = ""
    id_column: str = ""
    normalise: str = "none"
    of: str = ""
    per: str = ""
    smoothing: float = 20.0
    half_life_days: float = 7.0

    @property
    def sources(self) -> tuple[str, ...]:
        """Columns of the side table (or of the daily table) that it reads."""
        if self.kind in ("id", "statistic", "hour", "weekday", "recent") or self.path:
            return ()
        if self.kind == "text":
            return self.columns
        return (self.column, self.per) if self.per else (self.column,)


def declaration(name: str, plain: Mapping[str, Any]) -> Declaration:
    """Read one entry of `features.declared`.

    Raises:
        ValueError: Names the feature, the key and the choices.
    """
    where = f"features.declared.{name}"
    if not isinstance(plain, Mapping):
        raise ValueError(f"{where}: expected keys such as kind and side, got {plain!r}")
    known = [field.name for field in fields(Declaration) if field.name != "name"]
    _known_keys(plain, known, where)
    kind = _choice(plain.get("kind"), KEYS, f"{where}.kind")
    side = _choice(plain.get("side", SIDES.get(kind)), ("user", "item"), f"{where}.side")
    if SIDES.get(kind, side) != side:
        raise ValueError(f"{where}: a {kind} feature belongs to side {SIDES[kind]!r}, got {side!r}")
    useless = sorted(set(plain) - KEYS[kind] - {"side", "kind", "group"})
    if useless:
        takes = ", ".join(sorted(KEYS[kind])) or "no further keys"
        raise ValueError(f"{where}: a {kind} feature has no use for {useless[0]!r} (it takes {takes})")
    given: dict[str, Any] = {
        key: tuple(value) if isinstance(value, list | tuple) else value for key, value in plain.items()
    }
    given |= {"kind": kind, "side": side}
    if kind == "id":
        given["column"] = f"{side}_id"
    if plain.get("of") == "views" or (kind == "daily" and not plain.get("per")):
        # Counts are skewed: the step from 10 to 20 means more than that from 1000 to 1010.
        given["transform"] = "log1p"
    if kind == "text":
        given.setdefault("columns", (name,))
        given.setdefault("buckets", 16384)
        given.setdefault("max_length", 128)
    elif "column" in KEYS[kind]:
        given.setdefault("column", name)
    return _checked(Declaration(name=name, **given), where, given=plain)


def _checked(made: Declaration, where: str, *, given: Iterable[str]) -> Declaration:
    if made.kind == "statistic":
        _choice(made.of, STATISTICS, f"{where}.of")
        if made.of != "recent_positives" and "half_life_days" in given:
            raise ValueError(f"{where}: {made.of} has no use for half_life_days (recent_positives has)")
    _choice(made.transform, TRANSFORMS, f"{where}.transform")
    _choice(made.normalise, NORMALISE, f"{where}.normalise")
    smallest = {"min_count": 1, "max_length": 1, "buckets": 2, "smoothing": 0}
    for key, least in smallest.items():
        value = getattr(made, key)
        if isinstance(value, bool) or not isinstance(value, int | float) or value < least:
            raise ValueError(f"{where}.{key} must be a number of at least {least}, got {value!r}")
    half_life = made.half_life_days
    if isinstance(half_life, bool) or not isinstance(half_life, int | float) or not half_life > 0:
        raise ValueError(f"{where}.half_life_days must be a positive number, got {half_life!r}")
    if made.kind in ("age_days", "recent") and made.buckets > 200:
        raise ValueError(f"{where}.buckets must be at most 200, got {made.buckets}")
    if not made.ngrams or any(not isinstance(n, int) or n < 1 for n in made.ngrams):
        raise ValueError(f"{where}.ngrams must hold lengths of at least 1, such as [1,2,3], got {list(made.ngrams)}")
    return made


def select(
    declared: Iterable[Declaration], *, use: str | Iterable[str], drop: Iterable[str], groups: Iterable[str] = ()
) -> list[Declaration]:
    """Keep the features named by `use` (names or groups, or the word `all`) and not named by `drop`.

    `groups` are words that may be said even where no feature bears them.

    Raises:
        ValueError: For a word that is neither a feature nor a group.
    """
    features = list(declared)
    words = {feature.name for feature in features} | {feature.group for feature in features if feature.group}
    words |= set(groups)
    used = words if use == "all" else _words(use, words, "features.use")
    dropped = _words(drop, words, "features.drop")
    return [f for f in features if {f.name, f.group} & used and not {f.name, f.group} & dropped]


def _words(given: str | Iterable[str], words: set[str], where: str) -> set[str]:
    names = [given] if isinstance(given, str) else list(given)
    for name in names:
        _choice(name, sorted(words), where)
    return set(names)


def _known_keys(plain: Mapping[str, Any], known: Iterable[str], where: str) -> None:
    for key in plain:
        _choice(key, known, f"a key of {where}")


def _choice(value: Any, choices: Iterable[str], where: str) -> str:
    names = list(choices)
    if value in names:
        return str(value)
    if value is None or value == "":
        raise ValueError(f"{where} is missing: choose one of {', '.join(names)}")
    near = difflib.get_close_matches(str(value), names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    raise ValueError(f"{where}: {value!r} is not known: {hint}Choose from {', '.join(names)}")
