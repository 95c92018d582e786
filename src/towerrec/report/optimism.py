"""What choosing the best of several settings flatters: its figure on the users that chose it is too good.

Shape letters: R resamples, U users, S settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.bootstrap import draws, ends_of
from towerrec.report.per_user import Floats, stacked


@dataclass(frozen=True)
class Optimism:
    """The best setting of a sweep, and what is left of its figure.

    Attributes:
        metric: The figure that chose.
        settings: How many settings there were to choose from.
        chosen: The best one.
        observed: Its figure on the users that chose it.
        corrected: What such a choice reaches on users that did not choose.
        optimism: How much too good the observed figure is: observed - corrected, or the reverse where lower is better.
        low, high: 95 % interval of the corrected figure.
        users: Users behind it.
        chosen_share: Share of the resamples in which each setting was the best: how sure the choice is.
    """

    metric: str
    settings: int
    chosen: str
    observed: float
    corrected: float
    optimism: float
    low: float
    high: float
    users: int
    chosen_share: dict[str, float]

    def row(self) -> dict[str, Any]:
        """All but the shares, for a table."""
        return {name: value for name, value in self.__dict__.items() if name != "chosen_share"}


def optimism(
    tables: Mapping[str, pl.DataFrame], metric: str, *, num_resamples: int = 10_000, seed: int = 0
) -> Optimism:
    """Estimate the optimism of the best of several settings, all judged on the same validation users.

    The bootstrap bias correction of Tsamardinos, Greasidou and Borboudakis (Machine Learning 2018, BBC-CV):
    choose the best on users drawn with replacement, judge it on those that were not drawn, and take the mean over the
    resamples. Their percentiles are the interval, a wide one, as each is over 37 % of the users. The choice is made by
    63 % of the users, so the corrected figure is, if anything, a little low. It corrects nothing else: not early
    stopping on the same rows, not settings that were tried before and are not in the tables.

    Args:
        tables: Per-user table of every setting; the mean over its seeds where it has several (`groups.averaged`).
        metric: The figure that chooses.
        num_resamples: R.
        seed: Of the resamples.

    Raises:
        ValueError: If there are fewer than two settings, they share no user, the figure is missing, or neither way is
            better in it.
    """
    if len(tables) < 2:
        raise ValueError("there is nothing to choose from: optimism needs two settings or more")
    better = definition(metric).better
    if better is None:
        raise ValueError(f"{metric} chooses nothing: neither more nor less of it is better")
    values_US = stacked(list(tables.values()), [metric])[..., 0]
    values_US = values_US[~np.isnan(values_US).any(axis=1)]
    if len(values_US) < 2:
        raise ValueError(f"fewer than two users have {metric} in all settings: their choice cannot be judged by others")
    sign = -1.0 if better == "lower" else 1.0
    scores_US, names = sign * values_US, list(tables)
    judged_R, best_R = _judged_by_others(scores_US, num_resamples=num_resamples, seed=seed)
    if len(judged_R) == 0:
        raise ValueError("every resample drew all users: raise eval.num_resamples")
    chosen = int(scores_US.mean(0).argmax())
    corrected, observed = float(judged_R.mean()), float(scores_US[:, chosen].mean())
    low, high = sorted(sign * float(end) for end in ends_of(judged_R[:, None])[:, 0])
    share_S = np.bincount(best_R, minlength=len(names)) / len(best_R)
    return Optimism(
        metric=metric,
        settings=len(names),
        chosen=names[chosen],
        observed=sign * observed,
        corrected=sign * corrected,
        optimism=observed - corrected,
        low=low,
        high=high,
        users=len(values_US),
        chosen_share=dict(zip(names, share_S.tolist(), strict=True)),
    )


def _judged_by_others(scores_US: Floats, *, num_resamples: int, seed: int) -> tuple[Floats, np.ndarray]:
    """For every resample the best setting on the drawn users, and its mean over the others; without those that drew
    all users. Of equal settings the first is the best."""
    figures, choices = [], []
    for weight_rU in draws(len(scores_US), num_resamples=num_resamples, seed=seed):
        best_r = (weight_rU.astype(np.float64) @ scores_US).argmax(1)
        left_rU = (weight_rU == 0).astype(np.float64)
        count_r = left_rU.sum(1)
        left_r = np.take_along_axis(left_rU @ scores_US, best_r[:, None], axis=1)[:, 0]
        figures.append(left_r[count_r > 0] / count_r[count_r > 0])
        choices.append(best_r[count_r > 0])
    return np.concatenate(figures), np.concatenate(choices)
