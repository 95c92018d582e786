"""Giving up a run that a study of Optuna's finds hopeless: it hears of every validation and says go on or stop."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from towerrec.sweep_jobs import TRIAL

if TYPE_CHECKING:
    from optuna.trial import Trial

_OF_TRIAL = "TOWERREC_TRIAL"
"""Set while a trial runs: all its processes have to agree that one of them may end it."""


class Pruning(Callback):
    """Reports the watched figure to a trial after each validation and ends training where the trial says so.

    Args:
        trial: The trial that this run is; None in processes that do not decide.
        monitor: The watched figure.
        mode: `max` or `min`, which is better.

    Attributes:
        pruned: What was known when training was given up: `epoch` and `epochs` (at most), `monitor` and `mode`,
            `value` (at the end) and `best`; None where it was not.
    """

    def __init__(self, trial: Trial | None, *, monitor: str, mode: str) -> None:
        self.trial = trial
        self.monitor, self.mode = monitor, mode
        self.pruned: dict[str, Any] | None = None
        self._values: list[float] = []

    def state_dict(self) -> dict[str, Any]:
        return {"values": self._values, "pruned": self.pruned}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._values, self.pruned = list(state_dict["values"]), state_dict["pruned"]
        if self.trial is not None:
            # A study that was started again has a new trial for this job, which has heard of nothing yet.
            for step, value in enumerate(self._values):
                self.trial.report(value, step=step)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.sanity_checking or self.monitor not in trainer.callback_metrics:
            return
        self._values.append(float(trainer.callback_metrics[self.monitor]))
        epochs = trainer.max_epochs if trainer.max_epochs not in (None, -1) else None
        hopeless = False
        if self.trial is not None:
            # Counted from 0, as Optuna's pruners count their warm-up.
            self.trial.report(self._values[-1], step=len(self._values) - 1)
            # After the last epoch there is nothing to save, and the figures are worth having.
            hopeless = self.trial.should_prune() and trainer.current_epoch + 1 != epochs
        if trainer.strategy.broadcast(hopeless):
            trainer.should_stop = True
            self.pruned = {
                "epoch": trainer.current_epoch + 1,
                "epochs": epochs,
                "monitor": self.monitor,
                "mode": self.mode,
                "value": self._values[-1],
                "best": max(self._values) if self.mode == "max" else min(self._values),
            }


def pruning(directory: Path, *, monitor: str, mode: str, decides: bool) -> Pruning | None:
    """The callback for a run in a job directory; None where the job is no trial of a study.

    Args:
        directory: Of the job; its `trial.json` says which trial of which study it is.
        monitor: The watched figure.
        mode: `max` or `min`.
        decides: Whether this process speaks with the study; others hear from it.
    """
    about = directory / TRIAL
    if not decides:
        return Pruning(None, monitor=monitor, mode=mode) if _OF_TRIAL in os.environ else None
    os.environ.pop(_OF_TRIAL, None)
    if not about.is_file():
        return None
    # Processes that Lightning starts for this run take over what stands here.
    os.environ[_OF_TRIAL] = str(about)
    from towerrec.study import trial_of

    return Pruning(trial_of(json.loads(about.read_text(encoding="utf-8"))), monitor=monitor, mode=mode)
