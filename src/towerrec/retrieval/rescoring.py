"""Top n from rough scores: bfloat16 finds those that may stand in a list, float32 orders them, and a bound proves it.

A bfloat16 score is off by at most `slack` from the float32 one. With u, v the vectors and u', v' the rounded ones,

    u'.v' - u.v = (u' - u).v' + u.(v' - v),   so   |u'.v' - u.v| <= |u' - u| |v'| + |u| |v' - v|   (Cauchy-Schwarz),

the sums of D products in float32 add at most D 2^-22 |u||v| (the standard bound is D 2^-24, Higham 2002, section 3.1;
accelerators that cut bits off while they add stay within four times that), and writing the score as bfloat16 rounds it
by a factor of 1 +- 2^-8. The K best rough scores of a user are scored anew. What is left out had a rough score of at
most `floor`, the smallest of the K, so a float32 score of at most `floor + 2^-8 |floor| + slack`. Where the n-th best
of the new scores is above that, the list is exact. The other users are named, and the caller scores them in full.

Shape letters: B users asked for, b users of a chunk, C candidates shared by all users (columns), D vector width,
K columns scored anew, n length of the lists.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor

from towerrec.ragged import TopN
from towerrec.retrieval.candidates import Candidates
from towerrec.retrieval.select import in_order, largest

_OUTPUT_ROUNDING = 2.0**-8
_SUM_ROUNDING = 2.0**-22


class RoundedVectors:
    """Vectors of users and items in bfloat16, and how far their scores may be off.

    Args:
        user_BD: float32.
        item_CD: float32.
    """

    def __init__(self, user_BD: Tensor, item_CD: Tensor) -> None:
        self.user_BD, self.item_CD = user_BD, item_CD
        self.rounded_user_BD, self.rounded_item_CD = user_BD.bfloat16(), item_CD.bfloat16()
        user_B, item = user_BD.norm(dim=1), _largest_norm(item_CD)
        user_error_B = (user_BD - self.rounded_user_BD.float()).norm(dim=1)
        item_error = _largest_norm(item_CD - self.rounded_item_CD.float())
        sums = 2 * user_BD.shape[1] * _SUM_ROUNDING  # of the rough scores and of the new ones
        self.slack_B = user_error_B * (item + item_error) + user_B * item_error + sums * user_B * item

    def num_rescored(self, n: int) -> int:
        """Columns scored anew per user: twice as many as are listed leaves room for the slack."""
        return min(max(2 * n, n + 32), self.item_CD.shape[0])

    def bytes_per_user(self, n: int) -> int:
        """Memory of one user: the rough scores, and the vectors that are scored anew."""
        return 2 * self.item_CD.shape[0] + 4 * self.num_rescored(n) * self.item_CD.shape[1]

    def top_n(self, users_B: Tensor, plan: Candidates, *, n: int, chunk: int) -> tuple[TopN, Tensor]:
        """Lists, and which of them are not proven to be exact, bool [B].

        An accelerator is waited for once in all, and once a chunk where not every item has a column.
        """
        width, kept = min(n, plan.num_columns), self.num_rescored(n)
        items_Bn = torch.full((len(users_B), n), -1, dtype=torch.int64, device=users_B.device)
        scores_Bn = torch.full((len(users_B), n), -torch.inf, device=users_B.device)
        unproven_B = torch.zeros(len(users_B), dtype=torch.bool, device=users_B.device)
        if width == 0:
            return TopN(items_Bn, scores_Bn), unproven_B
        rough = torch.empty(min(chunk, len(users_B)), plan.num_columns, dtype=torch.bfloat16, device=users_B.device)
        for start, excluded in zip(range(0, len(users_B), chunk), plan.num_excluded(users_B, chunk), strict=True):
            part = slice(start, min(start + chunk, len(users_B)))
            with whole_sums():
                rough_bC = torch.mm(
                    self.rounded_user_BD[part], self.rounded_item_CD.T, out=rough[: part.stop - part.start]
                )
            rough_bC = plan.mask_(rough_bC, users_B[part], num_excluded=excluded)
            # In the order of the columns, so that places stand for columns where scores are equal.
            columns_bK = largest(rough_bC, kept).sort(dim=1).values
            rough_bK = rough_bC.gather(1, columns_bK).float()
            new_bK = torch.bmm(self.item_CD[columns_bK], self.user_BD[part, :, None])[:, :, 0]
            best_bn, place_bn = in_order(new_bK.masked_fill(rough_bK == -torch.inf, -torch.inf), _places(columns_bK))
            best_bn, columns_bn = best_bn[:, :width], columns_bK.gather(1, place_bn[:, :width])
            scores_Bn[part, :width], items_Bn[part, :width] = best_bn, plan.items_of(columns_bn)
            if kept < plan.num_columns:
                floor_b = rough_bK.amin(1)
                reach_b = floor_b + _OUTPUT_ROUNDING * floor_b.abs() + self.slack_B[part]
                # Without a floor nothing was left out; what is no number is above nothing, so never proven.
                unproven_B[part] = ~((best_bn[:, -1] > reach_b) | (floor_b == -torch.inf))
            unproven_B[part] |= new_bK.isnan().any(1)
        return TopN(items_Bn.masked_fill_(scores_Bn == -torch.inf, -1), scores_Bn), unproven_B


@contextmanager
def whole_sums() -> Iterator[None]:
    """Sums of products in float32 to the end: the parts of one sum must not be rounded before they are added."""
    settings = torch.backends.cuda.matmul
    before = settings.allow_bf16_reduced_precision_reduction
    settings.allow_bf16_reduced_precision_reduction = False
    try:
        yield
    finally:
        settings.allow_bf16_reduced_precision_reduction = before


def _largest_norm(vectors: Tensor) -> Tensor:
    return vectors.norm(dim=1).amax() if len(vectors) else vectors.new_zeros(())


def _places(columns_bK: Tensor) -> Tensor:
    return torch.arange(columns_bK.shape[1], device=columns_bK.device).expand_as(columns_bK)
