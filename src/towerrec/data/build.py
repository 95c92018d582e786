"""The work behind `prepare`: one log through cleaning, split, label and features into a store.

Shape letters: R rows of the cleaned log that belong to a split, U users, I items.
"""

from __future__ import annotations

import datetime
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec import progress
from towerrec.data.artefacts import EncodedTables
from towerrec.data.cleaning import Cleaning, clean, column_by_column
from towerrec.data.columns import missing_column
from towerrec.data.encode import Log, LogFacts, encode_tables, first_unseen_day, recent_rows, row_context
from towerrec.data.features import Columns, FeatureChoice, choose
from towerrec.data.growth import refuse_counted
from towerrec.data.ids import index_of, known_ids
from towerrec.data.labels import Label, kept_beside
from towerrec.data.labels_saved import label_to_dict
from towerrec.data.past import Past
from towerrec.data.report import VALUES, describe
from towerrec.data.sides import write_sides
from towerrec.data.splits import Split
from towerrec.data.store import OPTIONAL, InteractionStore
from towerrec.data.tables import Source, Tables
from towerrec.positive import positive_mask
from towerrec.schema import ITEM_ID, LABEL, NO_TIMESTAMP, SPLIT, TIMESTAMP_MS, USER_ID

STAGES = ("read, clean, split, label", "index", "features", "store", "report, beyond features and store")


def build(
    store: Path,
    *,
    key: str,
    source: Source,
    cleaning: Cleaning,
    split: Split,
    label: Label,
    choice: FeatureChoice,
    past: Past | None = None,
) -> tuple[EncodedTables, dict[str, Any]]:
    """Write the store and return the encoded tables and the data report; with a `past`, tables that grow from it."""
    clock = Clock(STAGES)
    tables = source.read()
    users, items = collected(tables.users), collected(tables.items)
    frame, counts = labelled(tables, cleaning=cleaning, split=split, label=label, items=items, past=past)
    clock.stage("read, clean, split, label")
    user_ids, item_ids = known_ids(USER_ID, frame[USER_ID], users), known_ids(ITEM_ID, frame[ITEM_ID], items)
    if past is not None:
        user_ids, item_ids = past.joined_ids(user_ids, item_ids)
    write_sides(store.parent, users=users, items=items, user_ids=user_ids, item_ids=item_ids)
    frame = frame.with_columns(pl.col(TIMESTAMP_MS).fill_null(NO_TIMESTAMP))
    log = to_arrays(frame, user_ids, item_ids)
    value = {name: frame[name].to_numpy() for name in OPTIONAL if name in frame.columns}
    value |= {name: term.to_numpy() for name, term in label.terms(frame).items()}
    # Rows of the tables say of users and items what ids do, in half the memory.
    frame = frame.with_columns(pl.Series(USER_ID, log.user_idx), pl.Series(ITEM_ID, log.item_idx))
    clock.stage("index")
    with ThreadPoolExecutor(max_workers=1) as beside:
        report_of = beside.submit(
            describe,
            frame,
            split=frame[SPLIT],
            label=frame[LABEL],
            positive=label.positive,
            cleaning=counts,
            name=tables.name,
            timezone=tables.timezone,
        )
        del frame
        encoded, left_out, recent = _encoded(
            log,
            tables,
            choice,
            users=users,
            items=items,
            user_ids=user_ids,
            item_ids=item_ids,
            positive=label.positive,
            past=past,
        )
        encoded.meta |= meta_of(tables, label=label, split=split, key=key)
        clock.stage("features")
        InteractionStore.write(
            store,
            split=log.split,
            columns={name: getattr(log, name) for name in ("user_idx", "item_idx", "label", "timestamp_ms")} | value,
            context=row_context(encoded.encoders, log, encoded.item_days, recent),
            num_users=len(user_ids),
            num_items=len(item_ids),
        )
        clock.stage("store")
        report = report_of.result()
    clock.stage("report, beyond features and store")
    report["label"] = label.settings()
    if "edges_ms" in label.fitted():
        report["label"]["duration_buckets"] = len(label.fitted()["edges_ms"]) + 1
    report["features"] = {"used": [spec.name for spec in encoded.schema.features], "left_out": left_out}
    report["seconds"] = clock.seconds
    return encoded, report


def _encoded(
    log: Log,
    tables: Tables,
    choice: FeatureChoice,
    *,
    users: pl.DataFrame | None,
    items: pl.DataFrame | None,
    user_ids: pl.Series,
    item_ids: pl.Series,
    positive: str,
    past: Past | None,
) -> tuple[EncodedTables, dict[str, str], dict[str, NDArray[np.float32]]]:
    """The encoded tables, the features left out, and `recent_rows`."""
    before = first_unseen_day(log, tables.timezone)
    has_time = bool((log.timestamp_ms != NO_TIMESTAMP).any())
    columns = Columns(users, items, days_before(tables.item_daily, before), has_time)
    declared, left_out = choose(choice, columns)
    if past is not None:
        declared = past.declared(declared, choice, columns)
        within = past.is_within(log.user_idx, log.item_idx, user_ids, item_ids)
        if not within:
            refuse_counted(declared)
    recent = recent_rows(declared, log, positive=positive, num_items=len(item_ids))
    encoded = encode_tables(
        declared,
        LogFacts(log, positive=positive, recent=recent),
        tables,
        users=users,
        items=items,
        user_ids=user_ids,
        item_ids=item_ids,
        before=before,
        past=past,
    )
    if past is not None:
        encoded.meta |= past.meta(is_within=within)
    return encoded, left_out, recent


def meta_of(tables: Tables, *, label: Label, split: Split, key: str) -> dict[str, Any]:
    """What the tables of this log say of how they were made (`EncodedTables.meta`)."""
    return {
        "data": tables.name,
        "label": label.name,
        "label_fitted": label_to_dict(label),
        "split": split.name,
        "positive": label.positive,
        "binary": label.binary,
        "inverse_name": label.inverse_name,
        "candidates": split.candidates,
        "fingerprint": key,
    }


def labelled(
    tables: Tables,
    *,
    cleaning: Cleaning,
    split: Split,
    label: Label,
    items: pl.DataFrame | None = None,
    past: Past | None = None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """The cleaned rows of a split with their codes and labels, in file order, and the counts of the cleaning; what a
    label learns is then the past's."""
    wanted = wanted_columns(tables.interactions.collect_schema().names(), split=split, label=label)
    frame, counts = clean(tables.interactions, rules=cleaning, columns=wanted, required=label.columns, items=items)
    codes = split.assign(frame)
    if TIMESTAMP_MS not in frame.columns:
        frame = frame.with_columns(pl.lit(None, dtype=pl.Int64).alias(TIMESTAMP_MS))
    frame = frame.with_columns(codes.alias(SPLIT))
    if (codes == 0).any():
        used, series = codes != 0, frame.get_columns()
        del frame
        frame = column_by_column(series, lambda column: column.filter(used))
        counts["rows outside the split"] = int((codes == 0).sum())
    if past is None:
        label.fit(frame.lazy().filter(pl.col(SPLIT) == 1).select(label.columns).collect())
    else:
        past.restore(label)
    frame = frame.with_columns(label.apply(frame).alias(LABEL))
    check_positives(frame, label.positive)
    kept = [USER_ID, ITEM_ID, TIMESTAMP_MS, SPLIT, LABEL, *(c for c in VALUES if c in frame.columns)]
    return frame.select(*kept, *kept_beside(label, frame)), counts


def wanted_columns(existing: Sequence[str], *, split: Split, label: Label) -> list[str]:
    """The columns besides the ids that label, split and report read."""
    optional = [name for name in (TIMESTAMP_MS, *VALUES) if name in existing]
    for what, columns in ((f"label={label.name}", label.columns), (f"split={split.name}", split.columns)):
        _require(columns, existing, what)
    return list(dict.fromkeys([*optional, *label.columns, *split.columns]))


def _require(columns: Sequence[str], existing: Sequence[str], what: str) -> None:
    hints = {TIMESTAMP_MS: " (name the column of the time with data.columns.timestamp)"}
    for column in columns:
        if column not in existing:
            raise missing_column(column, existing, f"{what}{hints.get(column, '')}: the log")


def check_positives(frame: pl.DataFrame, rule: str) -> None:
    """Refuse a log in which nothing is a positive in training or test."""
    positive = frame.select(pl.col(SPLIT), positive=positive_mask(pl.col(LABEL), rule))
    found = dict(positive.group_by(SPLIT).agg(pl.col("positive").sum()).iter_rows())
    for code, word in ((1, "train"), (3, "test")):
        if not found.get(code):
            raise ValueError(
                f"no {word} row has a positive label ({rule}): choose another label, label.positive or split"
            )


def to_arrays(frame: pl.DataFrame, user_ids: pl.Series, item_ids: pl.Series) -> Log:
    """Columns of the log as arrays, ids as table rows; `timestamp_ms` without nulls."""
    return Log(
        user_idx=index_of(user_ids, frame[USER_ID]),
        item_idx=index_of(item_ids, frame[ITEM_ID]),
        label=frame[LABEL].to_numpy(),
        timestamp_ms=frame[TIMESTAMP_MS].to_numpy(),
        split=frame[SPLIT].to_numpy(),
    )


class Clock:
    """Seconds of each stage; a bar that is open says which of them goes on.

    Args:
        stages: Their names, in their order.
    """

    def __init__(self, stages: Sequence[str]) -> None:
        self.seconds: dict[str, float] = {}
        self._stages, self._last = list(stages), time.perf_counter()
        progress.step(self._stages[0])

    def stage(self, name: str) -> None:
        """This stage is done."""
        assert name == self._stages.pop(0), "stages are told before, in their order"
        now = time.perf_counter()
        self.seconds[name] = round(now - self._last, 3)
        self._last = now
        if self._stages:
            progress.step(self._stages[0])


def collected(frame: pl.LazyFrame | None) -> pl.DataFrame | None:
    """A side table in memory, where there is one."""
    return None if frame is None else frame.collect()


def days_before(daily: pl.LazyFrame | None, before: datetime.date | None) -> tuple[str, ...]:
    """Columns of the daily counters, none where no day lies before the split."""
    if daily is None or before is None:
        return ()
    if daily.filter(pl.col("date") < before).select("date").head(1).collect(engine="streaming").height == 0:
        return ()
    return tuple(daily.collect_schema().names())
