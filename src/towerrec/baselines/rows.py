"""What a baseline learns from: the training rows and nothing else."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from towerrec.decay import decayed_counts, latest
from towerrec.ragged import UserItems

# Rows counted at once.
_CHUNK = 1 << 20


@dataclass(frozen=True)
class TrainRows:
    """Training rows, N of them: `user_idx`, `item_idx` int32 or int64 [N], `positive` bool [N].

    A row is a view; a positive row is a view the user liked by the label's rule.

    Attributes:
        timestamp_ms: Moments, int64 [N], `NO_TIMESTAMP` where a row has none; None where no row has one.
        categories: Encoded item columns by feature, int64 [I] (one value each) or [I, L] (lists); 0 and 1 are no
            category (padding, unknown).
    """

    user_idx: Tensor
    item_idx: Tensor
    positive: Tensor
    num_users: int
    num_items: int
    timestamp_ms: Tensor | None = None
    categories: Mapping[str, Tensor] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.user_idx.shape == self.item_idx.shape == self.positive.shape:
            raise ValueError("user_idx, item_idx and positive must have one value per row each")
        if self.positive.dtype != torch.bool:
            raise ValueError(f"positive must be bool, got {self.positive.dtype}")
        if self.timestamp_ms is not None and self.timestamp_ms.shape != self.item_idx.shape:
            raise ValueError("timestamp_ms must have one value per row")

    @property
    def views(self) -> Tensor:
        """Rows of every item, float64 [I]."""
        return self._per_item(torch.ones_like(self.positive))

    @property
    def likes(self) -> Tensor:
        """Positive rows of every item, float64 [I]."""
        return self._per_item(self.positive)

    def _per_item(self, counted_N: Tensor) -> Tensor:
        """In pieces: the log may not fit into memory."""
        total_I = torch.zeros(self.num_items, dtype=torch.int64)
        for item_idx, counted in zip(self.item_idx.split(_CHUNK), counted_N.split(_CHUNK), strict=True):
            total_I += torch.bincount(item_idx[counted], minlength=self.num_items)
        return total_I.double()

    def liked_items(self) -> UserItems:
        """Distinct positives of every user."""
        return UserItems.from_pairs(
            self.user_idx[self.positive],
            self.item_idx[self.positive],
            num_users=self.num_users,
            num_items=self.num_items,
        )

    def recent(self, *, half_life_days: float, positives_only: bool) -> Tensor:
        """Rows of every item as of the last training moment, halved with every half-life since, float64 [I]."""
        assert self.timestamp_ms is not None, "ask `lacks('times')` first"
        as_of_ms = latest(self.timestamp_ms)
        assert as_of_ms is not None
        kept = self.positive if positives_only else torch.ones_like(self.positive)
        return decayed_counts(
            self.item_idx[kept],
            self.timestamp_ms[kept],
            num_items=self.num_items,
            as_of_ms=as_of_ms,
            half_life_days=half_life_days,
        )

    def lacks(self, *needs: str) -> str | None:
        """Why a baseline that needs `rows`, `positives`, `negatives` or `times` has nothing to say; None: it has."""
        if "rows" in needs and self.user_idx.numel() == 0:
            return "needs training rows, there are none"
        if "positives" in needs and not bool(self.positive.any()):
            return "needs positive training rows, there are none"
        if "negatives" in needs and bool(self.positive.all()):
            return "needs rows that are not positive: with positives alone every rate is 1 (use most_positive)"
        if "times" in needs and (self.timestamp_ms is None or latest(self.timestamp_ms) is None):
            return (
                "needs the times of the rows, the log has none: name their column (data.columns.timestamp), or use "
                "most_positive"
            )
        return None
