"""A run directory: what lies where, and the facts that make a run repeatable.

Every file is written under a temporary name and renamed, so a reader never meets half of one.
"""

from __future__ import annotations

import json
import os
import platform
import resource
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

PACKAGES = ("towerrec", "torch", "lightning", "polars", "numpy", "hydra-core", "torchmetrics")


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
            raise ValueError(f"run={path} is not a finished run of train.py: run.json is missing (it holds {held})")
        return run

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

    def facts(self) -> dict[str, Any]:
        """What `run.json` says."""
        facts: dict[str, Any] = json.loads(self.facts_file.read_text(encoding="utf-8"))
        return facts


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        temporary.write_text(json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n", encoding="utf-8")
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def environment() -> dict[str, Any]:
    """Versions, machine and code state: what a reader needs to repeat a run."""
    return {
        "python": platform.python_version(),
        "versions": {name: _version(name) for name in PACKAGES},
        "machine": f"{platform.machine()}, {os.cpu_count()} cores",
        "git_commit": _git_commit(),
        "command": " ".join(sys.argv),
        "started": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
    }


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


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
