"""Rows of a matrix while they are arrays, and their form as a csv table."""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
import polars as pl

from towerrec.data.sources.simulator.calendar import DAY_ZERO_MS, DAYS, MS_PER_DAY, SHANGHAI_MS
from towerrec.data.sources.simulator.scales import Ints
from towerrec.data.sources.simulator.watching import Views


@dataclass(frozen=True)
class Events:
    """Views of videos by users, one value per row [N]: ids, milliseconds, and the yyyymmdd of the log partition.

    A timestamp (and date) of -1 is one that was not recorded.
    """

    user: Ints
    video: Ints
    play_ms: Ints
    duration_ms: Ints
    timestamp_ms: Ints
    date: Ints

    def __len__(self) -> int:
        return len(self.user)

    def take(self, rows: Ints) -> Events:
        """The given rows, in the given order."""
        return Events(**{field.name: getattr(self, field.name)[rows] for field in fields(self)})

    def with_columns(self, **columns: Ints) -> Events:
        """The same rows with some columns replaced."""
        return Events(**{field.name: columns.get(field.name, getattr(self, field.name)) for field in fields(self)})

    @property
    def views(self) -> Views:
        """Time watched and length of every row."""
        return Views(self.play_ms, self.duration_ms)


def concatenate(parts: list[Events]) -> Events:
    """The rows of all parts, one part after the other."""
    return Events(**{f.name: np.concatenate([getattr(p, f.name) for p in parts]) for f in fields(Events)})


def sort_by_user_and_time(events: Events) -> Events:
    """Rows in the order of the release: by user, then by time, rows without a time last."""
    time = np.where(events.timestamp_ms < 0, np.iinfo(np.int64).max, events.timestamp_ms)
    return events.take(np.lexsort((time, events.user)))


def day_number(timestamp_ms: Ints) -> Ints:
    """Local day of a timestamp as a day number (0 is July 5), clipped to the 63 days."""
    return np.clip((timestamp_ms - DAY_ZERO_MS) // MS_PER_DAY, 0, DAYS - 1)


def to_table(events: Events, *, has_gaps: bool) -> pl.DataFrame:
    """The eight columns of a matrix file; with gaps, `date` is a float and unrecorded rows are empty."""
    recorded = pl.col("ms") >= 0
    local = pl.from_epoch(pl.col("ms") + SHANGHAI_MS, time_unit="ms").dt.strftime("%Y-%m-%d %H:%M:%S%.3f")
    frame = pl.DataFrame(
        {
            "user_id": events.user,
            "video_id": events.video,
            "play_duration": events.play_ms,
            "video_duration": events.duration_ms,
            "ms": events.timestamp_ms,
            "date": events.date,
            "watch_ratio": events.views.watch_ratio,
        }
    )
    date = pl.col("date").cast(pl.Float64) if has_gaps else pl.col("date")
    return frame.select(
        "user_id",
        "video_id",
        "play_duration",
        "video_duration",
        pl.when(recorded).then(local).alias("time"),
        pl.when(recorded).then(date).alias("date"),
        pl.when(recorded).then(pl.col("ms") / 1_000).alias("timestamp"),
        "watch_ratio",
    )
