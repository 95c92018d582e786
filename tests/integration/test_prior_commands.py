"""The dial of freshness through `recommend.py` and `evaluate.py`: off by default, needs no data, draws its curve."""

from __future__ import annotations

import json
from pathlib import Path

import polars as pl
import pytest
import torch
from conftest import DemoRun, Workplace
from polars.testing import assert_frame_equal

from towerrec import freshness
from towerrec.config_prior import PriorConfig
from towerrec.data.catalogue import load_catalogue
from towerrec.judging import load
from towerrec.run_directory import RunDirectory


def lists(workplace: Workplace, run: DemoRun, output: Path, *overrides: str) -> pl.DataFrame:
    outcome = workplace.recommend(f"run={run.directory}", "n=10", f"output={output}", *overrides)
    assert outcome.code == 0, outcome.err
    return pl.read_parquet(output)


def test_a_dial_at_zero_leaves_every_list_and_score_as_it_is(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    plain = lists(workplace, demo_run, tmp_path / "a.parquet")
    assert_frame_equal(
        plain, lists(workplace, demo_run, tmp_path / "b.parquet", "prior.half_life_days=1"), check_exact=True
    )


@pytest.mark.parametrize(
    "option",
    ["prior.weight=2", "prior.weight=-1", "prior.half_life_days=0.2", "prior.half_life_days=null", "prior.of=youth"],
)
def test_every_option_of_the_prior_changes_the_lists(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path, option: str
):
    base = lists(workplace, demo_run, tmp_path / "base.parquet", "prior.weight=0.7")
    assert not base.equals(lists(workplace, demo_run, tmp_path / "other.parquet", "prior.weight=0.7", option))


def test_youth_follows_the_moment_of_the_request(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    youth = ["prior.of=youth", "prior.weight=3"]
    early, late = (
        lists(workplace, demo_run, tmp_path / f"{year}.parquet", *youth, f"at={year}-09-08T20:00")
        for year in (2020, 2030)
    )
    assert not early.equals(late)


def test_a_large_weight_lists_what_was_liked_last(demo_run: DemoRun):
    catalogue = load_catalogue(demo_run.directory / "catalogue")
    trained = load(RunDirectory(demo_run.directory), checkpoint="best", device=torch.device("cpu"))
    prior = PriorConfig(weight=1e5, half_life_days=2.0)
    scores = freshness.dialled(trained.scores, prior, catalogue)
    item, moment = catalogue.history.rows()
    recent = [0.0] * len(catalogue.item_ids)
    last = int(moment.max())
    for i, at in zip(item.tolist(), moment.tolist(), strict=True):
        recent[i] += 0.5 ** ((last - at) / (2 * 86_400_000))
    got = scores.users(torch.arange(1)) @ scores.items().T
    allowed = catalogue.in_log.nonzero()[:, 0].tolist()
    assert max(allowed, key=lambda i: recent[i]) == max(allowed, key=lambda i: float(got[0, i]))


def test_the_prior_leaves_predicted_values_alone(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    outcome = workplace.evaluate(f"run={demo_run.directory}", "prior.weight=3", f"output={tmp_path}")
    assert outcome.code == 0, outcome.err
    mine, plain = (
        json.loads((place / "metrics.json").read_text()) for place in (tmp_path, demo_run.directory / "evaluation")
    )
    assert mine["rmse"]["mean"] == plain["rmse"]["mean"]
    assert mine["ndcg@20"]["mean"] != plain["ndcg@20"]["mean"]
    told = {"weight": 3.0, "of": "popularity", "half_life_days": 3.0}
    assert json.loads((tmp_path / "comparison.json").read_text())["prior"] == told


def test_the_curve_stands_in_a_file_in_the_report_and_in_a_sentence(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path
):
    settings = ["eval.split=val", "prior.curve=[-1,0.5,2]", "prior.half_life_days=2"]
    outcome = workplace.evaluate(f"run={demo_run.directory}", *settings, f"output={tmp_path}")
    assert outcome.code == 0, outcome.err
    curve = json.loads((tmp_path / "curve.json").read_text())
    assert (curve["split"], curve["of"], curve["half_life_days"]) == ("val", "popularity", 2)
    points = {point["weight"]: point for point in curve["points"]}
    assert list(points) == [-1, 0, 0.5, 2]
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    for name in ("ndcg@20", "recall@20", "coverage@20"):
        assert points[0][name] == pytest.approx(metrics[name]["mean"])
    assert points[0]["popularity percentile"] == pytest.approx(metrics["popularity_percentile@20"]["mean"])
    assert points[2]["popularity percentile"] > points[0]["popularity percentile"] > points[-1]["popularity percentile"]
    page = (tmp_path / "report.html").read_text()
    assert "Accuracy against coverage" in page and 'aria-label="NDCG@20 against coverage@20"' in page
    assert "The dial of freshness (popularity, half-life 2 days), judged on val" in outcome.out
    alone = workplace.evaluate(
        f"run={demo_run.directory}",
        "eval.split=val",
        "prior.weight=2",
        "prior.half_life_days=2",
        f"output={tmp_path / 'at2'}",
    )
    assert alone.code == 0, alone.err
    at_two = json.loads((tmp_path / "at2" / "metrics.json").read_text())
    assert at_two["ndcg@20"]["mean"] == pytest.approx(points[2]["ndcg@20"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("prior.wieght=1", ("did you mean 'prior.weight'?",)),
        ("prior.of=age", ("prior.of=age is not known", "youth")),
        ("prior.half_life_days=0", ("prior.half_life_days must be positive", "null")),
        ("prior.weight=inf", ("finite",)),
    ],
)
def test_a_mistake_about_the_prior_is_named(
    workplace: Workplace, demo_run: DemoRun, override: str, words: tuple[str, ...]
):
    for outcome in (
        workplace.recommend(f"run={demo_run.directory}", override),
        workplace.evaluate(f"run={demo_run.directory}", override),
    ):
        assert outcome.code == 1 and "Traceback" not in outcome.err
        assert all(word in outcome.message for word in words), outcome.message


def test_a_run_without_dates_says_what_youth_needs(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    catalogue = load_catalogue(demo_run.directory / "catalogue")
    catalogue.item_days = {}
    with pytest.raises(ValueError, match=r"prior.of=youth needs the dates of the items"):
        freshness.item_prior(PriorConfig(of="youth"), catalogue)
    catalogue.history.key = catalogue.history.key // (len(catalogue.history.moments) + 2) * 2
    catalogue.history.moments = catalogue.history.moments[:0]
    with pytest.raises(ValueError, match=r"prior.half_life_days needs the times of the rows.*set it to null"):
        freshness.item_prior(PriorConfig(), catalogue)
    assert freshness.item_prior(PriorConfig(half_life_days=None), catalogue).std() > 0
