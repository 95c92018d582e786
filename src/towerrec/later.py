"""A run on a log that goes on after it: trained once, judged on what came later.

The model, its encoders, and the histories and profiles of users are those of its training. Users and items that came
since are encoded by its own encoders, from what the tables of the later log say of them, as `recommend.py` serves new
ones. What may be listed, what was seen before, and the baselines beside it are those of the later log.

Shape letters: U users and I items of the later log.
"""

from __future__ import annotations

import logging
from dataclasses import replace

import torch
from torch import Tensor

from towerrec.auditing import SEEN, seen_by_run
from towerrec.data.audit_findings import Finding, passed
from towerrec.data.catalogue import Catalogue, load_catalogue, with_items, with_users
from towerrec.data.ids import index_of
from towerrec.data.prepare import Prepared
from towerrec.data.sides import read_side
from towerrec.judging import TrainedRun, load
from towerrec.run_directory import RunDirectory
from towerrec.schema import NO_TIMESTAMP

log = logging.getLogger(__name__)


def load_over(
    run: RunDirectory, prepared: Prepared, *, checkpoint: str, device: torch.device, on: str
) -> tuple[TrainedRun, Finding]:
    """A run that answers for the users and items of a log, and whether it has seen the rows it is judged on.

    On the log of its training it is simply loaded; on another one, such as that of a later window, as above.

    Raises:
        ValueError: If the log has other users, items or features and its judged rows are not later than the training.
    """
    catalogue, name = load_catalogue(run.catalogue), str(run.shown)
    if run.facts()["fingerprint"] == prepared.fingerprint:
        trained = load(run, checkpoint=checkpoint, device=device, catalogue=catalogue)
        return trained, passed(SEEN, "the run is judged on the log it was prepared for")
    known = rows_of(catalogue, prepared)
    if catalogue.schema.fingerprint != prepared.schema.fingerprint:
        check_later(catalogue, prepared, on=on, name=name)
    seen = seen_by_run(catalogue, prepared, known, on=on)
    if _same_tables(catalogue, prepared):
        return load(run, checkpoint=checkpoint, device=device, catalogue=catalogue), seen
    catalogue = grown(catalogue, prepared, known)
    trained = load(run, checkpoint=checkpoint, device=device, catalogue=catalogue)
    trained = replace(trained, scores=trained.scores.asked_by(*rows_of(catalogue, prepared)))
    new = [int((row < 0).sum()) for row in known]
    log.info(f"{name} as of its training: {new[0]:,} users and {new[1]:,} items of this log are new to it")
    if "base" in prepared.store.beside:
        # Relative to means by duration that this log has learnt anew, and the run has not.
        log.info(f"predicted values are not judged: label={prepared.label_name} was fitted anew on this log")
        trained = replace(trained, meta=replace(trained.meta, prediction=None))
    return trained, seen


def _same_tables(catalogue: Catalogue, prepared: Prepared) -> bool:
    """Whether a log means the same by every row of its tables and every feature as the run does: it was prepared anew,
    elsewhere say, or with another label."""
    same_ids = catalogue.user_ids.equals(prepared.user_ids) and catalogue.item_ids.equals(prepared.item_ids)
    return same_ids and catalogue.encoders == prepared.encoders


def rows_of(catalogue: Catalogue, prepared: Prepared) -> tuple[Tensor, Tensor]:
    """Rows of a run's tables for every user [U] and item [I] of a log, int64, -1 where the run has none.

    Raises:
        ValueError: If the ids are of another type, so of another log.
    """
    pairs = ((catalogue.user_ids, prepared.user_ids), (catalogue.item_ids, prepared.item_ids))
    for own, other in pairs:
        if own.dtype.is_integer() != other.dtype.is_integer():
            raise ValueError(f"{other.name} is {other.dtype} here, {own.dtype} where the run was trained: another log")
    user_row, item_row = (torch.tensor(index_of(own, other)).long() for own, other in pairs)
    return user_row, item_row


def grown(catalogue: Catalogue, prepared: Prepared, known: tuple[Tensor, Tensor]) -> Catalogue:
    """The catalogue with the users and items of the log that it lacks (`known` has -1 for them) at its end."""
    for side, row in zip(("user", "item"), known, strict=True):
        is_new = (row < 0).numpy()
        if is_new.any():
            frame = read_side(prepared.directory, "user" if side == "user" else "item").filter(is_new)
            grow = with_users if side == "user" else with_items
            catalogue = grow(catalogue, frame, allow_missing=True)
    return catalogue


def check_later(catalogue: Catalogue, prepared: Prepared, *, on: str, name: str) -> None:
    """Refuse to judge a run on a log with other users, items or features whose judged rows are not later than those the
    run was trained on.

    Raises:
        ValueError: They are not, or nobody can tell.
    """
    first = min((int(block.min()) for block in prepared.store.blocks("timestamp_ms", on)), default=NO_TIMESTAMP)
    until = catalogue.as_of_ms
    if until is None or first == NO_TIMESTAMP or first <= until:
        raise ValueError(
            f"{name} was trained on other users, items or features than this log has after preparation, and the {on} "
            "rows are not all later than its training: judge it with the data, cleaning, split and features of its "
            "training (leave those keys out), or on a later window (split=rolling, split.window=)"
        )
