"""Callbacks of our own: speed, and progress where there is no terminal. The others are Lightning's."""

from __future__ import annotations

import time
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ProgressBar, TQDMProgressBar
from torch import Tensor

from towerrec.cost import peak_memory_bytes
from towerrec.progress import shown
from towerrec.schema import Batch


class Throughput(Callback):
    """Logs every epoch what it cost.

    `speed/rows_per_s`: rows of all processes over the time spent training, validation apart; `speed/step_ms`: that time
    per step; `speed/validation_s`; `memory/peak_mib`: the largest resident size of this process so far, and on CUDA
    `memory/device_peak_mib`: the most that its tensors have taken there.

    Attributes:
        rows: Rows trained on so far, over all epochs and processes.
        seconds: Time spent training on them.
    """

    def __init__(self) -> None:
        self.rows = 0
        self.seconds = 0.0
        self._epoch_rows = self._epoch_steps = 0
        self._epoch_seconds = self._validation_seconds = 0.0
        self._since: float | None = None
        self._validating_since = 0.0

    @property
    def rows_per_s(self) -> float:
        """Mean rate of the whole fit."""
        return self.rows / self.seconds if self.seconds > 0 else 0.0

    def state_dict(self) -> dict[str, Any]:
        return {"rows": self.rows, "seconds": self.seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.rows, self.seconds = state_dict["rows"], state_dict["seconds"]

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._epoch_rows = self._epoch_steps = 0
        self._epoch_seconds = self._validation_seconds = 0.0
        self._start()

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._epoch_rows += len(batch)
        self._epoch_steps += 1

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop(pl_module)
        self._validating_since = time.perf_counter()

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._validation_seconds += time.perf_counter() - self._validating_since
            self._start()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._stop(pl_module)
        rows = self._epoch_rows * trainer.world_size
        self.rows += rows
        self.seconds += self._epoch_seconds
        figures = {
            "speed/rows_per_s": rows / max(self._epoch_seconds, 1e-9),
            "speed/step_ms": 1000 * self._epoch_seconds / max(self._epoch_steps, 1),
            "memory/peak_mib": peak_memory_bytes() / 2**20,
        }
        if self._validation_seconds > 0:
            figures["speed/validation_s"] = self._validation_seconds
        if pl_module.device.type == "cuda":
            figures["memory/device_peak_mib"] = torch.cuda.max_memory_allocated(pl_module.device) / 2**20
        pl_module.log_dict(figures, rank_zero_only=True)

    def _start(self) -> None:
        self._since = time.perf_counter()

    def _stop(self, module: L.LightningModule) -> None:
        if self._since is None:
            return
        if module.device.type == "cuda":
            # Kernels still run when the host is done: wait once an epoch for an honest figure.
            torch.cuda.synchronize(module.device)
        self._epoch_seconds += time.perf_counter() - self._since
        self._since = None


class EpochLines(ProgressBar):
    """One line an epoch, for logs and pipes: `epoch 3/10  12.4 s  val/ndcg@20 0.5312  train/loss 0.1203 ...`.

    Args:
        figures: Names of the figures to print, where they were logged.
    """

    def __init__(self, *, figures: list[str] | None = None) -> None:
        super().__init__()
        default = ["train/loss", "speed/rows_per_s", "val/ndcg@20", "val/recall@100", "val/rmse"]
        self.figures = default if figures is None else list(figures)
        self._enabled = True
        self._since = 0.0

    def disable(self) -> None:
        self._enabled = False

    def enable(self) -> None:
        self._enabled = True

    def on_train_epoch_start(self, trainer: L.Trainer, *_: Any) -> None:
        self._since = time.perf_counter()

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not self._enabled or not trainer.is_global_zero:
            return
        last = "" if trainer.max_epochs in (None, -1) else f"/{trainer.max_epochs}"
        parts = [f"epoch {trainer.current_epoch + 1}{last}", f"{time.perf_counter() - self._since:.1f} s"]
        logged = trainer.callback_metrics
        parts += [f"{name} {_short(logged[name])}" for name in self.figures if name in logged]
        print("  ".join(parts), flush=True)

    def print(self, *args: Any, **kwargs: Any) -> None:
        print(*args, **kwargs)


def progress(*, kind: str = "auto") -> ProgressBar:
    """A progress bar.

    Args:
        kind: `bar`, `lines`, or `auto`: a bar where bars are shown (on a terminal, see the key `progress`), lines
            elsewhere.

    Raises:
        ValueError: An unknown kind.
    """
    if kind not in ("auto", "bar", "lines"):
        raise ValueError(f"callbacks.progress.kind must be auto, bar or lines, got {kind!r}")
    bar = shown() if kind == "auto" else kind == "bar"
    return TQDMProgressBar(refresh_rate=10) if bar else EpochLines()


def _short(value: Tensor) -> str:
    number = float(value)
    return f"{number:,.0f}" if abs(number) >= 1000 else f"{number:.4f}"
