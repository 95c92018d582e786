"""Raw ids to rows of the user and item tables.

Shape letters: N rows of a log, I distinct ids.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray


def known_ids(name: str, log: pl.Series, side: pl.DataFrame | None) -> pl.Series:
    """All ids of a log and of a side table, distinct and ascending.

    Raises:
        ValueError: If the side table holds an id twice, or another type of id than the log.
    """
    ids = log.unique()
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
        ids = pl.concat([ids, table.cast(ids.dtype)]).unique()
    return ids.drop_nulls().sort().alias(name)


def index_of(ids: pl.Series, column: pl.Series) -> NDArray[np.int32]:
    """Place of every value of `column` in the ascending `ids`, int32 [N]; -1 where it is not among them."""
    if len(ids) == 0:
        return np.full(len(column), -1, dtype=np.int32)
    if not ids.dtype.is_integer():
        place = pl.int_range(len(ids), dtype=pl.Int32, eager=True)
        found = column.cast(ids.dtype).replace_strict(ids, place, default=None, return_dtype=pl.Int32)
        return found.fill_null(-1).to_numpy()
    known = ids.to_numpy()
    values = column.cast(pl.Int64, strict=False).fill_null(np.iinfo(np.int64).min).to_numpy()
    span = int(known[-1]) - int(known[0]) + 1
    if span > 4 * len(known) + 1_000_000:
        nearest = np.searchsorted(known, values).clip(max=len(known) - 1)
        return np.where(known[nearest] == values, nearest, -1).astype(np.int32)
    # Ids are close together: one look into a table instead of a search per row.
    places = np.full(span, -1, dtype=np.int32)
    places[known - known[0]] = np.arange(len(known), dtype=np.int32)
    inside = (values >= known[0]) & (values <= known[-1])
    return np.where(inside, places[np.where(inside, values - known[0], 0)], np.int32(-1))
