"""`build.build` for a log larger than memory: the same store, tables and report, prepared a chunk at a time.

Three passes over the rows. (1) Read in chunks, dropped row by row, dealt out to buckets of whole users on disk
(`streamed_rows`), each then cleaned of duplicates. (2) Split, labelled and sorted bucket by bucket. (3) Ids replaced by
table rows, written to their place in the store (`streamed_store`). Features and report read the store in blocks.

Memory: chunks of `chunk_rows` rows, the rows of the busiest user, tables of users and items, and where a split draws
in the order of the log ten bytes a row for a moment. Disk: the log about twice, beside the store, until it is done.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from towerrec.data.artefacts import EncodedTables
from towerrec.data.build import Clock, collected, meta_of, wanted_columns
from towerrec.data.cleaning import Cleaning
from towerrec.data.encode import encode_tables
from towerrec.data.features import Columns, FeatureChoice, choose
from towerrec.data.ids import known_ids
from towerrec.data.labels import Column, Implicit, Label, Liked, WatchRatio
from towerrec.data.sides import write_sides
from towerrec.data.splits import Split
from towerrec.data.store import InteractionStore
from towerrec.data.streamed_facts import StoreFacts, refuse_features
from towerrec.data.streamed_report import StoreReport
from towerrec.data.streamed_rows import cleaned_rows
from towerrec.data.streamed_splits import assigner, refuse_split
from towerrec.data.streamed_store import check_positives_of, split_rows, write_columns, write_context
from towerrec.data.tables import Source, Tables
from towerrec.schema import ITEM_ID, NO_TIMESTAMP, USER_ID

STAGES = ("read, clean", "split, label", "store", "report", "features")


def build_streamed(
    store: Path,
    *,
    key: str,
    source: Source,
    cleaning: Cleaning,
    split: Split,
    label: Label,
    choice: FeatureChoice,
    chunk_rows: int,
    seekable: bool = False,
) -> tuple[EncodedTables, dict[str, Any]]:
    """Write the store and return the encoded tables and the data report, as `build.build` does.

    Raises:
        ValueError: As there, and for a label, split or feature that needs all rows at once.
    """
    _refuse_label(label)
    refuse_split(split)
    work = store.parent / "chunks"
    work.mkdir(parents=True)
    try:
        return _build(
            store,
            work,
            key=key,
            tables=source.read(),
            cleaning=cleaning,
            split=split,
            label=label,
            choice=choice,
            chunk_rows=chunk_rows,
            seekable=seekable,
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _build(
    store: Path,
    work: Path,
    *,
    key: str,
    tables: Tables,
    cleaning: Cleaning,
    split: Split,
    label: Label,
    choice: FeatureChoice,
    chunk_rows: int,
    seekable: bool,
) -> tuple[EncodedTables, dict[str, Any]]:
    clock = Clock(STAGES)
    users, items = collected(tables.users), collected(tables.items)
    cleaned = cleaned_rows(
        tables.interactions,
        rules=cleaning,
        columns=wanted_columns(tables.interactions.collect_schema().names(), split=split, label=label),
        required=label.columns,
        items=items,
        directory=work,
        chunk_rows=chunk_rows,
        seekable=seekable,
    )
    clock.stage("read, clean")
    found = split_rows(cleaned, split=split, assign=assigner(split, cleaned, work), label=label, directory=work)
    counts = cleaned.counts | ({"rows outside the split": found.outside} if found.outside else {})
    del cleaned
    user_ids, item_ids = known_ids(USER_ID, found.user_ids, users), known_ids(ITEM_ID, found.item_ids, items)
    write_sides(store.parent, users=users, items=items, user_ids=user_ids, item_ids=item_ids)
    clock.stage("split, label")
    rows = write_columns(found, store, user_ids=user_ids, item_ids=item_ids, values=work / "values")
    check_positives_of(rows, label.positive)
    clock.stage("store")
    describing = StoreReport(rows, work / "values", positive=label.positive, timezone=tables.timezone)
    report = describing.describe(name=tables.name, cleaning=counts, pairs=found.pairs)
    report["label"] = label.settings()
    clock.stage("report")
    encoded, left_out = _encoded(rows, tables, (users, items), (user_ids, item_ids), choice, label)
    encoded.meta |= meta_of(tables, label=label, split=split, key=key)
    write_context(rows, encoded.encoders)
    clock.stage("features")
    report["features"] = {"used": [spec.name for spec in encoded.schema.features], "left_out": left_out}
    report["seconds"] = clock.seconds
    return encoded, report


def _encoded(
    rows: InteractionStore,
    tables: Tables,
    sides: tuple[pl.DataFrame | None, pl.DataFrame | None],
    ids: tuple[pl.Series, pl.Series],
    choice: FeatureChoice,
    label: Label,
) -> tuple[EncodedTables, Mapping[str, str]]:
    """The tables, and the features that the data has not enough for: name -> reason."""
    facts = StoreFacts(rows, positive=label.positive)
    has_time = any(bool((block != NO_TIMESTAMP).any()) for block in rows.blocks("timestamp_ms"))
    declared, left_out = choose(choice, Columns(*sides, daily=(), has_time=has_time))
    refuse_features(declared)
    users, items = sides
    encoded = encode_tables(
        declared, facts, tables, users=users, items=items, user_ids=ids[0], item_ids=ids[1], before=None
    )
    return encoded, left_out


def _refuse_label(label: Label) -> None:
    if not isinstance(label, WatchRatio | Liked | Column | Implicit):
        raise ValueError(
            f"label={label.name} learns from all training rows at once, but the log is prepared in chunks "
            "(data.streaming): choose label=column, implicit, watch_ratio, liked or click, or set data.streaming=false"
        )
