"""The leak audit around a task: what it says, what follows from a leak, and what only a run can be asked.

Shape letters: R judged rows, U users, I items.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from itertools import islice
from typing import Any

import torch
from torch import Tensor

from towerrec import distributed
from towerrec.data.audit_findings import Example, Finding, failed, nothing, passed, stated
from towerrec.data.catalogue import Catalogue
from towerrec.data.datamodule import RetrievalDataModule
from towerrec.data.known import ContinuedStore
from towerrec.data.loader import BatchLoader
from towerrec.data.prepare import Prepared
from towerrec.data.user_batches import UserBatchLoader
from towerrec.nn.profile import UserProfiles
from towerrec.positive import positive_mask
from towerrec.ragged import UserItems

log = logging.getLogger(__name__)

KINDS = ("fail", "warn", "off")
ASKED_FOR, SEEN = "target in profile", "rows the run has seen"
# Batches of an epoch that are looked at: each goes through the same few lines.
_BATCHES, _USERS, _ROWS, _DRAWN = 8, 64, 4096, 1 << 18
# Judged rows looked up at once.
_CHUNK = 1 << 20


def audited(data: RetrievalDataModule, how: str, *also: Finding) -> list[dict[str, Any]]:
    """The audit of a prepared log, before anything is fitted on it: one entry per check, plain builtins for `run.json`.

    Of several processes one per disk audits, the others read what it found.

    Args:
        data: The log and its loaders.
        how: `fail`: a leak is an error; `warn`: it is said, and the task goes on; `off`: no audit.
        also: What only the task itself could check.

    Raises:
        ValueError: A leak, under `fail`: every check that failed, with rows, an example and what to do.
    """
    if how == "off":
        log.info("leak audit: off (audit=off)")
        return []
    found = distributed.in_turn("audited", data.audit)
    return concluded([*found, target_in_profile(data.prepared), *also], how)


def concluded(found: Sequence[Finding], how: str) -> list[dict[str, Any]]:
    """Say what was found, and stop where that is a leak; see `audited`."""
    leaks = [finding for finding in found if finding.outcome == "failed"]
    counts = {outcome: sum(f.outcome == outcome for f in found) for outcome in ("passed", "stated", "failed")}
    said = ", ".join(f"{number} {outcome}" for outcome, number in counts.items() if number)
    log.info("\n".join([f"leak audit: {said}", *(f"  {f.check}: {f.text}" for f in found if f.outcome == "stated")]))
    if leaks:
        text = "\n".join(f"- {leak.check}: {leak.text}. What to do: {leak.remedy}" for leak in leaks)
        if how == "fail":
            raise ValueError(
                f"the leak audit failed, so figures of this log would be too good:\n{text}\n"
                "audit=warn goes on all the same and keeps the findings in run.json"
            )
        log.warning(f"LEAKS (audit=warn):\n{text}")
    return [finding.to_dict() for finding in found]


def target_in_profile(prepared: Prepared) -> Finding:
    """The profile that a training batch reads holds nothing that the batch asks for; batches of users and of rows."""
    store = prepared.store
    if store.on_disk:
        return nothing(ASKED_FOR, "rows that stay on disk are not drawn by user")
    rows = store.rows("train").part(slice(0, _DRAWN))
    lists = UserItems.from_pairs(
        rows.user_idx,
        rows.item_idx,
        num_users=store.num_users,
        num_items=store.num_items,
        values=positive_mask(rows.label, prepared.positive).float(),
    )
    profiles = UserProfiles(lists)
    by_user = UserBatchLoader(rows, batch_size=_USERS, target_share=0.5)
    by_row = BatchLoader(rows, batch_size=_ROWS, shuffle=True)
    nothing_known_IV = torch.zeros(store.num_items, 1)
    looked_at = held = 0
    for loader in (by_user, by_row):
        for batch in islice(loader, _BATCHES):
            user_G, group_B = torch.unique(batch.user_idx, return_inverse=True)
            profile = profiles.of(user_G, nothing_known_IV).without(group_B, batch.item_idx)
            left_P = profile.group_P * store.num_items + profile.item_P
            held += int(torch.isin(group_B * store.num_items + batch.item_idx, left_P).sum())
            looked_at += len(batch)
    if held:
        text = f"{held:,} of {looked_at:,} rows of training batches stand in the profile that they are predicted from"
        return failed(ASKED_FOR, held, text, "a fault of towerrec: report it, and train with model.profile=none")
    text = f"none of {looked_at:,} rows of training batches stands in the profile that it is predicted from"
    return passed(ASKED_FOR, text)


def seen_by_run(catalogue: Catalogue, prepared: Prepared, rows_of: tuple[Tensor, Tensor], *, on: str) -> Finding:
    """Judged rows that a run was trained on, although this log keeps them from training: another split, say.

    A log that goes on after the run without its days cannot tell by its own rows what was watched again, but by time:
    the run knows no row that is later than its last.

    Args:
        catalogue: Of the run.
        prepared: The log it is judged on.
        rows_of: Rows of the run's tables for every user [U] and item [I] of the log, -1 where it has none.
        on: The side that is judged.
    """
    known = catalogue.seen if on == "test" else _liked(catalogue)
    user_U, item_I = rows_of
    store, until = prepared.store, None
    if isinstance(store, ContinuedStore):
        store, until = store.alone, _knows_until(catalogue)
        if until is None:
            return stated(SEEN, f"without times nothing tells which {on} rows the run was trained on already")
    rows, found, first = store.rows(on), 0, ""
    taught = store.seen("train", "val") if on == "test" else store.seen("train")
    for at in range(0, len(rows), _CHUNK):
        part = rows.part(slice(at, at + _CHUNK))
        user_R, item_R = part.user_idx.long(), part.item_idx.long()
        in_run_R = (user_U[user_R] >= 0) & (item_I[item_R] >= 0)
        if until is not None:
            in_run_R &= part.timestamp_ms <= until
        place = in_run_R.nonzero()[:, 0]
        place = place[known.contain(user_U[user_R[place]], item_I[item_R[place]])]
        # What this log has for training too was seen before, and is watched again.
        place = place[~taught.contain(user_R[place], item_R[place])]
        found += len(place)
        if len(place) and not first:
            example = Example(prepared.user_ids, prepared.item_ids, prepared.timezone)
            first = example(store, on, at + int(place[0]))
    if found:
        text = f"{found:,} of {len(rows):,} {on} rows are of pairs that the run was trained on; {first}"
        return failed(SEEN, found, text, "judge the run with the split of its training, or on rows later than it")
    return passed(SEEN, f"none of the {len(rows):,} {on} rows was among those the run was trained on")


def _knows_until(catalogue: Catalogue) -> int | None:
    """The last moment that a run has learnt from, after a refit later than `as_of_ms`; None where it knew none."""
    if catalogue.as_of_ms is None:
        return None
    moments = catalogue.history.moments
    return max(catalogue.as_of_ms, int(moments[-1])) if len(moments) else catalogue.as_of_ms


def _liked(catalogue: Catalogue) -> UserItems:
    """Training positives of every user of a run."""
    history = catalogue.history
    user_P = torch.repeat_interleave(torch.arange(len(history.first) - 1), history.first.diff())
    return UserItems.from_pairs(
        user_P, history.items, num_users=len(history.first) - 1, num_items=len(catalogue.item_ids)
    )
