"""Lightning's trainer as a config asks for it: processes, callbacks, loggers, and its words in ours."""

from __future__ import annotations

import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback

from towerrec import distributed
from towerrec.checkpoint_io import WholeCheckpoints
from towerrec.config import TrainConfig, build
from towerrec.nn.losses import Loss

# What Lightning says on every start and nobody can act on.
_NOISE = (
    ".*`isinstance.treespec, LeafSpec.*",
    "Total length of `list` across ranks is zero.*",
    "You have overridden `transfer_batch_to_device`.*",
    ".*does not have many workers.*",
    ".*The number of training batches .* is smaller than the logging interval.*",
    # Our loaders start where they are told to.
    "You're resuming from a checkpoint that ended before the epoch ended.*",
    # Of a run that goes on.
    "Experiment logs directory .* exists and is not empty.*",
    "Checkpoint directory .* exists and is not empty.*",
    # Our figures are sums over all processes before they are logged.
    ".*It is recommended to use `self.log\\(.*sync_dist=True.*",
)


def quiet() -> None:
    """Leave out what Lightning says on every start."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in _NOISE:
        warnings.filterwarnings("ignore", text)


def processes(trainer: dict[str, Any]) -> dict[str, Any]:
    """The config of the trainer with the processes that were started for it."""
    job = distributed.job()
    if job is None:
        return trainer
    devices, num_nodes = job.devices(trainer["devices"], trainer["num_nodes"])
    return {**trainer, "devices": devices, "num_nodes": num_nodes}


def trainer_of(cfg: TrainConfig, callbacks: list[Callback], directory: Path) -> L.Trainer:
    """The trainer of a run directory.

    Raises:
        ValueError: More processes than CPU cores, or settings that Lightning refuses.
    """
    devices, cores = cfg.trainer.get("devices"), os.cpu_count() or 1
    on_cpu = cfg.trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
    if on_cpu and isinstance(devices, int) and devices > cores:  # Lightning would start any number of processes
        raise ValueError(f"trainer.devices={devices}: without a GPU, one for each of the {cores} CPU cores at most")
    with lightnings_words():
        trainer: L.Trainer = build(
            cfg.trainer,
            "trainer",
            callbacks=callbacks,
            plugins=[WholeCheckpoints()],
            logger=[build(node, f"logger.{name}") for name, node in cfg.logger.items()],
            default_root_dir=str(directory),
        )
    return trainer


def callbacks_of(nodes: Mapping[str, Any], loss: Loss, *, validated: bool, logged: bool) -> list[Callback]:
    """The configured callbacks, watching what the loss is judged by; without validation nothing can be watched."""
    built: list[Callback] = []
    for name, node in nodes.items():
        # Lightning refuses to watch learning rates where nothing is logged.
        if node is None or (node["_target_"].endswith("LearningRateMonitor") and not logged):
            continue
        keywords = dict(node)
        if "monitor" in keywords:
            if not validated:
                if keywords["_target_"].endswith("EarlyStopping"):
                    continue
                keywords["monitor"] = None
            elif keywords["monitor"] is None:
                keywords |= {"monitor": loss.monitor, "mode": loss.mode}
        built.append(build(keywords, f"callbacks.{name}"))
    return built


def train(trainer: L.Trainer, module: L.LightningModule, data: L.LightningDataModule) -> None:
    """Fit; a signal ends in `KeyboardInterrupt`."""
    with interruptible(trainer):
        trainer.fit(module, datamodule=data)


@contextmanager
def interruptible(trainer: L.Trainer) -> Iterator[None]:
    """A signal ends in `KeyboardInterrupt`, which Lightning would turn into exit code 1, and is heard by us alone.

    Lightning's handlers leave in the middle of an epoch without a checkpoint, wait for processes that have heard
    nothing, and under SLURM write a checkpoint of their own on SIGUSR1, which the next start would take; and its
    processes ask each other before every batch whether the first has heard SIGTERM. Ours: `stopping`, `agreeing`.
    """
    trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
    trainer.fit_loop.epoch_loop._broadcast_sigterm_tensor = lambda: None  # type: ignore[method-assign]
    try:
        yield
    except SystemExit:
        if not trainer.interrupted:
            raise
    if trainer.interrupted:
        raise KeyboardInterrupt


@contextmanager
def lightnings_words() -> Iterator[None]:
    """Lightning has its own class for mistakes in settings, and a plain RuntimeError for some others."""
    try:
        yield
    except MisconfigurationException as error:
        raise ValueError(f"Lightning refuses the settings of trainer or callbacks: {error}") from error
    except RuntimeError as error:
        if "does not allow for gradient clipping" in str(error):
            raise ValueError(
                "trainer.gradient_clip_val with trainer.precision=bf16-mixed or 16-mixed: Lightning does not clip for "
                "an optimiser that takes its step in one kernel; add optimizer.fused=false"
            ) from error
        if not str(error).startswith("Early stopping conditioned on metric"):
            raise
        raise ValueError(f"callbacks.early_stopping or loss.monitor: {error}") from error
