"""Ranking metrics as state: sums that add up over batches and over processes.

Shape letters: B users of a batch, K length of the lists, I items, M metrics times cuts.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric

from towerrec.metrics.functional import RANKING_METRICS, ranking_metrics

_NEVER = torch.iinfo(torch.int64).max


class RankingMetrics(Metric):
    """Mean over users of every ranking metric at every cut, and the catalogue coverage.

    Users without a relevant item are left out of the means (their lists still count for coverage). Only sums are kept,
    so the result does not depend on the batch size, and processes add theirs up. All sums are float64.

    Args:
        ks: Cuts, each at least 1.
        num_items: Items of the catalogue: the base of coverage.
    """

    full_state_update = False
    sum_M: Tensor
    num_users: Tensor
    best_rank_I: Tensor

    def __init__(self, ks: Sequence[int], num_items: int) -> None:
        super().__init__()
        if not ks or min(ks) < 1:
            raise ValueError(f"ks must hold cuts of at least 1, got {list(ks)}")
        self.ks = tuple(ks)
        self.names = tuple(f"{name}@{k}" for name in RANKING_METRICS for k in self.ks)
        self.add_state("sum_M", torch.zeros(len(self.names), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_users", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")
        # The best rank any list gave an item answers the coverage at every cut.
        self.add_state("best_rank_I", torch.full((num_items,), _NEVER), dist_reduce_fx="min")

    def update(self, items_BK: Tensor, hits_BK: Tensor, num_relevant_B: Tensor) -> None:
        """Add the lists of some users.

        Args:
            items_BK: Item indices in rank order, -1 where a list has ended.
            hits_BK: Whether each is relevant.
            num_relevant_B: Relevant items the user has in all.
        """
        values = ranking_metrics(hits_BK, num_relevant_B, self.ks)
        value_MB = torch.stack([values[name] for name in self.names])
        self.sum_M += value_MB.nansum(1)
        self.num_users += (num_relevant_B > 0).sum()
        rank_BK = torch.arange(items_BK.shape[1], device=items_BK.device).expand_as(items_BK)
        rank_BK = torch.where(items_BK >= 0, rank_BK, _NEVER)
        self.best_rank_I.scatter_reduce_(0, items_BK.clamp(min=0).flatten(), rank_BK.flatten(), reduce="amin")

    def compute(self) -> dict[str, Tensor]:
        """`{"ndcg@20": scalar, ..., "coverage@20": scalar}`; the means are NaN where no user had a relevant item."""
        mean_M = self.sum_M / self.num_users
        result = dict(zip(self.names, mean_M, strict=True))
        return result | {f"coverage@{k}": (self.best_rank_I < k).double().mean() for k in self.ks}
