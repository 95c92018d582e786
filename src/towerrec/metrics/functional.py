"""Metrics as pure functions of tensors.

The ranking metrics read hits, not scores: `hits_BK[b, r]` says whether the item at rank r of user b's list is relevant.
Lists come ordered, so ties, negative scores and short lists (filled up with False) need no care here. Each returns one
value per user, NaN where the user has no relevant item, so that the mean is taken once, over the right users.

Shape letters: B users, K length of the lists, I items, N rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from towerrec.ragged import UserItems

RankingMetric = Callable[[Tensor, Tensor, int], Tensor]

# Marks held at once by `hits_of`, one byte each.
_MARKED = 1 << 25


def hits_of(items_BK: Tensor, relevant: UserItems, user_idx_B: Tensor) -> Tensor:
    """Which of the listed items are relevant, bool [B, K]; -1 (an empty place) never is.

    Args:
        items_BK: Item indices in rank order, -1 where a list has ended.
        relevant: Relevant items of every user.
        user_idx_B: The user each list belongs to.
    """
    num_items = relevant.num_items
    users_at_once = max(1, min(len(user_idx_B), _MARKED // max(1, num_items)))
    # One mark per user and item, wiped again by what set it: the work is that of the pairs, whatever the catalogue.
    marked = torch.zeros(users_at_once * num_items, dtype=torch.bool, device=items_BK.device)
    hits = []
    for items_bK, user_idx_b in zip(items_BK.split(users_at_once), user_idx_B.split(users_at_once), strict=True):
        row, item, _ = relevant.pairs_of(user_idx_b)
        pair = row.mul_(num_items).add_(item)
        first_b1 = torch.arange(len(items_bK), device=items_bK.device)[:, None] * num_items
        marked.index_fill_(0, pair, True)
        hits.append(marked.take(first_b1 + items_bK.clamp(min=0)) & (items_bK >= 0))
        marked.index_fill_(0, pair, False)
    return torch.cat(hits)


def precision_at_k(hits_BK: Tensor, num_relevant_B: Tensor, k: int) -> Tensor:
    """Share of the first k places that hold a relevant item; a list shorter than k has missed the rest. [B]"""
    return _only_judged(_first(hits_BK, k).sum(1).double() / k, num_relevant_B)


def recall_at_k(hits_BK: Tensor, num_relevant_B: Tensor, k: int) -> Tensor:
    """Share of the relevant items that are among the first k: hits / relevant, not hits / min(relevant, k). [B]"""
    return _only_judged(_first(hits_BK, k).sum(1).double() / num_relevant_B, num_relevant_B)


def ndcg_at_k(hits_BK: Tensor, num_relevant_B: Tensor, k: int) -> Tensor:
    """Discounted cumulative gain with gain 0 or 1 and discount 1 / log2(rank + 1), over that of an ideal list. [B]

    The ideal list has min(relevant, k) hits at its top (Järvelin and Kekäläinen, 2002; discount as Burges, 2005).
    """
    first = _first(hits_BK, k)
    discount_K = 1 / torch.log2(torch.arange(2, k + 2, device=first.device, dtype=torch.float64))
    ideal_K = torch.cumsum(discount_K, 0)
    dcg_B = first.double() @ discount_K[: first.shape[1]]
    return _only_judged(dcg_B / ideal_K[num_relevant_B.long().clamp(1, k) - 1], num_relevant_B)


def map_at_k(hits_BK: Tensor, num_relevant_B: Tensor, k: int) -> Tensor:
    """Average precision at k: precision summed at every hit among the first k, divided by min(relevant, k). [B]

    A perfect list scores 1 whatever k. Two other definitions are in use and give other numbers: dividing by all
    relevant items (a perfect list of k < relevant scores below 1), and dividing by the hits found (which forgives
    what the list misses).
    """
    first = _first(hits_BK, k)
    rank_K = torch.arange(1, first.shape[1] + 1, device=first.device, dtype=torch.float64)
    summed_B = (torch.cumsum(first.double(), 1) / rank_K * first).sum(1)
    return _only_judged(summed_B / num_relevant_B.clamp(1, k), num_relevant_B)


def mrr_at_k(hits_BK: Tensor, num_relevant_B: Tensor, k: int) -> Tensor:
    """1 / rank of the first hit among the first k, 0 where there is none. [B]"""
    first = _first(hits_BK, k)
    rank_K = torch.arange(1, first.shape[1] + 1, device=first.device, dtype=torch.float64)
    return _only_judged((first / rank_K).amax(1), num_relevant_B)


def hit_rate_at_k(hits_BK: Tensor, num_relevant_B: Tensor, k: int) -> Tensor:
    """1 where any of the first k is relevant, else 0. [B]"""
    return _only_judged(_first(hits_BK, k).any(1).double(), num_relevant_B)


RANKING_METRICS: dict[str, RankingMetric] = {
    "precision": precision_at_k,
    "recall": recall_at_k,
    "ndcg": ndcg_at_k,
    "map": map_at_k,
    "mrr": mrr_at_k,
    "hit_rate": hit_rate_at_k,
}
"""Every per-user metric of a list by name; in results the cut is added: `ndcg@20`."""


def ranking_metrics(hits_BK: Tensor, num_relevant_B: Tensor, ks: Sequence[int]) -> dict[str, Tensor]:
    """All of `RANKING_METRICS` at all cuts: `{"precision@10": [B], ...}`, float64."""
    return {f"{name}@{k}": metric(hits_BK, num_relevant_B, k) for name, metric in RANKING_METRICS.items() for k in ks}


def coverage_at_k(items_BK: Tensor, num_items: int, k: int) -> Tensor:
    """Share of the `num_items` items that stand among the first k of at least one list, a scalar; -1 is no item."""
    _check_k(k)
    shown = items_BK[:, :k]
    return torch.unique(shown[shown >= 0]).numel() / torch.tensor(num_items, dtype=torch.float64)


def rmse(predicted_N: Tensor, actual_N: Tensor) -> Tensor:
    """Root of the mean squared error, a scalar in the unit of the values; NaN without rows."""
    return (predicted_N.double() - actual_N.double()).square().mean().sqrt()


def mae(predicted_N: Tensor, actual_N: Tensor) -> Tensor:
    """Mean absolute error, a scalar in the unit of the values; NaN without rows."""
    return (predicted_N.double() - actual_N.double()).abs().mean()


def xauc(predicted_N: Tensor, actual_N: Tensor) -> Tensor:
    """Share of the pairs of rows with different actual values that the predictions put in the same order.

    Pairs that are predicted equal count one half; NaN where all actual values are equal. Exact over all pairs, in
    O(n log n), where the source of the measure (Zhan et al., KDD 2022, «D2Q») samples pairs. Returns a scalar.
    """
    right_N, judged_N = ordered_pairs(predicted_N, actual_N)
    return right_N.sum() / judged_N.sum()


def ordered_pairs(predicted_N: Tensor, actual_N: Tensor) -> tuple[Tensor, Tensor]:
    """Of every row, the pairs with other rows that are predicted in the right order (a tie counts one half), and all
    pairs with rows of another actual value; float64 [N] each. `xauc` is the sum of the first over that of the second.
    """
    predicted_rank = torch.unique(predicted_N, return_inverse=True)[1]
    actual_rank = torch.unique(actual_N, return_inverse=True)[1]
    width = int(predicted_rank.max()) + 1 if predicted_N.numel() else 1
    key = actual_rank * width + predicted_rank
    # Sorted by (actual, predicted): rows of equal actual value hold no inversion, so each inversion is a wrong pair.
    order = torch.argsort(key)
    wrong_N = torch.empty(len(key), dtype=torch.float64, device=key.device)
    wrong_N[order] = _inversions(predicted_rank[order], width)
    judged_N = len(key) - _num_equal(actual_rank)
    undecided_N = _num_equal(predicted_rank) - _num_equal(torch.unique(key, return_inverse=True)[1])
    return judged_N - wrong_N - undecided_N / 2, judged_N


def _inversions(rank_N: Tensor, width: int) -> Tensor:
    """Of every place, the other places with which it makes a pair i < j with rank[i] > rank[j], float64 [N].

    Bit by bit from the top: rows that agree in the higher bits form a group, kept in order. A row with a zero bit is
    inverted with the rows before it in its group whose bit is one, and a row with a one bit with the zeros behind it.
    """
    total_N = torch.zeros(len(rank_N), dtype=torch.int64, device=rank_N.device)
    here_N = torch.arange(len(rank_N), device=rank_N.device)
    place_N = here_N
    for bit in reversed(range(max(width - 1, 1).bit_length())):
        group_N = rank_N >> (bit + 1)  # groups are contiguous and ascend
        size_G = torch.bincount(group_N)
        end_G = torch.cumsum(size_G, 0)
        start_N, end_N = (end_G - size_G)[group_N], end_G[group_N]
        is_one_N = (rank_N >> bit) & 1 == 1
        ones_N = torch.cumsum(torch.cat([is_one_N[:1] & False, is_one_N]), 0)  # [N + 1], among the first n rows
        ones_before_N = ones_N[:-1] - ones_N[start_N]
        zeros_behind_N = (end_N - here_N) - (ones_N[end_N] - ones_N[:-1])
        total_N[place_N] += torch.where(is_one_N, zeros_behind_N, ones_before_N)
        # Zeros of a group move before its ones, both in their order, so that it stays the given one in smaller groups.
        moved_N = here_N + torch.where(is_one_N, zeros_behind_N, -ones_before_N)
        rank_N = torch.empty_like(rank_N).scatter_(0, moved_N, rank_N)
        place_N = torch.empty_like(place_N).scatter_(0, moved_N, place_N)
    return total_N.double()


def _num_equal(rank_N: Tensor) -> Tensor:
    """Rows of the same rank, the row itself included, float64 [N]."""
    return torch.bincount(rank_N).double()[rank_N]


def _first(hits_BK: Tensor, k: int) -> Tensor:
    _check_k(k)
    if hits_BK.shape[1] == 0:
        return hits_BK.new_zeros(hits_BK.shape[0], 1)
    return hits_BK[:, :k]


def _check_k(k: int) -> None:
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")


def _only_judged(value_B: Tensor, num_relevant_B: Tensor) -> Tensor:
    return torch.where(num_relevant_B > 0, value_B, torch.nan)
