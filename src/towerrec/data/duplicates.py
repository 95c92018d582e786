"""Which rows of a log could be duplicates: found by one sort of plain numbers, so that few rows are compared in full.

Shape letters: N rows of a log, P rows that may be repeats.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.ids import whole_bounds
from towerrec.schema import TIMESTAMP_MS, USER_ID

# Ascending runs per row below which a merge of the runs beats a sort.
_NEARLY_SORTED = 0.01
# Rows numbered at once: bounds the memory of what is between.
_CHUNK = 1 << 18


@dataclass(frozen=True)
class Repeats:
    """Rows that may be equal in a key, together in groups; every row that is equal to another is among them.

    Args:
        row_P: Their places in the log, group after group, those of a group ascending.
        begins_P: Where a group begins.
    """

    row_P: NDArray[np.intp]
    begins_P: NDArray[np.bool_]

    def again(self, frame: pl.DataFrame, columns: Sequence[str]) -> NDArray[np.bool_]:
        """Which of the rows are equal in `columns` to an earlier one, bool [P]; the frame holds them, in this order."""
        previous = [pl.col(name).eq_missing(pl.col(name).shift()) for name in columns]
        again_P = frame.select(pl.all_horizontal(previous)).to_series().to_numpy() & ~self.begins_P
        begin = np.flatnonzero(self.begins_P)
        size = np.diff(begin, append=len(self.row_P))
        large_P = np.repeat(size > 2, size)
        # Most groups are pairs, where the row before is the only one to look at.
        if large_P.any():
            few = frame.filter(pl.Series(large_P)).select(pl.struct(columns).is_first_distinct())
            again_P[large_P] = ~few.to_series().to_numpy()
        return again_P


def possible_repeats(frame: pl.DataFrame, key: Sequence[str]) -> Repeats:
    """Rows whose values of `key` may occur in another row as well.

    Logs usually come by user and time, or in a few such runs: there, equal rows are neighbours at once. Any other
    order is sorted by a hash.
    """
    number_N, order_N = _in_order(frame, key)
    same = number_N[1:] == number_N[:-1]
    inside_N = np.append(False, same)
    inside_N[:-1] |= same
    row_P, number_P = np.flatnonzero(inside_N), number_N[inside_N]
    if order_N is not None:
        row_P = order_N[row_P]
        by_place = np.lexsort((row_P, number_P))
        row_P, number_P = row_P[by_place], number_P[by_place]
    begins_P = np.ones(len(row_P), dtype=bool)
    begins_P[1:] = number_P[1:] != number_P[:-1]
    return Repeats(row_P, begins_P)


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
    number_N = np.empty(len(user), dtype=np.int64)
    for start in range(0, len(user), _CHUNK):
        part = slice(start, start + _CHUNK)
        number_N[part] = user.slice(start, _CHUNK).to_numpy()
        number_N[part] -= first_user
        number_N[part] *= span
        number_N[part] += timestamp_ms.slice(start, _CHUNK).fill_null(first_ms - 1).to_numpy()
        number_N[part] -= first_ms - 1
    return number_N
