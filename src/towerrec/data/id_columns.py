"""Columns of raw ids, in the two types that the rest of the package knows: 64-bit whole numbers, or text as written.

| in the file | kept as |
|---|---|
| integers that 64 bits hold, also as UInt64, Int128 or Decimal | Int64 |
| integers of which one is larger | text, all of the column |
| floats (`12.0`, how some tools write integers beside gaps) | Int64; NaN and infinity are no id; beyond 2^53 refused |
| text, Categorical, Enum, UTF-8 bytes | text; an empty one is no id |
| `007` in a CSV (`data.text_ids`) | text, so that it is not 7 |
| booleans, dates, times | the text that Polars writes of them |
| lists, structs, durations, bytes that are no text, numbers with decimals | refused |

No number passes through a float that was not one in the file.
"""

from __future__ import annotations

from collections.abc import Iterable

import polars as pl

from towerrec.data.sources.scan import load

_REFUSED = (pl.Duration, pl.Object, pl.List, pl.Array, pl.Struct)
_INT64 = (-(2**63), 2**63 - 1)
# Whole numbers up to here are all different as floats.
_EXACT: dict[type[pl.DataType], int] = {pl.Float16: 2**11, pl.Float32: 2**24, pl.Float64: 2**53}


def common_id_type(dtypes: Iterable[pl.DataType]) -> pl.DataType:
    """One id type for several files: Int64 where all are integers, String otherwise."""
    return pl.Int64() if all(dtype.is_integer() for dtype in dtypes) else pl.String()


def id_column(frame: pl.LazyFrame, name: str, where: str) -> pl.LazyFrame:
    """The frame with its ids as Int64 or String, see the table above; null where a row has none.

    Args:
        frame: Holds the column.
        name: The column.
        where: The file, for errors.

    Raises:
        ValueError: If the column holds something that is no id.
    """
    dtype, column = frame.collect_schema()[name], pl.col(name)
    wrong = f"{where}: column {name!r} is used as an id but holds"
    if isinstance(dtype, _REFUSED):
        raise ValueError(f"{wrong} {dtype}; name another column")
    if dtype.is_float():
        return frame.with_columns(_of_floats(frame, column, dtype, wrong).alias(name))
    if isinstance(dtype, pl.Decimal):
        if load(frame.select((column % 1 != 0).any()), where).item():
            raise ValueError(f"{wrong} decimal numbers; name another column")
        column, dtype = column.cast(pl.Int128), pl.Int128()
    if dtype.is_integer():
        return frame.with_columns(_of_integers(frame, column, dtype, where).alias(name))
    if dtype == pl.Null:
        return frame.with_columns(column.cast(pl.Int64))
    if dtype == pl.Binary:  # read here, where the column has a name
        load(frame.select(column.cast(pl.String).count()), f"{where}: column {name!r}, used as an id,")
    text = column.cast(pl.String)
    return frame.with_columns(pl.when(text != "").then(text).alias(name))


def _of_floats(frame: pl.LazyFrame, column: pl.Expr, dtype: pl.DataType, wrong: str) -> pl.Expr:
    finite, exact = column.is_finite(), _EXACT[type(dtype)]
    found = frame.select(
        decimals=(finite & (column != column.round())).any(), large=(finite & (column.abs() > exact)).any()
    )
    decimals, large = load(found, wrong.partition(": column")[0]).row(0)
    if decimals:
        raise ValueError(f"{wrong} decimal numbers; name another column")
    if large:
        raise ValueError(
            f"{wrong} {dtype} above {exact:,}, where different ids may already have become one number: write them as "
            "whole numbers or as text"
        )
    return pl.when(finite).then(column).cast(pl.Int64)


def _of_integers(frame: pl.LazyFrame, column: pl.Expr, dtype: pl.DataType, where: str) -> pl.Expr:
    if dtype in (pl.UInt64, pl.Int128, pl.UInt128):
        low, high = load(frame.select(low=column.min(), high=column.max()), where).row(0)
        if low is not None and not (_INT64[0] <= low and high <= _INT64[1]):
            return column.cast(pl.String)
    return column.cast(pl.Int64)
