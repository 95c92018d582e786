"""The rules of a judgement: whose lists, from which candidates, against which relevant items.

Every system (model, baseline, foreign list file) is judged under one `Protocol`, so their figures can stand in one
table.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec.data import stable_hash
from towerrec.data.id_files import known_or_refused, read_ids
from towerrec.data.prepare import Prepared
from towerrec.data.splits import CANDIDATES
from towerrec.nn.peers import ALONE, Peers
from towerrec.ragged import TopN, UserItems
from towerrec.retrieval.candidates import only_candidates

CUTS = (10, 20, 50, 100)
"""Cut-offs of the ranking metrics, as far as there are candidates."""

# Users whose seen items are unpacked at once: all their lists together may be as large as the log.
_USERS = 4096


@dataclass(frozen=True)
class Protocol:
    """Who is judged by what.

    Attributes:
        on: The split judged, `test` or `val`.
        ks: Cut-offs.
        candidates: `catalogue`, `observed`, `held_out` or the name of the file of candidates.
        positive: The rule that makes a row relevant.
        users: Users with at least one relevant candidate, int64 [B].
        relevant: Relevant candidates of every user.
        dropped: Relevant rows that no list may hold (seen before, or no candidate); they count for nobody.
        exclude: Items never listed for a user, or None.
        allowed: Candidates: bool [I] for all, one list per user, or None for all items.
        num_candidates: Items that could be listed for somebody.
        candidates_per_user: Items that could be listed for a judged user, on average.
        fingerprint: Of the judged users with their relevant items, by id: equal where two judgements ask the same.
        peers: The processes that share the users: each makes the lists of its part, and all get those of all.
    """

    on: str
    ks: list[int]
    candidates: str
    positive: str
    users: Tensor
    relevant: UserItems
    dropped: int
    exclude: UserItems | None
    allowed: Tensor | UserItems | None
    num_candidates: int
    candidates_per_user: float
    fingerprint: str
    peers: Peers = ALONE

    def shared(self, lists: Callable[[Tensor], TopN]) -> TopN:
        """The lists of all users, on the CPU, by a function that makes those of some users int64 [b]."""
        part = lists(self.users[self.peers.share(len(self.users))]).to("cpu")
        return TopN(self.peers.collect(part.items), self.peers.collect(part.scores))

    def describe(self) -> dict[str, Any]:
        """The rules in plain builtins, for files and reports."""
        return {
            "split": self.on,
            "ks": self.ks,
            "candidates": self.candidates,
            "positive": self.positive,
            "users": len(self.users),
            "relevant": int(self.relevant.counts.sum()),
            "relevant_but_no_candidate": self.dropped,
            "num_candidates": self.num_candidates,
            "candidates_per_user": self.candidates_per_user,
            "fingerprint": self.fingerprint,
        }


def protocol(
    prepared: Prepared,
    *,
    on: str,
    ks: list[int] | None,
    candidates: str | None,
    positive: str | None,
    exclude_val: bool = True,
) -> Protocol:
    """Make the rules from the held-out rows.

    Args:
        prepared: The prepared log.
        on: `test` or `val`.
        ks: Cut-offs; None: `CUTS`, as far as there are candidates.
        candidates: `catalogue` (every item of the log that the user has not seen before), `held_out` (of those the
            items that somebody's judged rows hold), `observed` (the items of the user's own judged rows), a file of
            item ids, or None for what the split recommends.
        positive: Which labels are relevant; None for the label's own rule.
        exclude_val: Whether lists of test users leave out their validation items, as they do their training items;
            relevant items left out count for nobody.

    Raises:
        ValueError: No user with a relevant candidate, a cut-off beyond the candidates, or a bad file.
    """
    mode = candidates or prepared.candidates
    rule = positive or prepared.positive
    store = prepared.store
    allowed: Tensor | UserItems
    exclude: UserItems | None = None
    if mode == "observed":
        allowed = store.seen(on)
        num_candidates = int(torch.unique(allowed.items).numel())
    else:
        exclude = store.seen("train", "val") if on == "test" and exclude_val else store.seen("train")
        allowed = _allowed_for_all(mode, prepared, on)
        num_candidates = int(allowed.sum())
    relevant, dropped = only_candidates(store.positives(on, rule), exclude=exclude, allowed=allowed)
    users = relevant.counts.nonzero()[:, 0]
    if len(users) == 0:
        raise ValueError(
            f"no user has a positive ({rule}) among the candidates ({mode}) of the {on} rows, so nothing can be "
            "ranked against: change eval.positive, eval.candidates, label or split"
        )
    ks = cuts_within(num_candidates) if ks is None else ks
    if max(ks) > num_candidates:
        raise ValueError(f"eval.ks: {max(ks)} is larger than the {num_candidates:,} candidates there are: lower it")
    per_user = _candidates_per_user(users, allowed, exclude)
    return Protocol(
        on=on,
        ks=sorted(ks),
        candidates=mode,
        positive=rule,
        users=users,
        relevant=relevant,
        dropped=dropped,
        exclude=exclude,
        allowed=allowed,
        num_candidates=num_candidates,
        candidates_per_user=per_user,
        fingerprint=_fingerprint(relevant, prepared),
    )


def cuts_within(num_candidates: int) -> list[int]:
    """The cut-offs where none are asked for: `CUTS`, without those that ask for more than there is."""
    return [k for k in CUTS if k <= num_candidates] or [num_candidates]


def _fingerprint(relevant: UserItems, prepared: Prepared) -> str:
    user_keys, item_keys = stable_hash.ids(prepared.user_ids), stable_hash.ids(prepared.item_ids)
    users = np.repeat(user_keys[: relevant.num_users], relevant.counts.cpu().numpy())
    return stable_hash.of_pairs(users, item_keys[relevant.items.cpu().numpy()])


def _candidates_per_user(users: Tensor, allowed: Tensor | UserItems, exclude: UserItems | None) -> float:
    if isinstance(allowed, UserItems):
        return round(float(allowed.counts[users].double().mean()), 2)
    seen = 0 if exclude is None else sum(int(allowed[exclude.pairs_of(u)[1]].sum()) for u in users.split(_USERS))
    return round(int(allowed.sum()) - seen / len(users), 2)


def _allowed_for_all(mode: str, prepared: Prepared, on: str) -> Tensor:
    if mode in ("catalogue", "held_out"):
        return prepared.store.in_log("item", *([on] if mode == "held_out" else []))
    return _items_of_file(mode, prepared.item_ids)


def _items_of_file(path: str, item_ids: pl.Series) -> Tensor:
    if not Path(path).is_file():
        raise ValueError(f"eval.candidates={path} is no file of item ids, and none of {', '.join(CANDIDATES)}")
    wanted = read_ids(Path(path), column="item_id", like=item_ids)
    known_or_refused(wanted, item_ids, Path(path))
    return torch.from_numpy(item_ids.is_in(wanted.implode()).to_numpy().copy())
