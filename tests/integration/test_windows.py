"""Windows of time from the command line: retrained models, an older one judged later, and leaks that end a run."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from commands import Outcome, command
from conftest import Workplace

from towerrec import judging, later, tasks
from towerrec.config import later_window
from towerrec.run_directory import RunDirectory

ROLLING = ["split=rolling", "split.window=0"]
DAY_MS = 86_400_000


def train(workplace: Workplace, *overrides: str) -> Outcome:
    """One epoch on a log of one's own."""
    quick = ["features=ids", "eval.ks=[5]", "eval.num_resamples=50", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
    return command("train.py", "data=interactions", *quick, *workplace.paths, *overrides)


def run_of(outcome: Outcome) -> Path:
    assert outcome.code == 0, outcome.err
    return Path(outcome.last_line.removeprefix("run directory: "))


def growing_log(folder: Path) -> list[str]:
    """Users and items come and go: half of what the last third of the days holds is new. No side tables."""
    rng = np.random.default_rng(0)
    day = np.sort(rng.integers(0, 30, 3_000))
    frame = pl.DataFrame(
        {
            "user": [f"u{u}" for u in rng.integers(0, 20, 3_000) + day],
            "video": [f"v{v}" for v in rng.integers(0, 40, 3_000) + 2 * day],
            "at": 1_600_000_000_000 + day * DAY_MS + rng.integers(0, DAY_MS, 3_000),
        }
    )
    path = folder / "views.csv"
    frame.write_csv(path)
    columns = {"user": "user", "item": "video", "timestamp": "at"}
    return [f"data.interactions={path}", *(f"data.columns.{key}={name}" for key, name in columns.items())]


@pytest.fixture(scope="module")
def older_run(workplace: Workplace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the first of three windows of a log whose users and items change."""
    log = growing_log(tmp_path_factory.mktemp("growing"))
    return run_of(train(workplace, *log, *ROLLING, "split.start=0.4"))


def test_an_older_run_is_judged_on_a_later_window_by_its_own_encoders(workplace: Workplace, older_run: Path):
    own = (older_run / "evaluation" / "metrics.json").read_text()
    outcome = workplace.evaluate(f"run={older_run}", "split.window=2")
    assert outcome.code == 0, outcome.err
    assert "users and" in outcome.out and "of this log are new to it" in outcome.out
    place = older_run / "evaluation-window-2"
    assert f"evaluation: {place}" in outcome.out
    assert (older_run / "evaluation" / "metrics.json").read_text() == own
    later = json.loads((place / "comparison.json").read_text())["protocol"]
    first = json.loads((older_run / "evaluation" / "comparison.json").read_text())["protocol"]
    # More of the log has come by then: more can be listed, to users whom the run does not know.
    assert later["num_candidates"] > first["num_candidates"]
    judged = set(pl.read_parquet(place / "per_user.parquet")["user_id"])
    known = set(pl.read_parquet(older_run / "catalogue" / "user_ids.parquet")["user_id"])
    assert judged - known and judged & known


def test_an_older_run_gives_known_users_and_items_the_vectors_it_had(older_run: Path):
    prepared = tasks.prepared_data(later_window(older_run, 2)).prepared
    run, cpu = RunDirectory(older_run), torch.device("cpu")
    own = judging.load(run, checkpoint="best", device=cpu).scores
    later_scores = later.load_over(run, prepared, checkpoint="best", device=cpu, on="test")[0].scores
    for ids, of_run, asked in (
        (prepared.item_ids, own.tables.item_ids, (own.items(), later_scores.items())),
        (
            prepared.user_ids,
            own.tables.user_ids,
            (
                own.users(torch.arange(len(own.tables.user_ids))),
                later_scores.users(torch.arange(len(prepared.user_ids))),
            ),
        ),
    ):
        place = {name: row for row, name in enumerate(of_run)}
        known = [(row, place[name]) for row, name in enumerate(ids) if name in place]
        assert 10 < len(known) < len(ids)
        here, there = (torch.tensor(rows) for rows in zip(*known, strict=True))
        torch.testing.assert_close(asked[1][here], asked[0][there])


def test_a_window_before_the_training_is_refused(workplace: Workplace, older_run: Path, tmp_path: Path):
    config = (older_run / ".hydra" / "config.yaml").read_text()
    assert "window: 0" in config
    outcome = workplace.evaluate(f"run={older_run}", "split.window=0", "split.start=0.2")
    assert outcome.code == 1
    assert "not all later than its training" in outcome.message or "leak audit failed" in outcome.message


def test_a_key_that_the_run_does_not_have_is_named(workplace: Workplace, older_run: Path):
    outcome = workplace.evaluate(f"run={older_run}", "split.widnow=1")
    assert outcome.code == 1 and "split.widnow: the run was trained without this key" in outcome.message


def test_the_audit_is_in_run_json_and_on_the_terminal(workplace: Workplace, older_run: Path):
    audit = json.loads((older_run / "run.json").read_text())["audit"]
    assert {entry["check"] for entry in audit} >= {"future rows", "target in history", "statistics from held-out rows"}
    assert all(entry["outcome"] != "failed" for entry in audit)
    outcome = workplace.evaluate(f"run={older_run}")
    assert outcome.out.count("leak audit: ") == 1


LEAKY = ["cleaning.exact_duplicates=false", "cleaning.near_duplicates=false", "split=random"]


@pytest.mark.parametrize("how", ["fail", "warn", pytest.param("off", marks=pytest.mark.slow)])
def test_a_log_with_the_same_rows_on_both_sides_ends_the_run_unless_told_otherwise(
    workplace: Workplace, tmp_path: Path, how: str
):
    log = growing_log(tmp_path)
    path = tmp_path / "views.csv"
    rows = pl.read_csv(path)
    pl.concat([rows, rows]).write_csv(path)
    outcome = train(workplace, *log, *LEAKY, f"audit={how}")
    if how == "fail":
        assert outcome.code == 1 and "duplicates across splits" in outcome.message and "user u" in outcome.message
        return
    audit = json.loads((run_of(outcome) / "run.json").read_text())["audit"]
    assert ([e["rows"] for e in audit if e["outcome"] == "failed"] != []) == (how == "warn")
    assert ("LEAKS (audit=warn)" in outcome.out) == (how == "warn")


@pytest.mark.slow
def test_a_sweep_over_windows_sets_the_first_model_beside_the_retrained(workplace: Workplace):
    outcome = workplace.train("sweep=windows", "trainer.max_epochs=1")
    assert outcome.code == 0, outcome.err
    line = next(line for line in outcome.out.splitlines() if line.startswith("windows: "))
    sweep = Path(line.removeprefix("windows: ").partition(" (")[0]).parent
    table = pl.read_parquet(sweep / "windows.parquet")
    ndcg = table.filter(pl.col("metric") == "ndcg@20")
    by = {(row["system"], row["judged_on"]): row for row in ndcg.to_dicts()}
    assert {judged for _, judged in by} == {"0", "1", "2", "mean"}
    assert by["retrained", "0"]["mean"] == by["trained once", "0"]["mean"]
    assert by["retrained", "2"]["mean"] != by["trained once", "2"]["mean"]
    assert by["trained once", "2"]["trained_on"] == 0 and by["retrained", "2"]["trained_on"] == 2
    page = (sweep / "windows.html").read_text()
    assert "<svg" in page and "trained once" in page and "http://" not in page.replace("http://www.w3.org", "")
    assert "Retraining before each later window" in (sweep / "windows.md").read_text()
    assert (sweep / "leaderboard.md").is_file()
