"""The command contract: what the three scripts read, write and print."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from commands import REPOSITORY, command
from conftest import DemoRun, Workplace
from polars.testing import assert_frame_equal

from towerrec.data.catalogue import load_catalogue

TOLD = {"data", "rows", "fingerprint", "seed", "versions", "git_commit", "seconds", "rows_per_second", "device"}


def lists_of(workplace: Workplace, run: DemoRun, output: Path, *overrides: str) -> pl.DataFrame:
    outcome = workplace.recommend(f"run={run.directory}", f"output={output}", *overrides)
    assert outcome.code == 0, outcome.err
    match output.suffix:
        case ".csv":
            return pl.read_csv(output)
        case ".jsonl":
            return pl.read_ndjson(output)
        case _:
            return pl.read_parquet(output)


def seen_pairs(run: DemoRun) -> pl.DataFrame:
    catalogue = load_catalogue(run.directory / "catalogue")
    owners = np.repeat(np.arange(len(catalogue.user_ids)), catalogue.seen.counts.numpy())
    return pl.DataFrame(
        {
            "user_id": catalogue.user_ids.gather(owners),
            "item_id": catalogue.item_ids.gather(catalogue.seen.items.numpy()),
        }
    )


# --- train -----------------------------------------------------------------------------------------------------------


def test_a_run_directory_is_complete(demo_run: DemoRun):
    there = {str(p.relative_to(demo_run.directory)) for p in demo_run.directory.rglob("*") if p.is_file()}
    assert {
        ".hydra/config.yaml",
        ".hydra/overrides.yaml",
        "run.json",
        "metrics.json",
        "checkpoints/best.ckpt",
        "checkpoints/last.ckpt",
        "evaluation/metrics.json",
        "evaluation/per_user.parquet",
        "evaluation/predictions.parquet",
        "evaluation/report.html",
    } <= there
    assert any(name.startswith("tensorboard/events.out.tfevents") for name in there)
    assert any(name.startswith("catalogue/") for name in there)


def test_run_json_says_what_was_trained_on_what_at_what_cost(demo_run: DemoRun):
    facts = json.loads((demo_run.directory / "run.json").read_text())
    assert facts.keys() >= TOLD | {"peak_memory_bytes", "report", "prepared_from_cache"}
    assert facts["data"] == "demo"
    assert facts["rows"]["train"] > facts["rows"]["test"] > 0
    assert facts["peak_memory_bytes"] > 50_000_000
    assert facts["rows_per_second"] > 0


def test_the_last_line_names_the_run_directory_and_the_next_two_commands_stand_before_it(demo_run: DemoRun):
    text = demo_run.outcome.out
    assert f"python recommend.py run={demo_run.directory}" in text
    assert f"python evaluate.py run={demo_run.directory}" in text
    assert demo_run.outcome.last_line == f"run directory: {demo_run.directory}"
    assert "most_viewed" in text and "item_rate" in text


def test_a_good_run_complains_about_nothing(demo_run: DemoRun):
    assert demo_run.outcome.err == ""


def test_the_devices_of_the_request_work_verbatim(workplace: Workplace, demo_run: DemoRun):
    where = {"TOWERREC_DATA_DIR": str(workplace.root / "data")}
    outcome = command("train.py", "model=two_tower", "trainer.devices=1", *TINY_EXTRA, workplace.paths[1], **where)
    assert outcome.code == 0, outcome.err
    assert "data=auto: no KuaiRec under" in outcome.out


TINY_EXTRA = ["data.demo.scale=tiny", "eval.ks=[10,20]", "eval.num_resamples=50", "trainer.max_epochs=1"]


def test_a_second_start_uses_the_cache_and_the_same_seed_gives_the_same_figures(
    workplace: Workplace, demo_run: DemoRun
):
    again = workplace.train()
    directory = Path(again.last_line.removeprefix("run directory: "))
    assert json.loads((directory / "run.json").read_text())["prepared_from_cache"] is True
    metrics = [json.loads((d / "metrics.json").read_text()) for d in (demo_run.directory, directory)]
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize(
    "change", ["label.min_watch_ratio=1.5", "features.drop=[text]", "cleaning.near_duplicates=false"]
)
def test_a_changed_setting_builds_anew(workplace: Workplace, demo_run: DemoRun, change: str):
    outcome = workplace.train(change, "trainer.max_epochs=1")
    facts = json.loads((Path(outcome.last_line.removeprefix("run directory: ")) / "run.json").read_text())
    known = json.loads((demo_run.directory / "run.json").read_text())
    assert facts["prepared_from_cache"] is False
    assert facts["fingerprint"] != known["fingerprint"]


def test_a_changed_file_builds_anew(tmp_path: Path):
    own = tmp_path / "log.csv"
    rows = [f"{user},{item}\n" for user in range(20) for item in range(15) if (user * 7 + item * 3) % 4]
    own.write_text("user_id,item_id\n" + "".join(rows))
    place = [f"paths.data_dir={tmp_path}", f"paths.log_dir={tmp_path / 'logs'}"]
    told = ["data=interactions", f"data.interactions={own}", "eval.ks=[3]", "trainer.max_epochs=1", *place]
    facts = []
    for turn in range(3):
        if turn == 2:
            own.write_text("user_id,item_id\n" + "".join(rows[:-1]))
        outcome = command("train.py", *told)
        assert outcome.code == 0, outcome.err
        facts.append(json.loads((Path(outcome.last_line.removeprefix("run directory: ")) / "run.json").read_text()))
    assert [f["prepared_from_cache"] for f in facts] == [False, True, False]
    assert sum(facts[1]["rows"].values()) == sum(facts[2]["rows"].values()) + 1


def test_a_sweep_leaves_a_run_directory_per_job_and_one_failed_job_does_not_lose_the_others(
    workplace: Workplace, demo_run: DemoRun
):
    sweep = workplace.root / "sweep"
    outcome = workplace.train(
        "seed=1,2", "model.embedding_dim=8,0", "trainer.max_epochs=1", f"hydra.sweep.dir={sweep}", sweep=True
    )
    assert outcome.code == 1
    assert "model.embedding_dim must be at least 1, got 0" in outcome.err
    assert "Traceback" not in outcome.err
    finished = sorted(p.parent.name for p in sweep.glob("*/run.json"))
    assert finished == ["0", "2"]
    board = pl.read_parquet(sweep / "leaderboard.parquet")
    assert board.select("setting", "status", "jobs").rows() == [
        ("model.embedding_dim=8", "finished", [0, 2]),
        ("model.embedding_dim=0", "failed", [1, 3]),
    ]
    assert board["why"][1] == "jobs 1, 3 failed: model.embedding_dim must be at least 1, got 0"
    assert "must be at least 1" in (sweep / "1" / "train.log").read_text()


@pytest.mark.slow
def test_a_sweep_over_seeds_and_sizes_ends_in_a_leaderboard(workplace: Workplace):
    sweep = workplace.root / "sweep-of-four"
    outcome = workplace.train("seed=1,2", "model.embedding_dim=8,16", f"hydra.sweep.dir={sweep}", sweep=True)
    assert outcome.code == 0, outcome.err
    assert len(list(sweep.glob("*/checkpoints/best.ckpt"))) == 4
    assert "leaderboard" in outcome.last_line
    board = pl.read_parquet(sweep / "leaderboard.parquet")
    assert board["status"].to_list() == ["finished"] * 2
    assert board["validation"].is_sorted(descending=True)
    best, other = board.to_dicts()
    assert best["runs"] == other["runs"] == 2
    assert best["figure"] == best["test_figure"] == "ndcg@20"
    for on in ("validation", "test"):
        assert best[f"{on}_low"] < best[on] < best[f"{on}_high"]
        assert best[f"{on}_low_runs"] < best[on] < best[f"{on}_high_runs"]
    assert other["behind"] == pytest.approx(best["validation"] - other["validation"])
    assert 0 < other["p_value"] <= other["p_adjusted"] <= 1
    assert best["seconds"] > 0 and best["rows_per_second"] > 0
    assert best["peak_memory_bytes"] > 100 * 2**20
    for row in (best, other):
        for said, seed in zip(row["commands"], (1, 2), strict=True):
            assert said.startswith("python train.py ") and row["setting"] in said and f"seed={seed}" in said
    page = (sweep / "leaderboard.html").read_text(encoding="utf-8")
    assert "the best of 2 settings" in page
    assert page.count("<svg") == 2


@pytest.mark.parametrize("script", ["train.py", "recommend.py", "evaluate.py"])
def test_help_shows_examples_and_keys(script: str):
    outcome = command(script, "--help")
    assert outcome.code == 0
    assert outcome.out.count(f"\n  python {script}") >= 3
    keys = {"train.py": "trainer.devices=1", "recommend.py": "exclude_seen", "evaluate.py": "eval.candidates"}
    assert keys[script] in outcome.out
    if script != "recommend.py":
        for group in ("data:", "split:", "label:", "features:"):
            assert group in outcome.out, group


def test_a_process_of_its_own_ends_with_the_exit_code_and_the_message(tmp_path: Path):
    done = subprocess.run(
        [sys.executable, "train.py", "model.embeding_dim=8", f"paths.log_dir={tmp_path}"],
        cwd=REPOSITORY,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY / "src")},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.strip() == (
        "error: model.embeding_dim is not a key of the config: did you mean 'model.embedding_dim'?"
    )


@pytest.mark.parametrize("script", ["train.py", "recommend.py", "evaluate.py"])
def test_help_does_not_wait_for_torch_and_lightning(script: str):
    program = (
        f"import atexit, runpy, sys; sys.argv = [{script!r}, '--help']\n"
        "atexit.register(lambda: print(sorted({'torch', 'lightning', 'polars'} & set(sys.modules))))\n"
        f"runpy.run_path({script!r}, run_name='__main__')"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# --- recommend -------------------------------------------------------------------------------------------------------


def test_everybody_gets_a_list_sorted_by_user_and_rank(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    table = lists_of(workplace, demo_run, tmp_path / "all.parquet", "n=7")
    assert table.columns == ["user_id", "item_id", "rank", "score"]
    assert_frame_equal(table, table.sort("user_id", "rank"))
    catalogue = load_catalogue(demo_run.directory / "catalogue")
    assert table["user_id"].unique(maintain_order=True).to_list() == catalogue.user_ids.sort().to_list()
    for _, own in table.group_by("user_id"):
        assert own["rank"].to_list() == list(range(1, own.height + 1))
        assert own["score"].is_sorted(descending=True)


def test_rough_scores_and_little_memory_give_the_same_lists(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    usual = lists_of(workplace, demo_run, tmp_path / "usual.parquet", "n=7")
    frugal = lists_of(workplace, demo_run, tmp_path / "frugal.parquet", "n=7", "precision=bfloat16", "memory_mb=0.01")
    assert_frame_equal(frugal, usual, check_exact=False, rel_tol=1e-4)


def test_the_default_file_lies_in_the_run_directory(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    copy = tmp_path / "run"
    shutil.copytree(demo_run.directory, copy)
    assert workplace.recommend(f"run={copy}", "n=3", "format=csv").code == 0
    assert (copy / "recommendations.csv").is_file()


def test_nothing_seen_is_listed_unless_asked_for(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    seen = seen_pairs(demo_run)
    without = lists_of(workplace, demo_run, tmp_path / "without.parquet", "n=1000")
    assert without.join(seen, on=["user_id", "item_id"], how="semi").height == 0
    everything = lists_of(workplace, demo_run, tmp_path / "with.parquet", "n=1000", "exclude_seen=false")
    num_items = everything["item_id"].n_unique()
    assert everything.group_by("user_id").len()["len"].unique().to_list() == [num_items]
    assert without.height == everything.height - seen.unique().join(everything, on=["user_id", "item_id"]).height


@pytest.mark.parametrize("ending", ["csv", "txt", "parquet", "jsonl"])
def test_a_file_of_users_in_any_form_gives_their_lists_alone(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path, ending: str
):
    users = load_catalogue(demo_run.directory / "catalogue").user_ids.sort().gather([5, 2, 11])
    asked = users.alias("user_id").to_frame()
    file = tmp_path / f"users.{ending}"
    match ending:
        case "csv":
            asked.write_csv(file)
        case "txt":
            file.write_text("\n".join(map(str, users)))
        case "parquet":
            asked.write_parquet(file)
        case _:
            asked.write_ndjson(file)
    got = lists_of(workplace, demo_run, tmp_path / "some.parquet", f"users={file}", "n=4")
    everybody = lists_of(workplace, demo_run, tmp_path / "all.parquet", "n=4")
    expected = everybody.filter(pl.col("user_id").is_in(users.implode()))
    assert_frame_equal(got, expected, rel_tol=1e-5)


def test_candidates_limit_what_is_listed_and_a_long_n_gives_what_there_is(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path
):
    wanted = load_catalogue(demo_run.directory / "catalogue").item_ids.gather([0, 3, 9]).alias("item_id")
    wanted.to_frame().write_csv(tmp_path / "items.csv")
    table = lists_of(
        workplace, demo_run, tmp_path / "few.parquet", f"candidates={tmp_path / 'items.csv'}", "exclude_seen=false"
    )
    assert set(table["item_id"]) == set(wanted)
    assert table.group_by("user_id").len()["len"].unique().to_list() == [3]


@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_every_format_holds_the_same_lists(workplace: Workplace, demo_run: DemoRun, tmp_path: Path, form: str):
    table = lists_of(workplace, demo_run, tmp_path / f"lists.{form}", "n=5", f"format={form}")
    expected = lists_of(workplace, demo_run, tmp_path / "lists.parquet", "n=5")
    assert_frame_equal(table, expected, check_dtypes=False, rel_tol=1e-5)


def test_new_users_and_new_items_are_served_by_their_features(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    data = workplace.root / "data" / "demo-tiny-0" / "data"
    users = pl.read_csv(data / "user_features.csv").head(2)
    twins = users.with_columns(user_id=pl.col("user_id") + 900_000, num_friends=pl.lit(None, pl.Int64))
    twins.write_parquet(tmp_path / "users.parquet")
    catalogue = load_catalogue(demo_run.directory / "catalogue")
    new_item = {"item_id": [int(catalogue.item_ids.max()) + 1], "feat": [[1]], "caption": ["a new video"]}
    new_item |= {name: [None] for name in catalogue.encoders.missing_columns("item", list(new_item))}
    pl.DataFrame(new_item).write_parquet(tmp_path / "items.parquet")
    table = lists_of(
        workplace,
        demo_run,
        tmp_path / "new.parquet",
        f"users={tmp_path / 'users.parquet'}",
        f"items={tmp_path / 'items.parquet'}",
        "n=10000",
    )
    assert set(table["user_id"]) == set(twins["user_id"])
    assert new_item["item_id"][0] in set(table["item_id"])
    assert table["score"].is_finite().all()


# --- evaluate --------------------------------------------------------------------------------------------------------


def test_evaluating_a_run_repeats_the_figures_of_its_training(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    outcome = workplace.evaluate(f"run={demo_run.directory}", f"output={tmp_path}")
    assert outcome.code == 0, outcome.err
    trained = json.loads((demo_run.directory / "metrics.json").read_text())["test"]
    assert json.loads((tmp_path / "metrics.json").read_text()) == trained
    assert (tmp_path / "report.html").read_text().startswith("<!doctype html")
    assert pl.read_parquet(tmp_path / "per_user.parquet").height > 0


def test_metrics_hold_mean_interval_and_users(demo_run: DemoRun):
    metrics = json.loads((demo_run.directory / "evaluation" / "metrics.json").read_text())
    for name in ("precision", "recall", "ndcg", "map", "mrr", "hit_rate"):
        for k in (10, 20):
            figure = metrics[f"{name}@{k}"]
            assert 0 <= figure["low"] <= figure["mean"] <= figure["high"] <= 1
            assert figure["users"] > 0


def test_lists_that_were_written_and_read_back_are_judged_like_the_run(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path
):
    file = tmp_path / "lists.csv"
    lists_of(workplace, demo_run, file, "n=20", "format=csv")
    rules = ["eval.candidates=catalogue", "eval.ks=[10,20]"]
    by_run = workplace.evaluate(f"run={demo_run.directory}", *rules, f"output={tmp_path / 'run'}")
    by_file = workplace.evaluate(
        f"recommendations={file}", "data=demo", "data.demo.scale=tiny", *rules, f"output={tmp_path / 'file'}"
    )
    assert (by_run.code, by_file.code) == (0, 0), by_run.err + by_file.err
    mine, theirs = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("run", "file"))
    assert "ndcg@20" in theirs
    assert as_numbers(theirs) == pytest.approx(as_numbers({name: mine[name] for name in theirs}), rel=1e-12)


def as_numbers(metrics: dict[str, dict[str, Any]]) -> dict[str, float]:
    """All that is a number; sums beside other columns may differ in the last digit."""
    return {f"{n} {k}": v for n, figure in metrics.items() for k, v in figure.items() if isinstance(v, int | float)}


def test_a_baseline_is_judged_alone_as_it_is_beside_a_run(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    outcome = workplace.evaluate(
        "baseline=item_rate", "data=demo", "data.demo.scale=tiny", "eval.ks=[10,20]", f"output={tmp_path}"
    )
    assert outcome.code == 0, outcome.err
    beside = json.loads((demo_run.directory / "evaluation" / "comparison.json").read_text())["baselines"]["item_rate"]
    alone = json.loads((tmp_path / "metrics.json").read_text())
    assert {name for name in beside if name not in alone} == {"vector_diversity@10", "vector_diversity@20"}
    assert as_numbers(alone) == pytest.approx(as_numbers({name: beside[name] for name in alone}), rel=1e-12)


def test_two_judgements_are_compared_user_by_user(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    rules = ["data=demo", "data.demo.scale=tiny", "eval.ks=[10,20]", f"output={tmp_path / 'random'}"]
    assert workplace.evaluate("baseline=random", *rules).code == 0
    outcome = workplace.evaluate(f"compare=[{demo_run.directory},{tmp_path / 'random'}]", f"output={tmp_path}")
    assert outcome.code == 0, outcome.err
    table = pl.read_parquet(tmp_path / "comparison.parquet")
    gap = table.row(by_predicate=pl.col("metric") == "ndcg@20", named=True)
    trained = json.loads((demo_run.directory / "evaluation" / "metrics.json").read_text())["ndcg@20"]["mean"]
    chance = json.loads((tmp_path / "random" / "metrics.json").read_text())["ndcg@20"]["mean"]
    assert gap["mean"] == pytest.approx(trained - chance, abs=1e-6)


@pytest.mark.parametrize("logger", ["none", "csv"])
def test_a_run_without_tensorboard_leaves_its_curves_all_the_same(workplace: Workplace, logger: str):
    outcome = workplace.train(f"logger={logger}", "trainer.max_epochs=1", "eval.baselines=[]")
    assert outcome.code == 0, outcome.err
    directory = Path(outcome.last_line.removeprefix("run directory: "))
    assert json.loads((directory / "curves.json").read_text())["epoch"] == [1]
    assert not (directory / "tensorboard").exists()
