"""Days, hours and clocks of the log: 63 days in the summer of 2020 in Shanghai, 28 of them in the big matrix."""

from __future__ import annotations

import datetime as dt

import numpy as np

from towerrec.data.sources.simulator.scales import Floats, Ints

DAYS = 63
MS_PER_DAY = 86_400_000
DAY_ZERO = dt.date(2020, 7, 5)
DAY_ZERO_MS = 1_593_878_400_000
"""2020-07-05 00:00 in Shanghai, in milliseconds since 1970 UTC."""
SHANGHAI_MS = 8 * 3_600_000

# Day numbers of the three windows of the big matrix: Jul 5-12, Aug 1-10, Aug 27-Sep 5.
LOG_DAYS: Ints = np.concatenate([np.arange(0, 8), np.arange(27, 37), np.arange(53, 63)])
DOUBLED_DAYS: Ints = np.array([31, 57])
"""2020-08-05 and 2020-08-31, the two partitions of which nearly every row was written twice."""
DOUBLED_SHARE = 0.978

# Events per log day in thousands: flat, with the two doubled partitions heavier, and fewer after Aug 29.
DAY_WEIGHT: Floats = np.array(
    [461.0] * 12 + [640.0] + [461.0] * 4 + [441.0] + [413.0] * 3 + [260.0, 349.0] + [246.0] * 5
)

# Share of views by local hour: a trough before dawn, a lunch peak and an evening peak.
_HOUR_WEIGHT = np.array(
    [27, 16, 10, 7, 7, 11, 22, 34, 41, 44, 46, 50, 59, 57, 48, 46, 47, 51, 57, 66, 75, 80, 72, 47], dtype=float
)
_HOUR_CDF = np.concatenate([[0.0], np.cumsum(_HOUR_WEIGHT) / _HOUR_WEIGHT.sum()])


def clock_ms(rng: np.random.Generator, count: int) -> Ints:
    """Local times of day drawn from the daily rhythm, in milliseconds after midnight [count]."""
    hours = np.interp(rng.random(count), _HOUR_CDF, np.arange(25.0))
    return np.minimum((hours * 3_600_000).astype(np.int64), MS_PER_DAY - 1)


def timestamp_ms(day: Ints, clock: Ints) -> Ints:
    """Milliseconds since 1970 UTC of a local time of day on a day number."""
    return DAY_ZERO_MS + day * MS_PER_DAY + clock


def partition_dates(first: int = 0, count: int = DAYS) -> Ints:
    """Dates as yyyymmdd of `count` day numbers from `first` on."""
    days = [DAY_ZERO + dt.timedelta(days=first + offset) for offset in range(count)]
    return np.array([day.year * 10_000 + day.month * 100 + day.day for day in days], dtype=np.int64)


def neighbour_log_day(log_day: Ints, step: Ints) -> Ints:
    """The log day before (-1) or after (+1), or on the other side where the window of days ends."""
    last = len(LOG_DAYS) - 1
    moved = log_day + step
    return np.where((moved < 0) | (moved > last), log_day - step, moved)
