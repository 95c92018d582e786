"""Figures of predicted values and their intervals."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from memory_source import run
from torch import Tensor

from towerrec import judged_values
from towerrec.judged_values import baseline_figures, judge_values, pair_values, user_errors, value_baselines
from towerrec.metrics.functional import mae, rmse, xauc


def noisy(num_rows: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Predictions and actual values with a heavy tail, some of them equal."""
    draw = torch.Generator().manual_seed(seed)
    taste = torch.randn(num_rows, generator=draw)
    actual = (taste + torch.randn(num_rows, generator=draw)).exp().round(decimals=1)
    return taste.exp().round(decimals=1), actual


def test_figures_are_those_of_all_rows_and_lie_in_their_intervals():
    predicted, actual = noisy(400)
    found = judge_values(predicted, actual, torch.arange(400), num_resamples=200, seed=0)
    for name, metric in (("rmse", rmse), ("mae", mae), ("xauc", xauc)):
        assert found[name]["mean"] == pytest.approx(float(metric(predicted, actual)))
        assert found[name]["low"] < found[name]["mean"] < found[name]["high"]
        assert found[name]["rows"] == 400


def test_the_interval_of_the_xauc_is_that_of_rows_drawn_anew_and_judged_anew():
    predicted, actual = noisy(300)
    rng = np.random.default_rng(1)
    drawn = [torch.from_numpy(rng.integers(0, 300, 300)) for _ in range(1000)]
    slow = np.std([float(xauc(predicted[rows], actual[rows])) for rows in drawn])
    values = pair_values(predicted, actual)
    assert float(values.mean()) == pytest.approx(float(xauc(predicted, actual)))
    assert float(values.std()) / np.sqrt(300) == pytest.approx(slow, rel=0.1)
    found = judge_values(predicted, actual, torch.arange(300), num_resamples=1000, seed=0)["xauc"]
    assert (found["high"] - found["low"]) / (2 * 1.96) == pytest.approx(slow, rel=0.15)


def clustered(num_users: int, each: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Users whose rows err together: predictions, actual values, users."""
    draw = torch.Generator().manual_seed(seed)
    users = torch.arange(num_users).repeat_interleave(each)
    own = torch.randn(num_users, generator=draw)[users]
    actual = torch.randn(len(users), generator=draw)
    return actual + own + 0.3 * torch.randn(len(users), generator=draw), actual, users


def test_intervals_draw_users_with_all_their_rows():
    predicted, actual, users = clustered(80, 10, seed=0)
    rng = np.random.default_rng(1)
    drawn = []
    for _ in range(600):
        rows = torch.cat([torch.arange(u * 10, u * 10 + 10) for u in rng.integers(0, 80, 80)])
        drawn.append([float(metric(predicted[rows], actual[rows])) for metric in (rmse, mae, xauc)])
    slow = np.percentile(drawn, [2.5, 97.5], axis=0)
    found = judge_values(predicted, actual, users, num_resamples=4000, seed=0)
    for place, name in enumerate(("rmse", "mae", "xauc")):
        width = slow[1, place] - slow[0, place]
        assert found[name]["low"] == pytest.approx(slow[0, place], abs=0.15 * width), name
        assert found[name]["high"] == pytest.approx(slow[1, place], abs=0.15 * width), name
    alone = judge_values(predicted, actual, torch.arange(800), num_resamples=4000, seed=0)
    # As if all rows were strangers: less than half as wide, and wrong.
    assert alone["mae"]["high"] - alone["mae"]["low"] < 0.5 * (found["mae"]["high"] - found["mae"]["low"])


def test_one_user_has_figures_and_no_interval():
    predicted, actual = noisy(50)
    found = judge_values(predicted, actual, torch.zeros(50, dtype=torch.int64), num_resamples=10, seed=0)
    assert [found["rmse"][key] for key in ("low", "high", "users", "rows")] == [None, None, 1, 50]


def test_the_xauc_of_many_rows_is_that_of_a_sample(monkeypatch: pytest.MonkeyPatch):
    predicted, actual, users = *noisy(20_000), torch.arange(20_000)
    whole = judge_values(predicted, actual, users, num_resamples=500, seed=0)
    monkeypatch.setattr(judged_values, "PAIRED_ROWS", 10_000)
    part = judge_values(predicted, actual, users, num_resamples=500, seed=0)
    assert part["mae"] == whole["mae"]
    assert 0 < abs(part["xauc"]["mean"] - whole["xauc"]["mean"]) < 0.01


def test_errors_within_users_are_those_of_their_own_rows():
    predicted, actual = torch.tensor([1.0, 2.0, 5.0]), torch.tensor([0.0, 2.0, 2.0])
    found = user_errors(predicted, actual, torch.tensor([0, 0, 3]), torch.tensor([0, 3]))
    assert found["user_mae"].tolist() == [0.5, 3.0]
    assert found["user_rmse"].tolist() == pytest.approx([0.5**0.5, 3.0])


def test_equal_values_have_no_order_and_so_no_xauc():
    found = judge_values(torch.rand(9), torch.ones(9), torch.arange(9), num_resamples=10, seed=0)
    assert found.keys() == {"rmse", "mae"}


def test_a_constant_orders_half_of_the_pairs(tmp_path):
    prepared = run(tmp_path)
    actual = prepared.store.values("test").clone()
    figures = baseline_figures(value_baselines(prepared, "test"), actual)
    assert figures.keys() == {"train mean", "train median", "user and item bias"}
    for name in ("train mean", "train median"):
        assert figures[name]["xauc"] == float(xauc(torch.full_like(actual, 0.5), actual)) == 0.5, name
    assert figures["user and item bias"]["xauc"] != 0.5


def test_a_model_that_has_diverged_is_told():
    with pytest.raises(ValueError, match="the model has diverged"):
        judge_values(
            torch.tensor([1.0, torch.nan]), torch.tensor([1.0, 2.0]), torch.arange(2), num_resamples=10, seed=0
        )
