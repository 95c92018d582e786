"""What a baseline learns from: the training rows and nothing else."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from towerrec.ragged import UserItems


@dataclass(frozen=True)
class TrainRows:
    """Training rows, N of them: `user_idx`, `item_idx` int64 [N], `positive` bool [N].

    A row is a view; a positive row is a view the user liked by the label's rule.
    """

    user_idx: Tensor
    item_idx: Tensor
    positive: Tensor
    num_users: int
    num_items: int

    def __post_init__(self) -> None:
        if not self.user_idx.shape == self.item_idx.shape == self.positive.shape:
            raise ValueError("user_idx, item_idx and positive must have one value per row each")
        if self.positive.dtype != torch.bool:
            raise ValueError(f"positive must be bool, got {self.positive.dtype}")

    @property
    def views(self) -> Tensor:
        """Rows of every item, float64 [I]."""
        return torch.bincount(self.item_idx, minlength=self.num_items).double()

    @property
    def likes(self) -> Tensor:
        """Positive rows of every item, float64 [I]."""
        return torch.bincount(self.item_idx[self.positive], minlength=self.num_items).double()

    def liked_items(self) -> UserItems:
        """Distinct positives of every user."""
        return UserItems.from_pairs(
            self.user_idx[self.positive],
            self.item_idx[self.positive],
            num_users=self.num_users,
            num_items=self.num_items,
        )
