"""Softmax losses: each positive against its candidates.

Shape letters: B rows, G groups (distinct users, or rows), C candidates, I items, M own candidates of a row,
P masked pairs.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from towerrec.nn.losses.base import Compares, RankingLoss, Scored, at_least_single, weighted_mean
from towerrec.nn.negatives import Candidates, KnownPairs, OwnCandidates
from towerrec.nn.softmax import Pairs, masked_logsumexp
from towerrec.ragged import UserItems

CORRECTIONS = ("none", "classic", "refined")
# Stands for a score of minus infinity where the gradient of that would be undefined.
_LOWEST = -1e30


class _Softmax(RankingLoss):
    """Cross-entropy of each positive against its candidates."""

    def __init__(
        self,
        *,
        temperature: float,
        learn_temperature: bool,
        mask_known: bool,
        weight_by: str,
        max_weight: float,
        monitor: str,
        mode: str,
    ) -> None:
        super().__init__(weight_by=weight_by, max_weight=max_weight, monitor=monitor, mode=mode)
        if temperature <= 0.0:
            raise ValueError(f"loss.temperature must be above 0, got {temperature}")
        self.mask_known = mask_known
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log(), requires_grad=learn_temperature)

    @property
    def temperature(self) -> Tensor:
        return self.log_temperature.exp()

    def learned(self) -> dict[str, Tensor]:
        return {"temperature": self.temperature.detach()}

    def forward(self, scored: Scored, known: KnownPairs) -> Tensor:
        candidates = scored.candidates
        assert candidates is not None, "a softmax compares with candidates"
        column_I = torch.full((known.num_items,), -1, device=scored.group_B.device)
        column_I[candidates.idx_C] = torch.arange(candidates.idx_C.shape[0], device=column_I.device)
        target_B = column_I[scored.item_idx_B]
        positive_B = at_least_single(scored.score_B) / self.temperature
        if candidates.log_q_C is not None and self.correction == "classic":
            # As every candidate: a frequent item stands in for fewer.
            positive_B = positive_B - candidates.log_q_C[target_B]
        others_B = self._others(scored, known, column_I, target_B)
        if candidates.own is not None:
            others_B = torch.logaddexp(others_B, self._own(scored, candidates.own))
        # -log(e^p / (e^p + sum of the others)) = softplus(others - p).
        return weighted_mean(F.softplus(others_B - positive_B), self.graded(scored, scored.weight_B), scored.peers)

    def _others(self, scored: Scored, known: KnownPairs, column_I: Tensor, target_B: Tensor) -> Tensor:
        """Log of the sum over the shared candidates but the row's own item, [B]."""
        candidates = scored.candidates
        assert candidates is not None
        user_GV, user_idx_G, group_B = scored.user_GV, scored.user_idx_G, scored.group_B
        masks = []
        if self.mask_known:
            # Own positives are among the known ones, unless a caller gave other lists.
            of_group_B, order_B = torch.sort(group_B)
            masks = [_columns_of(known.known, user_idx_G, column_I), (of_group_B, target_B[order_B])]
        else:
            # Each row compares with all but its own item, so rows of one user differ.
            user_GV, user_idx_G = user_GV.index_select(0, group_B), user_idx_G[group_B]
            group_B = torch.arange(target_B.shape[0], device=target_B.device)
            masks = [(group_B, target_B)]
        if candidates.elsewhere is not None:
            masks.append(_columns_of(candidates.elsewhere, user_idx_G, column_I))
        user_GV = at_least_single(user_GV) / self.temperature
        others_G = masked_logsumexp(user_GV, candidates.vectors_CV, _bias(candidates, user_GV), masks=masks)
        return others_G.index_select(0, group_B)

    def _own(self, scored: Scored, own: OwnCandidates) -> Tensor:
        """Log of the sum over the row's own candidates, [B]; very low where it has none."""
        user_BV1 = scored.user_GV.index_select(0, scored.group_B)[:, :, None]
        own_BMV = own.vectors_DV.index_select(0, own.place_BM.reshape(-1)).view(*own.place_BM.shape, -1)
        score_BM = at_least_single(torch.bmm(own_BMV, user_BV1)[:, :, 0]) / self.temperature
        return (score_BM + own.log_weight_BM).masked_fill(own.log_weight_BM == -torch.inf, _LOWEST).logsumexp(1)


class InBatchSoftmax(_Softmax):
    """Softmax over the items of the batch and what the sources of negatives add, corrected for how they were sampled.

    Without a correction a popular item is a negative so often that it sinks. With E_i the expected draws of an item
    into the candidates and m_i its draws, candidate i has the weight m_i / E_i:

    `classic` corrects the positive too (Bengio and Senecal 2003; Yi et al., RecSys 2019, section 3):
    `-log(e^(f_p - log E_p) / (e^(f_p - log E_p) + sum over i != p of m_i e^(f_i - log E_i)))`.

    `refined` (Khrylchenko et al., RecSys 2025, arXiv 2507.09331): the positive was not sampled, it is always there, so
    it is not corrected, and only the others estimate a sum, that over the catalogue without the positive:
    `sg(1 - P) (-f_p + log sum over i != p of m_i e^f_i / E_i)`, `P = e^f_p / (e^f_p + sum of the others)`, where sg
    stops the gradient. The paper's q'(i) = q(i) / (1 - q(p)), averaged over the draws other than p, is this sum with
    E_i = (B - 1) q(i) up to the chance number of those draws. We return `softplus(log sum of the others - f_p)`, which
    has exactly that gradient, and whose value estimates that of the softmax over the catalogue.

    Args:
        correction: `none`, `classic` or `refined`.
        temperature: Scores are divided by it.
        learn_temperature: Whether it is learned from there.
        mask_known: Leave out the user's other known training positives; repeats of the positive are always left out.
        gather: Under several processes, compare with the items of all of them, so that N processes with a batch of B
            learn what one with N B does; otherwise each compares with its own.
        weight_by: `none`, or `label`: each positive counts as much as its label says, for instance its watch ratio.
        max_weight: Largest such weight.
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    name = "in_batch_softmax"
    compares: Compares = "batch"

    def __init__(
        self,
        *,
        correction: str = "classic",
        temperature: float = 1.0,
        learn_temperature: bool = False,
        mask_known: bool = True,
        gather: bool = True,
        weight_by: str = "none",
        max_weight: float = 10.0,
        monitor: str = "val/ndcg@20",
        mode: str = "max",
    ) -> None:
        super().__init__(
            temperature=temperature,
            learn_temperature=learn_temperature,
            mask_known=mask_known,
            weight_by=weight_by,
            max_weight=max_weight,
            monitor=monitor,
            mode=mode,
        )
        if correction not in CORRECTIONS:
            raise ValueError(f"loss.correction must be one of {', '.join(CORRECTIONS)}, got {correction!r}")
        self.correction, self.gather = correction, gather


class FullSoftmax(_Softmax):
    """Exact softmax over the whole catalogue, in chunks of users.

    Args:
        temperature: Scores are divided by it.
        learn_temperature: Whether it is learned from there.
        mask_known: Leave out the user's other known training positives.
        weight_by: `none`, or `label`: each positive counts as much as its label says, for instance its watch ratio.
        max_weight: Largest such weight.
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    name = "full_softmax"
    compares: Compares = "catalogue"

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        learn_temperature: bool = False,
        mask_known: bool = False,
        weight_by: str = "none",
        max_weight: float = 10.0,
        monitor: str = "val/ndcg@20",
        mode: str = "max",
    ) -> None:
        super().__init__(
            temperature=temperature,
            learn_temperature=learn_temperature,
            mask_known=mask_known,
            weight_by=weight_by,
            max_weight=max_weight,
            monitor=monitor,
            mode=mode,
        )


def _bias(candidates: Candidates, like: Tensor) -> Tensor:
    """Log of the weight of every shared candidate, [C]."""
    bias_C = torch.zeros(candidates.idx_C.shape[0], dtype=like.dtype, device=like.device)
    if candidates.log_count_C is not None:
        bias_C = bias_C + candidates.log_count_C
    return bias_C if candidates.log_q_C is None else bias_C - candidates.log_q_C


def _columns_of(lists: UserItems, user_idx_G: Tensor, column_I: Tensor) -> Pairs:
    """Pairs of groups and candidates that stand in the lists of the groups' users."""
    row_P, item_P, _ = lists.pairs_of(user_idx_G)
    column_P = column_I[item_P]
    among = column_P >= 0
    return row_P[among], column_P[among]
