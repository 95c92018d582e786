"""Intervals of means over users, by resampling the users (Efron 1979, percentile interval).

Shape letters: R resamples, U users, M metrics.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]

LOW, HIGH = 2.5, 97.5
"""Percentiles of a 95 % interval."""

_DRAWS_AT_ONCE = 1 << 22


def resampled_means(values_UM: Floats, *, num_resamples: int, seed: int) -> Floats:
    """Means [R, M] over users drawn with replacement, as many as there are; equal seeds draw equal users."""
    num_users = values_UM.shape[0]
    if num_users == 0:
        raise ValueError("there is no user to resample: no user has a relevant item")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // num_users)
    means = []
    for start in range(0, num_resamples, at_once):
        size = min(at_once, num_resamples - start)
        drawn = generator.integers(0, num_users, (size, num_users)) + np.arange(size)[:, None] * num_users
        weight_RU = np.bincount(drawn.ravel(), minlength=size * num_users).reshape(size, num_users)
        means.append(weight_RU.astype(np.float64) @ values_UM / num_users)
    return np.concatenate(means)


def intervals(values_UM: Floats, *, num_resamples: int, seed: int) -> Floats:
    """Lower and upper ends of the 95 % intervals of the M means, [2, M]."""
    means_RM = resampled_means(values_UM, num_resamples=num_resamples, seed=seed)
    ends: Floats = np.percentile(means_RM, [LOW, HIGH], axis=0)
    return ends


@dataclass(frozen=True)
class Difference:
    """A metric of one system minus that of another, over the users both were judged on.

    `wins` and `losses` are the shares of users for whom the first is better or worse.
    """

    mean: float
    low: float
    high: float
    wins: float
    losses: float
    users: int

    @property
    def is_clear(self) -> bool:
        """Whether the 95 % interval leaves out 0."""
        return self.low > 0 or self.high < 0

    def to_dict(self) -> dict[str, Any]:
        return dict(self.__dict__)


def paired_difference(
    first: pl.DataFrame, second: pl.DataFrame, metric: str, *, num_resamples: int = 1000, seed: int = 0
) -> Difference:
    """Compare two per-user tables on one metric, user by user: far sharper than comparing their two intervals.

    Raises:
        ValueError: If a table lacks the metric or the two share no user.
    """
    key = "user_id" if "user_id" in first.columns and "user_id" in second.columns else "user_idx"
    for table in (first, second):
        if metric not in table.columns:
            raise ValueError(f"the per-user table has no {metric!r}; it has {', '.join(table.columns)}")
    both = first.select(key, a=metric).join(second.select(key, b=metric), on=key, maintain_order="left")
    if both.height == 0:
        raise ValueError("the two systems were judged on different users: there is nothing to compare")
    difference_U = (both["a"] - both["b"]).to_numpy().astype(np.float64)
    low, high = intervals(difference_U[:, None], num_resamples=num_resamples, seed=seed)[:, 0]
    return Difference(
        mean=float(difference_U.mean()),
        low=float(low),
        high=float(high),
        wins=float((difference_U > 0).mean()),
        losses=float((difference_U < 0).mean()),
        users=both.height,
    )
