"""Losses of pairs: a positive against a sampled negative of the same user.

Shape letters: B rows, M negatives of each.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor

from towerrec.nn.losses.base import Compares, LabelFacts, RankingLoss, Scored, at_least_single, weighted_mean
from towerrec.nn.negatives import KnownPairs


class BPR(RankingLoss):
    """Bayesian personalised ranking: `-log sigmoid(score of the positive - score of a negative)`, over all pairs.

    Rendle et al., UAI 2009, section 4. The negatives come from any source with `per_row` above 0; which one decides
    what is learned: uniform ones teach what is liked at all, skips teach what is liked among what was shown.

    Args:
        weight_by: `none`, or `label`: each positive counts as much as its label says, for instance its watch ratio.
        max_weight: Largest such weight.
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    name = "bpr"
    compares: Compares = "pairs"

    def __init__(
        self,
        *,
        weight_by: str = "none",
        max_weight: float = 10.0,
        monitor: str = "val/ndcg@20",
        mode: str = "max",
    ) -> None:
        super().__init__(weight_by=weight_by, max_weight=max_weight, monitor=monitor, mode=mode)

    def forward(self, scored: Scored, known: KnownPairs) -> Tensor:
        num_rows = scored.num_rows
        score_B = at_least_single(scored.score_B)
        per_row = (len(score_B) - num_rows) // max(num_rows, 1)
        positive_B, negative_BM = score_B[:num_rows], score_B[num_rows:].view(num_rows, per_row)
        # The weight of a negative holds that of its row.
        weight_BM = self.graded(scored, scored.weight_B[num_rows:].view(num_rows, per_row))
        return weighted_mean(F.softplus(negative_BM - positive_B[:, None]), weight_BM, scored.peers)

    def check(self, labels: LabelFacts, *, negatives_per_row: int) -> None:
        super().check(labels, negatives_per_row=negatives_per_row)
        if negatives_per_row == 0:
            raise ValueError("loss=bpr compares with sampled negatives: choose negatives=uniform, popularity or skips")
