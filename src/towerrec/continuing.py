"""Training that goes on from an earlier run when new days of data have come.

The new run begins with the weights of the old one. Its vocabularies are the old ones with the new values behind them,
so every index means what it meant; numbers are standardised as before. The log may hold the old days too, or the new
ones alone: then what users did before is taken from the old run's catalogue, so that histories and profiles go on, no
item of then is recommended as unseen, and users and items without a new row stay in the catalogue.

The optimiser begins afresh: its moments are of gradients that the old rows gave, and taking them along was no better on
the validation rows of the simulated log.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from towerrec import choices
from towerrec.auditing import seen_by_run
from towerrec.checkpoint import CheckpointMeta, find_checkpoint, load_model
from towerrec.config import DataTaskConfig, EvaluateConfig, TrainConfig, build
from towerrec.data.artefacts import read_json
from towerrec.data.audit_findings import Finding
from towerrec.data.cache import MANIFEST, damage
from towerrec.data.catalogue import Catalogue, load_catalogue
from towerrec.data.learning_rows import Earlier, Learning
from towerrec.data.past import Past
from towerrec.data.prepare import Prepared
from towerrec.data.store import InteractionStore
from towerrec.later import rows_of
from towerrec.module import RetrievalModule
from towerrec.nn.ensemble import Model
from towerrec.nn.growth import grow
from towerrec.run_directory import RunDirectory
from towerrec.schema import ITEM_ID, fingerprint

log = logging.getLogger(__name__)

CONTINUED = "continued_from"
"""Key of `run.json` that tells what a run went on from."""


@dataclass(frozen=True)
class Origin:
    """The run that training goes on from, read when it is asked for.

    Args:
        run: Its directory.
        checkpoint: `best` or `last`.
    """

    run: RunDirectory
    checkpoint: str = "best"

    @cached_property
    def catalogue(self) -> Catalogue:
        """Its users and items, and what they did."""
        return load_catalogue(self.run.catalogue)

    @cached_property
    def loaded(self) -> tuple[Model, CheckpointMeta]:
        """Its towers."""
        return load_model(find_checkpoint(self.run.checkpoints, self.checkpoint), expect=self.catalogue.schema)

    @cached_property
    def past(self) -> Past:
        """What preparing a log reads of it."""
        held = self.catalogue
        return Past(
            tables=held,
            seen=held.seen,
            history=held.history,
            profiles=held.profiles,
            in_log=held.in_log,
            # Sizes and checksums of all of its files.
            key=fingerprint(read_json(self.run.catalogue / MANIFEST)),
        )

    def earlier(self) -> tuple[Earlier, ...] | None:
        """The prepared log of the run and, where that held new days alone, those of the runs before it; None where one
        is not in the cache of its run any more."""
        facts = self.run.facts()
        place = Path(facts["cache"]) if "cache" in facts else None
        if place is None or damage(place) is not None:
            return None
        held = self.catalogue
        own = (Earlier(InteractionStore.open(place / "store"), held.user_ids, held.item_ids),)
        before = facts.get(CONTINUED)
        if before is None or held.meta["continued"]["holds_old_days"]:
            return own
        root = Path(before["path"])
        rest = Origin(RunDirectory(root), before["checkpoint"]).earlier() if root.is_dir() else None
        return None if rest is None else (*rest, *own)

    def facts(self) -> dict[str, Any]:
        """For `run.json`: which run, what it had learnt, and the runs before it, latest first."""
        meta, before = self.loaded[1], self.run.facts()
        earlier: dict[str, Any] | None = before.get(CONTINUED)
        this = {
            "path": str(self.run.root.resolve()),
            "checkpoint": self.checkpoint,
            "fingerprint": fingerprint([self.past.key, meta.fingerprint, meta.epoch, meta.step]),
            "log": before["fingerprint"],
            "epochs": meta.epoch + 1,
            "users": before["users"],
            "items": before["items"],
        }
        chain = [] if earlier is None else [{k: v for k, v in earlier.items() if k != "chain"}, *earlier["chain"]]
        epochs_before = this["epochs"] + sum(run["epochs"] for run in chain)
        return {**this, "epochs_before": epochs_before, "chain": chain}


@dataclass(frozen=True)
class Start:
    """Weights to begin with, over the tables of a new log."""

    origin: Origin
    prepared: Prepared

    def into(self, module: RetrievalModule) -> None:
        """Put them into a module that was made for the log: old rows keep theirs (`nn.growth`)."""
        old, meta = self.origin.loaded
        _, item_row_O = self.origin.past.rows_in(self.prepared.user_ids, self.prepared.item_ids)
        grow(module.model, old, torch.from_numpy(item_row_O).long())
        module.loss.load_state_dict(meta.loss_state)
        ids = {spec.name: spec.cardinality for spec in old.schema.features}
        module.known_items = ids.get(ITEM_ID, 0)


def origin_of(cfg: DataTaskConfig) -> Origin | None:
    """The run that a config goes on from: as it says itself, or as the run says that it judges."""
    if isinstance(cfg, TrainConfig):
        if cfg.continue_from is None:
            return None
        return Origin(RunDirectory.open(cfg.continue_from), cfg.continue_checkpoint)
    if isinstance(cfg, EvaluateConfig) and cfg.run is not None:
        continued = RunDirectory.open(cfg.run).facts().get(CONTINUED)
        if continued is not None:
            return Origin(_still_there(cfg.run, Path(continued["path"])), continued["checkpoint"])
    return None


def _still_there(run: str, earlier: Path) -> RunDirectory:
    if not earlier.is_dir():
        raise ValueError(
            f"run={run} went on from {earlier}, which is not there any more, and its log is prepared with what that "
            "run knew: put the directory back (recommend.py needs it no more)"
        )
    return RunDirectory.open(earlier)


def of_data(cfg: DataTaskConfig) -> dict[str, Any]:
    """What loaders and preparation are told of the run that a config goes on from: nothing where there is none."""
    origin = origin_of(cfg)
    if origin is None:
        return {}
    if not isinstance(cfg, TrainConfig):
        return {"past": origin.past}
    earlier = origin.earlier() if cfg.continue_replay > 0.0 else ()
    as_of_ms = origin.catalogue.as_of_ms
    return {"past": origin.past, "learning": Learning(as_of_ms, cfg.continue_replay, cfg.seed, earlier)}


def settled(cfg: TrainConfig, origin: Origin | None, prepared: Prepared) -> Start | None:
    """Check that a run can go on as the config says, and write what the earlier one has decided into the config.

    Raises:
        ValueError: Another model or loss than the run's.
    """
    if origin is None:
        return None
    _, meta = origin.loaded
    cfg.model = _same_model(cfg.model, meta)
    cfg.loss = choices.loss_node(cfg.loss, prepared, candidates=cfg.eval.candidates, like=meta.loss)
    loss = build(cfg.loss, "loss")
    if loss.name != meta.loss or loss.state_dict().keys() != meta.loss_state.keys():
        raise ValueError(
            f"loss={loss.name}: the run was trained with {meta.loss} and what that has learnt, so scores would mean "
            "something else: leave loss out, which takes the run's, or train anew without continue_from"
        )
    old, new = origin.catalogue.schema, prepared.schema
    held = prepared.meta["continued"]["holds_old_days"]
    log.info(
        f"continue_from={origin.run.shown}: {new.num_users - old.num_users:,} users and "
        f"{new.num_items - old.num_items:,} items are new to it; "
        f"its own days are {'in the log' if held else 'not in the log, what was seen then is known from it'}"
    )
    return Start(origin, prepared)


def leaks(origin: Origin | None, prepared: Prepared) -> list[Finding]:
    """Held-out rows that the earlier run was trained on, for the audit."""
    if origin is None:
        return []
    known = rows_of(origin.catalogue, prepared)
    return [
        seen_by_run(origin.catalogue, prepared, known, on=on)
        for on in ("val", "test")
        if prepared.store.num_rows(on) > 0
    ]


def facts(origin: Origin | None) -> dict[str, Any]:
    """For `run.json`: where the run goes on from, where it does."""
    return {} if origin is None else {CONTINUED: origin.facts()}


def _same_model(model: dict[str, Any], meta: CheckpointMeta) -> dict[str, Any]:
    """The run's model; what the config leaves open or says alike is the run's."""
    for key, value in model.items():
        then = meta.model.get(key, 1 if key == "members" else None)
        if value is not None and value != then:
            raise ValueError(
                f"model.{key}={value}: the run's model has {then}, and its weights fit no other: leave model "
                "out, which takes the run's, or train anew without continue_from"
            )
    return dict(meta.model)
