"""Sweeps as they are started: what the files in conf/sweep ask, mistakes, kills, what a second start does."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import yaml
from commands import REPOSITORY, Outcome, command
from conftest import TINY, Workplace
from hydra.core.override_parser.overrides_parser import OverridesParser
from test_configs import CONF, choices, composed, typed

from hydra_plugins.towerrec_sweepers._resuming import axis_of, combinations
from towerrec.sweep_space import Axis, Choices, Interval

SHORT = ["trainer.max_epochs=1", "trainer.limit_train_batches=2", "eval.baselines=[]"]


def axes_of(params: dict[str, Any]) -> dict[str, Axis]:
    parsed = OverridesParser.create().parse_overrides([f"{key}={value}" for key, value in params.items()])
    return {override.get_key_element(): axis_of(override) for override in parsed}


# --- what is asked ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("choice", choices("sweep"))
def test_a_sweep_file_alone_starts_several_valid_jobs(choice: str):
    plain = yaml.safe_load((CONF / "sweep" / f"{choice}.yaml").read_text(encoding="utf-8"))
    assert set(plain) <= {"defaults", "hydra"}, "what a job is stands in its own overrides"
    cfg = composed("train", f"sweep={choice}")
    assert cfg.hydra.mode.name == "MULTIRUN"
    axes = axes_of(plain["hydra"]["sweeper"]["params"])
    assert any(isinstance(axis, Interval) or len(axis.texts) > 1 for axis in axes.values())
    drawn = {key: axis if isinstance(axis, Choices) else Choices((repr(axis.low),)) for key, axis in axes.items()}
    every = combinations(drawn)
    assert len(every) <= 8, "a question is answered by few jobs"
    typed("train", *every[-1])


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("a=1,2", Choices(("1", "2"))),
        ("a=[64,32],[]", Choices(("[64,32]", "[]"))),
        ("a=x", Choices(("x",))),
        ("a=range(1,7,2)", Choices(("1", "3", "5"), ordered=True)),
        ("a=interval(0.1,1)", Interval(0.1, 1.0)),
        ("a=int(interval(1,9))", Interval(1, 9, whole=True)),
        ("a=tag(log,interval(0.001,0.1))", Interval(0.001, 0.1, log=True)),
        ("a='b,c'", Choices(("'b,c'",))),
        ("~a", Choices(("",))),
    ],
)
def test_values_are_said_in_hydras_grammar(said: str, expected: Axis):
    (override,) = OverridesParser.create().parse_overrides([said])
    assert axis_of(override) == expected


def test_every_combination_is_a_job_the_last_key_fastest():
    assert combinations({"a": Choices(("1", "2")), "b": Choices(("x", "y"))}) == [
        ("a=1", "b=x"), ("a=1", "b=y"), ("a=2", "b=x"), ("a=2", "b=y"),
    ]  # fmt: skip


# --- mistakes --------------------------------------------------------------------------------------------------------


def refused(tmp_path: Path, *words: str) -> str:
    outcome = command("train.py", *words, *TINY, f"paths.data_dir={tmp_path}", f"hydra.sweep.dir={tmp_path / 'sweep'}")
    assert outcome.code == 1 and "Traceback" not in outcome.err, outcome.err
    return outcome.message


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["-m", "optimizer.lr=interval(0.1,1)"], "add hydra/sweeper=optuna"),
        (["-m", "seed=1,2", "hydra.sweep.subdir=x"], "the jobs of a sweep are numbered"),
        (["-m", "sweep=loss,seeds"], "one sweep at a time"),
        (["-m", "hydra/sweeper=optuna", "seed=1"], "has nothing to draw"),
        (["+ablate=features", "model.embedding_dim=8,16"], "only repeats (seed, "),
        (["sweep=temprature"], "did you mean 'temperature'?"),
        (["-m", "seed=1,2", "optimizer.learning_rate=1"], "optimizer.learning_rate is not a key of the config"),
    ],
)
def test_mistakes_end_in_one_message_before_anything_is_trained(tmp_path: Path, words: list[str], told: str):
    assert told in refused(tmp_path, *words)


def test_without_optuna_the_extra_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    monkeypatch.delitem(sys.modules, "towerrec.study", raising=False)
    assert 'pip install -e ".[optuna]"' in refused(tmp_path, "-m", "hydra/sweeper=optuna", "seed=1,2")


# --- real sweeps -----------------------------------------------------------------------------------------------------


def facts(sweep: Path) -> dict[int, dict[str, Any]]:
    """`run.json` of every job that has one."""
    return {int(path.parent.name): json.loads(path.read_text(encoding="utf-8")) for path in sweep.glob("*/run.json")}


def swept(workplace: Workplace, sweep: Path, *words: str) -> Outcome:
    return workplace.train(*words, *SHORT, f"hydra.sweep.dir={sweep}", sweep=True)


def killed(workplace: Workplace, sweep: Path, *words: str) -> subprocess.CompletedProcess[str]:
    """The same in a process of its own."""
    path = os.pathsep.join([str(REPOSITORY / "src"), str(Path(__file__).parent)])
    command = [sys.executable, "train.py", "-m", *TINY, *workplace.paths, *words, *SHORT, f"hydra.sweep.dir={sweep}"]
    return subprocess.run(
        command, cwd=REPOSITORY, env=os.environ | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=300
    )


@pytest.mark.slow
def test_a_sweep_that_was_killed_goes_on_where_it_stopped(workplace: Workplace, tmp_path: Path):
    kill = ["+hydra.callbacks.kill._target_=watching.Kill", "+hydra.callbacks.kill.word='seed=2'"]
    done = killed(workplace, tmp_path, "seed=1,2", *kill)
    assert done.returncode == -signal.SIGKILL and list(facts(tmp_path)) == [0]
    before = (tmp_path / "0" / "run.json").stat().st_mtime_ns
    (tmp_path / "1" / "half.ckpt").write_text("half", encoding="utf-8")

    outcome = swept(workplace, tmp_path, "seed=2,1")
    assert outcome.code == 0, outcome.err
    assert "1 finished and skipped (0); 1 interrupted and gone on with (1); 0 new" in outcome.out
    assert {job: fact["seed"] for job, fact in facts(tmp_path).items()} == {0: 1, 1: 2}
    assert (tmp_path / "0" / "run.json").stat().st_mtime_ns == before
    assert not (tmp_path / "1" / "half.ckpt").exists() and not list(tmp_path.glob("**/.lock"))
    board = pl.read_parquet(tmp_path / "leaderboard.parquet")
    assert board["runs"].sum() == 2 and set(board["status"]) == {"finished"}


@pytest.mark.slow
def test_a_failed_job_of_a_sweep_in_one_process_says_why_and_is_run_again(workplace: Workplace, tmp_path: Path):
    words = [*SHORT, f"hydra.sweep.dir={tmp_path}", "model.embedding_dim=0,8"]
    outcome = workplace.train("sweep=embedding_dim", *words)
    assert outcome.code == 1 and list(facts(tmp_path)) == [1]
    assert "must be at least 1" in (tmp_path / "0" / "failed.txt").read_text(encoding="utf-8")
    assert f"job 0 of the sweep failed, as said above and in {tmp_path / '0'}" in outcome.err
    said = yaml.safe_load((tmp_path / "1" / ".hydra" / "overrides.yaml").read_text(encoding="utf-8"))
    assert "model.embedding_dim=8" in said and not any(word.startswith(("sweep=", "hydra.")) for word in said)
    again = workplace.train("sweep=embedding_dim", *words)
    assert "1 finished and skipped (1); 1 failed and run again (0)" in again.out and again.code == 1


@pytest.mark.slow
def test_a_worker_that_is_killed_costs_its_own_job_only(workplace: Workplace, tmp_path: Path):
    pytest.importorskip(
        "hydra_plugins.hydra_joblib_launcher",
        reason='jobs side by side need pip install -e ".[sweeps]"',
        exc_type=ImportError,
    )
    kill = ["+hydra.callbacks.kill._target_=watching.Kill", "+hydra.callbacks.kill.word='seed=1'"]
    side_by_side = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]
    done = killed(workplace, tmp_path, "seed=0,1", *side_by_side, *kill)
    assert done.returncode == 1 and "Traceback" not in done.stderr, done.stderr
    assert list(facts(tmp_path)) == [0]
    assert (tmp_path / "1" / "failed.txt").read_text(encoding="utf-8").startswith("killed: ")
    board = pl.read_parquet(tmp_path / "leaderboard.parquet")
    assert "job 1 of the sweep failed" in done.stderr and board.height > 0


@pytest.mark.slow
def test_optuna_draws_prunes_survives_failures_and_goes_on(workplace: Workplace, tmp_path: Path):
    optuna = pytest.importorskip("optuna", reason='sweeps that are drawn need pip install -e ".[optuna]"')
    words = [
        "hydra/sweeper=optuna", "hydra/sweeper/sampler=grid", "hydra.sweeper.pruner.n_startup_trials=1",
        "model.embedding_dim=0,8", "optimizer.lr=0.01,1e-9", "optimizer.embedding_lr=null",
        "trainer.max_epochs=3", "eval.baselines=[]", f"hydra.sweep.dir={tmp_path}",
    ]  # fmt: skip
    outcome = workplace.train(*words, sweep=True)

    def opened() -> Any:
        file = optuna.storages.journal.JournalFileBackend(str(tmp_path / "study.journal"))
        return optuna.load_study(study_name="towerrec", storage=optuna.storages.JournalStorage(file))

    study = opened()
    states = [trial.state.name for trial in study.trials]
    assert outcome.code == 1 and sorted(states) == ["COMPLETE", "FAIL", "FAIL", "PRUNED"], (states, outcome.err)
    assert study.direction.name == "MAXIMIZE" and study.best_value == max(
        f["monitored"] for f in facts(tmp_path).values()
    )
    pruned = tmp_path / str(states.index("PRUNED"))
    assert "val/ndcg@20" in (pruned / "pruned.txt").read_text(encoding="utf-8") and (pruned / "run.json").is_file()
    assert not (pruned / "metrics.json").exists()
    stamps = {path: path.stat().st_mtime_ns for path in tmp_path.glob("*/run.json")}

    again = workplace.train(*words, sweep=True)
    assert f"study of 4 trials in {tmp_path}, 2 to go, max val/ndcg@20: best val/ndcg@20" in again.out
    assert {path: path.stat().st_mtime_ns for path in stamps} == stamps
    later = [
        trial.datetime_start > old.datetime_start for trial, old in zip(opened().trials, study.trials, strict=True)
    ]
    assert [trial.state.name for trial in opened().trials] == states, "at their places"
    assert later == [state == "FAIL" for state in states], "once more"


@pytest.mark.slow
def test_an_ablation_says_what_each_group_of_features_is_worth(workplace: Workplace, tmp_path: Path):
    outcome = workplace.train(
        "+ablate=features", "features.use=[id,author,popularity]", *SHORT, f"hydra.sweep.dir={tmp_path}"
    )
    table = pl.read_parquet(tmp_path / "ablation.parquet")
    assert set(table["part"]) == {"id", "author"} and set(table["on"].drop_nulls()) == {"validation", "test"}
    (lost,) = table.filter(pl.col("status") == "failed").to_dicts()
    assert lost["part"] == "id" and "no user feature is left" in lost["why"]
    assert outcome.code == 1 and "What each is worth" in outcome.out
    assert (tmp_path / "ablation.html").is_file() and (tmp_path / "ablation.svg").is_file()
