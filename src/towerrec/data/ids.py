"""Raw ids to rows of the user and item tables.

Shape letters: N rows of a log, I distinct ids.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import polars as pl
from numpy.typing import NDArray

# Rows looked up at once: bounds the memory of the 64-bit intermediates.
_CHUNK = 1 << 18


def known_ids(name: str, log: pl.Series, side: pl.DataFrame | None) -> pl.Series:
    """All ids of a log and of a side table, distinct and ascending.

    Raises:
        ValueError: If the side table holds an id twice, another type of id than the log, or no id of the log.
    """
    ids = _distinct(log)
    if side is not None:
        table = side[name].drop_nulls()
        if table.dtype.is_integer() != ids.dtype.is_integer():
            raise ValueError(
                f"column {name!r} holds {ids.dtype} in the log but {table.dtype} in the side table, so no row of one "
                "would be found in the other: write the ids alike in both files"
            )
        if table.n_unique() < len(table):
            twice = table.filter(table.is_duplicated()).unique().sort().head(3).to_list()
            raise ValueError(
                f"the side table holds some ids of column {name!r} twice (such as {twice}): keep one row each"
            )
        table = table.cast(ids.dtype)
        if len(table) and not table.is_in(ids.implode()).any():
            raise ValueError(
                f"no id of column {name!r} in the side table is in the log, so nothing would be joined (the log has "
                f"{_some(ids)}, the table {_some(table)}): give the table of this log, and write ids alike in both"
            )
        ids = pl.concat([ids, table]).unique()
    return ids.drop_nulls().sort().alias(name)


def _some(ids: pl.Series) -> str:
    return ", ".join(repr(value) for value in ids.drop_nulls().sort().head(3).to_list())


def _distinct(column: pl.Series) -> pl.Series:
    """The values of a column, each once, in any order."""
    if not column.dtype.is_integer() or column.null_count() == len(column):
        return column.unique()
    first, last = whole_bounds(column)
    if not _close(first, last, len(column)):
        return column.unique()
    present = np.zeros(last - first + 1, dtype=bool)
    for start in range(0, len(column), _CHUNK):
        present[column.slice(start, _CHUNK).drop_nulls().cast(pl.Int64).to_numpy() - first] = True
    return pl.Series(column.name, np.flatnonzero(present) + first).cast(column.dtype)


def whole_bounds(column: pl.Series) -> tuple[int, int]:
    """Smallest and largest value of a column of whole numbers that are not all null."""
    return int(column.min()), int(column.max())  # type: ignore[arg-type]


def index_of(ids: pl.Series, column: pl.Series) -> NDArray[np.int32]:
    """Place of every value of `column` in the ascending `ids`, int32 [N]; -1 where it is not among them."""
    if len(ids) == 0:
        return np.full(len(column), -1, dtype=np.int32)
    if not ids.dtype.is_integer():
        place = pl.int_range(len(ids), dtype=pl.Int32, eager=True)
        found = column.cast(ids.dtype).replace_strict(ids, place, default=None, return_dtype=pl.Int32)
        return found.fill_null(-1).to_numpy(writable=True)
    look_up = _search(ids.to_numpy())
    found_N = np.empty(len(column), dtype=np.int32)
    for start in range(0, len(column), _CHUNK):
        values = column.slice(start, _CHUNK).cast(pl.Int64, strict=False).fill_null(np.iinfo(np.int64).min)
        found_N[start : start + _CHUNK] = look_up(values.to_numpy())
    return found_N


def rows_of(ids: pl.Series, column: pl.Series) -> NDArray[np.int64]:
    """Place of every value of `column` in the distinct `ids`, which need not ascend, int64 [N]; -1 where it is not
    among them."""
    table = ids.rename("id").to_frame().with_row_index("row")
    if ids.dtype == pl.String and len(column) < len(ids) // 8:  # a few of many: the many need not be hashed
        table = table.filter(pl.col("id").is_in(column.implode()))
    found = column.rename("id").to_frame().join(table, on="id", how="left", maintain_order="left")["row"]
    return found.cast(pl.Int64).fill_null(-1).to_numpy().copy()


def _search(known_I: NDArray[np.int64]) -> Callable[[NDArray[np.int64]], NDArray[np.int32]]:
    """The function from values to their places in `known_I`, ascending; -1 for values that are not there."""
    first, last = int(known_I[0]), int(known_I[-1])
    if not _close(first, last, len(known_I)):

        def searched(values: NDArray[np.int64]) -> NDArray[np.int32]:
            nearest = np.searchsorted(known_I, values).clip(max=len(known_I) - 1)
            return np.where(known_I[nearest] == values, nearest, -1).astype(np.int32)

        return searched
    # One look into a table instead of a search per row.
    places = np.full(last - first + 1, -1, dtype=np.int32)
    places[known_I - first] = np.arange(len(known_I), dtype=np.int32)

    def looked_up(values: NDArray[np.int64]) -> NDArray[np.int32]:
        inside = (values >= first) & (values <= last)
        if inside.all():
            return places[values - first]
        return np.where(inside, places[np.where(inside, values - first, 0)], np.int32(-1))

    return looked_up


def _close(first: int, last: int, count: int) -> bool:
    """Whether a table from the first to the last id costs little beside the ids themselves."""
    return last - first < 4 * count + 1_000_000
