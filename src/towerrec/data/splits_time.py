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
    """Past, present and future: one moment for validation to begin, one for test, one for the log to end.

    Rows of equal time fall on the same side; rows without a time are left out.

    Args:
        val: Fraction of the timed rows, or the first day (or moment) of validation such as `2020-08-30`.
        test: The same for test.
        left_out: The same for what comes after test and is left out; null: nothing.
        known_users: Leave out the held-out rows of users that training has not seen.
        timezone: In which days and moments without an offset are read (KuaiRec: Asia/Shanghai).
        candidates: `catalogue`, `observed` or `held_out`.
    """

    name = "time"
    time_order = "moments"
    apart: str | None = None

    def __init__(
        self,
        *,
        val: float | str = 0.1,
        test: float | str = 0.1,
        left_out: float | str | None = None,
        known_users: bool = False,
        timezone: str = "UTC",
        candidates: str = "catalogue",
    ) -> None:
        self.parts = (val, test) if left_out is None else (val, test, left_out)
        if len({isinstance(part, str) for part in self.parts}) > 1:
            raise ValueError(
                f"split.val, split.test and split.left_out={self.parts}: give fractions or dates, not both"
            )
        fractions = [part for part in self.parts if not isinstance(part, str)]
        if fractions:
            check_fractions(fractions[0], fractions[1])
            if not 0 <= sum(fractions[2:]) < 1 - fractions[0] - fractions[1]:
                raise ValueError(
                    f"split.left_out={left_out}: with val={val} and test={test} nothing is left to train on"
                )
        else:
            self._check_order(timezone)
        self.known_users, self.timezone = known_users, timezone
        self.columns = (TIMESTAMP_MS, USER_ID) if known_users else (TIMESTAMP_MS,)
        self.candidates = check_candidates(candidates)

    def _check_order(self, timezone: str) -> None:
        moments = [moment_ms(str(part), timezone) for part in self.parts]
        if moments != sorted(moments):
            raise ValueError(f"split: of {self.parts} one begins after the next; val, test and left_out follow in time")

    def settings(self) -> dict[str, Any]:
        return {
            "split": self.name,
            "val_test_left_out": list(self.parts),
            "known_users": self.known_users,
            "timezone": self.timezone,
        }

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        known, time_ms = times_of(frame, self.name)
        firsts_ms = self.moments()
        if firsts_ms is None:
            firsts_ms = moments_at(time_ms[known], self.shares())
        return finished(self.codes(frame, firsts_ms), self.name)

    def codes(self, frame: pl.DataFrame, firsts_ms: list[int]) -> NDArray[np.uint8]:
        """Codes [N] by the first moment of validation, of test, and of what is left out where something is."""
        return codes_after(frame, firsts_ms, known_users=self.known_users)

    def moments(self) -> list[int] | None:
        """These moments where they are given as such."""
        if not isinstance(self.parts[0], str):
            return None
        return [moment_ms(str(part), self.timezone) for part in self.parts]

    def shares(self) -> list[float]:
        """Which shares of the timed rows lie before them, where fractions are given."""
        fractions = [float(part) for part in self.parts]
        return [1 - sum(fractions[number:]) for number in range(len(fractions))]


class LeaveLast:
    """The last rows of each user: the very last to test, those before to validation.

    Users with too few rows to keep one for training teach with all of them.

    Args:
        val: Validation rows per user.
        test: Test rows per user.
        order: `time` (equal times keep file order; rows without a time are left out) or `file`.
        candidates: `catalogue`, `observed` or `held_out`.
    """

    name = "leave_last"
    apart: str | None = None

    def __init__(self, *, val: int = 1, test: int = 1, order: str = "time", candidates: str = "catalogue") -> None:
        if val < 0 or test < 1:
            raise ValueError(f"split.val={val}, split.test={test}: rows per user, test at least 1, val at least 0")
        if order not in ("time", "file"):
            raise ValueError(f"split.order must be time or file, got {order!r}")
        self.val, self.test, self.order = val, test, order
        self.columns = (USER_ID, TIMESTAMP_MS) if order == "time" else (USER_ID,)
        self.time_order = "users" if order == "time" else "none"
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        return {"split": self.name, "val": self.val, "test": self.test, "order": self.order}

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        require_columns((USER_ID,), frame.columns, "split=leave_last: the log")
        if self.order == "time":
            times_of(frame, self.name)
        return finished(self.codes(frame), self.name)

    def codes(self, frame: pl.DataFrame) -> NDArray[np.uint8]:
        """Codes [N] of all rows of some users."""
        user = frame[USER_ID].rank("dense").to_numpy().astype(np.int64)
        if self.order == "time":
            known = frame[TIMESTAMP_MS].is_not_null().to_numpy()
            time_ms = frame[TIMESTAMP_MS].fill_null(0).to_numpy()
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
        return codes


def codes_after(
    frame: pl.DataFrame, firsts_ms: list[int], *, train_ms: int | None = None, known_users: bool = False
) -> NDArray[np.uint8]:
    """Codes [N] by moments; rows without a time are left out.

    Args:
        frame: `timestamp_ms`, and `user_id` for `known_users`.
        firsts_ms: The first moment of validation, of test, and of what is left out after it where something is.
        train_ms: What is earlier is left out too; None: nothing.
        known_users: Leave out the held-out rows of users without a training row.
    """
    time_ms = frame[TIMESTAMP_MS].fill_null(0).to_numpy()
    codes = np.full(frame.height, TRAIN, dtype=np.uint8)
    if train_ms is not None:
        codes[time_ms < train_ms] = DROPPED
    for code, first_ms in zip((VAL, TEST, DROPPED), firsts_ms, strict=False):
        codes[time_ms >= first_ms] = code
    codes[frame[TIMESTAMP_MS].is_null().to_numpy()] = DROPPED
    if known_users:
        train_users = frame[USER_ID].filter(pl.Series(codes == TRAIN)).unique()
        codes[~frame[USER_ID].is_in(train_users.implode()).to_numpy()] = DROPPED
    return codes


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


def moments_at(time_ms: NDArray[np.int64], shares: list[float]) -> list[int]:
    """The moments before which these shares of the rows lie."""
    places = places_of(time_ms.shape[0], shares)
    ordered = np.partition(time_ms, sorted(set(places)))
    return [int(ordered[place]) for place in places]


def places_of(num_rows: int, shares: list[float]) -> list[int]:
    """Where in the sorted rows the moments of `moments_at` stand."""
    return [min(round(num_rows * share), num_rows - 1) for share in shares]


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
