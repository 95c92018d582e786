"""Pairs of users and items, looked up for whole batches; distinct values of a batch.

Shape letters: B rows of a batch, C distinct values, P known pairs.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch import device as Device

from towerrec.ragged import UserItems


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
        """Whether each pair is known, bool; any shapes that broadcast."""
        key_B = user_idx_B * self.num_items + item_idx_B
        if self.key_P.shape[0] == 0:
            return torch.zeros_like(key_B, dtype=torch.bool)
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
