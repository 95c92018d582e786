"""A run directory: what lies where, and the facts that make a run repeatable."""

from __future__ import annotations

import os
import platform
import shlex
import subprocess
import sys
import time
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from towerrec.command_words import command_word
from towerrec.cost import peak_memory_bytes, total_seconds
from towerrec.data.prepare import Prepared
from towerrec.files import read_object, write_json
from towerrec.schema import SPLITS

PACKAGES = ("towerrec", "torch", "lightning", "polars", "numpy", "hydra-core", "torchmetrics")


VALIDATED = "validated"
"""Folder beside the checkpoints of a refitted run: those of the first fit, which its validation figures describe."""


@dataclass(frozen=True)
class RunDirectory:
    """Names of everything `train.py` leaves behind."""

    root: Path

    @classmethod
    def open(cls, path: str | Path) -> RunDirectory:
        """An existing run directory.

        Raises:
            ValueError: If `path` is not one.
        """
        root = Path(path)
        if not root.is_dir():
            raise ValueError(f"run={path}: there is no such directory; train.py prints the run directory last")
        run = cls(root)
        if not run.facts_file.is_file():
            held = ", ".join(sorted(p.name for p in root.iterdir())[:8]) or "nothing"
            begun = (root / "begun.json").is_file()
            resume = f"; it was stopped, python train.py {command_word('run', path)} goes on with it"
            hint = resume if begun else f" (it holds {held})"
            raise ValueError(f"run={path} is not a finished run of train.py: run.json is missing{hint}")
        return run

    @property
    def shown(self) -> Path:
        """The directory as a person would type it: relative where it lies under the working directory."""
        here = Path.cwd()
        return self.root.relative_to(here) if self.root.is_relative_to(here) else self.root

    @property
    def facts_file(self) -> Path:
        return self.root / "run.json"

    @property
    def metrics_file(self) -> Path:
        return self.root / "metrics.json"

    @property
    def checkpoints(self) -> Path:
        return self.root / "checkpoints"

    @property
    def catalogue(self) -> Path:
        return self.root / "catalogue"

    @property
    def evaluation(self) -> Path:
        return self.root / "evaluation"

    @property
    def validation(self) -> Path:
        """Figures of every user on the validation rows, which settings are chosen by."""
        return self.root / "validation"

    def facts(self) -> dict[str, Any]:
        """What `run.json` says."""
        return read_object(self.facts_file)


def finish(run: RunDirectory, begun: dict[str, Any], fitted: dict[str, Any], prepared: Prepared) -> dict[str, Any]:
    """Write `run.json`: what was trained, on what, at what cost; returns its content.

    Of a run that was stopped and went on, `seconds`, `total_seconds`, `rows_per_second` and `peak_memory_bytes` are
    those of all its parts, less what was done after their last checkpoint; `resumed` tells when it went on.
    """
    facts = {
        **begun,
        "data": prepared.data_name,
        "label": prepared.label_name,
        "fingerprint": prepared.fingerprint,
        "rows": {split: prepared.store.num_rows(split) for split in SPLITS},
        "users": prepared.schema.num_users,
        "items": prepared.schema.num_items,
        "prepare_seconds": round(prepared.seconds, 3),
        "prepared_from_cache": prepared.from_cache,
        "cache": str(prepared.directory.resolve()),
        **fitted,
        "total_seconds": round(total_seconds(), 3),
        "peak_memory_bytes": peak_memory_bytes(),
        "report": prepared.report,
    }
    write_json(run.facts_file, facts)
    return facts


def next_steps(run: RunDirectory, fitted: dict[str, Any]) -> str:
    """What a person may do next, and the run directory last."""
    place, this = run.shown, command_word("run", run.shown)
    rate = f"{fitted['rows_per_second']:,.0f} rows/s"
    return (
        f"\ntrained {fitted['epochs']} epochs in {fitted['seconds']:.1f} s ({rate}) on {fitted['device']}\n"
        f"next:\n  python recommend.py {this}\n  python evaluate.py {this}\nrun directory: {place}"
    )


def environment() -> dict[str, Any]:
    """Versions, machine and code state: what a reader needs to repeat a run."""
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "threads": torch.get_num_threads(),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "git_commit": _git_commit(),
        "command": shlex.join(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def _version(name: str) -> str | None:
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def _git_commit() -> str | None:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=10, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None
