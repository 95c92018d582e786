"""Intervals of means over users, by resampling the users (Efron 1979, percentile interval).

Users are drawn with replacement, as many as there are; all figures of all systems are averaged over the same draws.

Shape letters: R resamples, U users, M figures, S runs of one setting.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from towerrec.report.per_user import Floats

LOW, HIGH = 2.5, 97.5
"""Percentiles of a 95 % interval."""

ENOUGH = 1_000
"""Resamples that find the ends of an interval to 2 % of its length."""

_MOST_DRAWS = 1 << 27
_DRAWS_AT_ONCE = 1 << 21
# Draws kept for the next system that is judged on as many users, one byte each: 10,000 resamples of 26,000 users.
_DRAWS_KEPT = 1 << 28


def enough_resamples(num_resamples: int, num_users: int) -> int:
    """`num_resamples`, or fewer for more than 13,000 users (or rows), down to 1,000: of so many a mean is smooth, and
    resampling a large log must not take minutes."""
    return min(num_resamples, max(ENOUGH, _MOST_DRAWS // num_users))


def resampled_means(values_UM: Floats, *, num_resamples: int, seed: int) -> Floats:
    """Means [R, M] over users drawn with replacement, as many as there are; equal seeds draw equal users.

    A figure that a user lacks (NaN) counts in no mean; a mean over no user at all is NaN.

    Raises:
        ValueError: If there is no user or fewer than one resample.
    """
    sums_RM, counts_RM = _resampled_sums(values_UM, num_resamples=num_resamples, seed=seed)
    return _ratio(sums_RM, counts_RM)


def intervals(values_UM: Floats, *, num_resamples: int, seed: int) -> Floats:
    """Lower and upper ends of the 95 % intervals of the M means, [2, M]."""
    return ends_of(resampled_means(values_UM, num_resamples=num_resamples, seed=seed))


def ends_of(means_RM: Floats) -> Floats:
    """The 2.5th and 97.5th percentile of resampled figures, [2, M]; resamples without a figure (NaN) are left out."""
    percentile = np.nanpercentile if np.isnan(means_RM).any() else np.percentile
    ends: Floats = percentile(means_RM, [LOW, HIGH], axis=0)
    return ends


def resampled_means_of_runs(
    values_SUM: Floats, *, num_resamples: int, seed: int, repeats: Sequence[str] = ()
) -> Floats:
    """Means [R, M] where both the users and the runs (seeds, windows) are drawn: what another training would find.

    Rows and columns of the table runs x users are drawn independently and a cell counts as often as its run and its
    user together (Owen, «The pigeonhole bootstrap», Annals of Applied Statistics 2007). Of S runs S - 1 are drawn:
    then the variance that the runs add is s² / S, as it should be, also for the three or five that there usually are
    (Rao and Wu, JASA 1988). Cells that are missing (NaN: a user who was not judged in that run) count nowhere.

    Args:
        values_SUM: Figures of every run; two runs at least.
        num_resamples: R.
        seed: Of the draws; users are drawn as `resampled_means` does.
        repeats: What tells the runs apart (`seed=1`). Settings with the same repeats draw the same runs, so that their
            difference is taken run by run.

    Raises:
        ValueError: If there are fewer than two runs, no user or fewer than one resample.
    """
    num_runs, num_users, num_figures = values_SUM.shape
    if num_runs < 2:
        raise ValueError("runs can only be drawn where there are two or more: repeat the setting with other seeds")
    flat_US = values_SUM.transpose(1, 0, 2).reshape(num_users, num_runs * num_figures)
    sums_RS, counts_RS = _resampled_sums(flat_US, num_resamples=num_resamples, seed=seed)
    # A spawned stream: [seed, 0] would give the very numbers that drew the users.
    own = np.random.SeedSequence(seed, spawn_key=(1, zlib.crc32("\n".join(repeats).encode())))
    generator = np.random.default_rng(own)
    drawn_RS = generator.multinomial(num_runs - 1, np.full(num_runs, 1 / num_runs), num_resamples)

    def over_runs(table_RS: Floats) -> Floats:
        return np.einsum("rs,rsm->rm", drawn_RS, table_RS.reshape(num_resamples, num_runs, num_figures))

    return _ratio(over_runs(sums_RS), over_runs(np.broadcast_to(counts_RS, sums_RS.shape)))


def draws(num_users: int, *, num_resamples: int, seed: int) -> Iterator[npt.NDArray[np.uint8]]:
    """How often every user is drawn in every resample, in pieces [r, U] that together have R rows.

    Raises:
        ValueError: If there is no user or fewer than one resample.
    """
    if num_users == 0:
        raise ValueError("there is no user to resample: no user has a relevant item")
    if num_resamples < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_resamples}")
    keep = num_users * num_resamples <= _DRAWS_KEPT
    return iter(_kept(num_users, num_resamples, seed)) if keep else _fresh(num_users, num_resamples, seed)


@lru_cache(maxsize=1)
def _kept(num_users: int, num_resamples: int, seed: int) -> tuple[npt.NDArray[np.uint8], ...]:
    return tuple(_fresh(num_users, num_resamples, seed))


def _fresh(num_users: int, num_resamples: int, seed: int) -> Iterator[npt.NDArray[np.uint8]]:
    generator = np.random.default_rng(seed)
    at_once = max(1, _DRAWS_AT_ONCE // num_users)
    for start in range(0, num_resamples, at_once):
        size = min(at_once, num_resamples - start)
        drawn = generator.integers(0, num_users, (size, num_users), dtype=np.uint32).astype(np.int64)
        drawn += np.arange(size)[:, None] * num_users
        counts = np.bincount(drawn.ravel(), minlength=size * num_users)
        # No user of more than 255 is ever drawn more than 255 times.
        yield counts.astype(np.uint8).reshape(size, num_users)


def _resampled_sums(values_UM: Floats, *, num_resamples: int, seed: int) -> tuple[Floats, Floats]:
    """Sums [R, M] and the numbers of values in them, [R, M] or, where none is missing, [1, 1]."""
    present_UM = ~np.isnan(values_UM)
    whole = bool(present_UM.all())
    filled_UM = values_UM if whole else np.where(present_UM, values_UM, 0.0)
    sums, counts = [], []
    for weight_rU in draws(len(values_UM), num_resamples=num_resamples, seed=seed):
        weight_rU = weight_rU.astype(np.float64)
        sums.append(weight_rU @ filled_UM)
        if not whole:
            counts.append(weight_rU @ present_UM)
    return np.concatenate(sums), np.full((1, 1), float(len(values_UM))) if whole else np.concatenate(counts)


def _ratio(sums: Floats, counts: Floats) -> Floats:
    with np.errstate(invalid="ignore"):  # 0 / 0: no user with a value was drawn
        means: Floats = sums / counts
    return means
