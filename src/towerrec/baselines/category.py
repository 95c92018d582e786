"""Items by how often the user liked their categories.

Shape letters: N rows, P (row, category) pairs, B users, U users, I items, C categories, L categories of an item.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from towerrec.baselines.popularity import same_for_all
from towerrec.baselines.rows import TrainRows
from towerrec.retrieval.search import Scorer
from towerrec.schema import FIRST

MAX_CELLS = 100_000_000
"""Users x categories: two float32 tables of 400 MB each."""

# Below what 20 pseudo-views can tell apart; only to order items of the same categories.
_TIE = 1e-6


@dataclass(frozen=True)
class CategoryAffinity:
    """The user's positive rate in each category, drawn towards the category's own; an item gets the mean of its
    categories, one without any the mean rate. Equal items are ordered by their positives.

    As the category affinity of njbabani/kuairec-recsys, with its 20 pseudo-views.

    Args:
        feature: Item feature of kind `categorical` or `multi`; None takes the first one.
        prior_strength: Views that the category's rate is worth.
    """

    feature: str | None = None
    prior_strength: float = 20.0

    name: ClassVar[str] = "category_affinity"

    def __post_init__(self) -> None:
        if not self.prior_strength > 0:
            raise ValueError(f"prior_strength must be positive, got {self.prior_strength}")

    def why_not(self, rows: TrainRows) -> str | None:
        if not rows.categories:
            return (
                "needs an item feature of kind categorical or multi, the log has none: give a table of items "
                "(data.items) or other features"
            )
        if self.feature is not None and self.feature not in rows.categories:
            return f"knows no item feature {self.feature!r}: choose from {', '.join(rows.categories)}"
        cells = rows.num_users * (int(self._column(rows).max()) + 1)
        if cells > MAX_CELLS:
            return (
                f"holds a table of users x categories of {MAX_CELLS:,} cells at most, here {cells:,}: use a coarser one"
            )
        return rows.lacks("rows", "positives", "negatives")

    def fit(self, rows: TrainRows) -> Scorer:
        category_IL = self._column(rows)
        rate_UC = self._rates(rows, category_IL)
        mean = float(rows.positive.double().mean())
        share_IL = (category_IL >= FIRST).float()
        share_IL /= share_IL.sum(1, keepdim=True).clamp(min=1)
        likes_I = rows.likes.float()
        rest_I = torch.where(share_IL.sum(1) > 0, 0.0, mean) + _TIE * likes_I / likes_I.max()
        rest = same_for_all(rest_I)

        def score(user_idx_B: Tensor) -> Tensor:
            nonlocal rate_UC, category_IL, share_IL
            if rate_UC.device != user_idx_B.device:
                rate_UC, category_IL, share_IL = (t.to(user_idx_B.device) for t in (rate_UC, category_IL, share_IL))
            rate_BC, scores_BI = rate_UC[user_idx_B], rest(user_idx_B)
            for category_I, share_I in zip(category_IL.unbind(1), share_IL.unbind(1), strict=True):
                scores_BI += rate_BC[:, category_I] * share_I
            return scores_BI

        return score

    def _column(self, rows: TrainRows) -> Tensor:
        """Categories of every item, int64 [I, L]."""
        column = rows.categories[next(iter(rows.categories)) if self.feature is None else self.feature].long()
        return column[:, None] if column.ndim == 1 else column

    def _rates(self, rows: TrainRows, category_IL: Tensor) -> Tensor:
        """Smoothed positive rate of every user in every category, float32 [U, C]."""
        num_categories = int(category_IL.max()) + 1
        num_cells = rows.num_users * num_categories
        views, likes = (torch.zeros(num_cells, dtype=torch.float32) for _ in range(2))
        for category_I in category_IL.unbind(1):
            category_N = category_I[rows.item_idx]
            known_N = category_N >= FIRST
            cell_P = rows.user_idx[known_N].long() * num_categories + category_N[known_N]
            views += torch.bincount(cell_P, minlength=num_cells)
            likes += torch.bincount(cell_P[rows.positive[known_N]], minlength=num_cells)
        views_UC, likes_UC = (t.view(rows.num_users, num_categories) for t in (views, likes))
        prior_C = likes_UC.sum(0) / views_UC.sum(0).clamp(min=1)
        return (likes_UC + self.prior_strength * prior_C) / (views_UC + self.prior_strength)
