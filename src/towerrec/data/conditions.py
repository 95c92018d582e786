"""SQL conditions over the columns of a table, such as `fold < 480`, with errors that name the key they came from."""

from __future__ import annotations

import re

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.unreadable import UNREADABLE
from towerrec.wording import reason_of, shortened

MOST_OPERATORS = 200
"""More in a row take Polars minutes (its optimiser's time grows with their cube), and thousands overflow its stack."""
_DOUBLES = "between, in, nullif, right"
MOST_DOUBLING = 16
"""Polars writes what stands before or in these twice, so that a nest of thirty takes it longer than anybody waits."""
_DOUBLING = re.compile(r"\b(?:between|in|nullif|right)\b", re.IGNORECASE)
_OPERATOR = re.compile(
    r"\b(?:and|or|not|xor|between|like|ilike|is|case|when|div|mod)\b|::|[-+*/%<>=!|&^~]+", re.IGNORECASE
)
# Texts, quoted names, and signs of numbers.
_NO_OPERATOR = re.compile(r"'[^']*'|\"[^\"]*\"|(?<=[(,])\s*[-+]")


def condition(key: str, text: str) -> pl.Expr:
    """The condition as an expression.

    Raises:
        ValueError: If it is no SQL, or of more operators than Polars can work through.
    """
    said = _NO_OPERATOR.sub(" ", text)
    for what, found, most in (("operators", _OPERATOR, MOST_OPERATORS), (f"of {_DOUBLES}", _DOUBLING, MOST_DOUBLING)):
        if (number := len(found.findall(said))) > most:
            raise ValueError(
                f"{key}={shortened(text)!r} has {number:,} {what}, at most {most} are understood: write `x in "
                "(1, 2, 3)` for `x = 1 or x = 2 or x = 3`, or put the result into a column of the log"
            )
    try:
        return pl.sql_expr(text)
    except UNREADABLE as error:
        reason = f"{reason_of(error)}{_as_a_name(str(error), text)}"
        raise ValueError(f"{key}={shortened(text, 200)!r} is not a SQL condition: {reason}") from error


def _as_a_name(error: str, text: str) -> str:
    """What to write where a column is called like a function of SQL, as `user` is."""
    found = re.search(r"unsupported function '(\w+)'", error)
    if found is None or re.search(rf"\b{found[1]}\s*\(", text, re.IGNORECASE):
        return ""
    return f'; a column of that name stands in double quotes, "{found[1]}"'


def passing(frame: pl.DataFrame, expression: pl.Expr, *, key: str, text: str) -> NDArray[np.bool_]:
    """Which rows pass, bool [N]; unknown is no.

    Raises:
        ValueError: If it cannot be computed or says neither true nor false.
    """
    try:
        passed = frame.select(expression.alias("passed")).to_series()
    except UNREADABLE as error:
        raise ValueError(f"{key}={shortened(text, 200)!r} cannot be computed: {reason_of(error)}") from error
    if passed.dtype != pl.Boolean:
        raise ValueError(f"{key}={shortened(text, 200)!r} gives {passed.dtype}, not true or false: write a comparison")
    # A condition without columns ("true") is one value for all rows.
    passed = passed.new_from_index(0, frame.height) if passed.len() == 1 else passed
    return passed.fill_null(False).to_numpy()
