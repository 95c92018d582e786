"""Directories of the jobs of a sweep: what became of each, and which are to be run when it is started again."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from towerrec import sweep_jobs
from towerrec.sweep_jobs import Job


def left(sweep: Path, number: int, *words: str, **files: str) -> Path:
    """A job directory with its overrides and some files."""
    directory = sweep / str(number)
    (directory / ".hydra").mkdir(parents=True)
    lines = "".join(f"- {word}\n" for word in words)
    (directory / ".hydra" / "overrides.yaml").write_text(lines, encoding="utf-8")
    for name, text in files.items():
        (directory / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return directory


def finished(sweep: Path, number: int, *words: str) -> Path:
    facts = json.dumps({"monitor": "val/ndcg@20", "monitored": 0.25})
    return left(sweep, number, *words, run_json=facts, metrics_json="{}")


def test_what_became_of_a_job_is_read_from_its_files(tmp_path: Path):
    assert sweep_jobs.state(tmp_path / "nowhere") == "new"
    (tmp_path / "9").mkdir()
    (tmp_path / "9" / "trial.json").write_text("{}", encoding="utf-8")
    assert sweep_jobs.state(tmp_path / "9") == "new", "a study says who the job is before it begins"
    assert sweep_jobs.state(left(tmp_path, 0)) == "interrupted"
    assert sweep_jobs.state(left(tmp_path, 1, run_json="{}")) == "interrupted", "the figures are written last"
    assert sweep_jobs.state(finished(tmp_path, 2)) == "finished"
    assert sweep_jobs.state(left(tmp_path, 3, failed_txt="no such column")) == "failed"
    assert sweep_jobs.state(left(tmp_path, 4, run_json="{}", pruned_txt="epoch 1")) == "pruned"


def test_a_fresh_sweep_is_numbered_in_order_and_equal_jobs_are_one(tmp_path: Path):
    jobs = sweep_jobs.plan(tmp_path / "new", [("seed=1",), ("seed=2",), ("seed=1",)])
    assert jobs == [Job(0, ("seed=1",), "new"), Job(1, ("seed=2",), "new")]


def test_jobs_are_known_by_their_overrides_and_not_by_their_numbers(tmp_path: Path):
    finished(tmp_path, 0, "seed=1", "model=two_tower")
    left(tmp_path, 1, "seed=2", "model=two_tower", failed_txt="no")
    left(tmp_path, 2, "seed=3", "model=two_tower")
    wanted = [("model=two_tower", f"seed={seed}") for seed in (4, 3, 2, 1)]
    jobs = sweep_jobs.plan(tmp_path, wanted)
    assert [(job.number, job.state) for job in jobs] == [(3, "new"), (2, "interrupted"), (1, "failed"), (0, "finished")]
    assert [job.is_over for job in jobs] == [False, False, False, True]
    assert sweep_jobs.summary(jobs) == (
        "1 finished and skipped (0); 1 failed and run again (1); 1 interrupted and gone on with (2); 1 new"
    )


def test_overrides_with_quotes_are_read_as_they_were_said(tmp_path: Path):
    left(tmp_path, 0, '"split.train=\\"fold < 480\\""', "'loader.batch_size=64'", run_json="{}", metrics_json="{}")
    (job,) = sweep_jobs.plan(tmp_path, [("loader.batch_size=64", 'split.train="fold < 480"')])
    assert job.is_over


def test_of_two_directories_with_the_same_overrides_the_finished_one_counts(tmp_path: Path):
    left(tmp_path, 0, "seed=1")
    finished(tmp_path, 1, "seed=1")
    left(tmp_path, 2, "seed=1")
    (job,) = sweep_jobs.plan(tmp_path, [("seed=1",)])
    assert (job.number, job.state) == (1, "finished")


def test_a_job_is_redone_whole_and_others_are_left_alone(tmp_path: Path):
    left(tmp_path, 0, "seed=1", half_ckpt="...")
    finished(tmp_path, 1, "seed=2")
    sweep_jobs.clear(tmp_path, sweep_jobs.plan(tmp_path, [("seed=1",)]))
    assert not (tmp_path / "0").exists() and (tmp_path / "1" / "metrics.json").is_file()


def test_a_job_that_another_process_still_writes_is_not_taken_away(tmp_path: Path):
    job = left(tmp_path, 0, "seed=1")
    here, there = os.pipe()
    wait, go = os.pipe()
    if os.fork() == 0:
        with sweep_jobs.holding(job):
            os.write(there, b".")
            os.read(wait, 1)
        os._exit(0)
    os.read(here, 1)
    planned = sweep_jobs.plan(tmp_path, [("seed=1",)])
    with pytest.raises(ValueError, match="still being written by another process"):
        sweep_jobs.clear(tmp_path, planned)
    assert job.is_dir()
    os.write(go, b".")
    os.wait()
    sweep_jobs.clear(tmp_path, planned)
    assert not job.exists()


def test_the_figure_that_a_job_watched_is_its_outcome_and_another_figure_is_refused(tmp_path: Path):
    job = finished(tmp_path, 0, "seed=1")
    assert sweep_jobs.outcome(job, monitor="val/ndcg@20") == ("finished", 0.25)
    with pytest.raises(ValueError, match="watched val/ndcg@20, the study val/rmse"):
        sweep_jobs.outcome(job, monitor="val/rmse")
    assert sweep_jobs.outcome(left(tmp_path, 1, failed_txt="no"), monitor="val/rmse") == ("failed", None)


def test_a_pruned_job_says_when_and_how_it_stood(tmp_path: Path):
    about = {"epoch": 3, "epochs": 10, "monitor": "val/rmse", "mode": "min", "value": 0.5, "best": 0.4}
    text = sweep_jobs.note_pruned(tmp_path, about)
    assert text == (
        "pruned after epoch 3 of 10: val/rmse 0.5000, 0.4000 at best, is behind what other trials had by then"
    )
    assert (tmp_path / "pruned.txt").read_text(encoding="utf-8") == text + "\n"
    assert json.loads((tmp_path / "pruned.json").read_text(encoding="utf-8")) == about
