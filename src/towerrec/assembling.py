"""What is trained, from a config over a prepared log: the module, what it keeps of the log, what `auto` comes to."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import torch

from towerrec.choices import batch_size, max_epochs, model_node, positive_share, unit
from towerrec.config import LoaderConfig, TrainConfig, build
from towerrec.data.datamodule import RetrievalDataModule
from towerrec.data.known import ContinuedStore
from towerrec.data.labels import invert
from towerrec.lightning_trainer import lightnings_words
from towerrec.module import RetrievalModule
from towerrec.nn.losses import LabelFacts, Loss
from towerrec.nn.negatives import Negatives
from towerrec.nn.profile import UserProfiles
from towerrec.positive import positive_mask
from towerrec.probing import best_scale
from towerrec.protocol import cuts_within, protocol
from towerrec.ragged import UserItems
from towerrec.resident import RankingTask, Resident
from towerrec.scoring import Moment


def settle_batches(cfg: TrainConfig, data: RetrievalDataModule, loss: Loss) -> None:
    """Decide what the config leaves open of batches and epochs, in the config and for the loaders."""
    loader = cfg.loader
    loader.unit = unit(loss, history_length=loader.history_length) if loader.unit is None else loader.unit
    if loader.batch_size is None:
        loader.batch_size = batch_size(_num_units(data, loss, loader.unit), loader.unit)
    if cfg.trainer["max_epochs"] is None:
        cfg.trainer["max_epochs"] = max_epochs(loader.unit)
    data.hparams.update(rows=loss.rows, batch_size=loader.batch_size, unit=loader.unit)


def module_of(cfg: TrainConfig, data: RetrievalDataModule, loss: Loss, *, validated: bool) -> RetrievalModule:
    """The module of a config over a prepared log, ready to be trained."""
    torch.manual_seed(cfg.seed)
    module = RetrievalModule(
        schema=data.prepared.schema.to_dict(),
        model=cfg.model,
        loss=loss,
        negatives=build(cfg.negatives, "negatives"),
        optimizer=build(cfg.optimizer, "optimizer"),
        scheduler=build(cfg.scheduler, "scheduler"),
        ks=_cuts(cfg.eval.ks or cuts_within(data.prepared.schema.num_items), loss.monitor),
        seed=cfg.seed,
        settings=settings(cfg, loss),
        micro_batch=cfg.loader.micro_batch,
    )
    _check_profile(module.model.profile_kind, cfg.loader)
    profile = data.prepared.profiles(module.model.profile_kind)
    module.attach(resident(cfg, data, loss, module.negatives, validated=validated, profile=profile))
    return module


def probed_scale(cfg: TrainConfig, data: RetrievalDataModule, loss: Loss) -> float:
    """The factor of the cosine that short fits find best (`probing.best_scale`)."""

    def make(scale: float) -> RetrievalModule:
        model = {**cfg.model, "scale": scale, "members": 1}
        model = model_node(model, loss, only_positives=positive_share(data.prepared) == 1.0)
        # A loss of its own: what it learns must not reach the next one.
        return module_of(replace(cfg, model=model), data, copy.deepcopy(loss), validated=True)

    strategy = cfg.trainer["strategy"]
    with lightnings_words():
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
        item_counts=data.item_counts(rule=prepared.positive if compared == "positives" else None),
        known=known,
        labels=LabelFacts(*labels),
        positive=prepared.positive,
        views=data.item_counts() if "views" in negatives.needs else None,
        skips=store.seen("train").without(known) if "skips" in negatives.needs else None,
        profiles=None if profile is None else UserProfiles(profile),
        tasks=tasks,
        item_context=Moment().item_context(prepared, torch.device("cpu")),
        latest_history=latest,
        inverse=None if elementwise == "identity" else partial(invert, inverse_name=elementwise),
    )


def _check_profile(kind: str, loader: LoaderConfig) -> None:
    if kind != "none" and loader.unit == "users" and loader.target_share == 1.0:
        raise ValueError(
            f"loader.target_share=1 asks for every row, which leaves nothing to the profile that model.profile={kind} "
            "reads: choose a share below 1, or model.profile=none"
        )


def _num_units(data: RetrievalDataModule, loss: Loss, unit: str) -> int:
    """Training rows that the loss reads, or users that have one."""
    store, rule = data.prepared.store, data.prepared.positive
    if isinstance(store, ContinuedStore) or not data.learns_from_all:
        rows = data.learnt_rows()
        user_R = rows.user_idx if loss.rows == "all" else rows.user_idx[positive_mask(rows.label, rule)]
        return len(user_R.unique() if unit == "users" else user_R)
    if unit == "users":
        lists = store.seen("train") if loss.rows == "all" else store.positives("train", rule)
        return int((lists.counts > 0).sum())
    return store.count("train", rule=None if loss.rows == "all" else rule)


def _cuts(ks: list[int], monitor: str) -> list[int]:
    """The cut-offs to log, with the one that is watched."""
    watched = [int(monitor.rpartition("@")[2])] if "@" in monitor else []
    return sorted({*ks, *watched})


def _plain(value: Any) -> bool:
    return value is None or isinstance(value, bool | int | float | str | list)
