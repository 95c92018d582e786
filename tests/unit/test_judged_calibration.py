"""Intervals of the calibration error and of the slope, beside users drawn and judged anew one by one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from towerrec.judged_calibration import calibration
from towerrec.metrics.calibration import bins_of, calibration_error, linear_slope, logistic_slope


def rows(num_users: int, each: int, *, probabilities: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Predictions that are too extreme, actual values that users share a part of, users."""
    draw = torch.Generator().manual_seed(3)
    users = torch.arange(num_users).repeat_interleave(each)
    own = 0.7 * torch.randn(num_users, generator=draw, dtype=torch.float64)[users]
    score = torch.randn(len(users), generator=draw, dtype=torch.float64)
    if probabilities:
        actual = (torch.rand(len(users), generator=draw) < torch.sigmoid(0.6 * score - 1 + own)).double()
        return torch.sigmoid(score - 1), actual, users
    return score, 0.6 * score + own + torch.randn(len(users), generator=draw, dtype=torch.float64), users


@pytest.mark.parametrize("probabilities", [True, False])
def test_intervals_are_those_of_users_drawn_with_all_their_rows_and_judged_anew(probabilities: bool):
    predicted, actual, users = rows(60, 25, probabilities=probabilities)
    _, found = calibration(
        predicted, actual, users, num_bins=5, unit="p", probabilities=probabilities, num_resamples=4000, seed=0
    )
    slope_of = logistic_slope if probabilities else linear_slope
    bins, rng, drawn = bins_of(predicted, actual, users, num_bins=5), np.random.default_rng(1), []
    for _ in range(400):
        taken = torch.cat([torch.arange(u * 25, u * 25 + 25) for u in rng.integers(0, 60, 60)])
        over = torch.bincount(bins.of_rows[taken], weights=predicted[taken] - actual[taken], minlength=5)
        slope = slope_of(predicted[taken], actual[taken])
        assert slope is not None
        drawn.append([float(over.abs().sum()) / len(taken), slope.value])
    ends = np.percentile(drawn, [2.5, 97.5], axis=0)
    ends[:, 0] += calibration_error(bins) - np.mean(drawn, axis=0)[0]
    for place, name in enumerate(("calibration_error", "calibration_slope")):
        figure, width = found[name], ends[1, place] - ends[0, place]
        assert figure["low"] < figure["mean"] < figure["high"]
        assert figure["low"] == pytest.approx(ends[0, place], abs=0.15 * width), name
        assert figure["high"] == pytest.approx(ends[1, place], abs=0.15 * width), name
        assert (figure["users"], figure["rows"]) == (60, 1500)


def test_one_user_has_figures_and_no_interval():
    predicted, actual, _ = rows(1, 25, probabilities=False)
    one = torch.zeros(25, dtype=torch.int64)
    _, found = calibration(predicted, actual, one, num_bins=5, unit="p", probabilities=False)
    assert {(figure["low"], figure["high"]) for figure in found.values()} == {(None, None)}


def test_draws_that_are_predicted_equal_have_no_slope_and_are_passed_over():
    values, two = torch.tensor([0.2, 0.9]), torch.tensor([0, 1])
    _, found = calibration(values, values, two, num_bins=2, unit="p", probabilities=False, num_resamples=50)
    assert [found["calibration_slope"][key] for key in ("low", "mean", "high")] == pytest.approx([1.0, 1.0, 1.0])
