"""What Polars raises at files they cannot make sense of."""

from __future__ import annotations

from polars.exceptions import ComputeError, InvalidOperationError, PanicException, PolarsError

UNREADABLE = (PolarsError, PanicException)
"""While a file is read. Some damaged Parquet files make Polars panic, which Python takes for no `Exception`."""

UNFIT = (ComputeError, InvalidOperationError, PanicException)
"""While what was read is worked on: values that cannot be what their column says. Other errors would be our own."""
