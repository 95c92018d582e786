"""Every baseline through `evaluate.py`: the same files as a model run."""

from __future__ import annotations

import json
from importlib.util import find_spec
from pathlib import Path

import polars as pl
import pytest
from commands import Outcome, command
from conftest import DemoRun, Workplace

from towerrec.baselines.registry import NAMES

DEMO = ["data=demo", "data.demo.scale=tiny", "eval.ks=[10,20]"]


def judged(workplace: Workplace, directory: Path, *overrides: str) -> dict[str, dict[str, float]]:
    outcome = workplace.evaluate(*DEMO, *overrides, f"output={directory}")
    assert outcome.code == 0, outcome.err
    metrics: dict[str, dict[str, float]] = json.loads((directory / "metrics.json").read_text())
    return metrics


@pytest.mark.parametrize("name", NAMES)
def test_a_baseline_leaves_the_files_of_a_model_run(workplace: Workplace, demo_run: DemoRun, tmp_path: Path, name: str):
    if name in ("als", "bpr") and find_spec("implicit") is None:
        pytest.skip("the optional library implicit is not installed")
    metrics = judged(workplace, tmp_path, f"baseline={name}")
    of_run = demo_run.directory / "evaluation"
    # A baseline predicts no values and has no vectors.
    of_model = {"user_rmse", "user_mae"} | {f"vector_diversity@{k}" for k in (10, 20)}
    lists_only = {name for name in json.loads((of_run / "metrics.json").read_text()) if "@" in name}
    assert metrics.keys() == (lists_only - of_model) | {"gauc", "gauc_weighted"}
    mine, theirs = (pl.read_parquet(place / "per_user.parquet") for place in (tmp_path, of_run))
    assert set(mine.columns) == set(theirs.columns) - of_model and mine["user_id"].equals(theirs["user_id"])
    page = (tmp_path / "report.html").read_text()
    assert name in page and "_target_" in page
    assert json.loads((tmp_path / "comparison.json").read_text())["system"] == name


@pytest.mark.parametrize(
    "options",
    [
        ("ease", "regularisation=5"),
        ("item_knn", "num_neighbours=1"),
        ("item_knn", "shrinkage=1000"),
        ("item_rate", "prior_strength=100000"),
        ("decayed_popularity", "half_life_days=0.5"),
        ("decayed_popularity", "counts=views"),
        ("category_affinity", "feature=first_level_category"),
        ("category_affinity", "prior_strength=0.1"),
        ("random", "seed=3"),
    ],
    ids=" ".join,
)
def test_an_option_of_a_baseline_on_the_command_line_changes_its_lists(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path, options: tuple[str, str]
):
    name, option = options
    plain = judged(workplace, tmp_path / "plain", f"baseline={name}")
    changed = judged(workplace, tmp_path / "changed", f"baseline={name}", f"baseline.{option}")
    assert plain != changed


@pytest.mark.parametrize(
    ("overrides", "words"),
    [
        (["baseline=ese"], ("baseline=ese is not known", "did you mean 'ease'?")),
        (["baseline=ease", "baseline.regularization=1"], ("did you mean 'baseline.regularisation'?",)),
        (["baseline=ease", "+baseline.lambda=1"], ("baseline.lambda is not known", "regularisation")),
        (["baseline=ease", "baseline.regularisation=much"], ("baseline.regularisation must be a number", "'much'")),
        (["baseline=ease", "baseline.regularisation=0"], ("regularisation must be positive, got 0",)),
        (["baseline=category_affinity", "features=ids"], ("baseline=category_affinity needs an item feature",)),
        (["baseline=category_affinity", "baseline.feature=tag"], ("no item feature 'tag'", "tags")),
        (["baseline=ease", "prior.weight=1"], ("prior changes the lists of a trained model", "run=DIR")),
    ],
)
def test_a_mistake_about_a_baseline_is_named(workplace: Workplace, overrides: list[str], words: tuple[str, ...]):
    outcome = workplace.evaluate(*DEMO, *overrides)
    assert outcome.code == 1 and "Traceback" not in outcome.err
    for word in words:
        assert word in outcome.message, outcome.message


def without_times(tmp_path: Path, *overrides: str) -> Outcome:
    log = tmp_path / "log.csv"
    log.write_text("user_id,item_id\n" + "".join(f"{u},{i}\n" for u in range(20) for i in range(15) if (u + i) % 3))
    paths = [f"paths.data_dir={tmp_path}", f"paths.log_dir={tmp_path / 'logs'}"]
    own = ["data=interactions", f"data.interactions={log}", "eval.ks=[3]", *paths]
    return command("evaluate.py", *own, *overrides)


def test_a_log_without_times_or_item_table_gets_the_reason(tmp_path: Path):
    outcome = without_times(tmp_path, "baseline=decayed_popularity")
    assert outcome.code == 1 and "baseline=decayed_popularity needs the times of the rows" in outcome.message
    outcome = without_times(tmp_path, "baseline=category_affinity")
    assert outcome.code == 1 and "baseline=category_affinity needs an item feature" in outcome.message
    shown = without_times(tmp_path, "baseline=most_positive", "eval.baselines=[decayed_popularity,random]")
    assert shown.code == 0 and "Left out: decayed_popularity needs the times" in shown.out
