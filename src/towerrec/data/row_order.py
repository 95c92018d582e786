"""The order in which a store keeps its rows: by split, user, time and place in the file."""

from __future__ import annotations

import numpy as np

from towerrec.schema import NO_TIMESTAMP

# Rows whose keys are made at once.
_BLOCK_ROWS = 1 << 20


def sort_order(split: np.ndarray, user_idx: np.ndarray, timestamp_ms: np.ndarray) -> np.ndarray:
    """Positions that sort by split, user and time; equal rows keep their order, rows without time come first.

    Logs usually come sorted by user and time, or in a few such runs: dealing out sorted rows to the splits is a pass,
    and NumPy's stable sort merges runs in hardly more.
    """
    order = _by_user_and_time(user_idx, timestamp_ms)
    codes = range(int(split.max(initial=0)) + 1)
    if order is None:
        return np.concatenate([np.flatnonzero(split == code) for code in codes])
    split_of = split[order]
    return np.concatenate([order[split_of == code] for code in codes])


def _by_user_and_time(user_idx: np.ndarray, timestamp_ms: np.ndarray) -> np.ndarray | None:
    """Positions that sort by user and time, None where the rows are sorted."""
    timed = timestamp_ms != NO_TIMESTAMP
    most = np.iinfo(np.int64).max
    earliest = int(timestamp_ms.min(where=timed, initial=most))
    span = int(timestamp_ms.max(where=timed, initial=NO_TIMESTAMP)) - earliest + 2 if earliest < most else 1
    if (int(user_idx.max(initial=0)) + 1) * span >= most:
        return np.lexsort((timestamp_ms, user_idx))
    key = np.zeros(len(user_idx), dtype=np.int64)
    np.subtract(timestamp_ms, earliest - 1, out=key, where=timed)
    for start in range(0, len(key), _BLOCK_ROWS):
        key[start : start + _BLOCK_ROWS] += np.multiply(user_idx[start : start + _BLOCK_ROWS], span, dtype=np.int64)
    return None if (key[1:] >= key[:-1]).all() else np.argsort(key, kind="stable")
