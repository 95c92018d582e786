"""Job directories of a sweep: what became of each, which are to be run, and under which number.

A job is known by its overrides, not by its number: a sweep that is started again in the same directory, perhaps with
more values, finds what it has done.
"""

from __future__ import annotations

import fcntl
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from towerrec.files import read_json, whole_file, write_json
from towerrec.sweeping import FAILED

PRUNED = "pruned.txt"
TRIAL = "trial.json"
LOCK = ".lock"
BEGUN = "begun.json"
Words = tuple[str, ...]


@dataclass(frozen=True)
class Job:
    """A job with its place.

    Attributes:
        number: Name of its directory below that of the sweep.
        words: Its overrides, all that makes it this job.
        state: What became of it so far: `finished`, `pruned`, `failed`, `interrupted` or `new`.
    """

    number: int
    words: Words
    state: str

    @property
    def is_over(self) -> bool:
        """Whether there is nothing left to do."""
        return self.state in ("finished", "pruned")


def state(directory: Path) -> str:
    """What became of the job in a directory: `new` where it never began, `interrupted` where it has no end."""
    if not directory.is_dir() or all(path.name == TRIAL for path in directory.iterdir()):
        return "new"
    if (directory / FAILED).is_file():
        return "failed"
    if (directory / PRUNED).is_file():
        return "pruned"
    # The figures are the last file that a run writes.
    both = (directory / "run.json").is_file() and (directory / "metrics.json").is_file()
    return "finished" if both else "interrupted"


def plan(sweep: Path, wanted: Sequence[Words]) -> list[Job]:
    """Find or give every job its place: that of the same overrides, else the next free number.

    Of several directories with the same overrides one that is over counts. Equal jobs are one job.

    Args:
        sweep: Directory of the sweep, which need not exist.
        wanted: Overrides of every job; their order within a job does not matter.
    """
    numbers = [int(path.name) for path in sweep.glob("*") if path.name.isdecimal() and state(path) != "new"]
    known: dict[frozenset[str], Job] = {}
    for number in sorted(numbers, reverse=True):
        words = overrides(sweep / str(number))
        job = Job(number, words, state(sweep / str(number)))
        there = known.get(frozenset(words))
        if words and not (there is not None and there.is_over and not job.is_over):
            known[frozenset(words)] = job
    free = max(numbers, default=-1) + 1
    planned: dict[frozenset[str], Job] = {}
    for words in wanted:
        key = frozenset(words)
        if key in planned:
            continue
        job = known.get(key, Job(free, words, "new"))
        free += job.number == free
        planned[key] = Job(job.number, words, job.state)
    return list(planned.values())


def overrides(directory: Path) -> Words:
    """The overrides of the job in a directory; none where it did not come so far as to write them down."""
    from towerrec.report.groups import overrides_of  # of tables: not needed to start a command

    return overrides_of(directory)


def summary(jobs: Sequence[Job]) -> str:
    """What of a sweep is done already and what will be run, in a line."""
    said = []
    for kind, then in (
        ("finished", "skipped"),
        ("pruned", "skipped"),
        ("failed", "run again"),
        ("interrupted", "gone on with"),
    ):
        numbers = [job.number for job in jobs if job.state == kind]
        if numbers:
            said.append(f"{len(numbers)} {kind} and {then} ({', '.join(map(str, sorted(numbers)))})")
    new = sum(job.state == "new" for job in jobs)
    return "; ".join([*said, f"{new} new"]) if said else f"{new} new"


def clear(sweep: Path, jobs: Sequence[Job]) -> None:
    """Remove what a former start left of jobs that are run again.

    One that was interrupted keeps its directory and goes on there (`resuming.begin`); one that failed is redone whole.

    Raises:
        ValueError: If one of them is still running, started by a sweep that has gone.
    """
    for job in jobs:
        directory = sweep / str(job.number)
        if (directory / LOCK).is_file():
            with holding(directory):
                pass
        if job.state != "interrupted" or not (directory / BEGUN).is_file():
            shutil.rmtree(directory, ignore_errors=True)


@contextmanager
def holding(directory: Path) -> Iterator[None]:
    """Hold a directory against other processes for as long as the block, or this process, lasts.

    Raises:
        ValueError: If another living process holds it.
    """
    place = directory.resolve()
    if place in _held:
        yield
        return
    directory.mkdir(parents=True, exist_ok=True)
    path = place / LOCK
    lock = _locked(path)
    _held[place] = lock
    try:
        yield
    finally:
        # Not that of somebody who found it free after `let_go`.
        if _held.pop(place, None) is lock:
            path.unlink(missing_ok=True)
        lock.close()


def hold(directory: Path) -> None:
    """Hold a directory until `let_go`, or for as long as this process lasts.

    Raises:
        ValueError: If another living process holds it.
    """
    place = directory.resolve()
    if place not in _held:
        _held[place] = _locked(place / LOCK)


def let_go() -> list[Path]:
    """Let go of all directories that are held, and tell which they were."""
    held = list(_held)
    for place in held:
        (place / LOCK).unlink(missing_ok=True)
        _held.pop(place).close()
    return held


_held: dict[Path, IO[str]] = {}


def _locked(path: Path) -> IO[str]:
    """An open file that nobody else can lock."""
    while True:
        lock = path.open("a", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            raise ValueError(
                f"{path.parent} is still being written by another process: wait for it, or end it, and start again"
            ) from None
        if path.exists() and os.fstat(lock.fileno()).st_ino == path.stat().st_ino:
            return lock
        lock.close()  # whoever held it has just removed it


def outcome(directory: Path, *, monitor: str) -> tuple[str, float | None]:
    """What became of a job, and the best value of the validation figure that it watched; None where there is none.

    Args:
        directory: Of the job.
        monitor: The figure that it should have watched.

    Raises:
        ValueError: If it watched another.
    """
    found, path = state(directory), directory / "run.json"
    if found not in ("finished", "pruned") or not path.is_file():
        return found, None
    facts = read_json(path)
    if facts["monitor"] != monitor:
        raise ValueError(
            f"{directory} watched {facts['monitor']}, the study {monitor}: figures of different kinds do not compare; "
            f"have every job watch the same, for instance loss.monitor={monitor}"
        )
    monitored: float | None = facts["monitored"]
    return found, monitored


def note_pruned(directory: Path, pruned: Mapping[str, Any]) -> str:
    """Leave word, in a job's directory, of why it was given up; returns it.

    Args:
        directory: Of the job.
        pruned: What was known then, see `pruning.Pruning`.
    """
    at_most = "" if pruned["epochs"] is None else f" of {pruned['epochs']}"
    text = (
        f"pruned after epoch {pruned['epoch']}{at_most}: {pruned['monitor']} {pruned['value']:.4f}, "
        f"{pruned['best']:.4f} at best, is behind what other trials had by then"
    )
    write_json(directory / "pruned.json", pruned)
    with whole_file(directory / PRUNED) as path:
        path.write_text(text + "\n", encoding="utf-8")
    return text
