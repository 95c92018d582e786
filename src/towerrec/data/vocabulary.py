"""Values to indices: 0 is padding, 1 is unknown or missing, known values follow: sorted, then those that came later."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Literal

import polars as pl

from towerrec.schema import FIRST, UNKNOWN

ValueType = Literal["int", "str"]


@dataclass(frozen=True)
class Vocabulary:
    """The known values of one feature.

    Args:
        type: How values are compared: whole numbers, or text. `3`, `3.0` and `"3"` are one whole number.
        values: Known values, ascending, behind them those it has grown by; the value at place i has index `FIRST + i`.
    """

    type: ValueType
    values: tuple[int | str, ...]

    @classmethod
    def fit(cls, column: pl.Series, *, min_count: int = 1) -> Vocabulary:
        """Values that occur at least `min_count` times; null and NaN are no values."""
        type_ = value_type(column)
        counts = canonical(column, type_).drop_nulls().value_counts(name="count")
        kept = counts.filter(pl.col("count") >= min_count)
        return cls(type_, tuple(kept.to_series(0).sort().to_list()))

    def grown(self, column: pl.Series, *, min_count: int = 1) -> Vocabulary:
        """With the values that this column has besides: they come last, ascending, so that no index changes."""
        counts = canonical(column, self.type).drop_nulls().value_counts(name="count")
        often = counts.filter(pl.col("count") >= min_count).to_series(0)
        new = often.filter(~often.is_in(self._series.implode())) if self.values else often
        return Vocabulary(self.type, self.values + tuple(new.sort().to_list()))

    @property
    def cardinality(self) -> int:
        """Rows of an embedding table, reserved rows included."""
        return FIRST + len(self.values)

    @cached_property
    def _series(self) -> pl.Series:
        return pl.Series("value", self.values, dtype=_DTYPES[self.type])

    def encode(self, column: pl.Series) -> pl.Series:
        """Indices, Int64 of the same length; unknown and missing values give `UNKNOWN`."""
        values = canonical(column, self.type)
        if not self.values:
            return pl.Series([UNKNOWN], dtype=pl.Int64).new_from_index(0, len(values))
        index = pl.int_range(FIRST, self.cardinality, eager=True)
        found = values.replace_strict(self._series, index, default=None, return_dtype=pl.Int64)
        return found.fill_null(UNKNOWN)

    def decode(self, index: Sequence[int]) -> list[int | str | None]:
        """Values of indices; None for the reserved ones."""
        return [self.values[i - FIRST] if i >= FIRST else None for i in index]

    def to_dict(self) -> dict[str, Any]:
        return {"type": self.type, "values": list(self.values)}

    @classmethod
    def from_dict(cls, plain: dict[str, Any]) -> Vocabulary:
        return cls(plain["type"], tuple(plain["values"]))


_DTYPES: dict[str, type[pl.DataType]] = {"int": pl.Int64, "str": pl.String}


def value_type(column: pl.Series) -> ValueType:
    """`int` for integers, booleans and floats without decimals (integers with gaps are often read as floats)."""
    dtype = column.dtype
    if dtype.is_integer() or dtype == pl.Boolean:
        return "int"
    if dtype.is_float():
        finite = column.filter(column.is_finite())
        return "int" if bool((finite == finite.round()).all()) else "str"
    return "str"


def canonical(column: pl.Series, type_: ValueType) -> pl.Series:
    """The column in the type that a vocabulary compares; what does not fit becomes null."""
    if type_ == "str":
        return (column.fill_nan(None) if column.dtype.is_float() else column).cast(pl.String)
    if column.dtype.is_float():
        whole = column.is_finite() & (column == column.round())
        return column.set(~whole.fill_null(False), None).cast(pl.Int64, strict=False)
    if column.dtype == pl.String:
        # "3.0" is the text of a whole number that some tool kept as a float.
        return column.str.strip_suffix(".0").cast(pl.Int64, strict=False)
    return column.cast(pl.Int64, strict=False)
