"""The store of a log that does not fit into memory, written bucket by bucket of users.

A first pass gives every row its split and label, and sorts the rows of each bucket; then all ids are known, and where
each bucket begins in each split; a second pass writes the columns there. Shape letters: N rows of a bucket, K buckets.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec import progress
from towerrec.data.encoders import Encoders
from towerrec.data.ids import index_of
from towerrec.data.labels import DURATION, GRADE, VALUE, Label, kept_beside
from towerrec.data.report import VALUES
from towerrec.data.row_order import sort_order
from towerrec.data.splits import Split, check_counts
from towerrec.data.store import COLUMNS, InteractionStore
from towerrec.data.streamed_rows import CleanedRows
from towerrec.data.streamed_splits import Assign
from towerrec.npy import ColumnFile
from towerrec.positive import positive_mask
from towerrec.schema import ITEM_ID, LABEL, NO_TIMESTAMP, SPLIT, SPLITS, TIMESTAMP_MS, USER_ID

BESIDE = (VALUE, GRADE, DURATION)


@dataclass
class SplitRows:
    """What the first pass learns.

    Attributes:
        rows: Rows of every bucket in every split, int64 [K, 3], in the order of `files`.
        outside: Rows that belong to no split.
        pairs: Distinct pairs of user and item in all rows and in each split.
        user_ids: Ids of the users of these rows, ascending.
        item_ids: Those of the items.
        files: The sorted rows of each bucket.
        columns: Values of the rows that the report reads, and what `labels.kept_beside` gives.
    """

    rows: NDArray[np.int64]
    outside: int
    pairs: dict[str, int]
    user_ids: pl.Series
    item_ids: pl.Series
    files: list[Path]
    columns: dict[str, pl.DataType]


def split_rows(cleaned: CleanedRows, *, split: Split, assign: Assign, label: Label, directory: Path) -> SplitRows:
    """Give every row its split and label, and leave each bucket sorted by split, user and time; its former files go."""
    counts, pairs = np.zeros(4, dtype=np.int64), dict.fromkeys(("all", *SPLITS), 0)
    rows: list[NDArray[np.int64]] = []
    users: list[pl.Series] = []
    items: pl.Series | None = None
    files: list[Path] = []
    columns: dict[str, pl.DataType] = {}
    for number, bucket in enumerate(cleaned.buckets):
        progress.share(number / len(cleaned.buckets))
        frame = bucket.read()
        codes = assign(frame)
        counts += np.bincount(codes, minlength=4)
        frame = _labelled(frame, codes, label)
        if frame.height == 0:
            continue
        rows.append(np.bincount(frame[SPLIT].to_numpy(), minlength=4)[1:4])
        _count_pairs(frame, pairs)
        users.append(frame[USER_ID].unique().drop_nulls().sort())
        found = frame[ITEM_ID].unique()
        items = found if items is None else pl.concat([items, found]).unique()
        frame = frame[_order(frame, users[-1])]
        files.append(directory / f"sorted-{number}.arrow")
        frame.write_ipc(files[-1])
        columns = {name: dtype for name, dtype in frame.schema.items() if name in (*VALUES, *BESIDE)}
        for file in bucket.files:
            file.unlink()
    check_counts(counts, split.name)
    assert items is not None
    return SplitRows(np.stack(rows), int(counts[0]), pairs, pl.concat(users), items, files, columns)


def _labelled(frame: pl.DataFrame, codes: NDArray[np.uint8], label: Label) -> pl.DataFrame:
    if TIMESTAMP_MS not in frame.columns:
        frame = frame.with_columns(pl.lit(None, dtype=pl.Int64).alias(TIMESTAMP_MS))
    frame = frame.with_columns(pl.Series(SPLIT, codes)).filter(pl.col(SPLIT) != 0)
    kept = [USER_ID, ITEM_ID, TIMESTAMP_MS, SPLIT, *(name for name in VALUES if name in frame.columns)]
    return frame.select(kept).with_columns(label.apply(frame).alias(LABEL), *kept_beside(label, frame))


def _count_pairs(frame: pl.DataFrame, pairs: dict[str, int]) -> None:
    users, items = (frame[name].unique().drop_nulls().sort() for name in (USER_ID, ITEM_ID))
    cell = index_of(users, frame[USER_ID]).astype(np.int64) * len(items) + index_of(items, frame[ITEM_ID])
    codes = frame[SPLIT].to_numpy()
    pairs["all"] += _distinct(cell)
    for code, word in enumerate(SPLITS, start=1):
        pairs[word] += _distinct(cell[codes == code])


def _distinct(values: NDArray[np.int64]) -> int:
    ordered = np.sort(values)
    return int((ordered[1:] != ordered[:-1]).sum()) + 1 if len(ordered) else 0


def _order(frame: pl.DataFrame, user_ids: pl.Series) -> NDArray[np.int64]:
    return sort_order(frame[SPLIT].to_numpy(), index_of(user_ids, frame[USER_ID]), _times(frame))


def _times(frame: pl.DataFrame) -> NDArray[np.int64]:
    return frame[TIMESTAMP_MS].fill_null(NO_TIMESTAMP).to_numpy()


def write_columns(
    found: SplitRows, store: Path, *, user_ids: pl.Series, item_ids: pl.Series, values: Path
) -> InteractionStore:
    """Write the columns of the store, and those that only the report reads into the folder `values`.

    What is null there is NaN. The sorted buckets go.
    """
    store.mkdir(parents=True)
    values.mkdir()
    num_rows = int(found.rows.sum())
    dtypes = {name: np.dtype(kind) for name, kind in COLUMNS.items()}
    dtypes |= {name: np.dtype(np.float32) for name in BESIDE if name in found.columns}
    places = {name: store / f"{name}.npy" for name in dtypes}
    for name, kind in found.columns.items():
        if name not in BESIDE:
            dtypes[name] = np.dtype(np.float32 if kind == pl.Float32 else np.float64)
            places[name] = values / f"{name}.npy"
    files = {name: ColumnFile(path, dtype=dtypes[name], num_rows=num_rows) for name, path in places.items()}
    ends = np.cumsum(found.rows.sum(0))
    # Where each bucket begins in each split [K, 3].
    begins = np.cumsum(found.rows, 0) - found.rows + (ends - found.rows.sum(0))
    for number, path in enumerate(found.files):
        progress.share(number / len(found.files))
        columns = _columns(pl.read_ipc(path), user_ids, item_ids)
        path.unlink()
        bounds = np.concatenate([[0], np.cumsum(found.rows[number])])
        for name, file in files.items():
            for code in range(3):
                file.put(int(begins[number, code]), columns[name][bounds[code] : bounds[code + 1]])
    for file in files.values():
        file.close()
    return InteractionStore.described(
        store,
        rows=found.rows.sum(0),
        columns=[name for name in dtypes if name in (*COLUMNS, *BESIDE)],
        context={},
        num_users=len(user_ids),
        num_items=len(item_ids),
    )


def _columns(frame: pl.DataFrame, user_ids: pl.Series, item_ids: pl.Series) -> dict[str, NDArray[Any]]:
    """The rows of a bucket as they are stored."""
    user_idx, item_idx = index_of(user_ids, frame[USER_ID]), index_of(item_ids, frame[ITEM_ID])
    if (user_idx < 0).any() or (item_idx < 0).any():
        raise ValueError(
            "some rows have no user or no item; a log prepared in chunks (data.streaming) needs both in every row: "
            "leave cleaning.impossible=true, which drops such rows"
        )
    columns: dict[str, NDArray[Any]] = {
        "user_idx": user_idx,
        "item_idx": item_idx,
        "timestamp_ms": _times(frame),
        LABEL: frame[LABEL].to_numpy(),
    }
    others = [name for name in frame.columns if name in (*VALUES, *BESIDE)]
    return columns | {name: frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in others}


def write_context(store: InteractionStore, encoders: Encoders) -> InteractionStore:
    """Add the row-level features that follow from the moment of a row alone: hour and weekday."""
    names = [encoder.name for encoder in encoders.context]
    num_rows = sum(store.num_rows(split) for split in SPLITS)
    files = {
        name: ColumnFile(store.directory / f"context_{name}.npy", dtype=np.dtype(np.uint8), num_rows=num_rows)
        for name in names
    }
    at = 0
    for times in store.blocks("timestamp_ms"):
        for name, values in encoders.user_context(np.asarray(times)).items():
            files[name].put(at, values)
        at += len(times)
    for file in files.values():
        file.close()
    return InteractionStore.described(
        store.directory,
        rows=np.array([store.num_rows(split) for split in SPLITS]),
        columns=store.beside,
        context=dict.fromkeys(names, "user"),
        num_users=store.num_users,
        num_items=store.num_items,
    )


def check_positives_of(store: InteractionStore, rule: str) -> None:
    """Refuse a log in which nothing is a positive in training or test."""
    for word in ("train", "test"):
        if not any(bool(np.asarray(positive_mask(block, rule)).any()) for block in store.blocks("label", word)):
            raise ValueError(
                f"no {word} row has a positive label ({rule}): choose another label, label.positive or split"
            )
