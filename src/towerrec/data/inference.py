"""Features declared by looking at the columns, for logs that nobody has described yet."""

from __future__ import annotations

import re

import numpy as np
import polars as pl

from towerrec.data.declarations import Declaration, declaration
from towerrec.schema import ITEM_ID, USER_ID

GROUPS = ("id", "profile", "content", "tags", "text", "vector", "time", "popularity", "freshness")

# An integer column with few values, or one whose values are dense codes 0, 1, 2, ..., names categories.
FEW_VALUES = 64
DENSE = 0.5
MAX_CODES = 100_000
# A text column in which most values occur once, the commonest («UNKNOWN», «[]») aside, is prose.
PROSE = 0.5
HALF_LIFE_DAYS = 3.0
_ID_LIKE = re.compile(r"(^|_)(id|code|onehot|category|cat|type|feat\d+)($|_|\d)", re.IGNORECASE)


def infer(users: pl.DataFrame | None, items: pl.DataFrame | None, *, has_time: bool) -> list[Declaration]:
    """One declaration per usable column, the ids, popularity of both sides and, with times, the moment of the row.

    Texts of one side become one feature, and a column that says the same as an earlier one (a category's name beside
    its id) is passed over. Groups: `id`, `profile` (user columns), `content` (item columns), `tags` (lists), `text`,
    `vector`, `time`, `popularity`, `freshness`.
    """
    found: list[Declaration] = []
    for side, frame in (("user", users), ("item", items)):
        found.append(declaration(f"{side}_id", {"side": side, "kind": "id", "group": "id"}))
        if frame is not None:
            taken = {feature.name for feature in found}
            for name, plain in _of_table(frame.drop(USER_ID, ITEM_ID, strict=False), side, has_time=has_time).items():
                found.append(declaration(f"{side}_{name}" if name in taken else name, plain))
        for of in ("views", "positive_rate", "mean_label") if side == "item" else ("views", "positive_rate"):
            plain = {"side": side, "kind": "statistic", "of": of, "group": "popularity"}
            found.append(declaration(f"{side}_{of}", plain))
    if has_time:
        found += [declaration(kind, {"kind": kind, "group": "time"}) for kind in ("hour", "weekday")]
        now = {"kind": "recent", "half_life_days": HALF_LIFE_DAYS, "buckets": 32}
        last = {"kind": "statistic", "side": "item", "of": "recent_positives", "half_life_days": HALF_LIFE_DAYS}
        found.append(declaration("popularity_now", {**now, "group": "freshness"}))
        found.append(declaration("item_recent_positives", {**last, "group": "freshness"}))
    return found


def _of_table(frame: pl.DataFrame, side: str, *, has_time: bool) -> dict[str, dict[str, object]]:
    """Keys of the declarations by name."""
    made: dict[str, dict[str, object]] = {}
    texts: list[str] = []
    for column in frame.iter_columns():
        plain = _of_column(column, side, has_time=has_time)
        if plain is None:
            continue
        if plain["kind"] == "text":
            texts.append(column.name)
        elif not _says_the_same(frame, column.name, [n for n, p in made.items() if p["kind"] == plain["kind"]]):
            made[column.name] = plain
    if texts:
        made[f"{side}_text"] = {"side": side, "kind": "text", "columns": texts, "group": "text", "min_count": 2}
    return made


def _says_the_same(frame: pl.DataFrame, name: str, earlier: list[str]) -> bool:
    if frame.schema[name].is_nested() or frame.schema[name].is_float():
        return False
    distinct = frame[name].n_unique()
    alike = [other for other in earlier if frame[other].n_unique() == distinct]
    return any(frame.select(pl.struct(name, other).n_unique()).item() == distinct for other in alike)


def _of_column(column: pl.Series, side: str, *, has_time: bool) -> dict[str, object] | None:
    """Keys of a declaration, None for columns that say nothing (constant, empty) or cannot be read."""
    dtype = column.dtype
    group = "profile" if side == "user" else "content"
    base: dict[str, object] = {"side": side, "column": column.name, "group": group}
    if dtype.is_float():  # as the encoders read it: what float32 cannot hold is missing
        column = column.set((column.cast(pl.Float32).is_finite()).not_(), None)
    if column.null_count() == len(column) or dtype == pl.Duration:
        return None
    if isinstance(dtype, pl.List | pl.Array):
        return _of_lists(column, base)
    if dtype == pl.Date or isinstance(dtype, pl.Datetime):
        return base | {"kind": "age_days", "group": "time"} if side == "item" and has_time else None
    distinct = column.drop_nulls().n_unique()
    if distinct <= 1:
        return None
    if dtype.is_numeric() or dtype == pl.Boolean:
        return base | _of_numbers(column, distinct)
    if distinct > FEW_VALUES and _is_prose(column, distinct):
        return {"kind": "text"}
    return base | {"kind": "categorical", "min_count": 1 if distinct <= FEW_VALUES else 2}


def _of_lists(column: pl.Series, base: dict[str, object]) -> dict[str, object] | None:
    values = column.explode().drop_nulls()
    if values.dtype.is_nested() or len(values) == 0:
        return None
    if values.dtype.is_float():
        return base | {"kind": "vector", "group": "vector"}
    return base | {"kind": "multi", "group": "tags"}


def _is_prose(column: pl.Series, distinct: int) -> bool:
    known = column.drop_nulls()
    commonest = int(known.value_counts(name="count")["count"].max())  # type: ignore[arg-type]
    return distinct - 1 > PROSE * (len(known) - commonest)


def _of_numbers(column: pl.Series, distinct: int) -> dict[str, object]:
    values = column.cast(pl.Float64).drop_nulls().to_numpy()
    whole = bool(np.all(values == np.round(values)))
    if whole and distinct <= FEW_VALUES:
        return {"kind": "categorical"}
    dense = whole and values.min() >= 0 and distinct >= DENSE * (values.max() + 1)
    if whole and distinct <= MAX_CODES and (dense or _ID_LIKE.search(column.name)):
        return {"kind": "categorical", "min_count": 2}
    skewed = values.min() >= 0 and values.mean() > 1.5 * np.median(values)
    return {"kind": "numeric", "transform": "log1p" if skewed else "none"}
