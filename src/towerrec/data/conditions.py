"""SQL conditions over the columns of a table, such as `fold < 480`, with errors that name the key they came from."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.wording import reason_of


def condition(key: str, text: str) -> pl.Expr:
    """The condition as an expression.

    Raises:
        ValueError: If it is no SQL.
    """
    try:
        return pl.sql_expr(text)
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{key}={text!r} is not a SQL condition: {reason_of(error)}") from error


def passing(frame: pl.DataFrame, expression: pl.Expr, *, key: str, text: str) -> NDArray[np.bool_]:
    """Which rows pass, bool [N]; unknown is no.

    Raises:
        ValueError: If it cannot be computed or says neither true nor false.
    """
    try:
        passed = frame.select(expression.alias("passed")).to_series()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{key}={text!r} cannot be computed: {reason_of(error)}") from error
    if passed.dtype != pl.Boolean:
        raise ValueError(f"{key}={text!r} gives {passed.dtype}, not true or false: write a comparison")
    # A condition without columns ("true") is one value for all rows.
    passed = passed.new_from_index(0, frame.height) if passed.len() == 1 else passed
    return passed.fill_null(False).to_numpy()
