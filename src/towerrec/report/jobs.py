"""What the jobs of a sweep left: which of them finished, why the others did not, and what each cost."""

from __future__ import annotations

import shlex
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from towerrec.files import read_object

FINISHED, PRUNED, FAILED, STOPPED = "finished", "pruned", "failed", "stopped"
"""How a job ended; `stopped`: it was interrupted, or runs still."""

FAILED_FILE = "failed.txt"
PRUNED_FILE = "pruned.txt"
"""Why a job did not finish, in words; the first line is the reason."""


@dataclass(frozen=True)
class Job:
    """A job of a sweep.

    Attributes:
        directory: Where it ran; its name is its number.
        overrides: What its command said, in order.
        status: How it ended.
        why: Why it did not finish; empty where it did.
        facts: Content of `run.json`; empty where there is none.
        metrics: Content of `metrics.json`: figures by `val` and `test`; empty where it did not finish.
    """

    directory: Path
    overrides: tuple[str, ...]
    status: str
    why: str = ""
    facts: dict[str, Any] = field(default_factory=dict)
    metrics: dict[str, Any] = field(default_factory=dict)

    @property
    def number(self) -> int:
        return int(self.directory.name)

    @property
    def command(self) -> str:
        """What repeats this run, ready for a shell."""
        return shlex.join(["python", "train.py", *self.overrides])

    @property
    def seconds(self) -> float | None:
        """Of training, a first fit on validation included."""
        if "seconds" not in self.facts:
            return None
        return float(self.facts["seconds"]) + float(self.facts.get("first_fit", {}).get("seconds", 0.0))


def read_job(directory: Path, overrides: tuple[str, ...]) -> Job:
    """A job by what lies in its directory.

    A job that failed or was pruned says so in a file; one that says nothing and has no figures was stopped.
    """
    for status, name in ((FAILED, FAILED_FILE), (PRUNED, PRUNED_FILE)):
        if (directory / name).is_file():
            return Job(directory, overrides, status, _reason(directory / name), _json(directory / "run.json"))
    facts, metrics = _json(directory / "run.json"), _json(directory / "metrics.json")
    if facts and metrics:
        return Job(directory, overrides, FINISHED, facts=facts, metrics=metrics)
    log = "; see train.log in its directory" if (directory / "train.log").is_file() else ""
    return Job(directory, overrides, STOPPED, f"interrupted before its end, or still running{log}", facts)


def _reason(path: Path) -> str:
    lines = path.read_text(encoding="utf-8").strip().splitlines()
    return lines[0].strip() if lines else "no reason was given"


def _json(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    return read_object(path)
