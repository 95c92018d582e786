"""A user's own tables about users or items: one file or several, one row per id."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from towerrec.data.columns import missing_column
from towerrec.data.id_columns import id_column
from towerrec.data.sources.scan import load, parse_lists, scan_file
from towerrec.wording import reason_of


def read_side(
    paths: Sequence[str],
    canonical: str,
    *,
    own: str,
    id_type: pl.DataType,
    null_values: Sequence[str] = (),
    decimal_comma: bool = False,
) -> pl.LazyFrame | None:
    """Join side files on their id; None where there are none. JSON lists written as text become lists.

    Args:
        canonical: `user_id` or `item_id`, the name the id column gets.
        own: Its name in the log; a side file may use either.
        id_type: Type of the ids in the log.

    Raises:
        ValueError: If a file has no id column or an id twice, or two files share a column.
    """
    joined: pl.DataFrame | None = None
    for path in paths:
        table = _read_one(Path(path).expanduser(), canonical, own, id_type, null_values, decimal_comma)
        if joined is None:
            joined = table
            continue
        shared = sorted(set(table.columns) & set(joined.columns) - {canonical})
        if shared:
            raise ValueError(f"{path}: column {shared[0]!r} is in another side table as well; rename one of the two")
        joined = joined.join(table, on=canonical, how="full", coalesce=True, maintain_order="left_right")
    return None if joined is None else joined.lazy()


def _read_one(
    path: Path, canonical: str, own: str, id_type: pl.DataType, null_values: Sequence[str], decimal_comma: bool
) -> pl.DataFrame:
    texts = [own, canonical] if id_type == pl.String else []
    frame = scan_file(path, null_values=null_values, decimal_comma=decimal_comma, texts=texts)
    names = frame.collect_schema().names()
    found = own if own in names else canonical
    if found not in names:
        raise missing_column(own, names, str(path))
    if found != canonical and canonical in names:
        raise ValueError(f"{path} has both {own!r} and {canonical!r}: which one is the id? Drop or rename the other")
    table = load(id_column(frame, found, str(path)), path).rename({found: canonical})
    table = table.with_columns(_as_id(table[canonical], id_type, path)).filter(pl.col(canonical).is_not_null())
    if table.height == 0:
        raise ValueError(f"{path} describes nobody: it has no row with an id")
    twice = table[canonical].is_duplicated()
    if twice.any():
        raise ValueError(f"{path}: id {table[canonical].filter(twice)[0]!r} has more than one row; it must have one")
    return parse_lists(table)


def _as_id(column: pl.Series, id_type: pl.DataType, path: Path) -> pl.Series:
    try:
        return column.cast(id_type)
    except pl.exceptions.PolarsError as error:
        raise ValueError(
            f"{path}: the ids of the log are integers that 64 bits hold, but those of column {column.name!r} here are "
            f"not: {reason_of(error)}"
        ) from error
