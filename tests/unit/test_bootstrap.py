"""Intervals over users, and over users and runs: against loops written from the definitions, SciPy, and the truth."""

import numpy as np
import pytest

from towerrec.report.bootstrap import (
    draws,
    ends_of,
    enough_resamples,
    intervals,
    resampled_means,
    resampled_means_of_runs,
)


def test_every_resample_draws_as_many_users_as_there_are_and_each_equally_often():
    weights = np.concatenate(list(draws(30, num_resamples=4000, seed=0)))
    assert weights.shape == (4000, 30)
    assert (weights.sum(1) == 30).all()
    np.testing.assert_allclose(weights.mean(0), 1, atol=0.08)


def test_resampled_means_are_those_of_the_drawn_users_one_by_one():
    values = np.random.default_rng(1).random((6, 2))
    got = resampled_means(values, num_resamples=20, seed=3)
    weights = np.concatenate(list(draws(6, num_resamples=20, seed=3)))
    for resample, weight in enumerate(weights):
        drawn = [values[user] for user in range(6) for _ in range(weight[user])]
        np.testing.assert_allclose(got[resample], np.mean(drawn, axis=0))


def test_a_figure_that_a_user_lacks_counts_in_no_mean():
    values = np.array([[1.0, np.nan], [2.0, 5.0], [4.0, 7.0]])
    got = resampled_means(values, num_resamples=200, seed=0)
    weights = np.concatenate(list(draws(3, num_resamples=200, seed=0))).astype(float)
    np.testing.assert_allclose(got[:, 0], weights @ values[:, 0] / 3)
    with_value = weights[:, 1:].sum(1) > 0
    expected = (weights[:, 1:] @ values[1:, 1])[with_value] / weights[:, 1:].sum(1)[with_value]
    np.testing.assert_allclose(got[with_value, 1], expected)
    assert np.isnan(got[~with_value, 1]).all() and not with_value.all()
    low, high = ends_of(got)[:, 1]
    assert (low, high) == (5.0, 7.0)


def test_draws_that_are_too_many_to_keep_are_the_same_draws(monkeypatch):
    values = np.random.default_rng(0).random((50, 3))
    kept = resampled_means(values, num_resamples=300, seed=5)
    monkeypatch.setattr("towerrec.report.bootstrap._DRAWS_KEPT", 0)
    assert np.array_equal(kept, resampled_means(values, num_resamples=300, seed=5))


def test_many_users_are_resampled_less_often_but_a_thousand_times_at_least():
    assert [enough_resamples(10_000, users) for users in (1_411, 13_000, 27_000, 10**6)] == [
        10_000,
        10_000,
        4_971,
        1_000,
    ]
    assert enough_resamples(50, 10**6) == 50


def test_intervals_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed: it comes with the extra dev")
    values = np.random.default_rng(0).exponential(1.0, 150)
    low, high = intervals(values[:, None], num_resamples=20_000, seed=0)[:, 0]
    theirs = stats.bootstrap((values,), np.mean, n_resamples=20_000, method="percentile", rng=1).confidence_interval
    # Of a mean whose standard error is .08, ends by 20,000 resamples are sure to .0015.
    assert (low, high) == pytest.approx((theirs.low, theirs.high), abs=0.007)


def test_users_and_runs_are_drawn_as_a_loop_over_the_definition_draws_them():
    generator = np.random.default_rng(0)
    values = generator.normal(size=(4, 25, 1)) + generator.normal(size=(4, 1, 1)) + generator.normal(size=(1, 25, 1))
    got = resampled_means_of_runs(values, num_resamples=4000, seed=0)[:, 0]
    slow = []
    for _ in range(4000):
        runs, users = generator.integers(0, 4, 3), generator.integers(0, 25, 25)  # of 4 runs 3 are drawn
        slow.append(np.mean([values[run, user, 0] for run in runs for user in users]))
    assert got.mean() == pytest.approx(np.mean(slow), abs=0.03)
    assert got.std() == pytest.approx(np.std(slow), rel=0.06)


def test_cells_that_are_missing_count_nowhere_when_users_and_runs_are_drawn():
    values = np.array([[[1.0], [np.nan]], [[3.0], [8.0]]])  # the second user was judged in the second run alone
    got = resampled_means_of_runs(values, num_resamples=500, seed=0)[:, 0]
    # One run of two and two users of two: 1, 3, 8, or (3 + 8) / 2; nothing at all where the empty cell is all there is.
    assert set(np.unique(got[~np.isnan(got)])) == {1.0, 3.0, 5.5, 8.0}
    assert np.isnan(got).any()


def test_settings_with_the_same_repeats_draw_the_same_runs_and_others_their_own():
    values = np.random.default_rng(0).normal(size=(3, 1, 1)).repeat(40, axis=1)  # runs differ, users do not
    first = resampled_means_of_runs(values, num_resamples=300, seed=0, repeats=["seed=0", "seed=1", "seed=2"])
    same = resampled_means_of_runs(values + 1, num_resamples=300, seed=0, repeats=["seed=0", "seed=1", "seed=2"])
    other = resampled_means_of_runs(values + 1, num_resamples=300, seed=0, repeats=["seed=3", "seed=4", "seed=5"])
    np.testing.assert_allclose(same - first, 1)
    assert (other - first).std() > 0.1
    with pytest.raises(ValueError, match="two or more"):
        resampled_means_of_runs(values[:1], num_resamples=10, seed=0)


def covered(num_runs: int, *, sd_of_runs: float, over_runs: bool) -> float:
    """How often the interval holds the mean of all users and all trainings, over 200 simulated settings."""
    generator, hits = np.random.default_rng(7), 0
    for _ in range(200):
        users = generator.normal(0, 1.0, (1, 150))
        runs = generator.normal(0, sd_of_runs, (num_runs, 1))
        values = (users + runs + generator.normal(0, 0.3, (num_runs, 150)))[..., None]
        if over_runs:
            low, high = ends_of(resampled_means_of_runs(values, num_resamples=300, seed=0))[:, 0]
        else:
            low, high = intervals(values.mean(0), num_resamples=300, seed=0)[:, 0]
        hits += low <= 0 <= high
    return hits / 200


def test_where_trainings_differ_the_interval_over_users_and_runs_holds_what_the_one_over_users_misses():
    assert covered(8, sd_of_runs=0.3, over_runs=True) >= 0.88
    assert covered(8, sd_of_runs=0.3, over_runs=False) <= 0.8


def test_where_trainings_agree_both_intervals_hold_the_truth_about_95_times_in_100():
    assert 0.9 <= covered(5, sd_of_runs=0.0, over_runs=True) <= 1
    assert 0.9 <= covered(5, sd_of_runs=0.0, over_runs=False) <= 0.99
