"""Faults that stop a run at a chosen point: a process that is killed there, an exception, a full disk."""

from __future__ import annotations

import errno
import importlib
import os
import random
import signal
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

# What is called at the point: module, class or "" and function.
POINTS = {
    "step": ("towerrec.module", "RetrievalModule", "training_step"),
    "optimiser": ("towerrec.module", "RetrievalModule", "on_before_optimizer_step"),
    "validation": ("towerrec.module", "RetrievalModule", "validation_step"),
    "end of validation": ("towerrec.module", "RetrievalModule", "on_validation_epoch_end"),
    "checkpoint": ("lightning.pytorch", "Trainer", "save_checkpoint"),
    "checkpoint, half written": ("torch", "", "save"),
    "renaming the checkpoint": ("pathlib", "Path", "replace"),
    "curves": ("towerrec.curves", "", "write_json"),
    "logging": ("towerrec.tensorboard.logger", "TensorBoard", "log_metrics"),
    "cache": ("towerrec.data.prepare", "", "save_tables"),
    "cache, half written": ("numpy", "", "save"),
    "judgement": ("towerrec.judging", "", "judge_run"),
    "report": ("towerrec.judging", "", "present"),
    "end of TensorBoard": ("towerrec.tensorboard.results", "", "write"),
    "run.json": ("towerrec.run_directory", "", "write_json"),
    "metrics.json": ("towerrec.tasks", "", "write_json"),
}
_HALF = ("checkpoint, half written", "cache, half written")


@dataclass(frozen=True)
class Fault:
    """What happens at the n-th passing of a point.

    Attributes:
        point: A name of `POINTS`.
        at: From 1.
        how: `kill` (SIGKILL), `term` (SIGTERM), `error` (an exception) or `disk` (no space left).
        after: Whether what is called there is done before.
    """

    point: str
    at: int
    how: str = "kill"
    after: bool = False

    @property
    def kind(self) -> str:
        named = {"kill": "SIGKILL", "term": "SIGTERM", "error": "exception", "disk": "full disk"}
        return f"{named[self.how]}: {self.point}"

    def plant(self, put: Callable[[Any, str, Any], None] = setattr) -> None:
        """Put it in its place, in this process."""
        module, owner, name = POINTS[self.point]
        found: Any = importlib.import_module(module)
        holder = getattr(found, owner) if owner else found
        original = getattr(holder, name)
        passed = [0]

        def reached(*args: Any, **kwargs: Any) -> Any:
            passed[0] += 1
            if passed[0] != self.at:
                return original(*args, **kwargs)
            if self.point in _HALF:
                _write_half(original, args, kwargs)
            elif self.after:
                original(*args, **kwargs)
            self._strike()
            return None if self.after else original(*args, **kwargs)

        put(holder, name, reached)

    def _strike(self) -> None:
        if self.how == "kill":
            os.kill(os.getpid(), signal.SIGKILL)
        elif self.how == "term":
            os.kill(os.getpid(), signal.SIGTERM)
        elif self.how == "disk":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        else:
            raise RuntimeError(f"injected at {self.point}")


def drawn(draw: random.Random, seconds: float) -> tuple[str, Fault | None, float | None, int]:
    """A fault: its kind, what to plant, and after how many seconds which signal is sent from outside."""
    if draw.random() < 0.4:
        by = draw.choice([signal.SIGKILL, signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
        return f"{signal.Signals(by).name}: random moment", None, draw.uniform(0.0, seconds), by
    point = draw.choice(list(POINTS))
    # Few enough that most are reached before the run is over, also by one that goes on.
    most = {"step": 30, "optimiser": 30, "validation": 5, "renaming the checkpoint": 5, "logging": 8}
    how = draw.choice(
        ["kill", "kill", "error"] if point not in ("checkpoint", "curves", *_HALF) else ["kill", "kill", "disk"]
    )
    fault = Fault(point, draw.randint(1, most.get(point, 2)), how, after=draw.random() < 0.5)
    return fault.kind, fault, None, signal.SIGKILL


def _write_half(original: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Write what would be written, then cut the file in half."""
    original(*args, **kwargs)
    for target in args:
        if isinstance(target, str | Path) and Path(target).is_file():
            os.truncate(target, Path(target).stat().st_size // 2)
        elif hasattr(target, "truncate"):
            target.truncate(max(target.tell() // 2, 1))
            target.flush()
