"""What a checkpoint of `LastCheckpoint` holds beside Lightning's own parts, and how all of it finds its place."""

from __future__ import annotations

import copy
import logging
import random
from collections.abc import Mapping
from typing import Any

import lightning as L
import numpy as np
import torch
from lightning.pytorch.callbacks import Callback, ModelCheckpoint, StochasticWeightAveraging
from torch import Tensor

log = logging.getLogger(__name__)

RESUME_KEY = "towerrec_resume"


def check_processes(state: Mapping[str, Any], now: int) -> None:
    """Say that a run goes on in another number of processes than before, between two epochs.

    Raises:
        ValueError: It was stopped within an epoch, which other processes would share out otherwise.
    """
    then = len(state["random"])
    if then == now:
        return
    if state["batch"] > 0:
        raise ValueError(
            f"the run was stopped within an epoch whose rows {then} process(es) had shared out, and now there are "
            f"{now}: start {then}, then rows are neither left out nor learnt twice"
        )
    log.warning(
        f"{then} process(es) trained before, now {now}: a step learns from {now}/{then} of the rows, so the run does "
        "not end as it would have"
    )


def restore(trainer: L.Trainer, checkpoint: dict[str, Any]) -> None:
    """Put everything in its place, in a trainer that is about to start its first epoch."""
    state = checkpoint[RESUME_KEY]
    trainer.strategy.load_model_state_dict(checkpoint, strict=True)
    trainer.strategy.load_optimizer_state_dict(checkpoint)
    if swaps_scheduler(trainer, checkpoint):
        trainer.lr_scheduler_configs.clear()
    else:
        for config, scheduler in zip(trainer.lr_scheduler_configs, checkpoint["lr_schedulers"], strict=True):
            config.scheduler.load_state_dict(scheduler)
    precision = trainer.precision_plugin
    if type(precision).__qualname__ in checkpoint:
        precision.load_state_dict(checkpoint[type(precision).__qualname__])
    for callback in _callbacks(trainer):
        # Of weights that are averaged beside those that are learnt, say.
        callback.on_load_checkpoint(trainer, trainer.lightning_module, checkpoint)
    for callback in _callbacks(trainer):
        kept = copy.deepcopy(checkpoint["callbacks"].get(callback.state_key))
        if kept is not None and isinstance(callback, ModelCheckpoint):
            kept = _moved(kept, str(callback.dirpath))
            callback.current_score = kept["current_score"]  # which it writes and does not read
        if kept is not None:
            callback.load_state_dict(kept)
    for saver, deferred in zip(savers(trainer), state["deferred"], strict=True):
        saver._defer_save_until_validation = deferred
    _count(trainer, checkpoint["loops"]["fit_loop"], epoch=state["epoch"], batch=state["batch"])
    restore_figures(trainer, state)
    trainer.should_stop = state["should_stop"]


def swaps_scheduler(trainer: L.Trainer, checkpoint: Mapping[str, Any]) -> bool:
    """Whether a callback has put a scheduler of its own into the place of the configured one, and keeps its state.

    It does so again when the next epoch starts; what that changes of the optimiser is to be restored once more.
    """
    kept = [
        checkpoint["callbacks"].get(callback.state_key) or {}
        for callback in _callbacks(trainer)
        if isinstance(callback, StochasticWeightAveraging)
    ]
    return any(state.get("scheduler_state") is not None for state in kept)


def restore_figures(trainer: L.Trainer, state: Mapping[str, Any]) -> None:
    """The last value of every figure that was logged: callbacks read them, and some last for several epochs."""
    trainer.callback_metrics.update(_on(trainer, state["callback_metrics"]))
    trainer.logged_metrics.update(_on(trainer, state["logged_metrics"]))


def _count(trainer: L.Trainer, loops: dict[str, Any], *, epoch: int, batch: int) -> None:
    """Lightning's counters: `epoch` epochs and `batch` batches of the next one are over, and nothing has begun."""
    fit_loop = trainer.fit_loop
    fit_loop.load_state_dict(loops)
    epochs, batches = fit_loop.epoch_progress, fit_loop.epoch_loop.batch_progress
    _settle(epochs.current, epoch)
    _settle(epochs.total, epoch)
    _settle(batches.total, batches.total.completed)
    if batch > 0:
        _settle(batches.current, batch)
        batches.is_last_batch = False
    # It is as if these loops had run all the time.
    fit_loop.restarting = False
    fit_loop.on_iteration_done()
    fit_loop.epoch_loop.on_iteration_done()


def _settle(counter: Any, over: int) -> None:
    """A counter of Lightning's where so many are over and no other one has begun."""
    counter.ready = counter.started = counter.processed = counter.completed = over


def _moved(state: dict[str, Any], folder: str) -> dict[str, Any]:
    """The state of a `ModelCheckpoint` whose folder may lie elsewhere now."""
    old = str(state["dirpath"])

    def now(path: str) -> str:
        return folder + path.removeprefix(old) if path.startswith(old) else path

    paths = {name: now(state[name]) for name in ("best_model_path", "kth_best_model_path", "last_model_path")}
    best = {now(path): score for path, score in state["best_k_models"].items()}
    return {**state, **paths, "best_k_models": best, "dirpath": folder}


def _callbacks(trainer: L.Trainer) -> list[Callback]:
    return trainer.callbacks  # type: ignore[attr-defined]


def savers(trainer: L.Trainer) -> list[ModelCheckpoint]:
    """Lightning's own callbacks for checkpoints."""
    return [callback for callback in _callbacks(trainer) if isinstance(callback, ModelCheckpoint)]


def plain(figures: Mapping[str, Any]) -> dict[str, Any]:
    """Logged figures as a checkpoint holds them: on the host, without a graph."""
    return {name: value.detach().cpu() if isinstance(value, Tensor) else value for name, value in figures.items()}


def _on(trainer: L.Trainer, figures: Mapping[str, Any]) -> dict[str, Any]:
    device = trainer.strategy.root_device
    return {name: value.to(device) if isinstance(value, Tensor) else value for name, value in figures.items()}


def random_state() -> dict[str, Any]:
    """States of all random generators of this process, as builtins and tensors."""
    version, internal, gauss = random.getstate()
    name, keys, place, has_gauss, cached = np.random.get_state()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_initialized() else [],
        "numpy": [
            str(name),
            torch.from_numpy(np.asarray(keys, dtype=np.int64)),
            int(place),
            int(has_gauss),
            float(cached),
        ],
        "python": [version, list(internal), gauss],
    }


def set_random(state: Mapping[str, Any]) -> None:
    """Go on drawing where `random_state` was asked for."""
    torch.set_rng_state(state["torch"])
    if state["cuda"] and torch.cuda.device_count() == len(state["cuda"]):
        torch.cuda.set_rng_state_all(state["cuda"])
    name, keys, place, has_gauss, cached = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), place, has_gauss, cached))
    version, internal, gauss = state["python"]
    random.setstate((version, tuple(internal), gauss))


def of_all(trainer: L.Trainer, mine: dict[str, Any]) -> list[dict[str, Any]]:
    """What every process has, by rank."""
    if trainer.world_size == 1:
        return [mine]
    everybody: list[Any] = [None] * trainer.world_size
    torch.distributed.all_gather_object(everybody, mine)
    return everybody


def own(trainer: L.Trainer, everybody: list[dict[str, Any]]) -> dict[str, Any]:
    """This process's part; with another number of processes than before, the first one's."""
    return everybody[trainer.global_rank if len(everybody) == trainer.world_size else 0]
