"""Allow- and deny-lists: which items may be listed, for everybody or for single users.

Shape letters: U users of the catalogue, I items, P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import torch
from torch import Tensor

from towerrec.data.catalogue import Catalogue
from towerrec.data.id_files import Given, given_table, known_or_refused, with_typed_ids
from towerrec.data.ids import rows_of
from towerrec.ragged import UserItems
from towerrec.schema import ITEM_ID, USER_ID

# In Python and on the command line it has two names.
_ALLOW = "allow (candidates=)"


@dataclass(frozen=True)
class Allowed:
    """What may be listed.

    Attributes:
        candidates: Items that may be listed for somebody, bool [I].
        only: The items of each user alone, where allow-lists differ between users.
        never: Items that a user is not given.
    """

    candidates: Tensor
    only: UserItems | None
    never: UserItems | None


@dataclass(frozen=True)
class Listed:
    """A list of items: `item_idx_P`, and in `user_idx_P` for whom; None: for everybody."""

    item_idx_P: Tensor
    user_idx_P: Tensor | None

    def of(self, catalogue: Catalogue) -> UserItems:
        """The list of every user."""
        assert self.user_idx_P is not None
        num_users, num_items = len(catalogue.user_ids), len(catalogue.item_ids)
        return UserItems.from_pairs(self.user_idx_P, self.item_idx_P, num_users=num_users, num_items=num_items)


def allowed(
    catalogue: Catalogue,
    known_users: pl.Series,
    *,
    allow: Given | None,
    deny: Given | None,
    exclude_seen: bool,
    asking: Tensor | None = None,
) -> Allowed:
    """What allow, deny and seen items leave; deny wins over allow.

    Args:
        catalogue: Of those who ask.
        known_users: Ids that may stand in the lists, whether they ask or not.
        allow: Items that may be listed; with a column `user_id` each user has a list of his own, and who is not in it
            is given nothing. None: every item of the log, and those that were added.
        deny: Items that may not be listed, for everybody or with a column `user_id` for single users.
        exclude_seen: Leave out what a user has seen.
        asking: Rows of the users who ask, each once, if not all do: of the others nothing need be known.

    Raises:
        ValueError: If a file is bad, an id is unknown, or `allow` admits nothing.
    """
    candidates, only = catalogue.in_log, None
    if allow is not None:
        listed = _listed(allow, catalogue, known_users, name=_ALLOW)
        if len(listed.item_idx_P) == 0 and listed.user_idx_P is None:
            raise ValueError(f"{_ALLOW} is empty, so nothing may be listed: leave it out to allow every item")
        candidates = torch.zeros(len(catalogue.item_ids), dtype=torch.bool)
        candidates[listed.item_idx_P] = True
        only = None if listed.user_idx_P is None else listed.of(catalogue)
    never = catalogue.seen if exclude_seen else None
    if deny is not None:
        listed = _listed(deny, catalogue, known_users, name="deny")
        if listed.user_idx_P is None:
            candidates = candidates.clone()
            candidates[listed.item_idx_P] = False
        elif never is None:
            never = listed.of(catalogue)
        else:
            never = (never if asking is None else never.only(asking)).with_pairs(listed.user_idx_P, listed.item_idx_P)
    return Allowed(candidates, only, never)


def for_nobody(given: Given | None, catalogue: Catalogue, *, name: str) -> None:
    """Refuse lists of single users where nobody asks.

    Raises:
        ValueError: If there is a column `user_id`.
    """
    if given is None:
        return
    table, _ = given_table(given, column=ITEM_ID, like=catalogue.item_ids, name=name, log=catalogue.columns)
    if (found := catalogue.columns.found(USER_ID, table.columns)) is not None:
        raise ValueError(f"{name}: items are alike for everybody, so the column {found!r} must be left out here")


def _listed(given: Given, catalogue: Catalogue, known_users: pl.Series, *, name: str) -> Listed:
    columns = catalogue.columns
    frame, where = given_table(given, column=ITEM_ID, like=catalogue.item_ids, name=name, log=columns)
    known_or_refused(frame[ITEM_ID], catalogue.item_ids, where, remedy="add them as new items")
    item_idx = rows_of(catalogue.item_ids, frame[ITEM_ID])
    if columns.found(USER_ID, frame.columns) is None:
        return Listed(torch.from_numpy(item_idx), None)
    frame = with_typed_ids(frame, column=USER_ID, like=catalogue.user_ids, where=where, log=columns)
    known_or_refused(frame[USER_ID], known_users, where, remedy="ask for them as new users")
    user_idx = rows_of(catalogue.user_ids, frame[USER_ID])
    asks = user_idx >= 0
    return Listed(torch.from_numpy(item_idx[asks]), torch.from_numpy(user_idx[asks]))
