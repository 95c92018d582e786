"""What a user liked before a moment, gathered by pointer from rows sorted by (user, time).

Shape letters: P positives, U users, B users or rows of a batch, H length of a history, T distinct moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import device as Device

from towerrec.data.store import NO_TIMESTAMP


@dataclass
class UserHistory:
    """Training positives of every user in order of time.

    Args:
        items: int64 [P], sorted by user, time and file order (rows without time first).
        key: int64 [P], `user * (T + 2) + rank of the moment` (0 without time), ascending.
        first: int64 [U + 1], where each user's positives begin.
        first_timed: int64 [U], where those with a time begin.
        moments: int64 [T], distinct timestamps, ascending.
    """

    items: Tensor
    key: Tensor
    first: Tensor
    first_timed: Tensor
    moments: Tensor

    @classmethod
    def build(cls, user_idx: Tensor, item_idx: Tensor, timestamp_ms: Tensor, *, num_users: int) -> UserHistory:
        """From the positives of the train rows, sorted by user and time as the store keeps them."""
        moments = torch.unique(timestamp_ms[timestamp_ms != NO_TIMESTAMP])
        rank = torch.searchsorted(moments, timestamp_ms) + 1
        rank[timestamp_ms == NO_TIMESTAMP] = 0
        user = user_idx.long()
        key = user * (len(moments) + 2) + rank
        assert bool((key.diff() >= 0).all()), "positives must be sorted by user and time"
        first = torch.zeros(num_users + 1, dtype=torch.int64)
        torch.cumsum(torch.bincount(user, minlength=num_users), 0, out=first[1:])
        untimed = torch.bincount(user[rank == 0], minlength=num_users)
        return cls(item_idx.long(), key, first, first[:-1] + untimed, moments)

    def before(self, user_idx_B: Tensor, timestamp_ms_B: Tensor, target_B: Tensor, *, length: int) -> Tensor:
        """Each user's latest positives strictly before a moment, never the target itself, int64 [B, H].

        A row without time reads the user's last positives whatever their time.
        """
        timed_B = timestamp_ms_B != NO_TIMESTAMP
        rank_B = torch.searchsorted(self.moments, timestamp_ms_B) + 1
        end_B = torch.searchsorted(self.key, user_idx_B * (len(self.moments) + 2) + rank_B)
        end_B = torch.where(timed_B, end_B, self.first[user_idx_B + 1])
        start_B = torch.where(timed_B, self.first_timed[user_idx_B], self.first[user_idx_B])
        history_BH = self._gather(start_B, end_B, length)
        return history_BH.masked_fill(history_BH == target_B[:, None], -1)

    def latest(self, user_idx_B: Tensor, *, length: int) -> Tensor:
        """Each user's last positives, most recent first, int64 [B, H], -1 where there are fewer."""
        return self._gather(self.first[user_idx_B], self.first[user_idx_B + 1], length)

    def _gather(self, start_B: Tensor, end_B: Tensor, length: int) -> Tensor:
        position_BH = end_B[:, None] - 1 - torch.arange(length, device=end_B.device)
        if self.items.shape[0] == 0:
            return torch.full_like(position_BH, -1)
        return torch.where(position_BH >= start_B[:, None], self.items[position_BH.clamp(min=0)], -1)

    def to(self, device: Device | str) -> UserHistory:
        return UserHistory(
            self.items.to(device),
            self.key.to(device),
            self.first.to(device),
            self.first_timed.to(device),
            self.moments.to(device),
        )
