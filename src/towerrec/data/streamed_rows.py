"""A log that does not fit into memory, read in chunks and dealt out to files of whole users.

What cleaning and splits compare are rows of one user: once all rows of some users lie together, each such bucket can be
treated like a small log. Buckets hold ranges of user ids, so that one after the other they give the order of the store.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec import progress
from towerrec.data.cleaning import (
    EVENT_FIELDS,
    PARTITION_FIELDS,
    Cleaning,
    average_pairs,
    drop_duplicates,
    drop_impossible,
    impossible_reasons,
    keep_items,
    reads_events,
)
from towerrec.data.columns import require_columns
from towerrec.schema import ITEM_ID, USER_ID
from towerrec.unreadable import UNREADABLE
from towerrec.wording import reason_of

PLACE = "__place__"
"""Column that holds the number of a row in the log, counted after what cleaning drops row by row."""

_ORDER = ("exact duplicates", "near duplicates", "repeats of a pair, averaged")


@dataclass
class Bucket:
    """All cleaned rows of a range of users, in the order of the log, in one file or several."""

    files: list[Path]

    def read(self, columns: Sequence[str] | None = None) -> pl.DataFrame:
        wanted = None if columns is None else list(columns)
        return pl.concat([pl.read_ipc(file, columns=wanted) for file in self.files], rechunk=True)

    def replace(self, frame: pl.DataFrame) -> None:
        """Keep other rows instead."""
        # Into another file: the frame may still be read from these.
        instead = self.files[0].with_suffix(".clean.arrow")
        frame.write_ipc(instead)
        for file in self.files:
            file.unlink()
        self.files = [instead]


@dataclass
class CleanedRows:
    """The cleaned log on disk.

    Attributes:
        buckets: Ranges of users, ascending; none is empty.
        counts: Rows dropped, by reason, as `cleaning.clean` counts them.
        dropped: Places of the rows that left after places were given, int64, ascending.
    """

    buckets: list[Bucket]
    counts: dict[str, int]
    dropped: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))

    @property
    def num_rows(self) -> int:
        return self.counts["rows_kept"]

    def rank(self, place: NDArray[np.int64]) -> NDArray[np.int64]:
        """Number of each row among those that are left, in the order of the log."""
        return place - np.searchsorted(self.dropped, place)


def cleaned_rows(
    interactions: pl.LazyFrame,
    *,
    rules: Cleaning,
    columns: Sequence[str],
    required: Sequence[str],
    items: pl.DataFrame | None,
    directory: Path,
    chunk_rows: int,
    seekable: bool = False,
) -> CleanedRows:
    """Clean a log as `cleaning.clean` does, a chunk of it in memory at a time.

    Memory: a few chunks, the ids of all users, and the rows of the busiest user.

    Args:
        interactions: The log.
        rules: What to drop.
        columns: Columns to keep besides the two ids.
        required: Columns without which a row is useless.
        items: The item table, for `rules.items`.
        directory: Takes the files; empty.
        chunk_rows: Rows read at a time, and about as many in a bucket.
        seekable: Whether reading may begin anywhere, as in Parquet.

    Raises:
        ValueError: As `cleaning.clean`.
    """
    existing = interactions.collect_schema()
    wanted = list(dict.fromkeys([USER_ID, ITEM_ID, *columns, *required]))
    require_columns(wanted, existing.names(), "the log")
    event = [name for name in EVENT_FIELDS if name in existing] if reads_events(rules) else []
    log = interactions.select(list(dict.fromkeys([*wanted, *event])))
    chunks = _slices(log, chunk_rows) if seekable else _batches(log, chunk_rows)
    first_ids = first_ids_of_buckets(log, chunk_rows)
    buckets, counts = _dealt_out(chunks, log.collect_schema(), first_ids, rules, required, items, directory)
    fields = [name for name in dict.fromkeys([*event, *wanted]) if name not in PARTITION_FIELDS]
    dropped = []
    for bucket in buckets:
        frame = bucket.read()
        kept, by_reason = drop_duplicates(frame, rules, fields=fields)
        if rules.repeated_pairs == "mean":
            kept, averaged = average_pairs(kept)
            by_reason |= averaged
        for reason, number in by_reason.items():
            counts[reason] = counts.get(reason, 0) + number
        if by_reason:
            dropped.append(np.setdiff1d(frame[PLACE].to_numpy(), kept[PLACE].to_numpy(), assume_unique=True))
            bucket.replace(kept)
    counts |= {reason: counts.pop(reason) for reason in _ORDER if reason in counts}
    away = np.sort(np.concatenate(dropped)) if dropped else np.zeros(0, dtype=np.int64)
    counts["rows_kept"] = counts["rows_read"] - sum(number for name, number in counts.items() if name != "rows_read")
    if counts["rows_kept"] == 0:
        raise ValueError(f"no row of the log is left after cleaning: {counts}")
    return CleanedRows(buckets, counts, away)


def _dealt_out(
    chunks: Iterable[pl.DataFrame],
    schema: pl.Schema,
    first_ids: pl.Series,
    rules: Cleaning,
    required: Sequence[str],
    items: pl.DataFrame | None,
    directory: Path,
) -> tuple[list[Bucket], dict[str, int]]:
    """Drop what is judged row by row, and write every row to the bucket of its user."""
    files: dict[int, list[Path]] = {}
    counts = {"rows_read": 0}
    reasons = impossible_reasons(schema, rules, required)
    by_item, by_reason, next_place = dict[str, int](), dict.fromkeys(reasons, 0), 0
    for number, chunk in enumerate(chunks):
        counts["rows_read"] += chunk.height
        kept, dropped = drop_impossible(chunk, reasons)
        for reason, rows in dropped.items():
            by_reason[reason] += rows
        if rules.items is not None:
            kept, dropped = keep_items(kept, rules.items, items)
            for reason, rows in dropped.items():
                by_item[reason] = by_item.get(reason, 0) + rows
        kept = kept.with_columns(pl.int_range(next_place, next_place + kept.height, dtype=pl.Int64).alias(PLACE))
        next_place += kept.height
        bucket = (first_ids.search_sorted(kept[USER_ID], side="right").cast(pl.Int64) - 1).alias("__bucket__")
        for key, part in kept.hstack([bucket]).partition_by("__bucket__", include_key=False, as_dict=True).items():
            place = max(int(key[0]), 0)
            files.setdefault(place, []).append(directory / f"{place}-{number}.arrow")
            part.write_ipc(files[place][-1])
    counts |= {reason: rows for reason, rows in by_reason.items() if rows} | by_item
    return [Bucket(files[place]) for place in sorted(files)], counts


def first_ids_of_buckets(log: pl.LazyFrame, rows: int) -> pl.Series:
    """The smallest user id of each bucket, ascending; a bucket holds about `rows` rows, and whole users."""
    try:
        users = log.group_by(USER_ID).len().collect(engine="streaming")
    except UNREADABLE as error:
        raise ValueError(f"the log cannot be read: {reason_of(error)}") from error
    users = users.drop_nulls().sort(USER_ID)
    before = users["len"].cast(pl.Int64).cum_sum() - users["len"]
    return users[USER_ID].filter((before // rows).diff().fill_null(1) > 0)


def _slices(log: pl.LazyFrame, rows: int) -> Iterator[pl.DataFrame]:
    """The log in its order, `rows` rows at a time, each read when it is asked for."""
    try:
        num_rows = int(log.select(pl.len()).collect().item())
        for at in range(0, num_rows, rows):
            progress.share(at / num_rows)
            yield log.slice(at, rows).collect()
    except UNREADABLE as error:
        raise ValueError(f"the log cannot be read: {reason_of(error)}") from error


def _batches(log: pl.LazyFrame, rows: int) -> Iterator[pl.DataFrame]:
    """The same of text, which can only be read from its beginning; some chunks are read ahead."""
    try:
        yield from (chunk for chunk in log.collect_batches(chunk_size=rows, maintain_order=True) if chunk.height)
    except UNREADABLE as error:
        raise ValueError(f"the log cannot be read: {reason_of(error)}") from error
