"""NDCG whose gain is how much a row was worth, such as its watch ratio.

Shape letters: B users, K length of the lists, I items, P (user, item) pairs.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor

from towerrec.ragged import UserItems

GAINS = ("linear", "exponential")
LARGEST_EXPONENT = 50.0
"""Beyond it one item outweighs all others by more than sums in float64 can hold apart."""

# Gains held at once by `gains_of`, eight bytes each.
_HELD = 1 << 22


def gain_of(value_P: Tensor, *, kind: str, clip: float | None) -> Tensor:
    """Gain of every value, float64 [P]: `v` (linear) or `2**v - 1` (exponential; Burges et al., ICML 2005).

    Values below 0 count as 0, since a gain cannot punish; values above `clip` count as `clip`.

    Raises:
        ValueError: If the kind is unknown, the clip is not above 0, or `2**v` is beyond what sums can hold apart.
    """
    if kind not in GAINS:
        raise ValueError(f"eval.gain={kind} is not known: choose one of {', '.join(GAINS)}")
    if clip is not None and not clip > 0:
        raise ValueError(f"eval.gain_clip must be above 0 (inf: no clip), got {clip}")
    value_P = value_P.double().clamp(min=0, max=math.inf if clip is None else clip)
    if kind == "linear":
        return value_P
    if value_P.numel() and float(value_P.max()) > LARGEST_EXPONENT:
        raise ValueError(
            f"eval.gain=exponential of a value of {float(value_P.max()):g}: one item would outweigh all others; set "
            f"eval.gain_clip to {LARGEST_EXPONENT:g} or less, or eval.gain=linear"
        )
    return torch.exp2(value_P) - 1


def gains_of(items_BK: Tensor, graded: UserItems, user_idx_B: Tensor) -> Tensor:
    """Gain of every listed item, float64 [B, K]; 0 for an item that is not graded and for -1 (an empty place).

    Args:
        items_BK: Item indices in rank order, -1 where a list has ended.
        graded: Graded items of every user; `values` are their gains.
        user_idx_B: The user each list belongs to.
    """
    assert graded.values is not None
    num_items = graded.num_items
    users_at_once = max(1, min(len(user_idx_B), _HELD // max(1, num_items)))
    held = torch.zeros(users_at_once * num_items, dtype=torch.float64, device=items_BK.device)
    parts = []
    for items_bK, user_idx_b in zip(items_BK.split(users_at_once), user_idx_B.split(users_at_once), strict=True):
        row, item, position = graded.pairs_of(user_idx_b)
        pair = row.mul_(num_items).add_(item)
        held[pair] = graded.values[position].double()
        first_b1 = torch.arange(len(items_bK), device=items_bK.device)[:, None] * num_items
        parts.append(held.take(first_b1 + items_bK.clamp(min=0)) * (items_bK >= 0))
        held.index_fill_(0, pair, 0)
    return torch.cat(parts)


def ideal_gains(graded: UserItems, user_idx_B: Tensor, k: int) -> Tensor:
    """The k largest gains of every user, best first, float64 [B, k]; 0 where a user has fewer."""
    assert graded.values is not None
    row_P, _, position_P = graded.pairs_of(user_idx_B)
    # One sort of plain numbers: the user, then the bits of the gain, which order as it does since it is not negative.
    bits_P = graded.values[position_P].float().contiguous().view(torch.int32).long()
    key_P = np.sort(((row_P << 32) | (2**31 - 1 - bits_P)).numpy())
    gain_P = (2**31 - 1 - torch.from_numpy(key_P & 0xFFFFFFFF)).int().view(torch.float32).double()
    count_B = torch.bincount(row_P, minlength=len(user_idx_B))
    place_P = torch.arange(len(row_P), device=row_P.device) - (count_B.cumsum(0) - count_B)[row_P]  # rows ascend
    ideal_Bk = torch.zeros(len(user_idx_B), k, dtype=torch.float64, device=gain_P.device)
    top_P = place_P < k
    ideal_Bk[row_P[top_P], place_P[top_P]] = gain_P[top_P]
    return ideal_Bk


def graded_ndcg_at_k(gain_BK: Tensor, ideal_BK: Tensor, k: int) -> Tensor:
    """Discounted cumulative gain at k over that of the ideal list, discount 1 / log2(rank + 1), float64 [B].

    NaN where nothing the user could be given has a gain (Järvelin and Kekäläinen, TOIS 2002).

    Args:
        gain_BK: Gains of the list.
        ideal_BK: Gains of the user's best candidates, best first, at least k of them or all.
        k: Cut; a list that has ended before has missed the rest.
    """
    if k < 1:
        raise ValueError(f"k must be at least 1, got {k}")
    ideal_B = _discounted(ideal_BK, k)
    return torch.where(ideal_B > 0, _discounted(gain_BK, k) / ideal_B, torch.nan)


def _discounted(gain_BK: Tensor, k: int) -> Tensor:
    first_BK = gain_BK[:, :k]
    rank_K = torch.arange(2, first_BK.shape[1] + 2, device=gain_BK.device, dtype=torch.float64)
    return first_BK @ (1 / torch.log2(rank_K))
