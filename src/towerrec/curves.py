"""The course of a training as a file: one entry per epoch, for the report and for anybody who reads JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import Callback

from towerrec.files import read_object, write_json

CURVES = "curves.json"

# Of single steps: the last one of an epoch says nothing about the epoch.
_OF_STEPS = ("train/loss_step", "optim/grad_norm")

Curves = dict[str, list[float | None]]


class CurvesFile(Callback):
    """Writes `curves.json` whole after every epoch: `epoch` (from 1) and every figure that was logged for the epoch.

    A figure that some epoch has not, for want of a validation say, is null there. A resumed training goes on with the
    file as it was when its checkpoint was written.

    Args:
        path: The file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._epoch, self._validated = -1, False

    def state_dict(self) -> dict[str, Any]:
        return {"epoch": self._epoch, "validated": self._validated}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._epoch, self._validated = state_dict["epoch"], state_dict["validated"]

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.is_global_zero and trainer.global_step == 0:
            self.path.unlink(missing_ok=True)

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._epoch != trainer.current_epoch:  # else a resumed run goes on within it, perhaps after a validation
            self._epoch, self._validated = trainer.current_epoch, False

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._validated = not trainer.sanity_checking

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # Asking for figures can mean that processes wait for each other: all ask, one writes.
        logged = {name: float(value) for name, value in trainer.callback_metrics.items()}
        if not trainer.is_global_zero:
            return
        of_epoch = {
            name: value
            for name, value in logged.items()
            if name not in _OF_STEPS and (self._validated or not name.startswith("val/"))
        }
        write_json(self.path, extended(read_curves(self.path), trainer.current_epoch + 1, of_epoch))


def extended(curves: Curves, epoch: int, figures: Mapping[str, float]) -> Curves:
    """The curves with one more epoch; what they had of it and of later ones is replaced. Not a number becomes null."""
    kept = sum(1 for number in curves.get("epoch", []) if number is not None and number < epoch)
    names = [name for name in curves if name != "epoch"]
    names += [name for name in figures if name not in curves]
    longer: Curves = {"epoch": [*curves.get("epoch", [])[:kept], epoch]}
    for name in names:
        value = figures.get(name)
        before = curves.get(name, [None] * kept)[:kept]
        # Six digits: what is logged is float32.
        longer[name] = [*before, float(f"{value:.6g}") if value is not None and math.isfinite(value) else None]
    return longer


def read_curves(path: Path) -> Curves:
    """What a training left so far; empty where it left nothing."""
    curves: Curves = read_object(path) if path.is_file() else {}
    if not all(isinstance(curve, list) and all(map(_is_figure, curve)) for curve in curves.values()):
        raise ValueError(f"{path} is damaged, it holds no curves: delete it, and the next epoch begins it anew")
    return curves


def _is_figure(value: object) -> bool:
    return value is None or (isinstance(value, int | float) and not isinstance(value, bool))
