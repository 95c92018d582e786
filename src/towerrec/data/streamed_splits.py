"""Splits of a log that lies on disk in buckets of users: the same codes as in memory.

Row by row: `given`, `where`, and `time` and `rolling` once their moments are known. User by user: `leave_last` and
`known_users` of these two.
In the order of the log: `random`, `first_rows` and the share that `given` draws for validation; their draws are made
once, and lie on disk as one byte a row.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.memory import available_memory
from towerrec.data.selection import at_places
from towerrec.data.splits import TRAIN, VAL, Codes, FirstRows, Given, RandomRows, Split, Where, permuted
from towerrec.data.splits_rolling import Rolling, Times
from towerrec.data.splits_time import GlobalTime, LeaveLast, places_of
from towerrec.data.streamed_rows import PLACE, CleanedRows
from towerrec.npy import ColumnFile
from towerrec.schema import TIMESTAMP_MS

Assign = Callable[[pl.DataFrame], Codes]
"""Codes of the rows of a bucket, uint8 [N]."""

_BLOCK = 1 << 20
# The permutation (NumPy's, of 64-bit numbers), the codes and what is between.
_BYTES_PER_DRAWN_ROW = 10


def refuse_split(split: Split) -> None:
    """Refuse a split that needs the whole log at once.

    Raises:
        ValueError: With what to do.
    """
    if not isinstance(split, RandomRows | FirstRows | Given | Where | GlobalTime | LeaveLast | Rolling):
        raise ValueError(
            f"split={split.name} needs the whole log in memory, but it is prepared in chunks (data.streaming): choose "
            "split=time, rolling, leave_last, random, first_rows, given or where, or set data.streaming=false"
        )
    if isinstance(split, Where):
        for word, expression in split.expressions.items():
            if any(kind in expression.meta.serialize(format="json") for kind in ('"Agg"', '"Window"', '"Over"')):
                raise ValueError(
                    f"split.{word}={split.conditions[word]!r} compares rows with each other, which a log prepared in "
                    "chunks (data.streaming) cannot: write the number itself, or set data.streaming=false"
                )


def assigner(split: Split, rows: CleanedRows, directory: Path) -> Assign:
    """How buckets get their codes; `directory` takes a file where codes are drawn in the order of the log.

    Raises:
        ValueError: Where the split asks for times and there are none, or for more memory than there is.
    """
    if isinstance(split, GlobalTime):
        firsts_ms = _firsts_ms(split, rows)
        return lambda frame: split.codes(frame, firsts_ms)
    if isinstance(split, Rolling):
        moments = split.moments(_found_on_disk(split, rows))
        return lambda frame: split.codes(frame, moments)
    if isinstance(split, LeaveLast):
        if split.order == "time":
            _require_times(split.name, rows)
        return split.codes
    if isinstance(split, RandomRows | FirstRows):
        return _by_place(rows, _drawn(split, rows.num_rows, directory))
    assert isinstance(split, Given | Where)
    if isinstance(split, Given) and split.val > 0.0 and not _brings_validation(split, rows):
        return _with_validation(split, rows, directory)
    return split.codes


def _by_place(rows: CleanedRows, codes_file: Path) -> Assign:
    def assign(frame: pl.DataFrame) -> Codes:
        return np.load(codes_file, mmap_mode="r")[rows.rank(frame[PLACE].to_numpy())]

    return assign


def _drawn(split: RandomRows | FirstRows, num_rows: int, directory: Path) -> Path:
    """The codes of all rows in the order of the log, in a file."""
    first = min(split.num_rows, num_rows) if isinstance(split, FirstRows) else num_rows
    needed = _BYTES_PER_DRAWN_ROW * first
    if needed > (free := available_memory()):
        raise ValueError(
            f"split={split.name} draws {first:,} rows at once, which takes {needed / 2**30:.1f} GiB of memory, and "
            f"{free / 2**30:.1f} GiB are free: choose split=time, leave_last, given or where"
        )
    path = directory / "codes.npy"
    codes = ColumnFile(path, dtype=np.dtype(np.uint8), num_rows=num_rows)
    codes.put(0, permuted(first, val=split.val, test=split.test, seed=split.seed))
    codes.close()
    return path


def _brings_validation(split: Given, rows: CleanedRows) -> bool:
    return any(bool((split.codes(bucket.read(split.columns)) == VAL).any()) for bucket in rows.buckets)


def _with_validation(split: Given, rows: CleanedRows, directory: Path) -> Assign:
    """A share of the training rows validates: one draw per row in the order of the log, as `Given.assign` draws."""
    path, rng = directory / "coins.npy", np.random.default_rng(split.seed)
    coins = ColumnFile(path, dtype=np.dtype(np.bool_), num_rows=rows.num_rows)
    for at in range(0, rows.num_rows, _BLOCK):
        coins.put(at, rng.random(min(_BLOCK, rows.num_rows - at)) < split.val)
    coins.close()

    def assign(frame: pl.DataFrame) -> Codes:
        codes = split.codes(frame)
        chosen = np.load(path, mmap_mode="r")[rows.rank(frame[PLACE].to_numpy())]
        codes[(codes == TRAIN) & chosen] = VAL
        return codes

    return assign


def _firsts_ms(split: GlobalTime, rows: CleanedRows) -> list[int]:
    num_timed = _require_times(split.name, rows)
    given = split.moments()
    if given is not None:
        return given
    found = at_places(lambda: _times(rows), places_of(num_timed, split.shares()))
    return [int(moment) for moment in found]


def _found_on_disk(split: Rolling, rows: CleanedRows) -> Times:
    number = _require_times(split.name, rows)

    def at(places: Sequence[int]) -> list[int]:
        return [int(moment) for moment in at_places(lambda: _times(rows), places)]

    return Times(number, at, lambda moment: sum(int((times < moment).sum()) for times in _times(rows)))


def _require_times(name: str, rows: CleanedRows) -> int:
    """Rows with a time."""
    number = sum(len(times) for times in _times(rows))
    if number == 0:
        raise ValueError(f"split={name} needs times, but no row of the log has one: choose another split")
    return number


def _times(rows: CleanedRows) -> Iterator[NDArray[np.int64]]:
    for bucket in rows.buckets:
        yield bucket.read([TIMESTAMP_MS])[TIMESTAMP_MS].drop_nulls().to_numpy()
