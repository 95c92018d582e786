"""Figures beyond accuracy and slices as the commands write and refuse them."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import polars as pl
import pytest
import torch
from conftest import DemoRun, Workplace
from omegaconf import OmegaConf

from towerrec import judging
from towerrec.metrics.definitions import definition
from towerrec.report.beyond import PER_USER
from towerrec.report.slices import SCHEMA
from towerrec.run_directory import RunDirectory


def test_a_run_has_its_slices_and_every_figure_beyond_accuracy(demo_run: DemoRun):
    directory = demo_run.directory / "evaluation"
    table = pl.read_parquet(directory / "slices.parquet")
    assert dict(table.schema) == SCHEMA
    assert {"activity", "history", "relevant", "popularity", "duration", "age", "feat"} <= set(table["slice"])
    assert set(table.filter(pl.col("side") == "user")["metric"]) == {"ndcg@20", "recall@20", "hit_rate@20"}
    for name in table["metric"].unique():
        assert definition(name).text
    metrics = json.loads((directory / "metrics.json").read_text())
    assert {f"{name}@{k}" for name in PER_USER for k in (10, 20)} <= metrics.keys()
    assert metrics["gini@20"]["low"] is None and metrics["novelty@20"]["low"] <= metrics["novelty@20"]["mean"]
    beyond = json.loads((directory / "comparison.json").read_text())["beyond"]
    assert beyond["columns"]["duration"] == "duration_ms" and beyond["absent"] == {}
    assert beyond["references"].keys() == {"candidates", "relevant"}
    assert {"novelty@10", "age_days@20"} <= set(pl.read_parquet(directory / "per_user.parquet").columns)
    assert "The Gini coefficient of exposure" in demo_run.outcome.out


def test_baselines_have_the_variety_that_the_models_own_vectors_see(demo_run: DemoRun):
    others = json.loads((demo_run.directory / "evaluation" / "comparison.json").read_text())["baselines"]
    own = json.loads((demo_run.directory / "evaluation" / "metrics.json").read_text())
    for summary in others.values():
        assert "vector_diversity@20" in summary
    # Items that a model puts together are alike to it, and those drawn at random are not.
    assert own["vector_diversity@20"]["mean"] < others["random"]["vector_diversity@20"]["mean"]


def test_the_vectors_that_variety_is_measured_by_hold_no_bias_and_no_dial(demo_run: DemoRun):
    scores = judging.load(
        RunDirectory.open(str(demo_run.directory)), checkpoint="best", device=torch.device("cpu")
    ).scores
    vectors, directions = scores.items(), scores.directions()
    assert (vectors[:, -2] == 1).all() and torch.equal(directions, vectors[:, :-2])
    assert torch.equal(scores.with_dial(torch.rand(len(vectors))).directions(), directions)


def test_slices_are_chosen_and_columns_named_on_the_command_line(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path
):
    outcome = workplace.evaluate(
        f"run={demo_run.directory}",
        f"output={tmp_path}",
        "eval.slices.users=[]",
        "eval.slices.user_columns=[user_active_degree]",
        "eval.slices.items=[cold_items,duration]",
        "eval.slices.item_columns=[]",
        "eval.facts.duration=video_width",
    )
    assert outcome.code == 0, outcome.err
    assert set(pl.read_parquet(tmp_path / "slices.parquet")["slice"]) <= {
        "user_active_degree",
        "cold_items",
        "duration",
    }
    beyond = json.loads((tmp_path / "comparison.json").read_text())["beyond"]
    assert beyond["columns"]["duration"] == "video_width"


def test_a_run_is_judged_by_the_columns_of_its_training(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    copied = tmp_path / "run"
    shutil.copytree(demo_run.directory, copied)
    config = OmegaConf.load(copied / ".hydra" / "config.yaml")
    config.eval.facts.tags = ["music_id"]
    OmegaConf.save(config, copied / ".hydra" / "config.yaml")
    for override, tags in (([], ["music_id"]), (["eval.facts.tags=[author_id]"], ["author_id"])):
        assert workplace.evaluate(f"run={copied}", f"output={tmp_path / 'out'}", *override).code == 0
        beyond = json.loads((tmp_path / "out" / "comparison.json").read_text())["beyond"]
        assert beyond["columns"]["tags"] == tags


def test_a_list_file_has_no_vectors_and_the_report_says_so(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    lists = tmp_path / "lists.parquet"
    assert workplace.recommend(f"run={demo_run.directory}", "n=20", f"output={lists}", "exclude_seen=false").code == 0
    outcome = workplace.evaluate(
        f"recommendations={lists}", "data=demo", "data.demo.scale=tiny", "eval.ks=[5]", f"output={tmp_path / 'out'}"
    )
    assert outcome.code == 0, outcome.err
    assert "There is no Diversity by vectors: only a trained model has vectors" in outcome.out
    assert (tmp_path / "out" / "slices.parquet").is_file()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "eval.facts.duration=duraton_ms",
            "eval.facts.duration: the item table has no column 'duraton_ms': did you mean",
        ),
        ("eval.slices.user_columns=[gender]", "eval.slices.user_columns: the user table has no column 'gender'"),
        ("eval.slices.items=[cold_itms]", "eval.slices.items: 'cold_itms' is not known: did you mean 'cold_items'?"),
        ("eval.slices.max_group=3", "max_group"),
    ],
)
def test_names_that_do_not_exist_are_refused_before_training(workplace: Workplace, override: str, message: str):
    outcome = workplace.train(override)
    assert outcome.code != 0
    assert message in outcome.err and "epoch 1" not in outcome.out
