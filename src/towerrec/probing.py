"""A setting that no rule knows, tried for a few steps: the factor of the cosine under one softmax per user.

How sharp the softmax should be depends on how much of a user's next item his others tell. Its training loss is no
guide: left to it, the factor grows long after the lists have begun to get worse. The lists of validation users are, and
which factor is best shows within a few dozen steps.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from functools import partial
from typing import Any

import lightning as L
from lightning.pytorch.strategies import Strategy

from towerrec.data.datamodule import RetrievalDataModule
from towerrec.lightning_trainer import interruptible
from towerrec.module import RetrievalModule
from towerrec.stability import Stability

log = logging.getLogger(__name__)

SCALES = (3.5, 5.0, 8.0, 12.0)
_START = 1
_STEPS = 50


def best_scale(
    make: Callable[[float], RetrievalModule],
    data: RetrievalDataModule,
    *,
    monitor: str,
    accelerator: str,
    devices: int | str | list[int] = 1,
    num_nodes: int = 1,
    strategy: str | Callable[[], Strategy] = "auto",
) -> float:
    """The scale of `SCALES` with the best validation figure after about fifty steps (whole epochs).

    From the second one downwards, and upwards where downwards is no better: two to four short fits.

    Args:
        make: A module with that scale, ready to be trained.
        data: Its batches.
        monitor: Validation figure to compare, larger is better.
        accelerator: As of the trainer.
        devices: As of the trainer: processes that train together find the same scale together.
        num_nodes: As of the trainer.
        strategy: As of the trainer, or what builds it: every fit needs its own.
    """
    found: dict[int, float] = {}

    def figure(place: int) -> float:
        if place not in found:
            fitted = partial(_figure, accelerator=accelerator, devices=devices, num_nodes=num_nodes, strategy=strategy)
            found[place] = fitted(make(SCALES[place]), data, monitor=monitor)
        return found[place]

    best, step = _START, -1
    if figure(_START - 1) <= figure(_START):
        step = 1
    while 0 <= best + step < len(SCALES) and figure(best + step) > figure(best):
        best += step
    tried = ", ".join(f"{SCALES[place]:g}: {value:.4f}" for place, value in sorted(found.items()))
    log.info(f"model.scale={SCALES[best]:g} ({monitor} after short fits: {tried}); set it to spare these")
    return SCALES[best]


def _figure(module: RetrievalModule, data: RetrievalDataModule, *, monitor: str, **processes: Any) -> float:
    return float(_fit_of(module, data, **processes).callback_metrics[monitor])


def _fit_of(
    module: RetrievalModule, data: RetrievalDataModule, *, strategy: Any = "auto", **processes: Any
) -> L.Trainer:
    """A short fit that validates once, at its end; `processes` are the trainer's settings of that kind."""
    trainer = L.Trainer(
        **processes,
        strategy=strategy() if callable(strategy) else strategy,
        max_epochs=1,
        callbacks=[Stability()],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        use_distributed_sampler=False,
    )
    # How many steps an epoch has only the loader knows.
    data.trainer = trainer
    loader, val_loaders = data.train_dataloader(), data.val_dataloader()
    epochs = max(1, math.ceil(_STEPS / max(len(loader), 1)))
    trainer.fit_loop.max_epochs = epochs
    trainer.check_val_every_n_epoch = epochs
    with interruptible(trainer):
        trainer.fit(module, loader, val_loaders)
    return trainer
