"""Top n where everybody gets the same scores: one ranking, walked by every user past what they may not be given.

The items are sorted once, whatever the number of users. The j-th item left to a user stands at place j of the ranking
plus the number of items struck out before it, and an item struck out at place p with i others before it has p - i items
left before it: so a user costs n plus the own items, and nothing grows with users times items.

Shape letters: B users asked for, b users of a chunk, I items, C candidates in their order, n length of the lists,
P pairs of a user and an item.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from towerrec.ragged import TopN, UserItems

# Users walked at once: bounds the pairs held.
_USERS = 256


@dataclass(frozen=True)
class SameForAll:
    """A scorer that gives every user the same scores, float32 [I]."""

    score_I: Tensor

    def __call__(self, user_idx_B: Tensor) -> Tensor:
        """The scores as any scorer gives them, [B, I]."""
        return self.score_I.to(user_idx_B.device).repeat(len(user_idx_B), 1)

    def top_n(self, user_idx_B: Tensor, *, n: int, exclude: UserItems | None, admitted_I: Tensor | None) -> TopN:
        """The best items of the ranking less `exclude`, among those that `admitted_I` (bool; None: all) admits."""
        ranking = _Ranking(self.score_I.to(user_idx_B.device), admitted_I)
        nothing = torch.zeros(0, dtype=torch.int64, device=user_idx_B.device)
        parts = []
        for user_idx_b in user_idx_B.split(_USERS):
            row, item = (nothing, nothing) if exclude is None else exclude.pairs_of(user_idx_b)[:2]
            row_P, rank_P, before_P = ranking.of_pairs(row, item)
            left_P = rank_P - before_P
            early = left_P < n
            struck_bn = torch.bincount(row_P[early] * n + left_P[early], minlength=len(user_idx_b) * n).view(-1, n)
            parts.append(ranking.at(torch.arange(n, device=row.device) + struck_bn.cumsum(1)))
        return TopN(torch.cat(parts), ranking.scores_of(torch.cat(parts)))

    def top_n_of(self, allowed: UserItems, user_idx_B: Tensor, *, n: int) -> TopN:
        """The best of every user's own candidates."""
        ranking = _Ranking(self.score_I.to(user_idx_B.device), None)
        parts = []
        for user_idx_b in user_idx_B.split(_USERS):
            row_P, rank_P, before_P = ranking.of_pairs(*allowed.pairs_of(user_idx_b)[:2])
            listed = before_P < n
            rank_bn = torch.full((len(user_idx_b), n), len(ranking.items_C), device=row_P.device)
            rank_bn[row_P[listed], before_P[listed]] = rank_P[listed]
            parts.append(ranking.at(rank_bn))
        return TopN(torch.cat(parts), ranking.scores_of(torch.cat(parts)))


class _Ranking:
    """Items by score and then by index; those of score -inf, and those not admitted, have no place in it."""

    def __init__(self, score_I: Tensor, admitted_I: Tensor | None) -> None:
        if bool(score_I.isnan().any()):
            raise ValueError("some scores are not numbers (NaN): look for them in what was learnt")
        self.score_I = score_I
        is_candidate_I = score_I > -torch.inf if admitted_I is None else admitted_I & (score_I > -torch.inf)
        order_I = torch.sort(score_I, descending=True, stable=True).indices
        self.items_C = order_I[is_candidate_I[order_I]]
        self.rank_I = torch.full(score_I.shape, -1, dtype=torch.int64, device=score_I.device)
        self.rank_I[self.items_C] = torch.arange(len(self.items_C), device=score_I.device)

    def of_pairs(self, row_P: Tensor, item_P: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Row, rank and how many pairs of the row rank better, for the pairs that have a rank, sorted by both."""
        width = len(self.items_C) + 1
        rank_P = self.rank_I[item_P]
        key_P = torch.sort((row_P * width + rank_P)[rank_P >= 0]).values
        row_P, rank_P = key_P // width, key_P % width
        count_b = torch.bincount(row_P)
        return row_P, rank_P, torch.arange(len(row_P), device=row_P.device) - (count_b.cumsum(0) - count_b)[row_P]

    def at(self, rank_bn: Tensor) -> Tensor:
        """Items at places of the ranking, -1 behind its end."""
        return torch.cat([self.items_C, self.items_C.new_full((1,), -1)])[rank_bn.clamp(max=len(self.items_C))]

    def scores_of(self, items_Bn: Tensor) -> Tensor:
        """Their scores, -inf for -1."""
        return torch.cat([self.score_I, self.score_I.new_full((1,), -torch.inf)])[items_Bn]
