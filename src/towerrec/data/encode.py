"""Fitting the encoders on the ids of training rows, and encoding both tables and the moments of the rows.

Shape letters: R rows of the cleaned log that belong to a split, U users, I items.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from towerrec.data import growth
from towerrec.data.artefacts import EncodedTables
from towerrec.data.declarations import Declaration
from towerrec.data.encoders import ContextEncoder, Encoders
from towerrec.data.list_encoders import vectors_of_file
from towerrec.data.past import Past
from towerrec.data.recent import latest_popularity, recent_popularity
from towerrec.data.sides import joined
from towerrec.data.statistics import daily_counters, train_statistic
from towerrec.data.tables import Tables
from towerrec.data.time import ages, days_of, local_time
from towerrec.positive import positive_mask
from towerrec.schema import ITEM_ID, NO_TIMESTAMP, Side

MAX_DISPLAY_COLUMNS = 8
MAX_DISPLAY_CHARACTERS = 80
# Rows encoded at once: bounds the memory of the 64-bit intermediates.
_CHUNK = 1 << 20


@dataclass
class Log:
    """The cleaned, split and labelled rows as arrays [R]."""

    user_idx: NDArray[np.int32]
    item_idx: NDArray[np.int32]
    label: NDArray[np.float32]
    timestamp_ms: NDArray[np.int64]
    split: NDArray[np.uint8]

    @property
    def train(self) -> NDArray[np.bool_]:
        return self.split == 1


class TrainFacts(Protocol):
    """What the features learn from the training rows.

    Attributes:
        as_of_ms: The latest of their times, None where they have none.
    """

    as_of_ms: int | None

    def occurs(self, side: Side, num_rows: int) -> pl.Series:
        """Which rows of a table occur, Boolean."""
        ...

    def statistic(self, feature: Declaration, num_rows: int) -> pl.Series:
        """A counted feature, see `statistics.train_statistic`."""
        ...

    def ages(self, days_I: NDArray[np.int32], timezone: str) -> NDArray[np.int32]:
        """Age of the item in each training row, in days, -1 where not known."""
        ...

    def recent(self, feature: Declaration) -> NDArray[np.float32]:
        """Popularity of the item just before each training row."""
        ...

    def latest_popularity(self, feature: Declaration, num_items: int) -> NDArray[np.float32]:
        """The same of every item after the last training row."""
        ...


class LogFacts:
    """`TrainFacts` of a log in memory; `recent` is what `recent_rows` gives."""

    def __init__(self, log: Log, *, positive: str, recent: Mapping[str, NDArray[np.float32]]) -> None:
        self.log, self.rule, self.recent_R, self.train = log, positive, recent, log.train
        latest = int(log.timestamp_ms.max(where=self.train, initial=NO_TIMESTAMP))
        self.as_of_ms = None if latest == NO_TIMESTAMP else latest

    @cached_property
    def positive(self) -> NDArray[np.bool_]:
        """Which training rows are positives."""
        mask: NDArray[np.bool_] = positive_mask(self.log.label[self.train], self.rule)
        return mask

    def index(self, side: str) -> NDArray[np.int32]:
        """Row of the table of every training row."""
        return (self.log.user_idx if side == "user" else self.log.item_idx)[self.train]

    def occurs(self, side: Side, num_rows: int) -> pl.Series:
        idx = self.log.user_idx if side == "user" else self.log.item_idx
        present = np.zeros(num_rows, dtype=bool)
        for part in chunks(len(idx)):
            present[idx[part][self.train[part]]] = True
        return pl.Series(present)

    def statistic(self, feature: Declaration, num_rows: int) -> pl.Series:
        return train_statistic(
            feature,
            idx=self.index(feature.side),
            label=self.log.label[self.train],
            positive=self.positive,
            timestamp_ms=self.log.timestamp_ms[self.train],
            num_rows=num_rows,
        )

    def ages(self, days_I: NDArray[np.int32], timezone: str) -> NDArray[np.int32]:
        parts = []
        for part in chunks(len(self.train)):
            kept = self.train[part]
            day = local_time(self.log.timestamp_ms[part][kept], timezone).day
            parts.append(ages(day, days_I[self.log.item_idx[part][kept]]))
        return np.concatenate(parts)

    def recent(self, feature: Declaration) -> NDArray[np.float32]:
        return self.recent_R[feature.name][self.train]

    def latest_popularity(self, feature: Declaration, num_items: int) -> NDArray[np.float32]:
        return latest_popularity(
            torch.from_numpy(self.index("item")[self.positive]),
            torch.from_numpy(self.log.timestamp_ms[self.train][self.positive]),
            num_items=num_items,
            half_life_days=feature.half_life_days,
        ).numpy()


def chunks(num_rows: int) -> Iterator[slice]:
    """Slices that cover the rows of a log."""
    return (slice(start, start + _CHUNK) for start in range(0, num_rows, _CHUNK))


def encode_tables(
    declared: list[Declaration],
    facts: TrainFacts,
    tables: Tables,
    *,
    users: pl.DataFrame | None,
    items: pl.DataFrame | None,
    user_ids: pl.Series,
    item_ids: pl.Series,
    before: datetime.date | None,
    past: Past | None = None,
) -> EncodedTables:
    """Fit all encoders on the ids of training rows and encode both tables.

    Of the rows outside training only ids and times are used: ids give table rows, and the first held-out time bounds
    the daily counters (`before`). With a `past` its encoders grow instead, and its users and items keep what it knew of
    them where the side tables of this log say nothing.
    """
    sides = {"user": joined(user_ids, users), "item": joined(item_ids, items)}
    for feature in declared:
        sides[feature.side] = _with_computed(sides[feature.side], feature, facts)
    daily = [feature for feature in declared if feature.kind == "daily"]
    if daily:
        assert tables.item_daily is not None and before is not None
        sides["item"] = sides["item"].hstack(
            daily_counters(daily, tables.item_daily, before=before, item_ids=item_ids).get_columns()
        )
    item_days = {f.name: days_of(sides["item"][f.column]) for f in declared if f.kind == "age_days"}
    train: dict[str, Any] = {
        "users": sides["user"],
        "items": sides["item"],
        "train_users": facts.occurs("user", len(user_ids)),
        "train_items": facts.occurs("item", len(item_ids)),
    }
    if past is None:
        encoders = Encoders.fit(
            declared,
            **train,
            train_ages={name: facts.ages(days, tables.timezone) for name, days in item_days.items()},
            train_recent={feature.name: facts.recent(feature) for feature in declared if feature.kind == "recent"},
            timezone=tables.timezone,
        )
    else:
        encoders = growth.grown(past.tables.encoders, declared, **train)
    made = EncodedTables(
        schema=encoders.schema,
        encoders=encoders,
        users=encoders.encode("user", sides["user"]),
        items=encoders.encode("item", sides["item"]),
        user_ids=user_ids,
        item_ids=item_ids,
        item_days=item_days,
        item_recent={
            feature.name: facts.latest_popularity(feature, len(item_ids))
            for feature in declared
            if feature.kind == "recent"
        },
        display=display_columns(item_ids, items),
        meta={"as_of_ms": facts.as_of_ms, "timezone": encoders.timezone},
    )
    return made if past is None else past.kept(made, users=users, items=items)


def recent_rows(
    declared: Iterable[Declaration | ContextEncoder], log: Log, *, positive: str, num_items: int
) -> dict[str, NDArray[np.float32]]:
    """Popularity of each row's item just before the row by `recent` feature, [R], from training positives alone."""
    wanted = [feature for feature in declared if feature.kind == "recent"]
    counted = torch.from_numpy(log.train & positive_mask(log.label, positive)) if wanted else torch.zeros(0)
    return {
        feature.name: recent_popularity(
            torch.tensor(log.item_idx),
            torch.tensor(log.timestamp_ms),
            counted,
            num_items=num_items,
            half_life_days=feature.half_life_days,
        ).numpy()
        for feature in wanted
    }


def row_context(
    encoders: Encoders,
    log: Log,
    item_days: dict[str, NDArray[np.int32]],
    recent: Mapping[str, NDArray[np.float32]],
) -> dict[str, tuple[str, np.ndarray]]:
    """Row-level features by name: (side, values [R])."""
    side_of = {encoder.name: encoder.side for encoder in encoders.context}
    context: dict[str, tuple[str, np.ndarray]] = {
        name: (side, np.empty(len(log.user_idx), dtype=np.uint8)) for name, side in side_of.items()
    }
    for part in chunks(len(log.user_idx)):
        timestamp_ms, item_idx = log.timestamp_ms[part], log.item_idx[part]
        user = encoders.user_context(timestamp_ms)
        days = {name: days[item_idx] for name, days in item_days.items()}
        item = encoders.item_context(timestamp_ms, days, {name: values[part] for name, values in recent.items()})
        for name, values in (user | item).items():
            context[name][1][part] = values
    return context


def first_unseen_day(log: Log, timezone: str) -> datetime.date | None:
    """The first day that daily counters must not include: that of the earliest held-out row or, if it is earlier, of
    the latest training row. None where the log has no times."""
    timed, train = log.timestamp_ms != NO_TIMESTAMP, log.train
    held_out, train = timed & ~train, timed & train
    bounds = []
    if held_out.any():
        bounds.append(log.timestamp_ms.min(where=held_out, initial=np.iinfo(np.int64).max))
    if train.any():
        bounds.append(log.timestamp_ms.max(where=train, initial=NO_TIMESTAMP))
    if not bounds:
        return None
    day = int(local_time(np.array([min(bounds)], dtype=np.int64), timezone).day[0])
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=day)


def display_columns(item_ids: pl.Series, items: pl.DataFrame | None) -> pl.DataFrame:
    """`item_id` and the first text columns of the item table, shortened: what people recognise an item by."""
    frame = joined(item_ids, items)
    names = [n for n, dtype in frame.schema.items() if dtype == pl.String and n != ITEM_ID][:MAX_DISPLAY_COLUMNS]
    return frame.select(ITEM_ID, *(pl.col(name).str.slice(0, MAX_DISPLAY_CHARACTERS) for name in names))


def _with_computed(frame: pl.DataFrame, feature: Declaration, facts: TrainFacts) -> pl.DataFrame:
    """The side table with the column of a statistic, or of a vector that brings its own file."""
    if feature.kind == "statistic":
        column = facts.statistic(feature, frame.height)
    elif feature.path:
        id_column, vectors = vectors_of_file(feature)
        ids = frame.columns[0]
        named = vectors.rename({id_column: ids, feature.column: feature.name})
        same = named.with_columns(pl.col(ids).cast(frame.schema[ids], strict=False))
        column = frame.select(ids).join(same, on=ids, how="left", maintain_order="left")[feature.name]
    else:
        return frame
    if feature.name in frame.columns:
        raise ValueError(
            f"feature {feature.name!r} is computed, but a column of that name is there: rename the feature"
        )
    return frame.with_columns(column)
