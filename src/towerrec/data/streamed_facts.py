"""What features learn from the training rows of a store, read in blocks: sums per user and item, never a column."""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.declarations import Declaration
from towerrec.data.statistics import of_sums
from towerrec.data.store import InteractionStore
from towerrec.positive import positive_mask
from towerrec.schema import NO_TIMESTAMP, Side


class StoreFacts:
    """`encode.TrainFacts` of a store. Memory: a few numbers per user and item.

    Sums run in the order of the store, not of the log: those of labels that are no whole numbers may differ in the last
    bit of float64.
    """

    def __init__(self, store: InteractionStore, *, positive: str) -> None:
        self.store, self.positive = store, positive
        self.as_of_ms = _latest(store)

    def occurs(self, side: Side, num_rows: int) -> pl.Series:
        return pl.Series(self._sums(side, "", num_rows) > 0)

    def statistic(self, feature: Declaration, num_rows: int) -> pl.Series:
        side: Side = "user" if feature.side == "user" else "item"
        return of_sums(feature, self._sums(side, "", num_rows), self._sums(side, feature.of, num_rows))

    def ages(self, days_I: NDArray[np.int32], timezone: str) -> NDArray[np.int32]:
        raise AssertionError("refused before: ages are those of all rows at once")

    def recent(self, feature: Declaration) -> NDArray[np.float32]:
        raise AssertionError("refused before: popularity of the moment needs all rows in order")

    def latest_popularity(self, feature: Declaration, num_items: int) -> NDArray[np.float32]:
        raise AssertionError("refused before: popularity of the moment needs all rows in order")

    def _sums(self, side: Side, of: str, num_rows: int) -> NDArray[np.float64]:
        """Rows of every user or item, or the sum of what a statistic sums, [N]."""
        total = np.zeros(num_rows)
        labels = self.store.blocks("label", "train")
        for idx, label in zip(self.store.blocks(f"{side}_idx", "train"), labels, strict=True):
            weights = None
            if of == "mean_label":
                weights = label
            elif of == "positive_rate":
                weights = np.asarray(positive_mask(label, self.positive))
            np.add(total, np.bincount(idx, weights=weights, minlength=num_rows), out=total)
        return total


def refuse_features(declared: list[Declaration]) -> None:
    """Refuse features that need all rows in memory.

    Raises:
        ValueError: With what to do.
    """
    needy = [f.name for f in declared if f.kind in ("recent", "age_days") or f.of == "recent_positives"]
    if needy:
        raise ValueError(
            f"the features {', '.join(needy)} need the whole log in memory, but it is prepared in chunks "
            f"(data.streaming): leave them out with features.drop=[{','.join(needy)}], or set data.streaming=false"
        )


def _latest(store: InteractionStore) -> int | None:
    latest = max((int(block.max()) for block in store.blocks("timestamp_ms", "train")), default=NO_TIMESTAMP)
    return None if latest == NO_TIMESTAMP else latest
