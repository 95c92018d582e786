"""Lists of items per user, packed: seen items, known positives, relevant items, candidates.

Shape letters: U users, B users of a batch, I items, P packed (user, item) pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch import device as Device


@dataclass
class UserItems:
    """For every user the sorted, distinct item indices: `items[offsets[u] : offsets[u + 1]]`.

    `offsets` is int64 [U + 1], `items` int64 [P] (int32 where it lies on disk), `values` float32 [P] or None (for
    instance graded relevance).
    """

    offsets: Tensor
    items: Tensor
    num_items: int
    values: Tensor | None = None

    @classmethod
    def from_pairs(
        cls,
        user_idx: Tensor,
        item_idx: Tensor,
        *,
        num_users: int,
        num_items: int,
        values: Tensor | None = None,
    ) -> UserItems:
        """Pack pairs given in any order; of equal pairs the largest value stays."""
        key = user_idx.long() * num_items + item_idx.long()
        fits = values is None or num_users * num_items < 2**31
        distinct, kept = _sorted_pairs(key, values) if key.device.type == "cpu" and fits else _unique_pairs(key, values)
        # The lists of the users lie one after the other: each ends where the first pair of the next would stand.
        ends = torch.arange(num_users + 1, device=key.device) * num_items
        offsets = torch.searchsorted(distinct, ends)
        items = distinct - torch.repeat_interleave(ends[:-1], offsets.diff())
        return cls(offsets=offsets, items=items, num_items=num_items, values=kept)

    @classmethod
    def empty(cls, *, num_users: int, num_items: int) -> UserItems:
        none = torch.zeros(0, dtype=torch.int64)
        return cls.from_pairs(none, none, num_users=num_users, num_items=num_items)

    @property
    def num_users(self) -> int:
        return self.offsets.shape[0] - 1

    @property
    def counts(self) -> Tensor:
        """Number of items of every user, int64 [U]."""
        return self.offsets.diff()

    def pairs_of(self, user_idx_B: Tensor, *, total: int | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """Unpack the lists of some users: `(row, item, position)`, each int64 [P'].

        `row` is the position in `user_idx_B`, `position` the place in `items` (and in `values`). Who knows P' says so
        by `total`: then an accelerator is not waited for.
        """
        start_B = self.offsets[user_idx_B]
        count_B = self.offsets[user_idx_B + 1] - start_B
        row = torch.repeat_interleave(count_B, output_size=total)
        shift_B = start_B - (torch.cumsum(count_B, 0) - count_B)
        position = torch.arange(row.shape[0], device=row.device)
        position += torch.repeat_interleave(shift_B, count_B, output_size=row.shape[0])
        return row, self.items.index_select(0, position).long(), position

    def contain(self, user_idx_B: Tensor, item_idx_B: Tensor) -> Tensor:
        """Whether each item stands in the list of its user, bool [B]: a binary search in each list."""
        if self.items.shape[0] == 0 or user_idx_B.shape[0] == 0:
            return torch.zeros_like(user_idx_B, dtype=torch.bool)
        place_B, last = self._places(user_idx_B, item_idx_B), self.items.shape[0] - 1
        return (place_B < self.offsets[user_idx_B + 1]) & (self.items[place_B.clamp(max=last)] == item_idx_B)

    def _places(self, user_idx_B: Tensor, item_idx_B: Tensor) -> Tensor:
        """Where in `items` each item stands in the list of its user, or would stand, int64 [B]."""
        low_B, end_B = self.offsets[user_idx_B], self.offsets[user_idx_B + 1]
        high_B, last = end_B.clone(), self.items.shape[0] - 1
        if last < 0 or user_idx_B.shape[0] == 0:
            return low_B
        for _ in range(int((end_B - low_B).max()).bit_length()):
            middle_B = (low_B + high_B) // 2
            smaller_B = (self.items[middle_B.clamp(max=last)] < item_idx_B) & (low_B < high_B)
            low_B = torch.where(smaller_B, middle_B + 1, low_B)
            high_B = torch.where(smaller_B, high_B, middle_B)
        return low_B

    def mask_of(self, user_idx_B: Tensor) -> Tensor:
        """Dense membership, bool [B, I]."""
        row, item, _ = self.pairs_of(user_idx_B)
        mask_BI = torch.zeros(len(user_idx_B), self.num_items, dtype=torch.bool, device=row.device)
        mask_BI[row, item] = True
        return mask_BI

    def without(self, other: UserItems) -> UserItems:
        """The lists less what stands in those of `other`, which are of the same users and items."""
        user = torch.repeat_interleave(torch.arange(self.num_users), self.counts)
        other_user = torch.repeat_interleave(torch.arange(other.num_users), other.counts)
        keys, gone = user * self.num_items + self.items, other_user * self.num_items + other.items
        kept = ~torch.isin(keys, gone, assume_unique=True)
        return UserItems.from_pairs(user[kept], self.items[kept], num_users=self.num_users, num_items=self.num_items)

    def take(self, user_idx_B: Tensor) -> UserItems:
        """The lists of some users, in their order."""
        row, items, position = self.pairs_of(user_idx_B)
        ends_B = torch.cumsum(torch.bincount(row, minlength=len(user_idx_B)), 0)
        values = None if self.values is None else self.values[position]
        return UserItems(torch.cat([ends_B.new_zeros(1), ends_B]), items, self.num_items, values)

    def only(self, user_idx_B: Tensor) -> UserItems:
        """The lists of some users, each named once, in their places; those of all others are empty."""
        ordered_B = user_idx_B.sort().values
        _, items, position = self.pairs_of(ordered_B)
        counts = torch.zeros_like(self.offsets)
        counts[ordered_B + 1] = self.counts[ordered_B]
        values = None if self.values is None else self.values[position]
        return UserItems(torch.cumsum(counts, 0), items, self.num_items, values)

    def with_pairs(self, user_idx: Tensor, item_idx: Tensor, values: Tensor | None = None) -> UserItems:
        """The lists with further pairs, in any order; where the lists have values the pairs bring theirs, and of equal
        pairs the largest stays."""
        assert (values is None) == (self.values is None), "pairs have values where the lists do"
        if values is None:
            return self._with_inserted(user_idx.long(), item_idx.long())
        user = torch.repeat_interleave(torch.arange(self.num_users, device=user_idx.device), self.counts)
        return UserItems.from_pairs(
            torch.cat([user, user_idx.long()]),
            torch.cat([self.items.long(), item_idx.long()]),
            num_users=self.num_users,
            num_items=self.num_items,
            values=None if self.values is None else torch.cat([self.values, values]),
        )

    def _with_inserted(self, user_idx: Tensor, item_idx: Tensor) -> UserItems:
        """The lists with further pairs put where they belong: what is there is copied and not sorted anew."""
        further = UserItems.from_pairs(user_idx, item_idx, num_users=self.num_users, num_items=self.num_items)
        user, item, _ = further.pairs_of(torch.arange(self.num_users, device=user_idx.device))
        new = ~self.contain(user, item)
        user, item = user[new], item[new]
        place = self._places(user, item) + torch.arange(len(item), device=item.device)
        is_old = torch.ones(len(self.items) + len(item), dtype=torch.bool, device=item.device)
        is_old[place] = False
        items = torch.empty(len(is_old), dtype=torch.int64, device=item.device)
        items[is_old], items[place] = self.items.long(), item
        more = torch.bincount(user, minlength=self.num_users).cumsum(0)
        return UserItems(self.offsets + torch.cat([more.new_zeros(1), more]), items, self.num_items)

    def resized(self, *, num_users: int, num_items: int) -> UserItems:
        """The same lists in larger tables: new users have empty lists, new items stand in none."""
        assert num_users >= self.num_users and num_items >= self.num_items
        offsets = torch.cat([self.offsets, self.offsets[-1:].expand(num_users - self.num_users)])
        return UserItems(offsets, self.items, num_items, self.values)

    def to(self, device: Device | str) -> UserItems:
        values = None if self.values is None else self.values.to(device)
        return UserItems(self.offsets.to(device), self.items.to(device), self.num_items, values)


@dataclass
class TopN:
    """Ranked lists, best first: `items` int64 [B, n], `scores` float32 [B, n]; -1 and -inf where a list has ended."""

    items: Tensor
    scores: Tensor

    def __len__(self) -> int:
        return self.items.shape[0]

    @property
    def lengths(self) -> Tensor:
        """Items of every list, int64 [B]."""
        return (self.items >= 0).sum(1)

    def to(self, device: Device | str) -> TopN:
        return TopN(self.items.to(device), self.scores.to(device))


def _unique_pairs(key: Tensor, values: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Distinct keys, ascending, and the largest value of each."""
    if values is None:
        return torch.unique(key), None
    distinct, inverse = torch.unique(key, return_inverse=True)
    kept = torch.full(distinct.shape, -torch.inf, device=key.device)
    return distinct, kept.scatter_reduce_(0, inverse, values.float(), reduce="amax")


def _sorted_pairs(key: Tensor, values: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """The same by one sort of plain numbers in NumPy, a tenth of the time; with values, keys are below 2**31."""
    if values is None:
        ordered = np.sort(key.numpy())
        return torch.from_numpy(ordered[np.append(True, ordered[1:] != ordered[:-1])[: len(ordered)]]), None
    # A float as a whole number of the same order: the bits of a negative one run backwards.
    bits = values.float().contiguous().view(torch.int32)
    rank = (bits ^ ((bits >> 31) & 0x7FFFFFFF)).long() + 2**31
    ordered = np.sort(((key << 32) | rank).numpy())
    largest = ordered[np.append(ordered[1:] >> 32 != ordered[:-1] >> 32, True)[: len(ordered)]]
    rank = torch.from_numpy((largest & 0xFFFFFFFF) - 2**31).int()
    return torch.from_numpy(largest >> 32), (rank ^ ((rank >> 31) & 0x7FFFFFFF)).view(torch.float32)
