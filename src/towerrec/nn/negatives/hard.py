"""Negatives that the model itself finds hard.

Shape letters: B rows of a batch, G groups (distinct users, or rows), P items of the pool, M items kept, I items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from towerrec.nn.negatives.base import Negatives, Request, RowNegatives, at_least


class Hard(Negatives):
    """From a pool of items drawn uniformly for the batch, each row takes those its user scores highest.

    The row's own item and the user's known positives are never taken. As items that a user would like but has not met
    are among the hardest, keep the pool small against the catalogue, or mix with other sources (Zhang et al., SIGIR
    2013, dynamic negative sampling).

    Whether an item is taken depends on the scores, so its probability cannot be told. Under a corrected softmax it is
    weighed as what it is, a draw of the pool: every item is in the pool with probability pool / I, which joins the
    expectation of the other sources. With the whole pool kept that would be exact; leaving out the pool's low scores
    leaves their part of the sum to be underestimated, a bias toward the hard ones that grows as `per_row` shrinks.
    Pointwise and pairwise losses weigh each negative as one.

    Args:
        per_row: Items that each row takes.
        pool: Items drawn for the batch, without replacement.
    """

    name = "hard"

    def __init__(self, *, per_row: int = 4, pool: int = 256) -> None:
        self.per_row = at_least("per_row", per_row, 1)
        self.pool = at_least("pool", pool, per_row)

    def for_rows(self, request: Request) -> RowNegatives:
        with torch.no_grad():
            pool_P = torch.randperm(request.num_items, device=request.item_idx_B.device)[: self.pool]
            score_GP = request.user_GV.detach().float() @ request.encode(pool_P).float().T
            _mask_known_(score_GP, pool_P, request)
            score_BP = score_GP[request.group_B]
            score_BP.masked_fill_(pool_P == request.item_idx_B[:, None], -torch.inf)
            best = score_BP.topk(min(self.per_row, pool_P.shape[0]), dim=1)
        return RowNegatives(pool_P[best.indices], weight_BM=best.values.isfinite().float())

    def own(self, request: Request) -> list[RowNegatives]:
        return [self.for_rows(request)]

    def expected(self, num_items: int, *, processes: int = 1) -> Tensor | None:
        return torch.full((num_items,), min(self.pool / num_items, 1.0), dtype=torch.float64)


def _mask_known_(score_GP: Tensor, pool_P: Tensor, request: Request) -> None:
    column_I = torch.full((request.num_items,), -1, device=pool_P.device)
    column_I[pool_P] = torch.arange(pool_P.shape[0], device=pool_P.device)
    row, item, _ = request.known.known.pairs_of(request.user_idx_G)
    column = column_I[item]
    score_GP[row[column >= 0], column[column >= 0]] = -torch.inf
