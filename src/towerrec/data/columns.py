"""Columns by name: errors that help, and ids in the two types that the rest of the package knows."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping

import polars as pl

from towerrec.data.sources.scan import load
from towerrec.wording import shortened


def missing_column(name: str, existing: Iterable[str], where: str) -> ValueError:
    """The error for a column that is not there: names it, the place, and the closest existing column.

    Args:
        name: The column that was asked for.
        existing: Columns that are there.
        where: The file or table, as the user knows it.
    """
    names = [shortened(column) for column in existing]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    closest = f": did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    return ValueError(f"{where} has no column {name!r}{closest} It has: {listed or 'no columns at all'}")


def require_columns(names: Iterable[str], existing: Iterable[str], where: str) -> None:
    """Raise `missing_column` for the first of `names` that is not there."""
    there = list(existing)
    for name in names:
        if name not in there:
            raise missing_column(name, there, where)


def id_type(dtype: pl.DataType) -> pl.DataType:
    """The type an id of this type is kept in: Int64 for integers, String for everything else."""
    return pl.Int64() if dtype.is_integer() else pl.String()


def common_id_type(dtypes: Iterable[pl.DataType]) -> pl.DataType:
    """One id type for several files: Int64 where all are integers, String otherwise."""
    return pl.Int64() if all(dtype.is_integer() for dtype in dtypes) else pl.String()


def whole_float_ids(frame: pl.LazyFrame, name: str, schema: Mapping[str, pl.DataType], where: str) -> pl.LazyFrame:
    """Integers where an id column was read as floats because of its gaps (`12.0`).

    Raises:
        ValueError: If a value has decimals or parts, which an id has not.
    """
    if schema[name].is_nested():
        raise ValueError(f"{where}: column {name!r} is used as an id but holds {schema[name]}; name another column")
    if not schema[name].is_float():
        return frame
    column = pl.col(name)
    decimal = frame.select((column.is_finite() & (column != column.round())).any())
    if load(decimal, where).item():
        raise ValueError(f"{where}: column {name!r} is used as an id but holds decimal numbers; name another column")
    return frame.with_columns(pl.when(column.is_finite()).then(column).cast(pl.Int64).alias(name))
