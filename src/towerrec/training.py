"""One training run: towers, loss and trainer from a config, fitted on a prepared log."""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from towerrec import distributed, resuming
from towerrec.assembling import module_of, probed_scale, settle_batches
from towerrec.beginning import Beginning
from towerrec.callbacks import Throughput
from towerrec.checkpoint import num_epochs
from towerrec.choices import loss_node, model_node, positive_share, probes_scale, watched
from towerrec.config import TrainConfig, build
from towerrec.config_types import check_types
from towerrec.continuing import Start
from towerrec.curves import CURVES, CurvesFile
from towerrec.data.datamodule import RetrievalDataModule
from towerrec.last_checkpoint import RESUME_KEY, LastCheckpoint, newest, where
from towerrec.lightning_trainer import callbacks_of, lightnings_words, processes, quiet, train, trainer_of
from towerrec.module import RetrievalModule
from towerrec.nn.losses import Loss
from towerrec.nn.two_tower import TwoTower
from towerrec.pruning import pruning
from towerrec.run_directory import RunDirectory
from towerrec.sharding import ShardedTables
from towerrec.stability import guarded
from towerrec.tensorboard import results

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Fitted:
    """What a fit leaves: where its checkpoints are and what it cost.

    Attributes:
        best: The checkpoint to judge: the best on validation, or the last where nothing was validated.
        best_epochs: Epochs it has seen.
        monitor: The validation figure that was watched, None where there was none.
        monitored: Its best value.
        pruned: What was known when the run was given up (`pruning.Pruning`), None where it was not.
        facts: Plain builtins for `run.json`.
        loggers: Those of the trainer, for what is found out after it.
    """

    best: Path
    best_epochs: int
    monitor: str | None
    monitored: float | None
    facts: dict[str, Any]
    pruned: dict[str, Any] | None = None
    loggers: list[Logger] = field(default_factory=list)


def fit(
    cfg: TrainConfig,
    data: RetrievalDataModule,
    directory: Path,
    *,
    part: str = "",
    start: Start | None = None,
) -> Fitted:
    """Train on a prepared log and leave `checkpoints/best.ckpt` and `checkpoints/last.ckpt` under `directory`.

    In the directory of a run that was stopped (`resuming`) training goes on from its `last.ckpt`.

    Args:
        cfg: All settings; what they leave open is settled in place.
        data: The log.
        directory: The run directory.
        part: Folder of the curves in it, where a run has more than one fit.
        start: Weights to begin with, where the run continues another one.
    """
    quiet()
    loss: Loss = build(loss_node(cfg.loss, data.prepared, candidates=cfg.eval.candidates), "loss")
    validated = data.prepared.store.num_rows("val") > 0
    module = _settled(cfg, data, loss, directory, validated=validated)
    if start is not None:
        start.into(module)
    throughput = Throughput()
    monitor, mode = watched(cfg.callbacks, loss)
    pruner = pruning(directory, monitor=monitor, mode=mode, decides=distributed.rank() == 0) if validated else None
    beginning = Beginning() if start is not None and validated else None
    ours = [throughput, CurvesFile(directory / part / CURVES), *filter(None, (pruner, beginning))]
    callbacks = guarded([*ours, *callbacks_of(cfg.callbacks, loss, validated=validated, logged=bool(cfg.logger))])
    # What restores a state comes before those whose state it is.
    callbacks.sort(key=lambda callback: not isinstance(callback, LastCheckpoint))
    trainer = trainer_of(cfg, callbacks, directory)
    log.info(_headline(module, loss, data))
    last = _going_on(trainer, callbacks, module, data, directory)
    if beginning is not None:
        beginning.validate_first(trainer, goes_on=last is not None and last.goes_on)
    parameters = _num_parameters(module)  # now: training may share them out over processes
    started = time.perf_counter()
    with lightnings_words():
        train(trainer, module, data)
    seconds = time.perf_counter() - started + (0.0 if last is None else last.seconds_before)
    saver, seen = _best(trainer, callbacks)
    if seen == 0:
        log.info("no epoch was better on the validation rows than the model it began with, which is kept")
    return Fitted(
        best=Path(saver.best_model_path),
        best_epochs=seen,
        monitor=saver.monitor,
        monitored=None if saver.best_model_score is None else float(saver.best_model_score),
        pruned=pruner.pruned if pruner else None,
        facts={
            "loss": loss.name,
            "batch_size": cfg.loader.batch_size,
            "unit": cfg.loader.unit,
            "seconds": round(seconds, 3),
            "rows_per_second": round(throughput.rows_per_s, 1),
            "parameters": parameters,
            "profile": module.model.profile_kind,
            **({} if beginning is None else {"began_with": beginning.figure}),
            **_facts(trainer, saver),
        },
        loggers=trainer.loggers,
    )


def _settled(
    cfg: TrainConfig, data: RetrievalDataModule, loss: Loss, directory: Path, *, validated: bool
) -> RetrievalModule:
    """The module of a config, and in the config what it left open."""
    settle_batches(cfg, data, loss)
    cfg.trainer = processes(cfg.trainer)
    if validated and probes_scale(cfg.model, loss):
        known = resuming.settled(directory).get("scale")
        cfg.model = {**cfg.model, "scale": probed_scale(cfg, data, loss) if known is None else known}
        resuming.settle(directory, scale=cfg.model["scale"])
    cfg.model = model_node(cfg.model, loss, only_positives=positive_share(data.prepared) == 1.0)
    check_types(TwoTower, {key: value for key, value in cfg.model.items() if key != "members"}, "model")
    return module_of(cfg, data, loss, validated=validated)


def _going_on(
    trainer: L.Trainer,
    callbacks: list[Callback],
    module: RetrievalModule,
    data: RetrievalDataModule,
    directory: Path,
) -> LastCheckpoint | None:
    """What keeps the place of the training, told where it goes on; the loggers likewise, or they begin."""
    last = next((callback for callback in callbacks if isinstance(callback, LastCheckpoint)), None)
    # A directory that did not begin by `resuming.begin` may hold the checkpoints of anything.
    found = newest(last.directory) if last is not None and resuming.has_begun(directory) else None
    if last is None or found is None:
        report, settings = data.prepared.report, module.hparams["settings"]
        results.begin(trainer.loggers, RunDirectory(directory), report, settings)
    else:
        last.go_on_from(found)
        log.info(where(found))
        results.go_on(trainer.loggers, found[RESUME_KEY]["loggers"])
    return last


def _best(trainer: L.Trainer, callbacks: list[Callback]) -> tuple[ModelCheckpoint, int]:
    """Who knows the best checkpoint, and the epochs it has seen."""
    saver = next((callback for callback in callbacks if isinstance(callback, ModelCheckpoint)), None)
    # Only the first process wrote it, perhaps on another node's disk.
    seen = num_epochs(saver.best_model_path) if saver and trainer.is_global_zero and saver.best_model_path else None
    seen = trainer.strategy.broadcast(seen)
    if saver is None or seen is None:
        raise ValueError("no checkpoint was written: keep callbacks.checkpoint and train for at least one epoch")
    return saver, seen


def _facts(trainer: L.Trainer, saver: ModelCheckpoint) -> dict[str, Any]:
    """What a trainer knows of its fit, for `run.json`."""
    return {
        "epochs": trainer.current_epoch,
        "steps": trainer.global_step,
        "device": str(trainer.strategy.root_device),
        "devices": trainer.world_size,
        "sharded": isinstance(trainer.strategy, ShardedTables),
        "rank": trainer.global_rank,
        "monitor": saver.monitor,
        "monitored": None if saver.best_model_score is None else float(saver.best_model_score),
        "mode": saver.mode if saver.monitor else None,
        "peak_device_memory_bytes": _peak_device_memory(trainer.strategy.root_device),
    }


def _headline(module: RetrievalModule, loss: Loss, data: RetrievalDataModule) -> str:
    schema = data.prepared.schema
    users, items = len(schema.side("user")), len(schema.side("item"))
    parameters = _num_parameters(module)
    rows = data.num_learnt
    return (
        f"model: {users} user and {items} item features, {parameters:,} parameters; loss {loss.name} on "
        f"{loss.rows} of {rows:,} training rows, "
        + (f"watching {loss.monitor}" if data.prepared.store.num_rows("val") else "no validation rows")
    )


def _num_parameters(module: RetrievalModule) -> int:
    return sum(p.numel() for p in module.parameters())


def _peak_device_memory(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
