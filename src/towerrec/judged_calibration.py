"""Whether predicted values mean what they say: the calibration curve, its error and its slope, with their intervals.

Shape letters: R judged rows, U users, C bins, B resamples.
"""

from __future__ import annotations

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec.metrics.calibration import Z95, Bins, Slope, bins_of, calibration_error, linear_slope, logistic_slope
from towerrec.report.bootstrap import ends_of, enough_resamples, resampled_means
from towerrec.report.judge import Summary
from towerrec.report.per_user import Floats


def calibration(
    predicted_R: Tensor,
    actual_R: Tensor,
    user_R: Tensor,
    *,
    num_bins: int,
    unit: str,
    probabilities: bool,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> tuple[pl.DataFrame, Summary]:
    """The calibration curve as a table, and the figures `calibration_error` and `calibration_slope`.

    The table has one row per bin of the prediction by quantiles: `bin` (from 1), `rows`, `predicted` and `actual`
    (means), `low` and `high` (95 % interval of `actual`, users as clusters; null where a bin has one user) and `unit`.

    Args:
        predicted_R: Predictions.
        actual_R: Actual values.
        user_R: User of every row.
        num_bins: Bins; fewer where many predictions are equal.
        unit: What the values are.
        probabilities: Whether predictions are probabilities: then the slope is that of log odds, and intervals end at
            0 and 1.
        num_resamples: Bootstrap resamples of users behind the intervals of the two figures (`enough_resamples`); one
            user has none.
        seed: Of the users drawn.
    """
    bins = bins_of(predicted_R, actual_R, user_R, num_bins=num_bins)
    slope = (logistic_slope if probabilities else linear_slope)(predicted_R, actual_R)
    figures = {"calibration_error": calibration_error(bins)} | (
        {} if slope is None else {"calibration_slope": slope.value}
    )
    ends = _ends(
        bins, slope, (predicted_R.double() - actual_R.double()), user_R, num_resamples=num_resamples, seed=seed
    )
    num_users = int(torch.unique(user_R).numel())
    return _curve(bins, unit, probabilities), {
        name: {"mean": figure, **ends[name], "users": num_users, "rows": len(actual_R)}
        for name, figure in figures.items()
    }


def _curve(bins: Bins, unit: str, probabilities: bool) -> pl.DataFrame:
    low, high = bins.actual - Z95 * bins.error, bins.actual + Z95 * bins.error
    if probabilities:
        low, high = low.clamp(0, 1), high.clamp(0, 1)
    return pl.DataFrame(
        {
            "bin": np.arange(1, len(bins.rows) + 1),
            "rows": bins.rows.numpy(),
            "predicted": bins.predicted.numpy(),
            "actual": bins.actual.numpy(),
            "low": pl.Series(low.numpy(), nan_to_null=True),
            "high": pl.Series(high.numpy(), nan_to_null=True),
            "unit": [unit] * len(bins.rows),
        }
    )


def _ends(
    bins: Bins, slope: Slope | None, over_R: Tensor, user_R: Tensor, *, num_resamples: int, seed: int
) -> dict[str, dict[str, float | None]]:
    """Ends of the intervals of both figures: users are drawn, each with all its rows; the bins stay where they are.

    `over_R` is by how much each prediction lies above its actual value.
    """
    place_R = torch.unique(user_R, return_inverse=True)[1]
    num_users, num_bins = int(place_R.max()) + 1, len(bins.rows)
    names = ["calibration_error", "calibration_slope"]
    if num_users == 1:
        return {name: {"low": None, "high": None} for name in names}
    cell_R, cells = place_R * num_bins + bins.of_rows, num_users * num_bins
    sums_UC = torch.bincount(cell_R, weights=over_R, minlength=cells).view(num_users, num_bins)
    columns = [sums_UC, torch.bincount(place_R).double()[:, None]]
    columns += [torch.bincount(place_R, weights=part_R)[:, None] for part_R in (slope.parts() if slope else ())]
    drawn_BC = resampled_means(
        torch.cat(columns, 1).numpy(), num_resamples=enough_resamples(num_resamples, num_users), seed=seed
    )
    error_B = np.abs(drawn_BC[:, :num_bins]).sum(1) / drawn_BC[:, num_bins]
    # Drawing adds noise of its own to a sum of absolute values: its mean is put back where the figure is.
    low, high = ends_of(error_B[:, None] - error_B.mean() + calibration_error(bins))[:, 0]
    found: dict[str, dict[str, float | None]] = {names[0]: {"low": max(float(low), 0.0), "high": float(high)}}
    if slope is not None:
        again_B: Floats = slope.again(torch.from_numpy(drawn_BC[:, num_bins + 1 :])).numpy()
        low, high = ends_of(again_B[:, None])[:, 0]
        found[names[1]] = {"low": float(low), "high": float(high)}
    return found
