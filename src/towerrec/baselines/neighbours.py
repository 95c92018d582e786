"""Linear models of items on items: ItemKNN and EASE. Scores of a user are the summed rows of the items they liked.

Both hold an item x item matrix, so they refuse catalogues beyond `MAX_ITEMS`.

Shape letters: B users, I items, K neighbours.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from towerrec.baselines.rows import TrainRows
from towerrec.ragged import UserItems
from towerrec.retrieval.search import Scorer
from towerrec.retrieval.select import top

MAX_ITEMS = 20_000
"""Beyond it one float32 item x item matrix takes more than 1.6 GB."""

_USERS_AT_ONCE = 2048


@dataclass(frozen=True)
class ItemKNN:
    """Cosine between items over the users who liked them, the nearest neighbours only (Sarwar et al., WWW 2001).

    Args:
        num_neighbours: Neighbours kept per item.
        shrinkage: Added to the denominator: draws the similarity of rarely liked items to 0.
    """

    num_neighbours: int = 100
    shrinkage: float = 10.0

    name: ClassVar[str] = "item_knn"

    def __post_init__(self) -> None:
        if self.num_neighbours < 1 or self.shrinkage < 0:
            raise ValueError("num_neighbours must be at least 1 and shrinkage at least 0")

    def why_not(self, rows: TrainRows) -> str | None:
        return _lacks(rows)

    def fit(self, rows: TrainRows) -> Scorer:
        liked = rows.liked_items()
        gram_II = _gram(liked)
        length_I = gram_II.diagonal().sqrt()
        similarity_II = gram_II / (length_I[:, None] * length_I + self.shrinkage).clamp(min=1e-12)
        similarity_II.fill_diagonal_(0)
        # Symmetric: the nearest items of a row are those of the column, and equal ones go by index.
        cosine_IK, nearest_IK = top(similarity_II, min(self.num_neighbours, rows.num_items))
        kept_II = torch.zeros_like(similarity_II).scatter_(1, nearest_IK, cosine_IK)
        return _linear(liked, kept_II.T.contiguous())


@dataclass(frozen=True)
class EASE:
    """Ridge regression of every item on all others, in closed form (Steck, WWW 2019).

    Args:
        regularisation: Added to the diagonal of the gram matrix.
    """

    regularisation: float = 500.0

    name: ClassVar[str] = "ease"

    def __post_init__(self) -> None:
        if self.regularisation <= 0:
            raise ValueError(f"regularisation must be positive, got {self.regularisation}")

    def why_not(self, rows: TrainRows) -> str | None:
        return _lacks(rows)

    def fit(self, rows: TrainRows) -> Scorer:
        liked = rows.liked_items()
        gram_II = _gram(liked)
        gram_II.diagonal().add_(self.regularisation)
        inverse_II = torch.cholesky_inverse(torch.linalg.cholesky(gram_II))
        weight_II = -inverse_II / inverse_II.diagonal()
        weight_II.fill_diagonal_(0)
        return _linear(liked, weight_II)


def _lacks(rows: TrainRows) -> str | None:
    if rows.num_items > MAX_ITEMS:
        return (
            f"holds an item x item matrix and takes up to {MAX_ITEMS:,} items, the log has {rows.num_items:,}: "
            "choose als, most_positive or item_rate"
        )
    return rows.lacks("rows", "positives")


def _gram(liked: UserItems) -> Tensor:
    """How many users liked both items, float32 [I, I]."""
    gram_II = torch.zeros(liked.num_items, liked.num_items)
    for user_idx_B in torch.arange(liked.num_users).split(_USERS_AT_ONCE):
        liked_BI = liked.mask_of(user_idx_B).float()
        gram_II.addmm_(liked_BI.T, liked_BI)
    return gram_II


def _linear(liked: UserItems, weight_II: Tensor) -> Scorer:
    def score(user_idx_B: Tensor) -> Tensor:
        nonlocal liked, weight_II
        if weight_II.device != user_idx_B.device:
            liked, weight_II = liked.to(user_idx_B.device), weight_II.to(user_idx_B.device)
        return liked.mask_of(user_idx_B).float() @ weight_II

    return score
