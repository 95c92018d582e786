"""Features of the moment of a row: hour, weekday, and age of the item; read in the time zone of the log.

Shape letter: N rows.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.schema import EARLIEST_MS, FIRST, LATEST_MS, NO_TIMESTAMP, UNKNOWN

NO_DAY = -(2**31)
"""Stands where the day of an item is not known."""
# Clocks change at full quarters of an hour in every zone of today: the calendar is read once per quarter, in blocks of
# some weeks that most calls share, and the rows look there.
_STEP_MS = 15 * 60 * 1000
_BLOCK_STEPS = 4096
_BLOCK_MS = _BLOCK_STEPS * _STEP_MS


@dataclass(frozen=True)
class LocalTime:
    """Calendar of rows, [N] each; rows without time hold `NO_DAY` and -1.

    Args:
        days: Calendar of some moments: int32 days since 1970-01-01.
        hours: 0..23, int16.
        weekdays: 0 (Monday) .. 6, int16.
        place: Which of the moments stands for each row; None: they are the rows.
    """

    days: NDArray[np.int32]
    hours: NDArray[np.int16]
    weekdays: NDArray[np.int16]
    place: NDArray[np.int64] | None = None

    @property
    def day(self) -> NDArray[np.int32]:
        return self.days if self.place is None else self.days[self.place]

    @property
    def hour(self) -> NDArray[np.int16]:
        return self.hours if self.place is None else self.hours[self.place]

    @property
    def weekday(self) -> NDArray[np.int16]:
        return self.weekdays if self.place is None else self.weekdays[self.place]


def local_time(timestamp_ms: NDArray[np.int64], timezone: str) -> LocalTime:
    """Read moments in a time zone; the zone's own rules (summer time) hold."""
    timed = timestamp_ms != NO_TIMESTAMP
    known = timestamp_ms if timed.all() else timestamp_ms[timed]
    first, last = (int(known.min()) // _BLOCK_MS, int(known.max()) // _BLOCK_MS) if len(known) else (0, 0)
    calendar = _calendar(first, last, timezone) if (last - first + 1) * _BLOCK_STEPS < len(known) else None
    if calendar is None:
        return _read(timestamp_ms, timezone)
    step = timestamp_ms // _STEP_MS
    step -= first * _BLOCK_STEPS
    step[~timed] = -1
    return replace(calendar, place=step)


@lru_cache(maxsize=4)
def _calendar(first: int, last: int, timezone: str) -> LocalTime | None:
    """Every quarter of an hour from the first block to the last, and at the end what stands where there is no time.

    None where the calendar changes within a quarter, as it has in zones that were off by minutes and seconds.
    """
    begin = np.arange(first * _BLOCK_STEPS, (last + 1) * _BLOCK_STEPS) * _STEP_MS
    local, end = _read(np.append(begin, NO_TIMESTAMP), timezone), _read(begin + (_STEP_MS - 1), timezone)
    changes = (local.hours[:-1] != end.hours).any() or (local.days[:-1] != end.days).any()
    return None if changes else local


def _read(timestamp_ms: NDArray[np.int64], timezone: str) -> LocalTime:
    """`local_time`, moment by moment."""
    moments = pl.DataFrame({"at": timestamp_ms})
    timed = pl.when(pl.col("at").is_between(EARLIEST_MS, LATEST_MS)).then(pl.col("at")).cast(pl.Datetime("ms"))
    try:
        local = timed.dt.replace_time_zone("UTC").dt.convert_time_zone(timezone)
        parts = moments.select(
            day=local.dt.date().to_physical().fill_null(NO_DAY).cast(pl.Int32),
            hour=local.dt.hour().cast(pl.Int16).fill_null(-1),
            weekday=(local.dt.weekday().cast(pl.Int16) - 1).fill_null(-1),
        )
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"time zone {timezone!r} cannot be used: {error}") from error
    return LocalTime(parts["day"].to_numpy(), parts["hour"].to_numpy(), parts["weekday"].to_numpy())


def as_category(value: NDArray[np.integer]) -> NDArray[np.uint8]:
    """0, 1, 2, ... as indices of a vocabulary; -1 is unknown."""
    return np.where(value < 0, UNKNOWN, value + FIRST).astype(np.uint8)


def days_of(column: pl.Series) -> NDArray[np.int32]:
    """A column of dates, datetimes, ISO texts or yyyymmdd numbers as days since 1970-01-01, `NO_DAY` where unknown.

    Raises:
        ValueError: If the column holds something else.
    """
    dates = column
    if column.dtype.is_numeric():
        text = column.cast(pl.Int64, strict=False).cast(pl.String)
        dates = text.str.to_date("%Y%m%d", strict=False)
    elif column.dtype == pl.String:
        dates = column.str.slice(0, 10).str.to_date("%Y-%m-%d", strict=False)
    elif column.dtype == pl.Date or isinstance(column.dtype, pl.Datetime):
        dates = column.cast(pl.Date)
    else:
        raise ValueError(f"column {column.name!r} holds {column.dtype}, a date is needed")
    if dates.null_count() == len(dates) and column.null_count() < len(column):
        raise ValueError(
            f"column {column.name!r} cannot be read as dates: write them as 2020-07-31 or 20200731, "
            f"got {column.drop_nulls().head(3).to_list()}"
        )
    return dates.to_physical().fill_null(NO_DAY).cast(pl.Int32).to_numpy()


def ages(day: NDArray[np.int32], item_day: NDArray[np.int32]) -> NDArray[np.int32]:
    """Whole days from the item's day to the row's, never below 0; -1 where one of them is not known."""
    known = (day != NO_DAY) & (item_day != NO_DAY)
    return np.where(known, np.maximum(day.astype(np.int64) - item_day, 0), -1).astype(np.int32)
