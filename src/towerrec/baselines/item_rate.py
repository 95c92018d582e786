"""Items by the share of their views that were positive, drawn towards the mean where views are few."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from towerrec.baselines.popularity import same_for_all
from towerrec.baselines.rows import TrainRows
from towerrec.retrieval.search import Scorer


@dataclass(frozen=True)
class ItemRate:
    """(positives + strength * mean) / (views + strength).

    Args:
        prior_strength: Views that the prior is worth; None estimates it from the spread of the rates between items.
    """

    prior_strength: float | None = None

    name: ClassVar[str] = "item_rate"

    def __post_init__(self) -> None:
        if self.prior_strength is not None and self.prior_strength <= 0:
            raise ValueError(f"prior_strength must be positive, got {self.prior_strength}")

    def why_not(self, rows: TrainRows) -> str | None:
        return rows.lacks("rows", "positives", "negatives")

    def fit(self, rows: TrainRows) -> Scorer:
        views_I, likes_I = rows.views, rows.likes
        mean = likes_I.sum() / views_I.sum()
        strength = estimate_strength(views_I, likes_I) if self.prior_strength is None else self.prior_strength
        return same_for_all((likes_I + strength * mean) / (views_I + strength))


def estimate_strength(views_I: Tensor, likes_I: Tensor) -> float:
    """Views that the common mean is worth, by the method of moments for beta-binomial rates (Kleinman, JASA 1973).

    Between 1 (rates differ as much as they can) and 1e6 (they differ by no more than chance).
    """
    seen = views_I > 0
    views, rate = views_I[seen], likes_I[seen] / views_I[seen]
    weight = views / views.sum()
    mean = (weight * rate).sum()
    chance = mean * (1 - mean)
    spread = (weight * (rate - mean).square()).sum()
    within = (weight * (1 - weight) / views).sum()
    correlation = (spread - chance * within) / (chance * ((weight * (1 - weight)).sum() - within))
    strength = 1 / correlation - 1
    usable = bool(torch.isfinite(strength)) and bool(correlation > 0)
    return float(strength.clamp(1, 1e6)) if usable else 1e6
