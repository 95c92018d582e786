"""The model that a run begins with, where it goes on from another: judged before the first step, and never given up for
a worse one."""

from __future__ import annotations

import logging
import math
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from towerrec.restoring import savers

log = logging.getLogger(__name__)


class Beginning(Callback):
    """Validates before the first step and keeps that model as `best.ckpt` until an epoch is better.

    What validates in time for Lightning is its sanity check, with all batches and under random numbers of its own: what
    is learnt afterwards does not depend on it. Early stopping counts from the first epoch, as ever: an optimiser that
    begins anew may take a step back before it gets ahead.

    Attributes:
        figure: The watched figure of the model that the run began with; None before it is known.
    """

    def __init__(self) -> None:
        self.figure: float | None = None

    def state_dict(self) -> dict[str, Any]:
        return {"figure": self.figure}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.figure = state_dict["figure"]

    def validate_first(self, trainer: L.Trainer, *, goes_on: bool) -> None:
        """Have the next fit validate before its first step; a run that was stopped has done so."""
        trainer.num_sanity_val_steps = 0 if goes_on else math.inf

    def on_sanity_check_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        saver = next(iter(savers(trainer)), None)
        found = None if saver is None else saver._monitor_candidates(trainer)
        if saver is None or found is None or saver.monitor not in found:
            return
        self.figure = float(found[saver.monitor])
        if trainer.is_global_zero:
            log.info(f"before the first epoch: {saver.monitor} {self.figure:.4f}")
        saver._save_topk_checkpoint(trainer, found)
