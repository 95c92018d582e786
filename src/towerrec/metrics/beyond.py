"""Figures of lists beyond accuracy, as pure functions of tensors: what is shown, to whom it is new, how alike it is.

Lists come as `items_BK`, item rows in rank order, -1 where a list has ended; empty places count for nothing. Values of
items are NaN where nothing is known of one; a user of whose items nothing is known has NaN.

Shape letters: B users, K length of the lists, I items, N numbers, C cuts or columns, D width of a vector, L tags of an
item, T distinct tags, S distinct sets of tags.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from towerrec.ragged import UserItems

# Numbers held at once: pairs of list places, or marks of tags.
_AT_ONCE = 1 << 22
_MARKS = 1 << 25


def gini(count_N: Tensor) -> float:
    """Gini coefficient of counts that are not negative: 0 where all are equal, (N - 1) / N where one has everything.

    sum over i of (2 i - N - 1) x_i / (N sum x), with x ascending and i from 1: half the mean absolute difference of two
    of the N, over their mean (Gini 1912). NaN where nothing was counted.
    """
    ordered_N = count_N.double().sort().values
    number = len(ordered_N)
    total = float(ordered_N.sum())
    if total <= 0:
        return float("nan")
    weight_N = 2 * torch.arange(1, number + 1, dtype=torch.float64) - number - 1
    return float(weight_N @ ordered_N.cpu()) / (number * total)


def exposure(items_BK: Tensor, num_items: int, k: int) -> Tensor:
    """How often each item stands among the first k of a list, int64 [I]: every place counts once, whatever its rank."""
    shown = items_BK[:, :k].flatten()
    return torch.bincount(shown[shown >= 0], minlength=num_items)


def self_information(users_I: Tensor, num_users: int) -> Tensor:
    """-log2 of the share of users that saw an item, in bits, float64 [I].

    An item that nobody saw counts as seen by one, so what is new to all is as surprising as what one user knows (Zhou
    et al., PNAS 2010; the rule for the unseen is that of RecTools and RePlay).
    """
    return -torch.log2(users_I.double().clamp(min=1) / max(num_users, 1))


def percentile(value_I: Tensor, among_I: Tensor) -> Tensor:
    """Share of the items in `among_I` (bool) with a smaller value, equal ones counting half, float64 [I] in 0 .. 1.

    The mean over these items is one half, so that is where a random list stands.
    """
    ordered = value_I[among_I].sort().values
    below, upto = (torch.searchsorted(ordered, value_I, right=right) for right in (False, True))
    return (below + upto).double() / (2 * max(len(ordered), 1))


def list_means(value_I: Tensor, items_BK: Tensor, ks: Sequence[int]) -> Tensor:
    """Mean value of the first k items of each list, float64 [B, C] with a column per cut; items of unknown value (NaN)
    are left out."""
    value_BK = value_I.double()[items_BK.clamp(min=0)]
    known_BK = (items_BK >= 0) & ~value_BK.isnan()
    total_BC, number_BC = _at_cuts(torch.where(known_BK, value_BK, 0.0), ks), _at_cuts(known_BK.double(), ks)
    return torch.where(number_BC > 0, total_BC / number_BC, torch.nan)


def vector_diversity(items_BK: Tensor, vectors_ID: Tensor, ks: Sequence[int]) -> Tensor:
    """1 - mean cosine over the pairs of the first k items, float64 [B, C]; NaN for lists of fewer than two.

    With unit vectors v the cosines of all pairs sum up to (|sum v|^2 - sum |v|^2) / 2, so no pair is visited. A vector
    of zeros is at right angles to all.
    """
    unit_ID = torch.cat(
        [F.normalize(vectors_ID.double(), dim=1), vectors_ID.new_zeros(1, vectors_ID.shape[1]).double()]
    )
    parts = []
    for items_bK in items_BK.split(max(1, _AT_ONCE // max(1, items_BK.shape[1] * unit_ID.shape[1]))):
        sum_bD = unit_ID.new_zeros(len(items_bK), unit_ID.shape[1])
        square_b, columns = unit_ID.new_zeros(len(items_bK)), []
        for start, k in zip((0, *ks[:-1]), ks, strict=True):
            unit_bkD = unit_ID[items_bK[:, start:k]]
            sum_bD = sum_bD + unit_bkD.sum(1)
            square_b = square_b + unit_bkD.square().sum((1, 2))
            columns.append(sum_bD.square().sum(1) - square_b)
        parts.append(torch.stack(columns, 1))
    return _one_less_mean_of_pairs(torch.cat(parts) / 2, _at_cuts((items_BK >= 0).double(), ks))


def tag_diversity(items_BK: Tensor, tags_IL: Tensor, ks: Sequence[int]) -> Tensor:
    """1 - mean Jaccard similarity of the tags over the pairs of the first k items, float64 [B, C].

    Items without a tag are left out; NaN for lists with fewer than two others.

    Args:
        items_BK: The lists.
        tags_IL: Tags of every item from 0 on, each once, filled up with -1.
        ks: Cuts, ascending.
    """
    shown = torch.unique(items_BK[items_BK >= 0])
    sets_SL, set_N = torch.unique(tags_IL[shown].long().sort(1).values, dim=0, return_inverse=True)
    # Items that share all tags share a row: of lists with many pairs most are of few sets.
    set_I = torch.full((len(tags_IL) + 1,), len(sets_SL), dtype=torch.int64)
    set_I[shown] = torch.where((tags_IL[shown] >= 0).any(1), set_N, len(sets_SL))
    set_BK = set_I[items_BK]  # -1 reads the last row: the set that is none
    sets_SL = torch.cat([sets_SL, sets_SL.new_full((1, tags_IL.shape[1]), -1)])
    similar_BC = torch.cat([_at_cuts(part, ks) for part in _earlier_similarity(set_BK, sets_SL)])
    return _one_less_mean_of_pairs(similar_BC, _at_cuts((set_BK < len(sets_SL) - 1).double(), ks))


def _earlier_similarity(set_BK: Tensor, sets_SL: Tensor) -> list[Tensor]:
    """Summed similarity of each place to the places before it, some users at a time: float64 [b, K]."""
    length, num_sets = set_BK.shape[1], len(sets_SL)
    num_tags = int(sets_SL.max()) + 1 if sets_SL.numel() else 0
    few = num_sets**2 <= max(set_BK.numel() * length, _AT_ONCE) and num_sets * max(num_tags, num_sets) <= _MARKS
    table_SS = _jaccard(sets_SL) if few else None
    at_once = max(1, (_AT_ONCE // length**2) if few else _MARKS // (8 * length * max(num_tags, 1)))
    parts = []
    for set_bK in set_BK.split(at_once):
        if table_SS is None:
            similar_bKK = _jaccard(sets_SL[set_bK])
        else:
            similar_bKK = table_SS.take(set_bK[:, :, None] * num_sets + set_bK[:, None, :])
        parts.append(similar_bKK.triu(1).sum(1, dtype=torch.float64))
    return parts


def _jaccard(tags_XL: Tensor) -> Tensor:
    """Shared tags over all tags of two sets, for all pairs within the last dimension but one: float32 [..., S, S]."""
    labels, place = torch.unique(tags_XL, return_inverse=True)
    mark_XT = torch.zeros(*tags_XL.shape[:-1], len(labels)).scatter_(-1, place, 1.0)
    mark_XT[..., labels < 0] = 0
    shared_XX, size_X = mark_XT @ mark_XT.mT, mark_XT.sum(-1)
    all_XX = size_X[..., :, None] + size_X[..., None, :] - shared_XX
    return shared_XX / all_XX.clamp(min=1)


def sums_over(sets: UserItems, user_idx_B: Tensor, value_IC: Tensor) -> Tensor:
    """Sum of every column over the items of each user's set, [B, C] in the type of the values."""
    row, item, _ = sets.pairs_of(user_idx_B)
    begin_B = torch.searchsorted(row, torch.arange(len(user_idx_B), device=row.device))
    return F.embedding_bag(item, value_IC, begin_B, mode="sum")


def candidate_sums(
    allowed: Tensor | UserItems | None, exclude: UserItems | None, user_idx_B: Tensor, value_IC: Tensor
) -> Tensor:
    """Sum of every column over the candidates of each user, [B, C].

    Args:
        allowed: Candidates: bool [I] for all, one set per user, or None for all items.
        exclude: Items that are no candidates of a user.
        user_idx_B: The users.
        value_IC: Columns to sum, 0 where an item shall not count.
    """
    if isinstance(allowed, UserItems):
        kept = allowed if exclude is None else allowed.without(exclude)
        return sums_over(kept, user_idx_B, value_IC)
    counted_IC = value_IC if allowed is None else value_IC * allowed[:, None]
    total_BC = counted_IC.sum(0).expand(len(user_idx_B), -1)
    return total_BC if exclude is None else total_BC - sums_over(exclude, user_idx_B, counted_IC)


def _at_cuts(value_BK: Tensor, ks: Sequence[int]) -> Tensor:
    """Sums over the first k places, [B, C]; beyond the end of a list nothing is added."""
    summed_BK = value_BK.cumsum(1)
    return summed_BK[:, [min(k, value_BK.shape[1]) - 1 for k in ks]]


def _one_less_mean_of_pairs(sum_BC: Tensor, number_BC: Tensor) -> Tensor:
    pairs_BC = number_BC * (number_BC - 1) / 2
    return torch.where(pairs_BC > 0, 1 - sum_BC / pairs_BC, torch.nan)
