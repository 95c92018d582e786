"""What an audit says: one finding per check, in a sentence, with an example that can be looked up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from towerrec.data.report import moment_text
from towerrec.data.store import InteractionStore
from towerrec.schema import NO_TIMESTAMP


@dataclass(frozen=True)
class Finding:
    """One check and what came out.

    Attributes:
        check: Its name.
        outcome: `passed`; `failed`: a leak; `stated`: a fact that a reader of the figures should know, and no leak;
            `nothing to check`: the log, the split or the features have nothing of the kind.
        rows: How many rows (of the log, or of a table) a leak concerns.
        text: The finding in one line, with an example of a leak.
        remedy: What to do about a leak.
    """

    check: str
    outcome: str
    rows: int
    text: str
    remedy: str = ""

    def to_dict(self) -> dict[str, Any]:
        """Plain builtins, for JSON."""
        return asdict(self)


def passed(check: str, text: str) -> Finding:
    return Finding(check, "passed", 0, text)


def stated(check: str, text: str) -> Finding:
    return Finding(check, "stated", 0, text)


def nothing(check: str, text: str) -> Finding:
    return Finding(check, "nothing to check", 0, text)


def failed(check: str, rows: int, text: str, remedy: str) -> Finding:
    return Finding(check, "failed", rows, text, remedy)


@dataclass(frozen=True)
class Example:
    """Says a row in the ids of the log.

    Attributes:
        user_ids: Id of every row of the user table.
        item_ids: The same of items.
        timezone: In which moments are written.
    """

    user_ids: pl.Series
    item_ids: pl.Series
    timezone: str

    def __call__(self, store: InteractionStore, side: str, place: int) -> str:
        """The row at a place of a side of the log."""
        return self.of_row({name: store.mapped(name, side)[place] for name in ("user_idx", "item_idx", "timestamp_ms")})

    def of_row(self, row: Mapping[str, np.generic]) -> str:
        time_ms = int(row["timestamp_ms"])
        at = "" if time_ms == NO_TIMESTAMP else f" at {moment_text(time_ms, self.timezone)}"
        return f"user {self.user_ids[int(row['user_idx'])]}, item {self.item_ids[int(row['item_idx'])]}{at}"
