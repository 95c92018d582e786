"""Batches of whole users: a share of each user's rows is asked for, the rest is left to his profile.

Shape letters: R rows, U users with rows, B rows of a batch, b users of a batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from towerrec.data.loader import BatchLoader
from towerrec.data.rows import Rows
from towerrec.schema import Batch


@dataclass
class _Epoch:
    """Users in the order of an epoch, int64 [U], and which rows are asked for in it, bool [R]."""

    users: Tensor
    asked: Tensor


class UserBatchLoader(BatchLoader):
    """Iterates over `Batch`es that hold rows of `batch_size` users each.

    In every epoch each row is asked for with probability `target_share`, drawn from (seed, epoch); the others are not
    in the batch. A model with a profile reads what the batch does not ask for, so it learns to say which items come
    beside some of them (the denoising of Liang et al., WWW 2018, with the hidden items as targets). A loss that scores
    the catalogue does so once per user.

    Args:
        rows: Rows of a split, sorted by user; batches are gathered on their device.
        batch_size: Users per batch and process.
        target_share: Probability of a row to be asked for; 1 asks for all of them.
        seed: Of users and rows (a GPU draws others than the CPU).
        kind: `all` rows, or only the `positives`.
        positive: Rule that says what a positive is; needed by `kind="positives"`.
        rank: Number of this process.
        world_size: Number of processes.

    Raises:
        ValueError: A share outside (0, 1].
    """

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        target_share: float,
        seed: int = 0,
        kind: str = "all",
        positive: str | None = None,
        rank: int = 0,
        world_size: int = 1,
    ) -> None:
        if not 0.0 < target_share <= 1.0:
            raise ValueError(f"loader.target_share must be above 0 and at most 1, got {target_share}")
        super().__init__(
            rows,
            batch_size=batch_size,
            shuffle=True,
            seed=seed,
            kind=kind,
            positive=positive,
            rank=rank,
            world_size=world_size,
        )
        self.target_share = target_share
        user_R = rows.user_idx if self.chosen is None else rows.user_idx[self.chosen]
        _, self.count_U = torch.unique_consecutive(user_R, return_counts=True)
        self.first_U = torch.cumsum(self.count_U, 0) - self.count_U
        self._ones = torch.ones(self.num_rows, device=rows.label.device)
        self._epoch: _Epoch | None = None

    @property
    def num_units(self) -> int:
        """What batches count: users with rows."""
        return len(self.count_U)

    def _order(self) -> Tensor | None:
        generator, device = self._generator(), self.rows.label.device
        users = torch.randperm(self.num_units, generator=generator, device=device)
        share_R = torch.rand(self.num_rows, generator=generator, device=device)
        self._epoch = _Epoch(users, share_R < self.target_share)
        return users

    def _batch(self, order: Tensor | None, start: int, end: int) -> Batch:
        assert order is not None and self._epoch is not None
        user_b = order[start + self.rank : end : self.world_size]
        count_b = self.count_U[user_b]
        ends_b = torch.cumsum(count_b, 0)
        at_B = torch.repeat_interleave(self.first_U[user_b] - (ends_b - count_b), count_b)
        at_B += torch.arange(len(at_B), device=at_B.device)
        at_B = at_B[self._epoch.asked[at_B]]
        return self._gathered(at_B if self.chosen is None else self.chosen[at_B])
