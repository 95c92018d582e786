"""Systems compared user by user: difference, interval, wins, and a p-value that assumes nothing about the figures.

Shape letters: U users, S systems, M figures, P pairs of systems, R random flips, N users whose figures differ.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.bootstrap import ends_of, resampled_means
from towerrec.report.correction import TITLES, adjusted
from towerrec.report.per_user import Floats, common_figures, stacked

Pair = tuple[str, str]

LEVEL = 0.05
"""p-values up to this one are called more than chance."""

_FLIPS_AT_ONCE = 1 << 21


@dataclass(frozen=True)
class Difference:
    """A figure of one system minus that of another, over the users both have it for.

    Attributes:
        mean, low, high: The mean difference and its 95 % interval over users.
        wins, losses, ties: Shares of the users for whom the first is better, worse or equal; where neither way is
            better as such (popularity of the lists), higher, lower or equal.
        p_value: Of the sign-flip permutation test (`sign_flip_p_values`).
        p_adjusted: The same, corrected for the comparisons of its family.
        users: Users with the figure.
        correction: How p was corrected (`correction.CORRECTIONS`).
        family: For how many comparisons.
    """

    mean: float
    low: float
    high: float
    wins: float
    losses: float
    ties: float
    p_value: float
    p_adjusted: float
    users: int
    correction: str = "none"
    family: int = 1

    @property
    def is_clear(self) -> bool:
        """Whether interval and corrected p-value both say that the difference is more than chance."""
        return (self.low > 0 or self.high < 0) and self.p_adjusted <= LEVEL

    @property
    def words(self) -> str:
        """Difference, interval and p-value for a sentence."""
        text = f"difference {self.mean:+.4f}, {self.low:+.4f} to {self.high:+.4f}, p = {self.p_value:.2g}"
        if self.correction == "none" or self.family == 1:
            return text
        return f"{text}, corrected for {self.family} comparisons {self.p_adjusted:.2g} ({TITLES[self.correction]})"


def paired_difference(
    first: pl.DataFrame, second: pl.DataFrame, metric: str, *, num_resamples: int = 10_000, seed: int = 0
) -> Difference:
    """Compare two per-user tables on one figure, user by user: far sharper than comparing their two intervals.

    Raises:
        ValueError: If a table lacks the figure or the two share no user.
    """
    tables = {"first": first, "second": second}
    table = paired_table(tables, [("first", "second")], [metric], num_resamples=num_resamples, seed=seed)
    return difference(table, "first", "second", metric)


def difference(table: pl.DataFrame, first: str, second: str, metric: str) -> Difference:
    """One comparison of a paired table.

    Raises:
        ValueError: If the table does not have it.
    """
    found = table.filter(pl.col("first") == first, pl.col("second") == second, pl.col("metric") == metric)
    if found.height != 1:
        raise ValueError(f"{first} was not compared with {second} on {metric}")
    return Difference(**found.select(list(Difference.__dataclass_fields__)).row(0, named=True))


def against_the_first(names: Sequence[str]) -> list[Pair]:
    """The first beside each of the others."""
    return [(names[0], other) for other in names[1:]]


def all_pairs(names: Sequence[str]) -> list[Pair]:
    """Each beside each, once."""
    return list(combinations(names, 2))


def paired_table(
    tables: Mapping[str, pl.DataFrame],
    pairs: Sequence[Pair],
    metrics: Sequence[str] | None = None,
    *,
    correction: str = "holm",
    num_resamples: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """A row per pair and figure: first, second, metric, the fields of `Difference`, correction, family.

    The family of a p-value, for which it is corrected, are the comparisons of one figure: all `pairs`. Figures are not
    corrected for one another: they say nearly the same, and one of them is named as the main one beforehand.

    All pairs use the same users: those of every table. A user whom one system lacks a figure for (NaN or null) is
    left out of that figure, for all of them.

    Args:
        tables: Per-user tables by the name of their system.
        pairs: Who is compared with whom.
        metrics: Which figures; None takes those that all tables have, for one user at least.
        correction: `holm`, `benjamini_hochberg` or `none` (`correction.adjusted`).
        num_resamples: Bootstrap resamples of the interval and random flips of the test.
        seed: Of both.

    Raises:
        ValueError: If a table lacks a figure, the tables share no user, or no user has an asked figure in all of them.
    """
    names = list(tables)
    asked = common_figures(list(tables.values())) if metrics is None else list(metrics)
    values_USM = stacked(list(tables.values()), asked)
    lacking_UM = np.isnan(values_USM).max(axis=1)
    nobody_M = lacking_UM.min(axis=0)
    if metrics is not None and nobody_M.any():
        raise ValueError(f"no user has {asked[int(nobody_M.argmax())]} in all systems: leave that figure out")
    metrics = [name for name, nobody in zip(asked, nobody_M, strict=True) if not nobody]
    lacking_UM = lacking_UM[:, ~nobody_M]
    values_USM = np.where(lacking_UM[:, None], np.nan, values_USM[..., ~nobody_M])
    users_M = (~lacking_UM).sum(0)
    at = [(names.index(first), names.index(second)) for first, second in pairs]
    p_PM = sign_flip_p_values(values_USM, at, num_flips=num_resamples, seed=seed)
    shape = (len(values_USM), len(names) * len(metrics))
    means_RSM = resampled_means(values_USM.reshape(shape), num_resamples=num_resamples, seed=seed).reshape(
        num_resamples, len(names), len(metrics)
    )
    parts = [
        _compared(values_USM[:, first], values_USM[:, second], means_RSM[:, first] - means_RSM[:, second], metrics)
        for first, second in at
    ]
    columns = {name: np.stack([part[name] for part in parts]).ravel() for name in parts[0]}
    p_adjusted = adjusted(p_PM, correction)
    return pl.DataFrame(
        {
            "first": [first for first, _ in pairs for _ in metrics],
            "second": [second for _, second in pairs for _ in metrics],
            "metric": list(metrics) * len(pairs),
            **columns,
            "p_value": p_PM.ravel(),
            "p_adjusted": p_adjusted.ravel(),
            "users": np.tile(users_M, len(pairs)),
        }
    ).with_columns(correction=pl.lit(correction), family=pl.lit(len(pairs)))


def _compared(first_UM: Floats, second_UM: Floats, resampled_RM: Floats, metrics: Sequence[str]) -> dict[str, Floats]:
    """Mean, interval, wins, losses and ties of one pair, [M] each."""
    difference_UM = first_UM - second_UM
    users_M = (~np.isnan(difference_UM)).sum(0)
    # Means over equal figures can differ in the last bit.
    differs_M = (np.nan_to_num(difference_UM) != 0).any(axis=0)
    low_M, high_M = ends_of(resampled_RM) * differs_M
    above_M, below_M = (difference_UM > 0).sum(0) / users_M, (difference_UM < 0).sum(0) / users_M
    lower_M = np.array([definition(name).better == "lower" for name in metrics])
    return {
        "mean": np.nanmean(difference_UM, axis=0) * differs_M,
        "low": low_M,
        "high": high_M,
        "wins": np.where(lower_M, below_M, above_M),
        "losses": np.where(lower_M, above_M, below_M),
        "ties": (difference_UM == 0).sum(0) / users_M,
    }


def sign_flip_p_values(
    values_USM: Floats, pairs: Sequence[tuple[int, int]], *, num_flips: int = 10_000, seed: int = 0
) -> Floats:
    """Two-sided p-values [P, M] of paired permutation tests: were the two systems' figures swapped at random?

    If the two were alike, each user's difference could as well have the other sign (Fisher, The Design of Experiments
    1935, section 21). The p-value is the share of all flips whose sum is at least as far from 0 as the one found.
    Where at most `num_flips` flips exist (13 users that differ, for 10,000), all are taken and the value is exact;
    otherwise it is (1 + count) / (1 + num_flips) over random ones, which keeps the error rate that it claims, where
    count / num_flips would not (Phipson and Smyth, Statistical Applications in Genetics and Molecular Biology 2010).

    Args:
        values_USM: Figures of all systems; a figure that a user lacks is NaN, for all systems, and counts nowhere.
        pairs: Positions of the two systems of each pair.
        num_flips: Random flips.
        seed: Of the flips; all pairs and figures share them.
    """
    if num_flips < 1:
        raise ValueError(f"num_resamples must be at least 1, got {num_flips}")
    values_USM = np.nan_to_num(values_USM)
    first, second = (list(side) for side in zip(*pairs, strict=True))
    # A flip counts as far as the one found if only the rounding of the sums tells them apart.
    rounding_SM = 1e-12 * np.abs(values_USM).sum(0)
    rounding_PM = rounding_SM[first] + rounding_SM[second]
    sums_SM = values_USM.sum(0)
    needed_PM = np.abs(sums_SM[first] - sums_SM[second]) - rounding_PM
    count_PM = np.zeros(needed_PM.shape)
    for sums_rSM in _flipped_sums(values_USM, num_flips=num_flips, seed=seed):
        for pair, (one, other) in enumerate(pairs):
            count_PM[pair] += (np.abs(sums_rSM[:, one] - sums_rSM[:, other]) >= needed_PM[pair]).sum(0)
    p_PM: Floats = (1 + count_PM) / (1 + num_flips)
    differing_PM = np.stack([(values_USM[:, one] != values_USM[:, other]).sum(0) for one, other in pairs])
    few_PM = differing_PM <= int(np.log2(num_flips))
    for pair, metric in zip(*few_PM.nonzero(), strict=True):
        one, other = pairs[pair]
        p_PM[pair, metric] = _exact_p_value(values_USM[:, one, metric] - values_USM[:, other, metric])
    return p_PM


def _flipped_sums(values_USM: Floats, *, num_flips: int, seed: int) -> Iterator[Floats]:
    """Sums over users with random signs, in pieces [r, S, M] that together have `num_flips` rows."""
    num_users, *others = values_USM.shape
    generator = np.random.default_rng(seed)
    at_once = max(1, _FLIPS_AT_ONCE // num_users)
    flat = values_USM.reshape(num_users, -1)
    for start in range(0, num_flips, at_once):
        size = min(at_once, num_flips - start)
        bits = np.unpackbits(np.frombuffer(generator.bytes((size * num_users + 7) // 8), np.uint8))
        sign_rU = bits[: size * num_users].reshape(size, num_users) * 2.0 - 1.0
        yield (sign_rU @ flat).reshape(size, *others)


def _exact_p_value(difference_U: npt.NDArray[np.float64]) -> float:
    """The share of all 2^N flips of the N differing users that are at least as far from 0 as the one found."""
    size_N = np.abs(difference_U[difference_U != 0])
    flips = np.arange(2 ** len(size_N))[:, None] >> np.arange(len(size_N)) & 1
    needed = abs(difference_U.sum()) - 1e-12 * size_N.sum()
    return float((np.abs((flips * 2.0 - 1.0) @ size_N) >= needed).mean())
