"""What every data source delivers: three typed tables, lazy where they are large."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import polars as pl


@dataclass(frozen=True)
class Tables:
    """One log in canonical columns.

    Args:
        name: Short name of the data, for reports.
        interactions: `user_id`, `item_id` (Int64 or String) and, where the log has them, `timestamp_ms` (Int64,
            nullable), `watch_ratio` (Float32), `play_duration_ms`, `duration_ms`, `matrix` (Enum), `label_raw`,
            `split` (UInt8) and any columns under their own names; rows in file order.
        users: `user_id`, one row each, and raw feature columns under their own names.
        items: `item_id`, one row each, and raw feature columns under their own names.
        timezone: In which hours and weekdays are read.
        item_daily: `item_id`, `date` (Date) and counters of that day, to be used only for days before the split.
    """

    name: str
    interactions: pl.LazyFrame
    users: pl.LazyFrame | None = None
    items: pl.LazyFrame | None = None
    timezone: str = "UTC"
    item_daily: pl.LazyFrame | None = None


class Source(Protocol):
    """A place that tables come from."""

    name: str

    def files(self) -> list[Path]:
        """The input files, found, downloaded, unpacked or simulated first.

        Raises:
            ValueError: If one is missing; the message says what to do.
        """
        ...

    def settings(self) -> dict[str, Any]:
        """Plain builtins that change the result of `read`."""
        ...

    def read(self) -> Tables:
        """The tables; the large ones are scanned, not loaded."""
        ...
