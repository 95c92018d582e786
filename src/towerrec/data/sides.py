"""The user and item tables as they were read, beside the store: what a report says of items without asking features."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from towerrec.schema import Side


def write_sides(
    directory: Path,
    *,
    users: pl.DataFrame | None,
    items: pl.DataFrame | None,
    user_ids: pl.Series,
    item_ids: pl.Series,
) -> None:
    """Write both tables, one row per id in the order of the ids; vectors are left out, for they are large and no facts.

    Args:
        directory: Exists.
        users: The table of users as the source gave it, None where the log has none.
        items: The same of items.
        user_ids: Ids of the rows of the user table.
        item_ids: The same of items.
    """
    for side, table, ids in (("user", users, user_ids), ("item", items, item_ids)):
        frame = joined(ids, table)
        kept = [name for name, dtype in frame.schema.items() if not _is_vector(dtype)]
        frame.select(kept).write_parquet(_path(directory, side))


def read_side(directory: Path, side: Side) -> pl.DataFrame:
    """One of the tables that `write_sides` wrote; where the log had none it holds the ids alone."""
    return pl.read_parquet(_path(directory, side), glob=False)


def joined(ids: pl.Series, side: pl.DataFrame | None) -> pl.DataFrame:
    """The rows of a side table in the order of the ids, nulls where it has none."""
    table = ids.to_frame()
    if side is None:
        return table
    return table.join(side.cast({ids.name: ids.dtype}), on=ids.name, how="left", maintain_order="left")


def _path(directory: Path, side: str) -> Path:
    return directory / f"{side}_side.parquet"


def _is_vector(dtype: pl.DataType) -> bool:
    inner = dtype.inner if isinstance(dtype, pl.List | pl.Array) else None
    return isinstance(inner, pl.DataType) and inner.is_float()
