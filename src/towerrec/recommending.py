"""From a run directory to a file of ranked lists: nothing of the training data is needed."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import torch
from torch import Tensor

from towerrec import progress
from towerrec.data.catalogue import Catalogue, with_items
from towerrec.data.id_files import known_or_refused, read_ids, read_table
from towerrec.distributed import Job
from towerrec.files import whole_directory
from towerrec.nn.peers import ALONE, Peers
from towerrec.ragged import UserItems
from towerrec.retrieval.index import ItemIndex
from towerrec.retrieval.recommend import recommend, write_lists
from towerrec.schema import ITEM_ID, USER_ID
from towerrec.scoring import Moment, TowerScores


@dataclass(frozen=True)
class Request:
    """Who asks, and what may be listed.

    Attributes:
        known: Rows of the user table, int64 [B].
        new: Users the run does not know, with their feature columns, or None.
        candidates: Which items may be listed, bool [I].
        exclude: What each known user has seen, or None.
    """

    known: Tensor
    new: pl.DataFrame | None
    candidates: Tensor
    exclude: UserItems | None

    @property
    def num_users(self) -> int:
        return len(self.known) + (0 if self.new is None else self.new.height)


def request(catalogue: Catalogue, *, users: str | None, candidates: str | None, exclude_seen: bool) -> Request:
    """Read the files of users and candidates.

    Raises:
        ValueError: If a file is bad, or an id is unknown and its features are not given.
    """
    known, new = torch.arange(len(catalogue.user_ids)), None
    if users is not None:
        known, new = _users_of_file(Path(users), catalogue)
    allowed = catalogue.in_log
    if candidates is not None:
        wanted = read_ids(Path(candidates), column=ITEM_ID, like=catalogue.item_ids)
        known_or_refused(wanted, catalogue.item_ids, Path(candidates))
        allowed = torch.from_numpy(catalogue.item_ids.is_in(wanted.implode()).to_numpy().copy())
    return Request(known, new, allowed, catalogue.seen if exclude_seen else None)


def lists(
    scores: TowerScores,
    catalogue: Catalogue,
    asked: Request,
    *,
    n: int,
    batch_users: int,
    memory_mb: float | None = None,
    precision: str = "float32",
    peers: Peers = ALONE,
) -> Iterator[pl.DataFrame]:
    """Tables of lists, a chunk of users at a time, in the order of the users' ids.

    Args:
        scores: The towers over the tables of the catalogue.
        catalogue: Those tables.
        asked: Who asks for what.
        n: Length of the lists.
        batch_users: Users encoded at once.
        memory_mb: Bound on the scores held at once, as in `search.top_n`.
        precision: Of the first scores, as in `search.top_n`.
        peers: The processes that share the users: this one takes its part of them.
    """
    num_known = len(catalogue.user_ids)
    rows, user_ids, exclude = asked.known, catalogue.user_ids, asked.exclude
    new_vectors = torch.zeros(0)
    if asked.new is not None:
        new_vectors = scores.new_users(catalogue.encoders.encode("user", asked.new))
        rows = torch.cat([rows, num_known + torch.arange(asked.new.height)])
        user_ids = pl.concat([user_ids, asked.new[USER_ID]])
        if exclude is not None:
            nothing = exclude.offsets[-1:].expand(asked.new.height)
            exclude = UserItems(torch.cat([exclude.offsets, nothing]), exclude.items, exclude.num_items)

    by_id = torch.from_numpy(user_ids.gather(rows.numpy()).arg_sort().to_numpy().copy()).long()
    rows = rows[by_id[peers.share(len(rows))]]

    def encode(user_idx_B: Tensor) -> Tensor:
        is_new = user_idx_B >= num_known
        vectors_BV = scores.users(user_idx_B.clamp(max=num_known - 1))
        if bool(is_new.any()):
            vectors_BV = vectors_BV.clone()  # inference tensors cannot be written to
            vectors_BV[is_new] = new_vectors[user_idx_B[is_new] - num_known]
        return vectors_BV

    tables = recommend(
        encode,
        ItemIndex.of(scores.items(), asked.candidates),
        rows.to(scores.device),
        user_ids=user_ids,
        item_ids=catalogue.item_ids,
        n=n,
        exclude=None if exclude is None else exclude.to(scores.device),
        batch_users=batch_users,
        memory_mb=memory_mb,
        precision=precision,
    )
    yield from progress.each(tables, "recommending", math.ceil(len(rows) / batch_users))


def write(tables: Iterator[pl.DataFrame], catalogue: Catalogue, path: Path, *, format: str) -> int:
    """Write the tables into one file that appears when it is complete; returns the number of rows."""
    return write_lists(
        tables, path, format=format, user_type=catalogue.user_ids.dtype, item_type=catalogue.item_ids.dtype
    )


def write_parts(tables: Iterator[pl.DataFrame], catalogue: Catalogue, directory: Path, *, format: str, job: Job) -> int:
    """Write this process's tables as one part of a directory, `part-00000.parquet` and so on in the order of the users.

    The directory appears when all processes have written their parts; returns the rows of all of them.

    Raises:
        ValueError: If processes do not see one and the same directory.
    """
    if job.rank == 0:
        with whole_directory(directory) as filled:
            job.store.set("parts", str(filled.resolve()))
            num_rows = _write_part(tables, catalogue, filled, format=format, job=job)
        job.store.set("moved", "")
        return num_rows
    filled = Path(job.wait("parts"))
    if not filled.is_dir():
        raise ValueError(f"output={directory}: process {job.rank} does not see it; choose a disk that all nodes share")
    num_rows = _write_part(tables, catalogue, filled, format=format, job=job)
    job.wait("moved")
    return num_rows


def _write_part(tables: Iterator[pl.DataFrame], catalogue: Catalogue, filled: Path, *, format: str, job: Job) -> int:
    num_rows = write(tables, catalogue, filled / f"part-{job.rank:05d}.{format}", format=format)
    job.store.add("rows", num_rows)
    job.everybody("written")
    return int(job.store.add("rows", 0))


def with_new_items(catalogue: Catalogue, path: str | None) -> Catalogue:
    """The catalogue and the new items of a file, which need their feature columns."""
    if path is None:
        return catalogue
    table = read_table(Path(path), column=ITEM_ID, like=catalogue.item_ids)
    lacking = catalogue.encoders.missing_columns("item", table.columns)
    if lacking:
        raise ValueError(f"items={path} lacks the feature columns {', '.join(lacking)}: add them; they may hold gaps")
    return with_items(catalogue, table)


def moment(at: str | None, timezone: str) -> Moment:
    """The moment that a text such as `2020-09-01T20:00` names.

    Raises:
        ValueError: If it names none.
    """
    if at is None:
        return Moment()
    try:
        parsed = datetime.fromisoformat(at)
    except ValueError as error:
        raise ValueError(f"at={at} is not a moment: write it like 2020-09-01T20:00") from error
    local = parsed if parsed.tzinfo is not None else parsed.replace(tzinfo=ZoneInfo(timezone))
    return Moment(int(local.timestamp() * 1000))


def _users_of_file(path: Path, catalogue: Catalogue) -> tuple[Tensor, pl.DataFrame | None]:
    """Known users by their rows; users with feature columns that the run does not know stay a table."""
    table = read_table(path, column=USER_ID, like=catalogue.user_ids).unique(USER_ID, maintain_order=True)
    is_known = table[USER_ID].is_in(catalogue.user_ids.implode())
    new = table.filter(~is_known)
    lacking = catalogue.encoders.missing_columns("user", table.columns)
    if new.height and (lacking or len(table.columns) == 1):
        known_or_refused(table[USER_ID], catalogue.user_ids, path, lacking=lacking)
    places = pl.DataFrame({USER_ID: catalogue.user_ids}).with_row_index("row")
    rows = table.filter(is_known).join(places, on=USER_ID, how="left", maintain_order="left")["row"]
    return torch.from_numpy(rows.cast(pl.Int64).to_numpy().copy()), new if new.height else None
