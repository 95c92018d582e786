"""Pairs of users and items whose scores somebody asks for: files and tables become rows of the tables of a run.

Shape letters: P pairs.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from pathlib import Path

import polars as pl
import torch
from torch import Tensor

from towerrec.asking import AT, moment
from towerrec.data.catalogue import Catalogue
from towerrec.data.id_files import Given, given_table, known_or_refused, with_typed_ids
from towerrec.data.ids import rows_of
from towerrec.data.since import moments_of
from towerrec.schema import ITEM_ID, NO_TIMESTAMP, USER_ID


@dataclass(frozen=True)
class Pairs:
    """Pairs in the order they were given.

    Attributes:
        ids: `user_id` and `item_id`.
        users: Those of the pairs, each with what is said of him, for a request.
        item_idx_P: Rows of the item table, int64.
        at_ms_P: When each user asks, `NO_TIMESTAMP` where nobody says.
    """

    ids: pl.DataFrame
    users: pl.DataFrame
    item_idx_P: Tensor
    at_ms_P: Tensor


def read_pairs(
    catalogue: Catalogue, pairs: pl.DataFrame | str | Path, *, users: Given | None, at: datetime | str | None
) -> Pairs:
    """Look up pairs in the tables of a run.

    Args:
        catalogue: Of the run.
        pairs: `user_id`, `item_id` and perhaps `at`.
        users: Rows with the features of users that the run does not know; None: only users of the run or a history.
        at: Moment of the pairs whose row names none.

    Raises:
        ValueError: If an id is unknown or a column is missing.
    """
    columns = catalogue.columns
    frame, where = given_table(pairs, column=USER_ID, like=catalogue.user_ids, name="pairs", log=columns)
    frame = with_typed_ids(frame, column=ITEM_ID, like=catalogue.item_ids, where=where, log=columns)
    known_or_refused(frame[ITEM_ID], catalogue.item_ids, where, remedy="add them as new items")
    said_P = torch.tensor(moments_of(frame, AT, timezone=catalogue.timezone, where=where).to_numpy())
    at_ms = moment(at, catalogue.timezone)
    return Pairs(
        frame.select(USER_ID, ITEM_ID),
        _users_of(frame, catalogue, users, where),
        torch.from_numpy(rows_of(catalogue.item_ids, frame[ITEM_ID])),
        said_P if at_ms is None else torch.where(said_P == NO_TIMESTAMP, at_ms, said_P),
    )


def _users_of(pairs: pl.DataFrame, catalogue: Catalogue, users: Given | None, where: str) -> pl.DataFrame:
    """The users of some pairs, each with the columns that stand beside him in `users`."""
    own = pairs.select(pl.col(USER_ID).unique(maintain_order=True))
    if users is None:
        return own
    table, beside = given_table(users, column=USER_ID, like=catalogue.user_ids, name="users", log=catalogue.columns)
    others = own.join(table, on=USER_ID, how="anti", maintain_order="left")
    remedy = "give their rows there too"
    known_or_refused(others[USER_ID], catalogue.user_ids, f"{where}: beside {beside}", remedy=remedy)
    asked = table.drop(AT, strict=False).join(own, on=USER_ID, how="semi", maintain_order="left")
    return pl.concat([asked, others], how="diagonal")
