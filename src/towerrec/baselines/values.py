"""A predictor of values that knows how much each user gives and each item gets, and nothing of taste.

Shape letters: N rows, U users, I items.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pieces = Callable[[], Iterable[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.float32]]]]
"""Users, items and values of some rows at a time, from the beginning at every call."""


@dataclass(frozen=True)
class Biases:
    """`mean + user_U[user] + item_I[item]`, float64."""

    mean: float
    user_U: Tensor
    item_I: Tensor

    def predict(self, user_idx_N: Tensor, item_idx_N: Tensor) -> Tensor:
        """Value of every row, float64 [N]; users and items without a training row have no bias."""
        return self.mean + self.user_U[user_idx_N.long()] + self.item_I[item_idx_N.long()]


@dataclass(frozen=True)
class UserItemBias:
    """Mean plus the bias of the item plus that of the user, each drawn towards 0 where rows are few.

    The bias of an item is the sum of its rows' deviations from the mean, divided by their number plus `shrinkage`; that
    of a user the same of what the items leave over (Koren, «Factorization meets the neighborhood», KDD 2008, §2.1;
    the order and form of Koren and Bell, Recommender Systems Handbook, 2011, §5.2.1).

    Args:
        shrinkage: Rows that a bias of 0 is worth.
    """

    shrinkage: float = 10.0

    def __post_init__(self) -> None:
        if not self.shrinkage >= 0:
            raise ValueError(f"shrinkage must be at least 0, got {self.shrinkage}")

    def fit(self, pieces: Pieces, *, num_users: int, num_items: int) -> Biases:
        """Learn from rows that come in pieces, read twice."""
        sums, rows, user_rows, user_sums, pairs = (np.zeros(n) for n in (num_items, num_items, num_users, num_users, 1))
        for user, item, value in pieces():
            rows += np.bincount(item, minlength=num_items)
            sums += np.bincount(item, weights=value, minlength=num_items)
            user_rows += np.bincount(user, minlength=num_users)
            user_sums += np.bincount(user, weights=value, minlength=num_users)
            pairs += len(value)
        mean = float(sums.sum() / pairs[0])
        item_bias = (sums - rows * mean) / np.maximum(rows + self.shrinkage, 1e-12)
        explained = np.zeros(num_users)
        for user, item, _ in pieces():
            explained += np.bincount(user, weights=item_bias[item], minlength=num_users)
        user_bias = (user_sums - user_rows * mean - explained) / np.maximum(user_rows + self.shrinkage, 1e-12)
        return Biases(mean, torch.from_numpy(user_bias), torch.from_numpy(item_bias))
