"""The board of real rows, on made-up runs: means over folds, differences of errors, tests against the best baseline."""

from __future__ import annotations

import importlib
import json
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

import polars as pl
import pytest
import torch

from towerrec.metrics.functional import mae, rmse, xauc

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


plan, measuring, text, board = (script(f"leaderboard{part}") for part in ("_plan", "_measure", "_text", ""))


def per_user(values: Sequence[float], first: int = 0) -> pl.DataFrame:
    return pl.DataFrame({"user_id": range(first, first + len(values)), "ndcg@20": values})


def test_the_mean_over_folds_is_the_mean_of_their_means_whoever_was_judged():
    folds = [per_user([0.2, 0.4, 0.6]), per_user([0.8], first=2)]
    joined = measuring.over_folds(folds, ["ndcg@20"])
    assert joined["ndcg@20"].mean() == pytest.approx((0.4 + 0.8) / 2)
    assert joined["user_id"].to_list() == [0, 1, 2]
    assert measuring.over_folds(folds[:1], ["ndcg@20"]).equals(folds[0])


def test_figures_of_users_average_to_the_errors_and_the_order_of_all_rows():
    torch.manual_seed(0)
    actual, predicted = torch.rand(60), torch.rand(60)
    user = [number % 7 if number < 50 else 9 for number in range(60)]
    found = measuring.value_figures(
        pl.DataFrame({"user_id": user, "actual": actual.numpy(), "predicted": predicted.numpy()})
    )
    assert found["user_id"].to_list() == [0, 1, 2, 3, 4, 5, 6, 9]
    means = {name: found[name].mean() for name in ("rmse", "mae", "xauc")}
    assert means["rmse"] ** 0.5 == pytest.approx(float(rmse(predicted, actual)), rel=1e-5)
    assert means["mae"] == pytest.approx(float(mae(predicted, actual)), rel=1e-5)
    assert means["xauc"] == pytest.approx(float(xauc(predicted, actual)), rel=1e-5)


def made_up(place: Path, figures: dict[str, list[list[float]]], beside: dict[str, list[float]]) -> Any:
    """A task whose models have these figures per seed and user, with its baselines."""
    for model, seeds in figures.items():
        for seed, values in enumerate(seeds):
            run = place / model / str(seed)
            (run / "evaluation").mkdir(parents=True)
            per_user(values).write_parquet(run / "evaluation" / "per_user.parquet")
            metrics = {on: {"ndcg@20": {"mean": sum(values) / len(values)}} for on in ("val", "test")}
            (run / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
            facts = {"seconds": 2.0, "first_fit": {"seconds": 3.0}, "total_seconds": 9.0, "rows_per_second": 1000.0}
            facts |= {"epochs": 4, "parameters": 10, "peak_memory_bytes": 2**30, "git_commit": "abc"}
            (run / "run.json").write_text(json.dumps(facts), encoding="utf-8")
    judged = place / "baselines" / "0"
    judged.mkdir(parents=True)
    tables = [per_user(v).select(pl.lit(name).alias("system"), pl.all()) for name, v in beside.items()]
    pl.concat(tables).write_parquet(judged / "per_user_others.parquet")
    left_out = ["ease needs more items than there are"]
    (judged / "comparison.json").write_text(json.dumps({"left_out": left_out, "baseline_values": {}}), encoding="utf-8")
    return plan.Task("Made up", ("ndcg@20",), {name: plan.Model((f"model={name}",)) for name in figures}, seeds=(0, 1))


@pytest.fixture(scope="module")
def entry(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    place = tmp_path_factory.mktemp("board")
    noise = [0.01 * (user % 7) for user in range(60)]
    figures = {
        "good": [[0.5 + n for n in noise], [0.6 + n for n in noise]],
        "alike": [[0.302 + (0.1 if user % 2 else -0.1) for user in range(60)]],
    }
    beside = {"weak": [0.1] * 60, "strong": [0.3] * 60, measuring.HINDSIGHT: [0.4] * 60}
    found: dict[str, Any] = measuring.measure(made_up(place, figures, beside), place)
    return found


def test_models_stand_beside_the_best_baseline_and_the_best_list_in_hindsight(entry: dict[str, Any]):
    assert entry["best_baseline"] == {"ndcg@20": "strong"}
    pairs = {(row["first"], row["second"]): row for row in entry["paired"]}
    assert set(pairs) == {(m, r) for m in ("good", "alike") for r in ("strong", measuring.HINDSIGHT)}
    assert pairs["good", "strong"]["mean"] == pytest.approx(0.25 + sum(0.01 * (u % 7) for u in range(60)) / 60)
    assert pairs["good", "strong"]["p_adjusted"] <= 0.001
    assert pairs["alike", "strong"]["p_adjusted"] > 0.5
    assert pairs["good", "strong"]["family"] == 4
    # Two seeds a tenth apart: the interval over seeds is the wider one.
    assert pairs["good", "strong"]["low_runs"] < pairs["good", "strong"]["low"]
    assert "low_runs" not in pairs["alike", "strong"]


def test_a_model_says_what_it_cost_and_which_seeds_it_has(entry: dict[str, Any]):
    good, alike = (entry["systems"][name] for name in ("good", "alike"))
    assert (good["seeds"], alike["seeds"]) == ([0, 1], [0])
    assert (good["seconds"], good["command"], good["settings"]) == (5.0, "python train.py model=good", "defaults")
    assert good["figures"]["ndcg@20"]["sd"] == pytest.approx(0.1 / 2**0.5)
    assert entry["systems"][measuring.HINDSIGHT]["kind"] == "bound"
    assert entry["left_out"] == {"ease": "needs more items than there are"}


def test_the_page_marks_what_is_better_by_more_than_chance(entry: dict[str, Any]):
    lines = text._section(plan.Task("Made up", ("ndcg@20",), {}), entry)
    rows = {line.split(" | ")[0].strip("| *"): line for line in lines[2:7]}
    assert list(rows) == ["good", "best list in hindsight", "alike", "strong", "weak"]
    assert "**+0.2790" in rows["good"]
    assert "**+" not in rows["alike"]
    assert "- Left out: ease: needs more items than there are." in lines


def test_less_is_better_for_errors():
    systems = {
        name: {"kind": "baseline", "figures": {"rmse": {"mean": error}, "xauc": {"mean": order}}}
        for name, error, order in (("one", 1.7, 0.6), ("other", 1.8, 0.7))
    }
    assert (measuring.best_baseline(systems, "rmse"), measuring.best_baseline(systems, "xauc")) == ("one", "other")
    row = {"first": "model", "second": "one", "metric": "rmse", "mean": -0.01, "low": -0.02, "high": -0.001}
    assert text.difference([row | {"p_adjusted": 0.01}], "model", "one", "rmse").startswith("**-0.0100")
    assert not text.difference([row | {"p_adjusted": 0.2}], "model", "one", "rmse").startswith("**")


def test_a_difference_of_squares_becomes_one_of_roots():
    tables = {name: pl.DataFrame({"rmse": [value**2]}) for name, value in (("a", 3.0), ("b", 2.0))}
    row = {"first": "a", "second": "b", "mean": 5.0, "low": 4.0, "high": 6.0, "p_value": 0.1}
    found = measuring._of_roots(row, tables)
    assert (found["mean"], found["p_value"]) == (1.0, 0.1)
    assert found["low"] == pytest.approx(0.8)


def test_a_run_that_is_there_is_not_run_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    said: list[list[str]] = []
    monkeypatch.setattr(board.runs, "command", lambda script, words, *, work: said.append(words))
    done = tmp_path / "warm" / "two_tower" / "1"
    done.mkdir(parents=True)
    (done / "metrics.json").write_text("{}", encoding="utf-8")
    board.train_all("warm", 1, tmp_path)
    models = [next(word for word in words if word.startswith(("model=", "experiment=best"))) for words in said]
    assert models == [
        "experiment=best_warm", "model=matrix_factorization", "model=two_tower_features", "model=two_tower_dcn",
    ]  # fmt: skip
    assert all("seed=1" in words and "eval.baselines=[]" in words for words in said)
    board.train_all("cold_items", 1, tmp_path)
    assert len(said) == 4, "the folds are repeats enough: one seed"


def test_the_page_is_what_the_benchmark_writes():
    held = board.held(BENCHMARKS / "results" / "leaderboard.json")
    shown = (BENCHMARKS / "LEADERBOARD.md").read_text(encoding="utf-8")
    assert shown == text.page(held), "python benchmarks/leaderboard.py --show"


SHOWN = [
    ("watch_ratio", "best_watch_ratio", "user and item bias", "rmse"),
    ("warm", "best_warm", "item_rate", "ndcg@20"),
    ("warm", "best_warm", "best_list_in_hindsight", "ndcg@20"),
    ("cold_users", "best_cold_users", "most_positive", "ndcg@20"),
    ("cold_items", "best_cold_items", "most_viewed", "ndcg@20"),
    ("kuairand_signed", "best_kuairand_signed", "als", "ndcg@20"),
]


@pytest.mark.parametrize(("task", "model", "other", "metric"), SHOWN)
def test_the_readme_shows_differences_that_the_board_has(task: str, model: str, other: str, metric: str):
    kept = json.loads((BENCHMARKS / "results" / "leaderboard.json").read_text(encoding="utf-8"))["tasks"][task]
    (row,) = [r for r in kept["paired"] if (r["first"], r["second"], r["metric"]) == (model, other, metric)]
    # Over users and seeds where there are several.
    ends = ("low", "high") if row.get("low_runs") is None else ("low_runs", "high_runs")
    mean, low, high = (f"{row[key]:+.4f}".replace("0.", ".", 1) for key in ("mean", *ends))
    readme = (BENCHMARKS.parent / "README.md").read_text(encoding="utf-8")
    assert f"| {mean} ({low} to {high}), p" in readme
