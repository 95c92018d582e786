"""What a user liked before a moment, gathered by pointer from rows sorted by (user, time).

Shape letters: P positives, U users, B users or rows of a batch, H length of a history, T distinct moments.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch import device as Device

from towerrec.schema import NO_TIMESTAMP

# Rows searched at once: bounds the memory of the 64-bit intermediates.
CHUNK = 1 << 20


@dataclass
class UserHistory:
    """Training positives of every user in order of time.

    Args:
        items: int64 (int32 on disk) [P], sorted by user, time and file order (rows without time first).
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
        start_B, end_B = self.windows(user_idx_B, timestamp_ms_B)
        return without_target(self.gather(start_B, end_B, length=length), target_B)

    def windows(self, user_idx_R: Tensor, timestamp_ms_R: Tensor) -> tuple[Tensor, Tensor]:
        """Where in `items` the positives before each row begin and end, int32 [R] each.

        Two searches per row: worth doing once for a whole split, in its order, and not in every batch of every epoch.
        """
        parts = zip(user_idx_R.split(CHUNK), timestamp_ms_R.split(CHUNK), strict=True)
        found = [self._window(user_idx.long(), timestamp_ms) for user_idx, timestamp_ms in parts]
        if not found:
            empty = torch.zeros(0, dtype=torch.int32, device=self.items.device)
            return empty, empty
        return torch.cat([start for start, _ in found]), torch.cat([end for _, end in found])

    def _window(self, user_idx_R: Tensor, timestamp_ms_R: Tensor) -> tuple[Tensor, Tensor]:
        timed_R = timestamp_ms_R != NO_TIMESTAMP
        rank_R = torch.searchsorted(self.moments, timestamp_ms_R) + 1
        end_R = torch.searchsorted(self.key, user_idx_R * (len(self.moments) + 2) + rank_R)
        end_R = torch.where(timed_R, end_R, self.first[user_idx_R + 1])
        start_R = torch.where(timed_R, self.first_timed[user_idx_R], self.first[user_idx_R])
        return start_R.int(), end_R.int()

    def rows(self) -> tuple[Tensor, Tensor]:
        """Item and moment of every positive, int64 [P] each; `NO_TIMESTAMP` where it has none."""
        rank = self.key % (len(self.moments) + 2)
        timed = torch.cat([self.moments.new_full((1,), NO_TIMESTAMP), self.moments])
        return self.items, timed[rank]

    def take(self, user_idx_B: Tensor) -> UserHistory:
        """The histories of some users, in their order."""
        count_B = self.first[user_idx_B + 1] - self.first[user_idx_B]
        row = torch.repeat_interleave(count_B)
        place = torch.arange(len(row)) + (self.first[user_idx_B] - (torch.cumsum(count_B, 0) - count_B))[row]
        # Of these rows alone: whoever asks for one user must not wait for all rows of the log.
        rank = self.key[place] % (len(self.moments) + 2)
        timed, moment = rank > 0, torch.full_like(rank, NO_TIMESTAMP)
        moment[timed] = self.moments[rank[timed] - 1]
        return UserHistory.build(row, self.items[place], moment, num_users=len(user_idx_B))

    def with_rows(self, user_idx_N: Tensor, item_idx_N: Tensor, timestamp_ms_N: Tensor) -> UserHistory:
        """The histories with further positives, int64 [N] each, in any order.

        Those without a time came last, in the order they are given: what a person adds happened since.
        """
        item_P, moment_P = self.rows()
        num_users = len(self.first) - 1
        known = torch.cat([moment_P, timestamp_ms_N])
        if bool((known != NO_TIMESTAMP).any()):
            timestamp_ms_N = torch.where(timestamp_ms_N == NO_TIMESTAMP, known.max() + 1, timestamp_ms_N)
        user = torch.cat([torch.repeat_interleave(torch.arange(num_users), self.first.diff()), user_idx_N])
        item, moment = torch.cat([item_P.long(), item_idx_N]), torch.cat([moment_P, timestamp_ms_N])
        order = torch.argsort(moment, stable=True)
        order = order[torch.argsort(user[order], stable=True)]
        return UserHistory.build(user[order], item[order], moment[order], num_users=num_users)

    def latest(self, user_idx_B: Tensor, *, length: int) -> Tensor:
        """Each user's last positives, most recent first, int64 [B, H], -1 where there are fewer."""
        return self.gather(self.first[user_idx_B], self.first[user_idx_B + 1], length=length)

    def gather(self, start_B: Tensor, end_B: Tensor, *, length: int) -> Tensor:
        """The last `length` items of each window, most recent first, int64 [B, H], -1 where there are fewer."""
        position_BH = end_B.long()[:, None] - 1 - torch.arange(length, device=end_B.device)
        if self.items.shape[0] == 0:
            return torch.full_like(position_BH, -1)
        items_BH = self.items.index_select(0, position_BH.clamp(min=0).view(-1)).long().view_as(position_BH)
        return items_BH.masked_fill_(position_BH < start_B[:, None], -1)

    def to(self, device: Device | str) -> UserHistory:
        return UserHistory(
            self.items.to(device),
            self.key.to(device),
            self.first.to(device),
            self.first_timed.to(device),
            self.moments.to(device),
        )


def without_target(history_BH: Tensor, target_B: Tensor) -> Tensor:
    """The history with -1 in place of the row's own item: a model must not find its answer in its input."""
    return history_BH.masked_fill(history_BH == target_B[:, None], -1)
