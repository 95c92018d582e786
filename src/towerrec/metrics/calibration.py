"""Do predicted values mean what they say: by bins of the prediction, in one figure, and as a slope.

Shape letters: N rows, C bins, U users, R draws of rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

Z95 = 1.959964
"""Half of a 95 % interval in standard errors."""

_NEWTON_STEPS = 50


@dataclass(frozen=True)
class Slope:
    """A fitted slope, and what every row has to do with it, so that it can be fitted anew to other rows.

    With x the prediction (or its log odds) less its mean, in units of `scale`, a row pulls at the line by `missed` and
    at its slope by `missed` times x, and holds them by `weight` times 1, x and x².

    Attributes:
        value: Slope per unit of the prediction.
        scale: Unit of `x`.
        x: float64 [N].
        missed: Actual value less that of the fit, float64 [N].
        weight: float64 [N]; ones for least squares.
    """

    value: float
    scale: float
    x: Tensor
    missed: Tensor
    weight: Tensor

    def parts(self) -> Iterator[Tensor]:
        """What `again` needs the sums of, five columns one by one, float64 [N] each."""
        yield self.missed
        yield self.missed * self.x
        yield self.weight
        yield self.weight * self.x
        yield self.weight * self.x.square()

    def again(self, sums_R5: Tensor) -> Tensor:
        """The slope of rows drawn anew, float64 [R], from the sums of `parts` over them.

        One step of Newton's from the fit to all rows: exact for least squares, and for a logistic regression as good as
        the interval needs (Efron and Tibshirani, An Introduction to the Bootstrap, 1993, ch. 22). NaN where the rows
        that were drawn are predicted equal.
        """
        pull, pull_x, held, held_x, held_xx = sums_R5.unbind(1)
        determinant = held * held_xx - held_x * held_x
        step = torch.where(
            determinant > 1e-12 * held * held_xx, (held * pull_x - held_x * pull) / determinant, torch.nan
        )
        return self.value + step / self.scale


@dataclass(frozen=True)
class Bins:
    """Rows by quantiles of their prediction, lowest first, each [C]: `rows` int64, the others float64.

    `error` is the standard error of `actual` with users as clusters, NaN where all rows of a bin are of one user.
    `of_rows` is the bin of every row, int64 [N].
    """

    of_rows: Tensor
    rows: Tensor
    predicted: Tensor
    actual: Tensor
    error: Tensor


def bins_of(predicted_N: Tensor, actual_N: Tensor, user_N: Tensor, *, num_bins: int) -> Bins:
    """Mean prediction and mean actual value by bins that hold about equally many rows.

    Rows that are predicted equal share a bin, so there are fewer bins where many are.

    The error is that of a mean over clusters (Liang and Zeger, Biometrika 1986): rows of a user are alike, and counting
    them as independent would give intervals that are too narrow.
    """
    if num_bins < 1:
        raise ValueError(f"eval.calibration_bins must be at least 1, got {num_bins}")
    predicted_N, actual_N = predicted_N.double(), actual_N.double()
    ordered_N = torch.sort(predicted_N).values
    at = torch.arange(1, num_bins) * len(ordered_N) // num_bins
    edges = torch.unique(ordered_N[at])
    bin_N = torch.unique(torch.bucketize(predicted_N, edges, right=True), return_inverse=True)[1]
    rows_C = torch.bincount(bin_N)
    predicted_C, actual_C = (torch.bincount(bin_N, weights=v) / rows_C for v in (predicted_N, actual_N))
    user_N = torch.unique(user_N, return_inverse=True)[1]
    num_users = int(user_N.max()) + 1
    cell_N = bin_N * num_users + user_N
    shape = (len(rows_C), num_users)
    deviation_CU = torch.bincount(cell_N, weights=actual_N - actual_C[bin_N], minlength=shape[0] * shape[1]).view(shape)
    users_C = (torch.bincount(cell_N, minlength=shape[0] * shape[1]).view(shape) > 0).sum(1)
    widened_C = users_C / (users_C - 1)
    error_C = (deviation_CU.square().sum(1) * widened_C).sqrt() / rows_C
    return Bins(bin_N, rows_C, predicted_C, actual_C, torch.where(users_C > 1, error_C, torch.nan))


def calibration_error(bins: Bins) -> float:
    """Mean over rows of |mean prediction - mean actual value| of their bin, in the unit of the values.

    The expected calibration error of Naeini et al. (AAAI 2015), with bins of equal size, for probabilities and for
    values alike.
    """
    return float((bins.rows * (bins.predicted - bins.actual).abs()).sum() / bins.rows.sum())


def linear_slope(predicted_N: Tensor, actual_N: Tensor) -> Slope | None:
    """Slope of the least-squares line of actual on predicted values; None where all predictions are equal.

    1 is right; below 1 predictions lie too far apart.
    """
    predicted_N, actual_N = predicted_N.double(), actual_N.double()
    if not bool((predicted_N != predicted_N[0]).any()):
        return None
    x_N, y_N = predicted_N - predicted_N.mean(), actual_N - actual_N.mean()
    slope = float((x_N * y_N).sum() / x_N.square().sum())
    return Slope(slope, 1.0, x_N, y_N - slope * x_N, torch.ones_like(x_N))


def logistic_slope(probability_N: Tensor, actual_N: Tensor) -> Slope | None:
    """Slope of a logistic regression of the class on the log odds of its predicted probability.

    1 is right; below 1 probabilities are too extreme (Cox, Biometrika 1958). Probabilities are kept 1e-7 away from 0
    and 1. None where all predictions are equal, all rows are of one class, or the classes are separated.
    """
    probability_N, actual_N = probability_N.double().clamp(1e-7, 1 - 1e-7), actual_N.double()
    odds_N = torch.logit(probability_N)
    share = actual_N.mean()
    if not bool((odds_N != odds_N[0]).any()) or not 0 < share < 1:
        return None
    centre, scale = odds_N.mean(), odds_N.std()
    x_N = (odds_N - centre) / scale
    level, slope = torch.logit(share), torch.zeros_like(share)
    # Two unknowns, solved in sums: by matrix products two runs on the same rows once differed in the last digit.
    for _ in range(_NEWTON_STEPS):
        p_N = torch.sigmoid(level + slope * x_N)
        weight_N, missed_N = p_N * (1 - p_N), actual_N - p_N
        h00, h01, h11 = weight_N.sum(), (weight_N * x_N).sum(), (weight_N * x_N * x_N).sum()
        g0, g1 = missed_N.sum(), (missed_N * x_N).sum()
        determinant = h00 * h11 - h01 * h01
        if not float(determinant) > 0:
            return None
        step_2 = torch.stack([h11 * g0 - h01 * g1, h00 * g1 - h01 * g0]) / determinant
        longest = float(step_2.abs().max())
        level, slope = torch.stack([level, slope]) + step_2 * min(1.0, 4.0 / max(longest, 1e-12))
        if longest < 1e-10:
            return Slope(float(slope / scale), float(scale), x_N, missed_N, weight_N)
    return None
