"""Which rows of a log could be duplicates: found by one sort of plain numbers, so that few rows are compared in full.

Shape letter: N rows of a log.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.ids import whole_bounds
from towerrec.schema import TIMESTAMP_MS, USER_ID

# Ascending runs per row below which a merge of the runs beats a sort.
_NEARLY_SORTED = 0.01


def possible_repeats(frame: pl.DataFrame, key: Sequence[str]) -> pl.Series:
    """Rows whose values of `key` may occur in another row as well, Boolean [N]; every row of which they do is among
    them.

    Logs usually come by user and time, or in a few such runs: there, equal rows are neighbours at once. Any other
    order is sorted by a hash.
    """
    number_N, order_N = _in_order(frame, key)
    same = number_N[1:] == number_N[:-1]
    del number_N
    place_N = np.zeros(frame.height, dtype=bool)
    place_N[1:] = same
    place_N[:-1] |= same
    if order_N is None:
        return pl.Series(place_N)
    found_N = np.zeros(frame.height, dtype=bool)
    found_N[order_N[place_N]] = True
    return pl.Series(found_N)


def _in_order(frame: pl.DataFrame, key: Sequence[str]) -> tuple[NDArray[np.generic], NDArray[np.intp] | None]:
    """One number per row, equal where the key is equal, ascending; and the rows that they stand for (None: as is)."""
    moments_N = user_moments(frame[USER_ID], frame[TIMESTAMP_MS]) if TIMESTAMP_MS in key else None
    if moments_N is not None:
        falls = int(np.count_nonzero(moments_N[1:] < moments_N[:-1]))
        if falls == 0:
            return moments_N, None
        if falls < _NEARLY_SORTED * frame.height:
            order_N = np.argsort(moments_N, kind="stable")
            return moments_N[order_N], order_N
        del moments_N
    hash_N = frame.select(pl.struct(key).hash(seed=0)).to_series().to_numpy()
    order_N = np.argsort(hash_N)
    return hash_N[order_N], order_N


def user_moments(user: pl.Series, timestamp_ms: pl.Series) -> NDArray[np.int64] | None:
    """User and moment of every row as one number, ascending by user and then time, rows without time first, int64 [N].

    None where ids are no whole numbers, where one is missing, or where the number would not fit into 63 bits.
    """
    if len(user) == 0 or not user.dtype.is_integer() or user.null_count() or timestamp_ms.null_count() == len(user):
        return None
    (first_user, last_user), (first_ms, last_ms) = whole_bounds(user), whole_bounds(timestamp_ms)
    span = last_ms - first_ms + 2
    if (last_user - first_user + 1) * span >= 2**63:
        return None
    number_N = user.to_numpy().astype(np.int64)
    number_N -= first_user
    number_N *= span
    known = timestamp_ms if timestamp_ms.null_count() == 0 else timestamp_ms.fill_null(first_ms - 1)
    number_N += known.to_numpy()
    number_N -= first_ms - 1
    return number_N
