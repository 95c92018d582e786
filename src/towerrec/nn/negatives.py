"""What a positive is compared with: the candidates of a softmax and the sampled negatives of a pointwise loss.

Shape letters: B rows of a batch, C candidates, I items, V width of the vectors, M sampled items, P known pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import device as Device

from towerrec.ragged import UserItems


@dataclass
class Candidates:
    """Items that compete in a softmax, each once.

    `vectors_CV` [C, V]; `idx_C` int64 [C], distinct item rows; `log_q_C` float32 [C]: log of how often the sampling
    puts the item among the candidates (None: no correction, every item once); `log_count_C` float32 [C]: log of how
    often the item was drawn into this batch. An item drawn m times weighs m times: one column with log m added is the
    same sum as m equal columns.
    """

    vectors_CV: Tensor
    idx_C: Tensor
    log_q_C: Tensor | None = None
    log_count_C: Tensor | None = None


class Negatives:
    """Base of the sources: by itself no item beyond the batch (`none`)."""

    name = "none"
    per_row = 0
    shared = 0

    def for_rows(self, item_idx_B: Tensor, num_items: int) -> Tensor | None:
        """Sampled items int64 [B, per_row] for a pointwise loss, or None."""
        return None

    def for_batch(self, num_items: int, device: torch.device) -> Tensor | None:
        """Sampled items int64 [shared] that join the candidates of a softmax, or None."""
        return None


class NoNegatives(Negatives):
    """The rows of the log alone: a pointwise loss learns from their labels, a softmax compares within the batch."""


class InBatch(Negatives):
    """Items of other rows of the batch: negatives as popular as the positives.

    A softmax compares within the batch anyway; this source gives the same kind of negatives to a pointwise loss.

    Args:
        per_row: Negatives of every row.
    """

    name = "in_batch"

    def __init__(self, *, per_row: int = 1) -> None:
        self.per_row = _at_least("per_row", per_row, 1)

    def for_rows(self, item_idx_B: Tensor, num_items: int) -> Tensor | None:
        draw = torch.randint(item_idx_B.shape[0], (item_idx_B.shape[0], self.per_row), device=item_idx_B.device)
        return item_idx_B[draw]


class Uniform(Negatives):
    """Items drawn uniformly from the catalogue, with replacement.

    Args:
        per_row: Negatives of every row under a pointwise loss.
        shared: Items that join the candidates of every row under a softmax.
    """

    name = "uniform"

    def __init__(self, *, per_row: int = 4, shared: int = 1024) -> None:
        self.per_row = _at_least("per_row", per_row, 0)
        self.shared = _at_least("shared", shared, 0)

    def for_rows(self, item_idx_B: Tensor, num_items: int) -> Tensor | None:
        if self.per_row == 0:
            return None
        return torch.randint(num_items, (item_idx_B.shape[0], self.per_row), device=item_idx_B.device)

    def for_batch(self, num_items: int, device: torch.device) -> Tensor | None:
        return torch.randint(num_items, (self.shared,), device=device) if self.shared else None


def log_q(item_counts_I: Tensor, *, batch_size: int, shared: int) -> Tensor:
    """Log of the expected draws of every item into one batch, float32 [I].

    The batch draws items as often as the training rows show them, the shared negatives uniformly: the expectation of
    the mixture is the sum of both, so one correction serves the whole pool. The formula is the sampled-softmax
    correction of Bengio and Senecal 2003 as used in Yi et al., RecSys 2019, section 3.

    Args:
        item_counts_I: Training rows of every item.
        batch_size: Rows of a batch.
        shared: Uniform negatives that join the candidates.
    """
    counts_I = item_counts_I.double()
    expected_I = batch_size * counts_I / counts_I.sum() + shared / counts_I.shape[0]
    # An item without training rows is never drawn from the batch; its value is not read then, but must stay finite.
    return expected_I.clamp(min=1e-12).log().float()


class KnownPairs:
    """Answers whether a user is known to like an item: sampled negatives must not be positives.

    Args:
        known: Known positives of every user.
    """

    def __init__(self, known: UserItems) -> None:
        self.known = known
        self.num_items = known.num_items
        owner_P = torch.repeat_interleave(torch.arange(known.num_users, device=known.items.device), known.counts)
        # Sorted by construction: users in order, items sorted within each.
        self.key_P = owner_P * self.num_items + known.items

    def contains(self, user_idx_B: Tensor, item_idx_B: Tensor) -> Tensor:
        """Whether each pair is known, bool [B]."""
        if self.key_P.shape[0] == 0:
            return torch.zeros_like(user_idx_B, dtype=torch.bool)
        key_B = user_idx_B * self.num_items + item_idx_B
        place_B = torch.searchsorted(self.key_P, key_B).clamp(max=self.key_P.shape[0] - 1)
        return self.key_P[place_B] == key_B

    def to(self, device: Device | str) -> KnownPairs:
        return KnownPairs(self.known.to(device))


def distinct(idx_B: Tensor, num_rows: int) -> tuple[Tensor, Tensor]:
    """Distinct values in ascending order and the place of every element among them, as `torch.unique`.

    By marking, in half the time of a sort: the values are rows of a table of `num_rows`.
    """
    mark = torch.zeros(num_rows, dtype=torch.int32, device=idx_B.device)
    mark[idx_B] = 1
    distinct_C = mark.nonzero()[:, 0]
    return distinct_C, (mark.cumsum(0) - 1)[idx_B]


def _at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"negatives.{name} must be at least {least}, got {value}")
    return value
