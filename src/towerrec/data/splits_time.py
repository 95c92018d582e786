"""Splits by time: one moment for all users, or the last rows of each."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.columns import require_columns
from towerrec.data.splits import DROPPED, TEST, TRAIN, VAL, check_candidates, check_fractions, finished
from towerrec.schema import TIMESTAMP_MS, USER_ID


class GlobalTime:
    """Past, present and future: one moment for validation to begin, one for test.

    Rows of equal time fall on the same side; rows without a time are left out.

    Args:
        val: Fraction of the timed rows, or the first day (or moment) of validation such as `2020-08-30`.
        test: The same for test.
        timezone: In which days and moments without an offset are read (KuaiRec: Asia/Shanghai).
        candidates: `catalogue` or `observed`.
    """

    name = "time"
    columns = (TIMESTAMP_MS,)

    def __init__(
        self,
        *,
        val: float | str = 0.1,
        test: float | str = 0.1,
        timezone: str = "UTC",
        candidates: str = "catalogue",
    ) -> None:
        if isinstance(val, str) != isinstance(test, str):
            raise ValueError(f"split.val={val!r}, split.test={test!r}: give two fractions or two dates")
        if not isinstance(val, str) and not isinstance(test, str):
            check_fractions(val, test)
        elif moment_ms(str(val), timezone) > moment_ms(str(test), timezone):
            raise ValueError(f"split.val={val} begins after split.test={test}: validation comes before test")
        self.val, self.test, self.timezone = val, test, timezone
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        return {"split": self.name, "val": self.val, "test": self.test, "timezone": self.timezone}

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        known, time_ms = times_of(frame, self.name)
        val_ms, test_ms = self._bounds_ms(time_ms[known])
        codes = np.select([time_ms >= test_ms, time_ms >= val_ms], [TEST, VAL], TRAIN).astype(np.uint8)
        codes[~known] = DROPPED
        return finished(codes, self.name)

    def _bounds_ms(self, time_ms: NDArray[np.int64]) -> tuple[int, int]:
        if isinstance(self.val, str) or isinstance(self.test, str):
            return moment_ms(str(self.val), self.timezone), moment_ms(str(self.test), self.timezone)
        num_rows = time_ms.shape[0]
        first_test = min(round(num_rows * (1 - self.test)), num_rows - 1)
        first_val = min(round(num_rows * (1 - self.test - self.val)), first_test)
        ordered = np.partition(time_ms, sorted({first_val, first_test}))
        return int(ordered[first_val]), int(ordered[first_test])


class LeaveLast:
    """The last rows of each user: the very last to test, those before to validation.

    Users with too few rows to keep one for training teach with all of them.

    Args:
        val: Validation rows per user.
        test: Test rows per user.
        order: `time` (equal times keep file order; rows without a time are left out) or `file`.
        candidates: `catalogue` or `observed`.
    """

    name = "leave_last"

    def __init__(self, *, val: int = 1, test: int = 1, order: str = "time", candidates: str = "catalogue") -> None:
        if val < 0 or test < 1:
            raise ValueError(f"split.val={val}, split.test={test}: rows per user, test at least 1, val at least 0")
        if order not in ("time", "file"):
            raise ValueError(f"split.order must be time or file, got {order!r}")
        self.val, self.test, self.order = val, test, order
        self.columns = (USER_ID, TIMESTAMP_MS) if order == "time" else (USER_ID,)
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        return {"split": self.name, "val": self.val, "test": self.test, "order": self.order}

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        require_columns((USER_ID,), frame.columns, "split=leave_last: the log")
        user = frame[USER_ID].rank("dense").to_numpy().astype(np.int64)
        if self.order == "time":
            known, time_ms = times_of(frame, self.name)
            row = np.flatnonzero(known)
            row = row[np.lexsort((time_ms[row], user[row]))]
        else:
            row = np.argsort(user, kind="stable")
        counts = np.bincount(user[row])
        from_end = np.cumsum(counts)[user[row]] - np.arange(row.shape[0])
        enough = counts[user[row]] > self.val + self.test
        codes = np.zeros(frame.height, dtype=np.uint8)
        codes[row] = np.select(
            [enough & (from_end <= self.test), enough & (from_end <= self.test + self.val)], [TEST, VAL], TRAIN
        )
        return finished(codes, self.name)


def times_of(frame: pl.DataFrame, name: str) -> tuple[NDArray[np.bool_], NDArray[np.int64]]:
    """Which rows have a time, and the times (0 where unknown), each [N].

    Raises:
        ValueError: If the log has no times at all.
    """
    require_columns(
        (TIMESTAMP_MS,), frame.columns, f"split={name}: the log (name its time with data.columns.timestamp)"
    )
    column = frame[TIMESTAMP_MS]
    if column.null_count() == column.len():
        raise ValueError(f"split={name} needs times, but no row of the log has one: choose another split")
    return column.is_not_null().to_numpy(), column.fill_null(0).to_numpy()


def moment_ms(text: str, timezone: str) -> int:
    """Milliseconds since 1970 of an ISO date or moment; without an offset it is read in `timezone`."""
    try:
        zone = ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"split.timezone={timezone!r} is not a time zone: write one such as Asia/Shanghai") from error
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        today = date.today().isoformat()
        raise ValueError(f"split: {text!r} is not a date: write one such as {today} or {today}T20:00") from error
    moment = moment if moment.tzinfo is not None else moment.replace(tzinfo=zone)
    return round((moment - datetime(1970, 1, 1, tzinfo=UTC)).total_seconds() * 1000)
