"""Who asks for lists, when, and what may stand in them: files, tables and ids become one request.

Shape letters: B users who ask, U users of the catalogue.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import polars as pl
import torch
from torch import Tensor

from towerrec.allowing import Allowed, allowed
from towerrec.data.catalogue import Catalogue, with_users
from towerrec.data.id_files import Given, given_table, known_or_refused
from towerrec.data.ids import rows_of
from towerrec.data.since import Since, moments_of, of_users, read_since, with_rows
from towerrec.schema import NO_TIMESTAMP, USER_ID

log = logging.getLogger(__name__)

AT = "at"
"""Column of a table of users: when each of them asks."""


@dataclass(frozen=True)
class Request:
    """Who asks, when, and what may be listed.

    Attributes:
        catalogue: That of the run; or one of those who ask alone, where new users or further rows had to be added.
        user_idx_B: Their rows of its user table, each once.
        at_ms_U: When each of its users asks, `NO_TIMESTAMP` where nobody says; None: nobody says of anybody.
        allowed: What may be listed.
        num_new: Users among them that the run does not know.
    """

    catalogue: Catalogue
    user_idx_B: Tensor
    at_ms_U: Tensor | None
    allowed: Allowed
    num_new: int = 0

    @property
    def num_users(self) -> int:
        return len(self.user_idx_B)


def request(
    catalogue: Catalogue,
    *,
    users: Given | None = None,
    exclude_seen: bool = True,
    allow: Given | None = None,
    deny: Given | None = None,
    at: datetime | str | None = None,
    history: Given | None = None,
) -> Request:
    """Look up in the tables of a run what somebody asks for; users and lists may be files, tables in memory or ids.

    Args:
        catalogue: Of the run.
        users: Ids; users that the run does not know bring their feature columns, or have a history. A column `at` says
            when each of them asks. None: all users of the log, and those of the history.
        exclude_seen: Leave out what a user has seen.
        allow: See `allowing.allowed`.
        deny: See `allowing.allowed`.
        at: When they ask, where no column says it.
        history: What users did that the run does not know, see `data.since`.

    Raises:
        ValueError: If something is bad or empty, or an id is unknown and nothing is known of it.
    """
    since = None if history is None else read_since(history, catalogue, name="history")
    at_ms = moment(at, catalogue.timezone)
    frame, where = _who(catalogue, users, since)
    if frame is None:
        asking = catalogue if since is None else with_rows(catalogue, since)
        user_idx_B, num_new = torch.arange(len(catalogue.user_ids)), 0
        at_ms_U = None if at_ms is None else torch.full((len(user_idx_B),), at_ms)
    else:
        rows, frame = frame, _each_once(frame, where)
        row_B = rows_of(catalogue.user_ids, frame[USER_ID])
        frame, new = frame.filter(row_B >= 0), frame.filter(row_B < 0)
        if rows.height > len(row_B):
            _tell_of_two(rows.join(new, on=USER_ID, how="semi"), catalogue.encoders.missing_columns("user", []), where)
        user_idx_B, num_new = torch.from_numpy(row_B[row_B >= 0]), new.height
        at_ms_B = _moments(pl.concat([frame, new]), at_ms, catalogue.timezone, where)
        asking = catalogue
        if new.height or since is not None:
            asking = _grown(of_users(catalogue, user_idx_B), new, since, where, asked=len(row_B))
            user_idx_B = torch.arange(len(asking.user_ids))
        at_ms_U = None
        if at_ms_B is not None:
            at_ms_U = torch.full((len(asking.user_ids),), NO_TIMESTAMP)
            at_ms_U[user_idx_B] = at_ms_B
    known = catalogue.user_ids if num_new == 0 else pl.concat([catalogue.user_ids, asking.user_ids])
    some = user_idx_B if len(user_idx_B) < len(asking.user_ids) else None
    rules = allowed(asking, known, allow=allow, deny=deny, exclude_seen=exclude_seen, asking=some)
    return Request(asking, user_idx_B, at_ms_U, rules, num_new)


def moment(at: datetime | str | None, timezone: str) -> int | None:
    """Milliseconds since 1970 of a moment such as `2020-09-01T20:00`; read in the log's time zone if it names none.

    Raises:
        ValueError: If it is none.
    """
    if at is None:
        return None
    try:
        parsed = at if isinstance(at, datetime) else datetime.fromisoformat(at)
    except (ValueError, TypeError) as error:
        raise ValueError(f"at={at} is not a moment: write it like 2020-09-01T20:00") from error
    local = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=ZoneInfo(timezone))
    return int(local.timestamp() * 1000)


def _who(catalogue: Catalogue, users: Given | None, since: Since | None) -> tuple[pl.DataFrame | None, str]:
    """The table of those who ask, and how messages call it; None: the users of the log."""
    if users is not None:
        frame, where = given_table(users, column=USER_ID, like=catalogue.user_ids, name="users", log=catalogue.columns)
        if frame.height == 0:
            raise ValueError(f"{where} holds no users: leave it out to ask for all users of the log")
        return frame, where
    if since is None or bool(since.user_ids.is_in(catalogue.user_ids.implode()).all()):
        return None, ""
    return pl.concat([catalogue.user_ids, since.user_ids]).rename(USER_ID).to_frame(), "history"


def _each_once(frame: pl.DataFrame, where: str) -> pl.DataFrame:
    """The first row of every user.

    Raises:
        ValueError: If somebody asks at two moments.
    """
    if AT in frame.columns:
        twice = frame.select(USER_ID, AT).unique().filter(pl.col(USER_ID).is_duplicated())[USER_ID]
        if len(twice):
            raise ValueError(
                f"{where}: {twice.n_unique():,} users ask at more than one moment (such as "
                f"{twice.unique().sort().head(3).to_list()}): ask once for each moment"
            )
    return frame.unique(USER_ID, keep="first", maintain_order=True)


def _tell_of_two(new: pl.DataFrame, read: list[str], where: str) -> None:
    """One line where rows of one new user differ in what the model reads of him."""
    rows = new.select(USER_ID, *(name for name in read if name in new.columns)).unique(maintain_order=True)
    twice = rows.filter(pl.col(USER_ID).is_duplicated())[USER_ID].unique(maintain_order=True)
    if len(twice):
        log.warning(
            f"{where}: {len(twice):,} new users have rows with different features (such as "
            f"{twice.head(3).to_list()}): the first row of each counts"
        )


def _moments(frame: pl.DataFrame, at_ms: int | None, timezone: str, where: str) -> Tensor | None:
    """When each row asks: as its column `at` says, otherwise all at the same moment."""
    otherwise = NO_TIMESTAMP if at_ms is None else at_ms
    if AT not in frame.columns:
        return None if at_ms is None else torch.full((frame.height,), at_ms)
    said = moments_of(frame, AT, timezone=timezone, where=where).to_numpy()
    return torch.where(torch.tensor(said) == NO_TIMESTAMP, otherwise, torch.tensor(said))


def _grown(asking: Catalogue, new: pl.DataFrame, since: Since | None, where: str, *, asked: int) -> Catalogue:
    """Those who ask with new users, by their features or their history, and with what they did."""
    if new.height:
        lacking = asking.encoders.missing_columns("user", new.columns)
        nothing = new.select(USER_ID)
        if since is not None:
            nothing = nothing.filter(~pl.col(USER_ID).is_in(since.user_ids.implode()))
        if nothing.height and (lacking or set(new.columns) <= {USER_ID, AT}):
            remedy = "give their feature columns in the file, or their history"
            known_or_refused(nothing[USER_ID], asking.user_ids, where, lacking=lacking, remedy=remedy, asked=asked)
        if lacking:
            log.warning(f"{where}: {new.height:,} new users have a history, but not all features ({_few(lacking)})")
        asking = with_users(asking, new, allow_missing=True)
    return asking if since is None else with_rows(asking, since)


def _few(names: list[str]) -> str:
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return f"they lack {', '.join(names[:3])}{more}"
