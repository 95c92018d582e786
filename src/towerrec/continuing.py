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
from dataclasses import dataclass, replace
from typing import Any

import torch

from towerrec import choices
from towerrec.auditing import seen_by_run
from towerrec.checkpoint import CheckpointMeta
from towerrec.command_words import command_word
from towerrec.config import DataTaskConfig, TrainConfig, build
from towerrec.data.audit_findings import Finding
from towerrec.data.known import ContinuedStore
from towerrec.data.learning_rows import Learning
from towerrec.data.prepare import Prepared
from towerrec.data.report import moment_text
from towerrec.later import rows_of
from towerrec.module import RetrievalModule
from towerrec.nn.growth import grow
from towerrec.origin import CONTINUED, Origin
from towerrec.schema import ITEM_ID

log = logging.getLogger(__name__)


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


def of_data(cfg: DataTaskConfig, origin: Origin | None) -> dict[str, Any]:
    """What loaders and preparation are told of the run that a config goes on from: nothing where there is none."""
    if origin is None:
        return {}
    if not isinstance(cfg, TrainConfig):
        return {"past": origin.past}
    learning = Learning(origin.catalogue.as_of_ms, cfg.continue_replay, cfg.seed, origin.earlier)
    return {"past": origin.past, "learning": learning}


def check_new(origin: Origin | None, prepared: Prepared) -> None:
    """Refuse a log that brings nothing new to a run, unless it is all that the run knows.

    Raises:
        ValueError: It says what to give.
    """
    store = prepared.store
    if origin is None or not isinstance(store, ContinuedStore) or store.past is None:
        return
    rows = store.rows("train")
    if origin.catalogue.as_of_ms is None:
        new, is_new = "of a pair new to it", ~store.past.seen.contain(rows.user_idx.long(), rows.item_idx.long())
    else:
        new, is_new = f"later than its last, {_last_moment(origin)}", rows.timestamp_ms > origin.catalogue.as_of_ms
    if not is_new.any():
        raise ValueError(
            f"continue_from={origin.shown}: no training row is {new}, and days that it knows are missing: give the "
            f"log of the days since, or all days. To train that run itself for longer: {_for_longer(origin)}"
        )


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
    log.info(_told(origin, prepared))
    return Start(origin, prepared)


def _told(origin: Origin, prepared: Prepared) -> str:
    """What is new to the run, for a person."""
    old, new = origin.catalogue.schema, prepared.schema
    held = prepared.meta["continued"]["holds_old_days"]
    days = "in the log" if held else "not in the log, what was seen then is known from it"
    if not held and origin.held_out is None:
        days += " (but for its validation and test rows: its prepared log is not in the cache any more)"
    said = (
        f"continue_from={origin.shown}: {new.num_users - old.num_users:,} users and "
        f"{new.num_items - old.num_items:,} items are new to it; its own days are {days}"
    )
    until, number = origin.catalogue.as_of_ms, prepared.store.num_rows("train")
    if until is None:
        return said
    later = sum(int((block > until).sum()) for block in prepared.store.blocks("timestamp_ms", "train"))
    if later:
        return f"{said}; {later:,} of {number:,} training rows are later than its last, {_last_moment(origin)}"
    return (
        f"{said}\nno training row is later than its last, {_last_moment(origin)}: the same rows are learnt from once "
        f"more, by an optimiser that begins anew; to train that run itself for longer: {_for_longer(origin)}"
    )


def _for_longer(origin: Origin) -> str:
    return f"python train.py {command_word('run', origin.shown)} trainer.max_epochs=N"


def leaks(origin: Origin | None, prepared: Prepared) -> list[Finding]:
    """Held-out rows that the earlier run was trained on, for the audit."""
    if origin is None:
        return []
    known = rows_of(origin.catalogue, prepared)
    found = [
        seen_by_run(origin.catalogue, prepared, known, on=on)
        for on in ("val", "test")
        if prepared.store.num_rows(on) > 0
    ]
    remedy = "judge by rows that the run does not know: give the new days alone"
    if origin.catalogue.as_of_ms is not None:
        remedy += f", or set split=time with split.val and split.test after {_last_moment(origin)}, its last"
    return [replace(finding, remedy=remedy) if finding.outcome == "failed" else finding for finding in found]


def _last_moment(origin: Origin) -> str:
    held = origin.catalogue
    assert held.as_of_ms is not None
    return moment_text(held.as_of_ms, held.timezone)


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
