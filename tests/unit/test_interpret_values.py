"""Sentences about rows, and definitions in a few words."""

from __future__ import annotations

import pytest

from towerrec.report.interpret_values import interpret_auc, interpret_values
from towerrec.report.meanings import meanings


def figure(mean: float, low: float | None = None, high: float | None = None) -> dict[str, float | None]:
    return {"mean": mean, "low": low, "high": high, "users": 8}


BASELINES = {
    "train mean": {"rmse": 2.0, "mae": 1.0, "xauc": 0.5, "mae_seconds": 9.0},
    "user and item bias": {"rmse": 1.0, "mae": 0.8, "xauc": 0.7, "mae_seconds": 6.0},
}


def test_a_model_is_set_beside_what_the_biases_of_users_and_items_say():
    better = " ".join(interpret_values("ours", {"rmse": figure(0.9), "mae": figure(0.6)}, BASELINES))
    assert "has RMSE 1.0000: beyond how much each watches and is watched, it explains 19% of what they leave" in better
    assert "MAE 0.6000 is 25.0% below that of the user and item bias (0.8000)" in better
    worse = " ".join(interpret_values("ours", {"rmse": figure(1.1)}, BASELINES))
    assert "needs no training: as a prediction of values the model is no better" in worse


def test_watch_time_is_told_in_seconds_where_there_are_any():
    (said,) = [s for s in interpret_values("ours", {"mae_seconds": figure(6.6)}, BASELINES) if "seconds" in s]
    assert said == ("In seconds of watch time its MAE 6.6000 is 10.0% above that of the user and item bias (6.0000).")


@pytest.mark.parametrize(
    ("slope", "said"),
    [
        (0.5, "too far apart"),
        (1.0, "as far apart as they should"),
        (1.4, "too close together"),
        (-0.2, "higher predictions do not mean higher values"),
    ],
)
def test_a_slope_is_told_in_words(slope: float, said: str):
    values = {"calibration_error": figure(0.05), "calibration_slope": figure(slope)}
    (sentence,) = interpret_values("ours", values, {})
    assert sentence.startswith(f"Predictions are off by 0.0500 in the mean over bins; their slope is {slope:.2f}: ")
    assert said in sentence
    assert interpret_values("ours", {"calibration_error": figure(0.05)}, {})[0].endswith("over bins.")


def test_users_of_one_class_are_counted():
    (said,) = interpret_auc({"gauc": figure(0.7, 0.6, 0.8)}, 10)
    assert "70% of the pairs of a relevant and another row are scored in the right order (GAUC 0.7000" in said
    assert "2 users whose rows are all relevant or all not have no such figure" in said
    assert "no such figure" not in interpret_auc({"gauc": figure(0.7, 0.6, 0.8)}, 8)[0]
    assert interpret_auc({}, 8) == []


def test_meanings_name_each_figure_once_at_its_first_cut():
    assert meanings(["ndcg@20", "recall@20", "recall@100"]) == (
        "ndcg@20: gain 0 or 1, ideal list of min(relevant, 20); recall@20: hits / relevant"
    )
    assert max(len(line) for line in meanings(["ndcg@20", "map@20", "gauc", "rmse", "xauc"]).splitlines()) <= 118


def test_values_that_are_all_alike_leave_nothing_to_predict():
    exact = {"train mean": {"rmse": 0.0, "mae": 0.0}}
    said = " ".join(interpret_values("ours", {"rmse": figure(0.1), "mae": figure(0.1)}, exact))
    assert "all values are alike, there is nothing to predict" in said
    assert "MAE 0.1000 stands beside the train mean, which is always right" in said
