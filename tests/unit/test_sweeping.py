"""What parallel jobs of a sweep share, and what they leave behind."""

from __future__ import annotations

import os
import weakref
from pathlib import Path

import pytest

from towerrec import mistakes, sweeping


class Large:
    """Stands for a trainer with its tables."""


@pytest.mark.parametrize(("num_jobs", "expected"), [(1, "8"), (2, "4"), (3, "2"), (16, "1"), (-1, "1"), (-5, "2")])
def test_processes_get_their_share_of_the_cores(monkeypatch: pytest.MonkeyPatch, num_jobs: int, expected: str):
    monkeypatch.setattr(os, "cpu_count", lambda: 8)
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS"):
        monkeypatch.setenv(name, "")  # restored afterwards
        monkeypatch.delenv(name)
    sweeping.share_cores(num_jobs)
    assert os.environ["POLARS_MAX_THREADS"] == os.environ["OMP_NUM_THREADS"] == expected


def test_a_share_that_the_environment_says_already_stays(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("POLARS_MAX_THREADS", "3")
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    sweeping.share_cores(2)
    assert (os.environ["POLARS_MAX_THREADS"], os.environ["OMP_NUM_THREADS"]) == ("3", "5")


def test_each_process_of_a_sweep_takes_the_next_gpu_that_is_visible(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5,7")

    def child(wait: int) -> int:
        """Fork a process that takes a GPU, says which, and waits."""
        here, there = os.pipe()
        if os.fork() == 0:
            sweeping.take_gpu(tmp_path)
            sweeping.take_gpu(tmp_path)  # a second job of the same process changes nothing
            os.write(there, os.environ["CUDA_VISIBLE_DEVICES"].encode())
            os.read(wait, 1)
            os._exit(0)
        return here

    wait, go = os.pipe()
    said = [os.read(child(wait), 9).decode() for _ in range(3)]
    assert said == ["5", "7", "5"]
    os.write(go, b"...")
    for _ in range(3):
        os.wait()
    assert os.read(child(wait), 9) == b"5", "the numbers of processes that have gone are free again"
    os.write(go, b".")
    os.wait()


def test_without_gpus_nothing_changes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    sweeping.take_gpu(tmp_path)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    assert not list(tmp_path.iterdir())


def test_what_a_failed_job_held_is_let_go_and_its_traceback_stays():
    held: list[weakref.ref[Large]] = []

    def job() -> None:
        large = Large()
        large.itself = large  # type: ignore[attr-defined]
        held.append(weakref.ref(large))
        raise ValueError("no")

    try:
        job()
    except ValueError as error:
        kept = error
    assert held[0]() is not None
    sweeping.let_go(kept)
    assert held[0]() is None
    assert kept.__traceback__ is not None


def test_failures_are_found_by_the_process_that_started_the_sweep(tmp_path: Path):
    for job in ("10", "9", "notes"):
        sweeping.note_failure(tmp_path / job, "no")
    assert [job.name for job in sweeping.failed_jobs(tmp_path)] == ["9", "10"]


def test_the_missing_launcher_is_named_with_its_extra():
    assert 'pip install -e ".[sweeps]"' in mistakes._no_such_choice("hydra/launcher/joblib", ["basic"])
