"""Forgetting by half-life: a row counts half as much for every half-life that has passed since.

Shape letters: N rows, I items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from towerrec.schema import NO_TIMESTAMP

DAY_MS = 86_400_000


def decay_weights(timestamp_ms_N: Tensor, *, as_of_ms: int, half_life_days: float) -> Tensor:
    """2 ^ -(age / half-life), float64 [N]; a row without a time counts nothing, one after `as_of_ms` counts fully.

    Raises:
        ValueError: If the half-life is not positive.
    """
    if not half_life_days > 0:
        raise ValueError(f"half_life_days must be positive, got {half_life_days}")
    age_N = (as_of_ms - timestamp_ms_N).clamp(min=0).double()
    weight_N = torch.exp2(-age_N / (half_life_days * DAY_MS))
    return weight_N.masked_fill_(timestamp_ms_N == NO_TIMESTAMP, 0.0)


def decayed_counts(
    item_idx_N: Tensor, timestamp_ms_N: Tensor, *, num_items: int, as_of_ms: int, half_life_days: float
) -> Tensor:
    """Rows of every item as of a moment, each weighed by `decay_weights`, float64 [I]."""
    weight_N = decay_weights(timestamp_ms_N, as_of_ms=as_of_ms, half_life_days=half_life_days)
    return torch.bincount(item_idx_N, weights=weight_N, minlength=num_items)


def latest(timestamp_ms_N: Tensor) -> int | None:
    """The last known moment of some rows, None where no row has a time."""
    # NO_TIMESTAMP is the smallest int64, so it is the maximum only where there is nothing else.
    moment = int(timestamp_ms_N.max()) if len(timestamp_ms_N) else NO_TIMESTAMP
    return None if moment == NO_TIMESTAMP else moment
