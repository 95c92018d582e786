"""Retraining windows: train on all that came before a window, judge the window, roll on to the next."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.report import moment_text
from towerrec.data.splits import check_candidates, finished
from towerrec.data.splits_time import codes_after, moment_ms, places_of, times_of
from towerrec.schema import TIMESTAMP_MS, USER_ID

DAY_MS = 86_400_000


@dataclass(frozen=True)
class Times:
    """What the moments of a split are found from: the times of a log, in memory or on disk.

    Attributes:
        number: Rows that have a time.
        at: The moments at some places of the sorted times (0 is the earliest).
        before: How many rows are earlier than a moment.
    """

    number: int
    at: Callable[[Sequence[int]], list[int]]
    before: Callable[[int], int]

    @classmethod
    def of(cls, time_ms: NDArray[np.int64]) -> Times:
        """Those of the timed rows [N] of a log in memory."""

        def at(places: Sequence[int]) -> list[int]:
            ordered = np.partition(time_ms, sorted(set(places)))
            return [int(ordered[place]) for place in places]

        return cls(len(time_ms), at, lambda moment: int((time_ms < moment).sum()))


@dataclass(frozen=True)
class Moments:
    """Where the parts of a window begin, in milliseconds; `train` is None where training begins with the log, `end` is
    None where the window ends with it."""

    train: int | None
    val: int
    test: int
    end: int | None


class Rolling:
    """One of several windows in time: train on the rows before it, validate on the last of these, judge the window.

    The windows follow each other without a gap from `start` on; a sweep over `window` retrains before each. What comes
    after the window is left out, so that nothing of a run depends on it. The last window ends with the log, and may be
    shorter than `days`. Rows of equal time fall on the same side; rows without a time are left out.

    Args:
        window: Which window is judged, from 0.
        num_windows: How many there are.
        start: Where the first one begins: the share of the timed rows before it, or a day (or moment) such as
            `2020-08-20`.
        days: Length of a window in days; null: all hold equally many of the rows from `start` on.
        val: Share of the rows before the window, those nearest to it, that validate; 0: none do.
        val_days: Instead of a share: so many days before the window validate.
        train_days: Train on so many days before validation; null: on everything before.
        known_users: Leave out the held-out rows of users that training has not seen.
        timezone: In which days and moments without an offset are read (KuaiRec: Asia/Shanghai).
        candidates: `catalogue`, `observed` or `held_out`.
    """

    name = "rolling"
    time_order = "moments"
    apart: str | None = None

    def __init__(
        self,
        *,
        window: int = 0,
        num_windows: int = 3,
        start: float | str = 0.7,
        days: float | None = None,
        val: float = 0.1,
        val_days: float | None = None,
        train_days: float | None = None,
        known_users: bool = False,
        timezone: str = "UTC",
        candidates: str = "catalogue",
    ) -> None:
        if num_windows < 1:
            raise ValueError(f"split.num_windows must be at least 1, got {num_windows}")
        if not 0 <= window < num_windows:
            raise ValueError(
                f"split.window={window}: there are {num_windows} windows (split.num_windows), 0 to {num_windows - 1}"
            )
        if isinstance(start, str):
            moment_ms(start, timezone)
        elif not 0 < start < 1:
            raise ValueError(f"split.start={start}: the share of the rows before the first window, above 0 and below 1")
        if not 0 <= val < 1:
            raise ValueError(f"split.val={val}: a share of the rows before the window, at least 0 and below 1")
        for name, length in (("days", days), ("val_days", val_days), ("train_days", train_days)):
            if length is not None and not length > 0:
                raise ValueError(f"split.{name} must be above 0 or null, got {length}")
        self.window, self.num_windows, self.start, self.days = window, num_windows, start, days
        self.val, self.val_days, self.train_days = val, val_days, train_days
        self.known_users, self.timezone = known_users, timezone
        self.columns = (TIMESTAMP_MS, USER_ID) if known_users else (TIMESTAMP_MS,)
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        return {
            "split": self.name,
            "window": self.window,
            "num_windows": self.num_windows,
            "start": self.start,
            "days": self.days,
            "val": self.val if self.val_days is None else None,
            "val_days": self.val_days,
            "train_days": self.train_days,
            "known_users": self.known_users,
            "timezone": self.timezone,
        }

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        known, time_ms = times_of(frame, self.name)
        return finished(self.codes(frame, self.moments(Times.of(time_ms[known]))), self.name)

    def codes(self, frame: pl.DataFrame, moments: Moments) -> NDArray[np.uint8]:
        """Codes [N] of some rows, all of their users'."""
        firsts_ms = [moments.val, moments.test, *([] if moments.end is None else [moments.end])]
        return codes_after(frame, firsts_ms, train_ms=moments.train, known_users=self.known_users)

    def moments(self, times: Times) -> Moments:
        """Where the parts of this window begin.

        Raises:
            ValueError: If the window lies outside the log, or has no rows.
        """
        begins, after = self._windows(times)
        test, end = begins[self.window], [*begins[1:], after][self.window]
        before, upto = times.before(test), times.number if end is None else times.before(end)
        if before == 0 or before == upto:
            first, last = (moment_text(moment, self.timezone) for moment in times.at([0, times.number - 1]))
            raise ValueError(
                f"split.window={self.window} begins at {moment_text(test, self.timezone)} and has {before:,} rows "
                f"before it and {upto - before:,} in it; the log lasts from {first} to {last}: change split.start, "
                "split.days or split.num_windows"
            )
        if self.val_days is not None:
            val = test - round(self.val_days * DAY_MS)
            return Moments(self._train_ms(val), val, test, end)
        if self.train_days is None:
            return Moments(None, self._val_ms(times, 0, before, test), test, end)
        # The share is that of the rows that would be trained on, if nothing validated.
        begin = times.before(test - round(self.train_days * DAY_MS))
        val = self._val_ms(times, begin, before, test)
        return Moments(self._train_ms(val), val, test, end)

    def _windows(self, times: Times) -> tuple[list[int], int | None]:
        """Where each window begins, and where the last one ends (None: with the log)."""
        if isinstance(self.start, str):
            first = moment_ms(self.start, self.timezone)
            place = times.before(first)
        else:
            (place,) = places_of(times.number, [self.start])
            (first,) = times.at([place])
        if self.days is not None:
            length = round(self.days * DAY_MS)
            return [first + number * length for number in range(self.num_windows)], first + self.num_windows * length
        rest = times.number - place
        inner = [place + round(rest * number / self.num_windows) for number in range(1, self.num_windows)]
        return [first, *(times.at([min(at, times.number - 1) for at in inner]) if inner else [])], None

    def _val_ms(self, times: Times, begin: int, end: int, test_ms: int) -> int:
        """The first moment of the validation rows, by their share of the sorted rows `begin` to `end`."""
        place = end - round((end - begin) * self.val)
        return test_ms if place >= end else times.at([place])[0]

    def _train_ms(self, val_ms: int) -> int | None:
        return None if self.train_days is None else val_ms - round(self.train_days * DAY_MS)
