"""A study of Optuna's over the jobs of a sweep: what is drawn, which way is better, and how it goes on."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from towerrec import sweep_jobs
from towerrec.sweep_jobs import Job
from towerrec.sweep_space import Axis, Choices, Interval

optuna = pytest.importorskip("optuna", reason='sweeps that are drawn need pip install -e ".[optuna]"')

from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution  # noqa: E402
from optuna.trial import TrialState  # noqa: E402

from towerrec.study import Study, distribution, trial_of  # noqa: E402

AXES: dict[str, Axis] = {"optimizer.lr": Interval(1e-4, 1e-1, log=True), "model.embedding_dim": Choices(("8", "16"))}
RANDOM = {"_target_": "optuna.samplers.RandomSampler"}
TPE = {"_target_": "optuna.samplers.TPESampler", "n_startup_trials": 2}
GRID = {"_target_": "towerrec.study.Grid"}
MEDIAN = {"_target_": "optuna.pruners.MedianPruner", "n_startup_trials": 1, "n_warmup_steps": 0}


def begun(sweep: Path, **settings: Any) -> Study:
    sweep.mkdir(exist_ok=True)
    defaults = {"monitor": "val/ndcg@20", "mode": "max", "sampler": TPE, "pruner": {}, "n_trials": 4}
    return Study(sweep, **{"axes": AXES, **defaults, **settings})


def ends(sweep: Path, number: int, value: float | None, *, monitor: str = "val/ndcg@20") -> Path:
    """A job that finished with a figure, or failed."""
    directory = sweep / str(number)
    (directory / ".hydra").mkdir(parents=True)
    if value is None:
        (directory / "failed.txt").write_text("no\n", encoding="utf-8")
        return directory
    facts = json.dumps({"monitor": monitor, "monitored": value})
    for name, text in (("run.json", facts), ("metrics.json", "{}")):
        (directory / name).write_text(text, encoding="utf-8")
    return directory


def run(study: Study, number: int, *, fails: int | None = None) -> list[tuple[str, ...]]:
    """Draw so many trials and end each, as one whose figure is its number of the trial; the words that were drawn."""
    drawn = []
    for _ in range(number):
        (trial,) = study.ask(1)
        study.note(trial, Job(trial.number, (), "new"))
        value = None if trial.number == fails else 0.1 * trial.number
        study.tell(trial.number, ends(study.sweep, trial.number, value))
        drawn.append(study.words(trial))
    return drawn


@pytest.mark.parametrize(
    ("axis", "expected"),
    [
        (Choices(("a", "[64,32]")), CategoricalDistribution(("a", "[64,32]"))),
        (Choices(("2", "4", "6"), ordered=True), IntDistribution(2, 6, step=2)),
        (Choices(("0.1", "0.2"), ordered=True), CategoricalDistribution(("0.1", "0.2"))),
        (Interval(0.1, 0.5), FloatDistribution(0.1, 0.5)),
        (Interval(0.1, 0.5, log=True), FloatDistribution(0.1, 0.5, log=True)),
        (Interval(1, 9, whole=True), IntDistribution(1, 9)),
    ],
)
def test_values_and_intervals_are_drawn_from_what_they_say(axis: Axis, expected: object):
    assert distribution("key", axis) == expected


@pytest.mark.parametrize(
    ("axis", "words"), [(Interval(2, 1), "is empty"), (Interval(0, 1, log=True), "needs a lower end above 0")]
)
def test_intervals_that_cannot_be_drawn_from_are_refused(axis: Interval, words: str):
    with pytest.raises(ValueError, match=words):
        distribution("optimizer.lr", axis)


@pytest.mark.parametrize(("mode", "best"), [("max", 3), ("min", 0)])
def test_the_better_way_is_that_of_the_watched_figure(tmp_path: Path, mode: str, best: int):
    study = begun(tmp_path, mode=mode)
    run(study, 4)
    assert study.optuna.direction.name == {"max": "MAXIMIZE", "min": "MINIMIZE"}[mode]
    assert study.optuna.best_trial.number == best and f"(job {best})" in study.summary()


@pytest.mark.parametrize("sampler", [TPE, RANDOM])
def test_a_study_that_was_stopped_draws_what_an_uninterrupted_one_draws(tmp_path: Path, sampler: dict[str, Any]):
    whole = run(begun(tmp_path / "whole", sampler=sampler), 6)
    parts = run(begun(tmp_path / "parts", sampler=sampler), 3) + run(begun(tmp_path / "parts", sampler=sampler), 3)
    assert parts == whole
    assert run(begun(tmp_path / "other", sampler=sampler, seed=1), 6) != whole
    assert len(set(whole)) == 6


def test_samplers_draw_differently(tmp_path: Path):
    drawn = [run(begun(tmp_path / name, sampler=node), 6) for name, node in (("tpe", TPE), ("random", RANDOM))]
    assert drawn[0] != drawn[1]


def test_a_grid_is_walked_through_once_and_needs_values(tmp_path: Path):
    axes = {"a": Choices(("x", "y")), "b": Choices(("1", "2", "3"), ordered=True)}
    study = begun(tmp_path, axes=axes, sampler=GRID, n_trials=None)
    assert study.num_left == 6
    drawn = run(study, 2) + run(begun(tmp_path, axes=axes, sampler=GRID, n_trials=None), 4)
    assert sorted(drawn) == [(f"a={a}", f"b={b}") for a in "xy" for b in "123"]
    assert begun(tmp_path / "half", axes=axes, sampler=GRID, n_trials=3).num_left == 3
    with pytest.raises(ValueError, match="sampler=grid needs values one by one"):
        begun(tmp_path / "interval", sampler=GRID)


def test_a_failed_trial_is_told_so_and_drawn_again_by_the_next_start(tmp_path: Path):
    study = begun(tmp_path)
    drawn = run(study, 3, fails=1)
    assert [trial.state for trial in study.optuna.trials] == [TrialState.COMPLETE, TrialState.FAIL, TrialState.COMPLETE]
    again = begun(tmp_path)
    assert again.num_left == 2
    (trial,) = again.ask(1)
    assert again.words(trial) == drawn[1]


def test_trials_that_a_killed_sweep_left_running_are_ended_by_what_their_jobs_left(tmp_path: Path):
    study = begun(tmp_path)
    asked = study.ask(3)
    for trial in asked:
        study.note(trial, Job(trial.number, (), "new"))
    ends(tmp_path, 0, 0.5)  # killed between the end of the job and the word to the study
    again = begun(tmp_path)
    states = [trial.state for trial in again.optuna.trials]
    assert states == [TrialState.COMPLETE, TrialState.WAITING, TrialState.WAITING]
    assert again.num_left == 3
    assert [again.words(trial) for trial in again.ask(2)] == [study.words(trial) for trial in asked[1:]]


@pytest.mark.parametrize("sampler", [TPE, RANDOM], ids=["tpe", "random"])
def test_a_study_whose_trials_were_interrupted_draws_what_an_uninterrupted_one_draws(
    tmp_path: Path, sampler: dict[str, Any]
):
    def batches(sweep: Path, *, stopped: bool) -> list[list[tuple[int, tuple[str, ...]]]]:
        study, drawn = begun(sweep, sampler=sampler, n_trials=12), []
        for batch in range(4):
            asked = study.ask(3)
            for trial in asked:
                study.note(trial, Job(trial.number, (), "new"))
            if stopped and batch in (0, 2):  # killed when the second of three was over
                ends(sweep, asked[1].number, 0.1 * asked[1].number)
                study = begun(sweep, sampler=sampler, n_trials=12)
                again = study.ask(3)
                assert [trial.number for trial in again] == [asked[0].number, asked[2].number]
                assert all(study.optuna.trials[trial.number].intermediate_values == {} for trial in again)
            for trial in asked:
                if study.optuna.trials[trial.number].state is TrialState.RUNNING:
                    study.tell(trial.number, ends(sweep, trial.number, 0.1 * trial.number))
            drawn.append([(trial.number, study.words(trial)) for trial in asked])
        return drawn

    assert batches(tmp_path / "stopped", stopped=True) == batches(tmp_path / "whole", stopped=False)


def test_a_study_of_another_space_or_figure_is_refused(tmp_path: Path):
    begun(tmp_path)
    with pytest.raises(ValueError, match=r"another monitor: val/ndcg@20, now val/rmse"):
        begun(tmp_path, monitor="val/rmse")
    with pytest.raises(ValueError, match=r"another space: .* another hydra\.sweep\.dir"):
        begun(tmp_path, axes={"model.embedding_dim": Choices(("8", "16"))})
    begun(tmp_path, n_trials=9)


def test_a_job_that_watched_another_figure_counts_as_failed(tmp_path: Path, caplog: pytest.LogCaptureFixture):
    study = begun(tmp_path)
    (trial,) = study.ask(1)
    assert study.tell(trial.number, ends(tmp_path, 0, 0.9, monitor="val/rmse")) == "failed"
    assert "figures of different kinds do not compare" in caplog.text


def test_a_misspelt_setting_of_a_sampler_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match=r"hydra\.sweeper\.sampler\.n_startup_trial is not known"):
        begun(tmp_path, sampler={"_target_": "optuna.samplers.TPESampler", "n_startup_trial": 2})


@pytest.mark.parametrize(("pruner", "stops"), [(MEDIAN, True), ({}, False)])
def test_the_pruner_hears_of_every_validation_through_the_journal(tmp_path: Path, pruner: dict[str, Any], stops: bool):
    study = begun(tmp_path, pruner=pruner)
    decisions = []
    for values in ([0.4, 0.5], [0.1, 0.1]):
        (trial,) = study.ask(1)
        about = json.loads(json.dumps(study.note(trial, Job(trial.number, (), "new"))))
        there = trial_of(about)  # as the process of the job finds it
        for step, value in enumerate(values):
            there.report(value, step)
        decisions.append(there.should_prune())
        study.tell(trial.number, ends(tmp_path, trial.number, values[-1]))
    assert decisions == [False, stops]


def test_a_pruned_job_is_told_pruned(tmp_path: Path):
    study = begun(tmp_path)
    (trial,) = study.ask(1)
    job = ends(tmp_path, 0, 0.2)
    (job / sweep_jobs.PRUNED).write_text("epoch 1\n", encoding="utf-8")
    assert study.tell(trial.number, job) == "pruned"
    assert study.num_left == 3 and study.optuna.trials[0].state is TrialState.PRUNED


def test_a_journal_whose_last_line_was_torn_goes_on_from_the_line_before(tmp_path: Path):
    run(begun(tmp_path), 2)
    journal = tmp_path / "study.journal"
    journal.write_bytes(journal.read_bytes() + b'{"op_code": 4, "worker_id": "a')
    run(begun(tmp_path), 1)  # and whoever reads it next
    assert len(begun(tmp_path).optuna.trials) == 3
