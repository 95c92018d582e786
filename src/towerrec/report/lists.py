"""List files of any system: `user_id`, `item_id` and `rank` or `score`, as CSV, TSV, Parquet or JSON lines."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch
from polars.exceptions import PolarsError
from torch import Tensor

from towerrec import parquet_pages
from towerrec.ragged import TopN, UserItems
from towerrec.retrieval.candidates import Allowed, are_candidates
from towerrec.schema import ITEM_ID, USER_ID
from towerrec.unreadable import UNREADABLE
from towerrec.wording import reason_of, shortened

RANK = "rank"
SCORE = "score"


@dataclass(frozen=True)
class ListFile:
    """Lists of the judged users, and what the file held beside them.

    Args:
        lists: One list per judged user, in their order, empty where the file has none.
        users_without_list: Judged users the file says nothing about; they count as missed.
        users_not_judged: Users of the file that have nothing to be judged on.
        no_candidates: Listed items that the rules allow nobody to list for that user; the next ones moved up.
    """

    lists: TopN
    users_without_list: int
    users_not_judged: int
    no_candidates: int


def read_lists(
    path: Path,
    user_idx_B: Tensor,
    *,
    user_ids: pl.Series,
    item_ids: pl.Series,
    n: int,
    exclude: UserItems | None = None,
    allowed: Allowed = None,
) -> ListFile:
    """Read the first n candidates of every judged user's list.

    Items that are no candidates of the user (seen before, not observed) are passed over: a system that listed them did
    not know the rules, and the items behind them are judged as if it had.

    Order is by `rank` where there is one, otherwise by `score`, largest first and equal ones by item row.

    Args:
        path: File of lists, or a directory of part files as several processes of `recommend.py` write it.
        user_idx_B: Judged users.
        user_ids: Id of every row of the user table.
        item_ids: Id of every row of the item table.
        n: Length of the lists returned; what a shorter list lacks is -1.
        exclude: Items that may not be listed for a user.
        allowed: Candidates, as in `retrieval.search.top_n`.

    Raises:
        ValueError: If the file or a column is missing, an id is not known, a value is missing, or a user has an item or
            a rank twice.
    """
    texts = [name for name, ids in ((USER_ID, user_ids), (ITEM_ID, item_ids)) if ids.dtype == pl.String]
    frame = _read(path, texts)
    if frame.height == 0:
        raise ValueError(f"{path} holds no list: it has no rows")
    frame = _with_rows(frame, path, user_ids=user_ids, item_ids=item_ids)
    by_rank = RANK in frame.columns
    order = [RANK] if by_rank else [SCORE, "item_idx"]
    frame = frame.sort(["user_idx", *order], descending=[False, not by_rank] + [False] * (len(order) - 1))
    _refuse_twice(frame, path, by_rank)
    row_of_user = np.full(len(user_ids), -1)
    row_of_user[user_idx_B.cpu().numpy()] = np.arange(len(user_idx_B))
    frame = frame.with_columns(row=pl.Series(row_of_user[frame["user_idx"].to_numpy()]))
    users = frame.group_by("user_idx").agg(pl.col("row").first())
    judged = users.filter(pl.col("row") >= 0).height
    frame = frame.filter(pl.col("row") >= 0)
    pairs = [torch.from_numpy(frame[name].cast(pl.Int64).to_numpy().copy()) for name in ("user_idx", "item_idx")]
    candidate = are_candidates(*pairs, exclude=exclude, allowed=allowed)
    kept = (
        frame.filter(pl.Series(candidate.numpy()))
        .with_columns(place=pl.int_range(pl.len()).over("user_idx"))
        .filter(pl.col("place") < n)
    )
    items = np.full((len(user_idx_B), n), -1, dtype=np.int64)
    scores = np.full((len(user_idx_B), n), -np.inf, dtype=np.float32)
    at = (kept["row"].to_numpy(), kept["place"].to_numpy())
    items[at] = kept["item_idx"].to_numpy()
    scores[at] = (kept[SCORE] if SCORE in kept.columns else -kept[RANK].cast(pl.Float32)).to_numpy()
    lists = TopN(torch.from_numpy(items), torch.from_numpy(scores)).to(user_idx_B.device)
    return ListFile(lists, len(user_idx_B) - judged, users.height - judged, int((~candidate).sum()))


def _read(path: Path, texts: list[str]) -> pl.DataFrame:
    """A file, or a directory of part files, in the order of their names; a CSV keeps the columns `texts` as written."""
    if path.is_dir():
        parts = sorted(path.glob("part-*.*"))
        if not parts:
            raise ValueError(f"recommendations={path} is a directory without part files (part-00000.parquet, ...)")
        read = [_read(part, texts) for part in parts]
        try:
            return pl.concat(read, how="vertical_relaxed")
        except PolarsError as error:
            raise ValueError(f"the parts in {path} do not hold the same columns ({reason_of(error)})") from error
    if not path.is_file():
        raise ValueError(f"recommendations={path}: there is no such file")
    try:
        match path.suffix.lower():
            case ".parquet":
                parquet_pages.check(path)
                frame = pl.read_parquet(path, glob=False)
            case ".csv":
                frame = pl.read_csv(
                    path, glob=False, infer_schema_length=None, schema_overrides=dict.fromkeys(texts, pl.String)
                )
            case ".tsv":
                overrides = dict.fromkeys(texts, pl.String)
                frame = pl.read_csv(
                    path, glob=False, separator="\t", infer_schema_length=None, schema_overrides=overrides
                )
            case ".jsonl" | ".ndjson":
                frame = pl.read_ndjson(path.read_bytes(), infer_schema_length=None)
            case other:
                raise ValueError(f"{path}: ending {other!r} is not known; use .parquet, .csv, .tsv or .jsonl")
    except UNREADABLE as error:
        raise ValueError(f"{path} cannot be read as a list file: {reason_of(error)}") from error
    missing = [c for c in (USER_ID, ITEM_ID) if c not in frame.columns]
    if not missing and RANK not in frame.columns and SCORE not in frame.columns:
        missing = [RANK]
    for name in missing:
        names = [shortened(column) for column in frame.columns]
        near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
        hint = f"did you mean {near[0]!r}? " if near else ""
        raise ValueError(
            f"{path} has no column {name!r}: {hint}A list file needs user_id, item_id and rank or score; "
            f"this one has {', '.join(names[:40])}{', ...' if len(names) > 40 else ''}"
        )
    return frame


def _with_rows(frame: pl.DataFrame, path: Path, *, user_ids: pl.Series, item_ids: pl.Series) -> pl.DataFrame:
    """Ids replaced by `user_idx` and `item_idx`, and the order column checked."""
    order = RANK if RANK in frame.columns else SCORE
    if not frame[order].dtype.is_numeric():
        raise ValueError(f"{path}: column {order!r} must hold numbers, got {frame[order].dtype}")
    if frame[order].is_null().any() or frame[order].cast(pl.Float64).is_nan().any():
        raise ValueError(f"{path}: column {order!r} has rows without a value")
    for name, ids, idx in ((USER_ID, user_ids, "user_idx"), (ITEM_ID, item_ids, "item_idx")):
        known = pl.DataFrame({name: ids, idx: np.arange(len(ids))})
        try:
            frame = frame.with_columns(_ids(frame[name], ids.dtype, path).cast(ids.dtype))
        except PolarsError as error:
            raise ValueError(
                f"{path}: the ids in {name!r} are not of the log's type {ids.dtype} ({reason_of(error)})"
            ) from error
        frame = frame.join(known, on=name, how="left", maintain_order="left")
        strange = frame.filter(pl.col(idx).is_null())[name].unique(maintain_order=True)
        if len(strange):
            some = ", ".join(str(value) for value in strange.head(5)) + (", ..." if len(strange) > 5 else "")
            raise ValueError(
                f"{path}: {len(strange):,} values of {name!r} are in no row of the log ({some}): "
                "judge lists made on the same data, or take these rows out"
            )
    extra = [SCORE] if SCORE in frame.columns and order == RANK and frame[SCORE].dtype.is_numeric() else []
    return frame.select("user_idx", "item_idx", order, *extra)


def _ids(column: pl.Series, wanted: pl.DataType, path: Path) -> pl.Series:
    """The ids, floats and decimals as whole numbers; refused where a cast would make an id of what is none."""
    dtype = column.dtype
    if dtype.is_nested() or (wanted.is_integer() and (dtype.is_temporal() or dtype == pl.Boolean)):
        raise ValueError(f"{path}: column {column.name!r} must hold ids, got {dtype}")
    if not dtype.is_float() and not dtype.is_decimal():
        return column
    if not ((column % 1 == 0) & (column.abs() <= 2**53)).all():
        raise ValueError(
            f"{path}: column {column.name!r} must hold ids, got {dtype} that are no whole numbers up to 2^53"
        )
    return column.cast(pl.Int64)


def _refuse_twice(frame: pl.DataFrame, path: Path, by_rank: bool) -> None:
    keys = [("item_idx", "an item")] + ([(RANK, "a rank")] if by_rank else [])
    for key, what in keys:
        twice = frame.select("user_idx", key).is_duplicated().sum()
        if twice:
            raise ValueError(f"{path}: {twice:,} rows give a user {what} twice; a list holds each once")
