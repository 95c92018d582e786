"""One training run: towers, loss and trainer from a config, fitted on a prepared log."""

from __future__ import annotations

import copy
import logging
import os
import time
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.fabric.utilities.exceptions import MisconfigurationException
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.loggers import Logger

from towerrec import distributed
from towerrec.callbacks import Throughput
from towerrec.checkpoint import num_epochs
from towerrec.choices import batch_size, loss_node, max_epochs, model_node, positive_share, probes_scale, unit, watched
from towerrec.config import LoaderConfig, TrainConfig, build
from towerrec.config_types import check_types
from towerrec.curves import CURVES, CurvesFile
from towerrec.data.datamodule import RetrievalDataModule
from towerrec.data.labels import invert
from towerrec.module import RankingTask, Resident, RetrievalModule
from towerrec.nn.losses import LabelFacts, Loss
from towerrec.nn.negatives import Negatives
from towerrec.nn.profile import UserProfiles
from towerrec.nn.two_tower import TwoTower
from towerrec.probing import best_scale
from towerrec.protocol import protocol
from towerrec.pruning import pruning
from towerrec.ragged import UserItems
from towerrec.run_directory import RunDirectory
from towerrec.scoring import Moment
from towerrec.sharding import ShardedTables
from towerrec.tensorboard import results

log = logging.getLogger(__name__)

# What Lightning says on every start and nobody can act on.
_NOISE = (
    ".*`isinstance.treespec, LeafSpec.*",
    "Total length of `list` across ranks is zero.*",
    "You have overridden `transfer_batch_to_device`.*",
    ".*does not have many workers.*",
    ".*The number of training batches .* is smaller than the logging interval.*",
    # Our figures are sums over all processes before they are logged.
    ".*It is recommended to use `self.log\\(.*sync_dist=True.*",
)


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


def fit(cfg: TrainConfig, data: RetrievalDataModule, directory: Path) -> Fitted:
    """Train on a prepared log and leave `checkpoints/best.ckpt` and `checkpoints/last.ckpt` under `directory`."""
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for text in _NOISE:
        warnings.filterwarnings("ignore", text)
    prepared = data.prepared
    loss: Loss = build(loss_node(cfg.loss, prepared, candidates=cfg.eval.candidates), "loss")
    loader = cfg.loader
    loader.unit = unit(loss, history_length=loader.history_length) if loader.unit is None else loader.unit
    if loader.batch_size is None:
        loader.batch_size = batch_size(_num_units(data, loss, loader.unit), loader.unit)
    if cfg.trainer["max_epochs"] is None:
        cfg.trainer["max_epochs"] = max_epochs(loader.unit)
    data.hparams.update(rows=loss.rows, batch_size=loader.batch_size, unit=loader.unit)
    validated = prepared.store.num_rows("val") > 0
    cfg.trainer = _processes(cfg.trainer)
    if validated and probes_scale(cfg.model, loss):
        cfg.model = {**cfg.model, "scale": _probed_scale(cfg, data, loss)}
    cfg.model = model_node(cfg.model, loss, only_positives=positive_share(prepared) == 1.0)
    check_types(TwoTower, {key: value for key, value in cfg.model.items() if key != "members"}, "model")
    module = _module(cfg, data, loss, validated=validated)
    throughput = Throughput()
    monitor, mode = watched(cfg.callbacks, loss)
    pruner = pruning(directory, monitor=monitor, mode=mode, decides=distributed.rank() == 0) if validated else None
    ours = [throughput, CurvesFile(directory / CURVES), *([pruner] if pruner else [])]
    callbacks = [*ours, *_callbacks(cfg.callbacks, loss, validated=validated, logged=bool(cfg.logger))]
    trainer = _trainer(cfg, callbacks, directory)
    log.info(_headline(module, loss, data))
    results.begin(trainer.loggers, RunDirectory(directory), prepared.report, module.hparams["settings"])
    parameters = _num_parameters(module)  # now: training may share them out over processes
    started = time.perf_counter()
    with _lightnings_words():
        trainer.fit(module, datamodule=data)
    seconds = time.perf_counter() - started
    if trainer.interrupted:
        raise KeyboardInterrupt
    saver = next((c for c in callbacks if isinstance(c, ModelCheckpoint)), None)
    # Only the first process wrote it, perhaps on another node's disk.
    seen = num_epochs(saver.best_model_path) if saver and trainer.is_global_zero and saver.best_model_path else None
    seen = trainer.strategy.broadcast(seen)
    if saver is None or seen is None:
        raise ValueError("no checkpoint was written: keep callbacks.checkpoint and train for at least one epoch")
    monitored = None if saver.best_model_score is None else float(saver.best_model_score)
    return Fitted(
        best=Path(saver.best_model_path),
        best_epochs=seen,
        monitor=saver.monitor,
        monitored=monitored,
        pruned=pruner.pruned if pruner else None,
        facts={
            "loss": loss.name,
            "epochs": trainer.current_epoch,
            "steps": trainer.global_step,
            "batch_size": loader.batch_size,
            "unit": loader.unit,
            "seconds": round(seconds, 3),
            "rows_per_second": round(throughput.rows_per_s, 1),
            "parameters": parameters,
            "device": str(trainer.strategy.root_device),
            "devices": trainer.world_size,
            "sharded": isinstance(trainer.strategy, ShardedTables),
            "rank": trainer.global_rank,
            "monitor": saver.monitor,
            "monitored": monitored,
            "mode": saver.mode if saver.monitor else None,
            "profile": module.model.profile_kind,
            "peak_device_memory_bytes": _peak_device_memory(trainer.strategy.root_device),
        },
        loggers=trainer.loggers,
    )


def _module(cfg: TrainConfig, data: RetrievalDataModule, loss: Loss, *, validated: bool) -> RetrievalModule:
    """The module of a config over a prepared log, ready to be trained."""
    torch.manual_seed(cfg.seed)
    module = RetrievalModule(
        schema=data.prepared.schema.to_dict(),
        model=cfg.model,
        loss=loss,
        negatives=build(cfg.negatives, "negatives"),
        optimizer=build(cfg.optimizer, "optimizer"),
        scheduler=build(cfg.scheduler, "scheduler"),
        ks=_cuts(cfg.eval.ks, loss.monitor),
        seed=cfg.seed,
        settings=settings(cfg, loss),
        micro_batch=cfg.loader.micro_batch,
    )
    _check_profile(module.model.profile_kind, cfg.loader)
    profile = data.prepared.profiles(module.model.profile_kind)
    module.attach(resident(cfg, data, loss, module.negatives, validated=validated, profile=profile))
    return module


def _probed_scale(cfg: TrainConfig, data: RetrievalDataModule, loss: Loss) -> float:
    def make(scale: float) -> RetrievalModule:
        model = {**cfg.model, "scale": scale, "members": 1}
        model = model_node(model, loss, only_positives=positive_share(data.prepared) == 1.0)
        # A loss of its own: what it learns must not reach the next one.
        return _module(replace(cfg, model=model), data, copy.deepcopy(loss), validated=True)

    strategy = cfg.trainer["strategy"]
    with _lightnings_words():
        return best_scale(
            make,
            data,
            monitor=loss.monitor,
            accelerator=cfg.trainer["accelerator"],
            devices=cfg.trainer["devices"],
            num_nodes=cfg.trainer["num_nodes"],
            strategy=partial(build, strategy, "trainer.strategy") if isinstance(strategy, Mapping) else strategy,
        )


def settings(cfg: TrainConfig, loss: Loss) -> dict[str, Any]:
    """Plain builtins for the checkpoint and the hyper-parameter table."""
    groups = {name: getattr(cfg, name) for name in ("model", "optimizer", "scheduler", "negatives", "label", "split")}
    flat = {f"{group}.{key}": value for group, node in groups.items() for key, value in node.items() if _plain(value)}
    return {
        **flat,
        "name": str(cfg.model["name"]),
        "loss": loss.name,
        "seed": cfg.seed,
        "batch_size": cfg.loader.batch_size,
        "unit": cfg.loader.unit,
        "history_length": cfg.loader.history_length,
        "max_epochs": cfg.trainer.get("max_epochs"),
    }


def resident(
    cfg: TrainConfig,
    data: RetrievalDataModule,
    loss: Loss,
    negatives: Negatives,
    *,
    validated: bool,
    profile: UserItems | None = None,
) -> Resident:
    """What the module keeps of the log: tables, counts, and what validation ranks against."""
    prepared = data.prepared
    labels = prepared.store.label_facts("train", rule=prepared.positive if loss.rows == "positives" else None)
    tasks = {}
    if validated:
        rules = protocol(
            prepared,
            on="val",
            ks=[1],
            candidates=cfg.eval.candidates,
            positive=cfg.eval.positive,
        )
        tasks["val"] = RankingTask(rules.relevant, rules.exclude, rules.allowed)
    latest = None
    if cfg.loader.history_length > 0:
        latest = partial(data.history.latest, length=cfg.loader.history_length)
    store = prepared.store
    known = store.positives("train", prepared.positive)
    compared = next((part.rows for part in loss.objectives if part.compares == "batch"), loss.rows)
    # A batch does not know what its labels are relative to: such errors are shown in label space until the judgement.
    elementwise = "identity" if "base" in prepared.store.beside else prepared.inverse_name
    return Resident(
        users=prepared.users,
        items=prepared.items,
        item_counts=store.item_counts("train", rule=prepared.positive if compared == "positives" else None),
        known=known,
        labels=LabelFacts(*labels),
        positive=prepared.positive,
        views=store.item_counts("train") if "views" in negatives.needs else None,
        skips=store.seen("train").without(known) if "skips" in negatives.needs else None,
        profiles=None if profile is None else UserProfiles(profile),
        tasks=tasks,
        item_context=Moment().item_context(prepared, torch.device("cpu")),
        latest_history=latest,
        inverse=None if elementwise == "identity" else partial(invert, inverse_name=elementwise),
    )


def _processes(trainer: dict[str, Any]) -> dict[str, Any]:
    """The config of the trainer with the processes that were started for it."""
    job = distributed.job()
    if job is None:
        return trainer
    devices, num_nodes = job.devices(trainer["devices"], trainer["num_nodes"])
    return {**trainer, "devices": devices, "num_nodes": num_nodes}


def _trainer(cfg: TrainConfig, callbacks: list[Callback], directory: Path) -> L.Trainer:
    devices, cores = cfg.trainer.get("devices"), os.cpu_count() or 1
    on_cpu = cfg.trainer.get("accelerator") == "cpu" or not torch.cuda.is_available()
    if on_cpu and isinstance(devices, int) and devices > cores:  # Lightning would start any number of processes
        raise ValueError(f"trainer.devices={devices}: without a GPU, one for each of the {cores} CPU cores at most")
    with _lightnings_words():
        trainer: L.Trainer = build(
            cfg.trainer,
            "trainer",
            callbacks=callbacks,
            logger=[build(node, f"logger.{name}") for name, node in cfg.logger.items()],
            default_root_dir=str(directory),
        )
    return trainer


@contextmanager
def _lightnings_words() -> Iterator[None]:
    """Lightning has its own class for mistakes in settings, and a plain RuntimeError for a figure nobody logs."""
    try:
        yield
    except MisconfigurationException as error:
        raise ValueError(f"Lightning refuses the settings of trainer or callbacks: {error}") from error
    except RuntimeError as error:
        if not str(error).startswith("Early stopping conditioned on metric"):
            raise
        raise ValueError(f"callbacks.early_stopping or loss.monitor: {error}") from error


def _callbacks(nodes: Mapping[str, Any], loss: Loss, *, validated: bool, logged: bool) -> list[Callback]:
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


def _check_profile(kind: str, loader: LoaderConfig) -> None:
    if kind != "none" and loader.unit == "users" and loader.target_share == 1.0:
        raise ValueError(
            f"loader.target_share=1 asks for every row, which leaves nothing to the profile that model.profile={kind} "
            "reads: choose a share below 1, or model.profile=none"
        )


def _num_units(data: RetrievalDataModule, loss: Loss, unit: str) -> int:
    """Training rows that the loss reads, or users that have one."""
    store, rule = data.prepared.store, data.prepared.positive
    if unit == "users":
        lists = store.seen("train") if loss.rows == "all" else store.positives("train", rule)
        return int((lists.counts > 0).sum())
    return store.count("train", rule=None if loss.rows == "all" else rule)


def _cuts(ks: list[int], monitor: str) -> list[int]:
    """The cut-offs to log, with the one that is watched."""
    watched = [int(monitor.rpartition("@")[2])] if "@" in monitor else []
    return sorted({*ks, *watched})


def _headline(module: RetrievalModule, loss: Loss, data: RetrievalDataModule) -> str:
    schema = data.prepared.schema
    users, items = len(schema.side("user")), len(schema.side("item"))
    parameters = _num_parameters(module)
    rows = data.prepared.store.num_rows("train")
    return (
        f"model: {users} user and {items} item features, {parameters:,} parameters; loss {loss.name} on "
        f"{loss.rows} of {rows:,} training rows, "
        + (f"watching {loss.monitor}" if data.prepared.store.num_rows("val") else "no validation rows")
    )


def _num_parameters(module: RetrievalModule) -> int:
    return sum(p.numel() for p in module.parameters())


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list)


def _peak_device_memory(device: torch.device) -> int | None:
    return torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
