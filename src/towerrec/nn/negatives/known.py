"""Pairs of users and items, looked up for whole batches; distinct values of a batch.

Shape letters: B rows of a batch, C distinct values, P known pairs.
"""

from __future__ import annotations

from functools import cached_property

import torch
from torch import Tensor
from torch import device as Device

from towerrec.ragged import UserItems

# Up to so many pairs of users and items (128 MB) have a flag each: one look instead of a binary search.
_FLAGS = 1 << 27


class KnownPairs:
    """Answers whether a user is known to like an item: sampled negatives must not be positives.

    Args:
        known: Known positives of every user.
    """

    def __init__(self, known: UserItems) -> None:
        self.known = known
        self.num_items = known.num_items
        self._flags: Tensor | None = None

    @cached_property
    def key_P(self) -> Tensor:
        """One number per pair, int64 [P]; made when a loss or a source of negatives first asks."""
        known = self.known
        users = torch.arange(known.num_users, device=known.items.device)
        owner_P = torch.repeat_interleave(users, known.counts, output_size=len(known.items))
        # Sorted by construction: users in order, items sorted within each.
        return owner_P * self.num_items + known.items

    def contains(self, user_idx_B: Tensor, item_idx_B: Tensor) -> Tensor:
        """Whether each pair is known, bool; any shapes that broadcast."""
        key_B = user_idx_B * self.num_items + item_idx_B
        num_pairs = self.known.num_users * self.num_items
        if num_pairs <= _FLAGS:
            if self._flags is None:
                self._flags = torch.zeros(num_pairs, dtype=torch.bool, device=self.key_P.device)
                self._flags.index_fill_(0, self.key_P, True)
            return self._flags.index_select(0, key_B.reshape(-1)).view(key_B.shape)
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
    mark = torch.zeros(num_rows, dtype=torch.bool, device=idx_B.device).index_fill_(0, idx_B, True)
    distinct_C = mark.nonzero()[:, 0]
    place = torch.empty(num_rows, dtype=torch.int64, device=idx_B.device)
    place.index_copy_(0, distinct_C, torch.arange(len(distinct_C), device=idx_B.device))
    return distinct_C, place.index_select(0, idx_B)
