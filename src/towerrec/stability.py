"""A run that has come to grief ends at once and says where: numbers that are none, or a loss that has run away.

What is looked at, and when, so that no step waits for the device and no checkpoint holds what is not finite:

- the loss of every step, `STEPS` of them at a time and at the end of an epoch;
- weights, buffers and the state of the optimiser, before they are validated or written, once after each step that is;
- the validation figure that is watched, before anything is chosen by it.

Steps are never skipped; only half precision does that, while its loss scaler looks for a factor, and that is told apart
from a factor that has fallen to nothing. A run that ends so is no finished run: no `run.json` is written, and its
directory keeps the checkpoints of the last good moment. All processes stop together, with the words of the first that
found something.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from torch import Tensor

from towerrec.module import RetrievalModule
from towerrec.schema import Batch

STEPS = 50
"""Losses that are looked at together: one wait for the device."""
SMALLEST_SCALE = 2.0**-14
"""Of a loss scaler: where gradients made so much smaller still overflow float16, no factor will do."""
LARGEST_LABEL = 1e18
"""Its square is about the largest float32."""


class Stability(Callback):
    """Ends a run whose loss, weights or watched figure are not finite, or whose loss has run away.

    A loss has run away when the median of no stretch of `STEPS` steps of a whole epoch is below
    `first + factor * max(|first|, 1)`, with `first` the loss of the run's first step. Medians, so that a few rows with
    huge labels are no reason; a whole epoch, for a run that finds back is none either; and a factor that no useful run
    comes near: a hundred times the loss of a model that knows nothing.

    Args:
        factor: How many times the first loss is too much; None: whatever is finite may go on.

    Raises:
        ValueError: A factor that is not above 1.
    """

    def __init__(self, *, factor: float | None = 100.0) -> None:
        if factor is not None and not factor > 1.0:
            raise ValueError(f"callbacks.stability.factor must be above 1, or null, got {factor}")
        self.factor = factor
        self._first: float | None = None
        self._epoch, self._lowest = -1, math.inf
        # Steps and their losses since the last look.
        self._losses: list[tuple[int, Tensor]] = []
        self._checked_step = -1

    def state_dict(self) -> dict[str, Any]:
        # With what waits for the next look, which a run that goes on will not have.
        waiting = torch.stack([loss for _, loss in self._losses]).tolist() if self._losses else []
        first = waiting[0] if self._first is None and waiting else self._first
        return {
            "first": first,
            "epoch": self._epoch,
            "lowest": min([self._lowest, *([median(waiting)] if waiting else [])]),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self._first, self._epoch, self._lowest = (state_dict[name] for name in ("first", "epoch", "lowest"))

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._epoch != trainer.current_epoch:  # else a resumed run goes on within it
            self._epoch, self._lowest = trainer.current_epoch, math.inf

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self._losses.append((trainer.global_step, outputs["loss"]))
        if trainer.is_last_batch:
            self._check(trainer, pl_module, epoch_ends=True)
        elif len(self._losses) >= STEPS:
            stop_together(trainer, self._trouble_of_losses(trainer, pl_module))

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if not trainer.sanity_checking:
            self._check(trainer, pl_module)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        # All processes have the same figures.
        for saver in trainer.checkpoint_callbacks:
            name = getattr(saver, "monitor", None)
            value = trainer.callback_metrics.get(name) if name is not None and not trainer.sanity_checking else None
            if value is not None and not math.isfinite(float(value)):
                what = f"{name}, by which the best epoch is chosen, is {float(value)}"
                raise ValueError(_words(trainer, pl_module, trainer.global_step, what))

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._check(trainer, pl_module)

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        self._check(trainer, pl_module)

    def _check(self, trainer: L.Trainer, module: L.LightningModule, *, epoch_ends: bool = False) -> None:
        """Losses since the last look, and everything that a checkpoint would hold, once after each step."""
        if trainer.global_step == self._checked_step and not epoch_ends:
            return
        words = self._trouble_of_losses(trainer, module)
        if words is None:
            found = (self._runaway() if epoch_ends else None) or _scaler_trouble(trainer) or _weights_trouble(module)
            words = None if found is None else _words(trainer, module, trainer.global_step, found)
        stop_together(trainer, words)
        self._checked_step = trainer.global_step

    def _trouble_of_losses(self, trainer: L.Trainer, module: L.LightningModule) -> str | None:
        """What is wrong with the losses since the last look; they are forgotten."""
        if not self._losses:
            return None
        values = torch.stack([loss for _, loss in self._losses]).tolist()
        steps, self._losses = [step for step, _ in self._losses], []
        for step, value in zip(steps, values, strict=True):
            if not math.isfinite(value):
                return _words(trainer, module, step, f"the loss is {value}")
        self._first = values[0] if self._first is None else self._first
        self._lowest = min(self._lowest, median(values))
        return None

    def _runaway(self) -> str | None:
        if self.factor is None or self._first is None or not math.isfinite(self._lowest):
            return None
        if self._lowest <= self._first + self.factor * max(abs(self._first), 1.0):
            return None
        return (
            f"training diverges: the loss was {self._first:.4g} in the first step and never below {self._lowest:.4g} "
            f"in this epoch (callbacks.stability.factor={self.factor:g} times the first is too much)"
        )


def guarded(callbacks: list[Callback]) -> list[Callback]:
    """The callbacks with a `Stability` before all others; where none is configured, one that checks what is finite."""
    own = [callback for callback in callbacks if isinstance(callback, Stability)]
    return [*(own or [Stability(factor=None)]), *(callback for callback in callbacks if callback not in own)]


def stop_together(trainer: L.Trainer, words: str | None) -> None:
    """End the run in all its processes if one of them has found something: none is left waiting for another.

    Every process must come here.

    Raises:
        ValueError: With the words of the first process that has some.
    """
    if trainer.world_size > 1:
        mine = torch.tensor(int(words is not None), device=trainer.strategy.root_device)
        every = torch.as_tensor(trainer.strategy.all_gather(mine)).flatten()
        if bool(every.any()):
            words = trainer.strategy.broadcast(words, src=int(every.argmax()))
    if words is not None:
        raise ValueError(words)


def _scaler_trouble(trainer: L.Trainer) -> str | None:
    scaler = getattr(trainer.precision_plugin, "scaler", None)
    scale = None if scaler is None or not scaler.is_enabled() else float(scaler.get_scale())
    if scale is None or scale >= SMALLEST_SCALE:
        return None
    return f"every gradient overflows float16 (the loss scaler has fallen to {scale:.1e}), so no step was made of late"


def _weights_trouble(module: L.LightningModule) -> str | None:
    """Names of what is not finite among weights, buffers and the optimiser's state; one wait for the device."""
    named = [(name, tensor) for name, tensor in _tensors(module) if tensor.is_floating_point() and tensor.numel()]
    # A sum is the cheapest pass over a tensor; where finite numbers overflow it, the exact one decides.
    sums = torch.stack([tensor.detach().sum().float().to(module.device) for _, tensor in named])
    suspects = [named[i] for i in (~sums.isfinite()).nonzero()[:, 0].tolist()]
    bad = [(name, int((~tensor.isfinite()).sum()), tensor.numel()) for name, tensor in suspects]
    told = [f"{name} ({number:,} of {size:,} values)" for name, number, size in bad if number]
    if not told:
        return None
    more = f" and {len(told) - 3} more" if len(told) > 3 else ""
    return f"not finite are {', '.join(told[:3])}{more}"


def _tensors(module: L.LightningModule) -> Iterator[tuple[str, Tensor]]:
    yield from module.named_parameters()
    yield from module.named_buffers()
    optimizers = module.trainer.optimizers
    names = {id(parameter): name for name, parameter in module.named_parameters()}
    for optimizer in optimizers:
        for parameter, state in optimizer.state.items():
            for key, value in state.items():
                if isinstance(value, Tensor):
                    yield f"{key} of {names.get(id(parameter), 'a parameter')} in the optimiser", value


def _words(trainer: L.Trainer, module: L.LightningModule, step: int, what: str) -> str:
    """Where and what, under which learning rate, what may help, and what is left of the run."""
    rates = sorted({float(group["lr"]) for optimizer in trainer.optimizers for group in optimizer.param_groups})
    cause = _input_trouble(module) if isinstance(module, RetrievalModule) else None
    half = ", or trainer.precision=bf16-mixed" if trainer.precision == "16-mixed" else ""
    remedy = cause or f"Lower optimizer.lr or set trainer.gradient_clip_val=1{half}, and train anew"
    return (
        f"training ended in epoch {trainer.current_epoch + 1}, step {step:,}, at a learning rate of "
        f"{', '.join(f'{rate:.3g}' for rate in rates)}: {what}. {remedy}. {_kept(trainer)}"
    )


def _input_trouble(module: RetrievalModule) -> str | None:
    """A feature column or the labels, where they are the cause."""
    resident = module.resident
    for side, table in (("user", resident.users), ("item", resident.items)):
        for name, column in table.columns.items():
            bad = (~column.isfinite()).flatten(1).any(1) if column.ndim > 1 else ~column.isfinite()
            if bool(bad.any()):
                return (
                    f"The cause is feature {name!r}: row {int(bad.nonzero()[0, 0])} of the {side} table and "
                    f"{int(bad.sum()) - 1:,} more are not finite; mend that column"
                )
    largest = max(abs(resident.labels.low), abs(resident.labels.high))
    if not largest < LARGEST_LABEL:
        return (
            f"The likely cause are labels up to {largest:.3g}, whose squares are beyond float32: give them another "
            "unit, or clip them (label.clip, label.log=true)"
        )
    return None


def _kept(trainer: L.Trainer) -> str:
    """What is left: checkpoints are written only after a check."""
    saver = trainer.checkpoint_callback
    folder = Path(saver.dirpath) if isinstance(saver, ModelCheckpoint) and saver.dirpath is not None else None
    names = sorted(path.name for path in folder.glob("*.ckpt")) if folder is not None else []
    return f"What {folder} holds is from before and whole: {', '.join(names)}" if names else "No checkpoint was written"
