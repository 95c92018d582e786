"""Fitting the encoders on the ids of training rows, and encoding both tables and the moments of the rows.

Shape letters: R rows of the cleaned log that belong to a split, U users, I items.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from towerrec.data.artefacts import EncodedTables
from towerrec.data.declarations import Declaration
from towerrec.data.encoders import Encoders
from towerrec.data.list_encoders import vectors_of_file
from towerrec.data.recent import latest_popularity, recent_popularity
from towerrec.data.statistics import daily_counters, train_statistic
from towerrec.data.store import NO_TIMESTAMP
from towerrec.data.tables import Tables
from towerrec.data.time import ages, days_of, local_time
from towerrec.positive import positive_mask
from towerrec.schema import ITEM_ID

MAX_DISPLAY_COLUMNS = 8
MAX_DISPLAY_CHARACTERS = 80


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


def encode_tables(
    declared: list[Declaration],
    log: Log,
    tables: Tables,
    *,
    users: pl.DataFrame | None,
    items: pl.DataFrame | None,
    user_ids: pl.Series,
    item_ids: pl.Series,
    before: datetime.date | None,
    positive: str,
    recent: Mapping[str, NDArray[np.float32]],
) -> EncodedTables:
    """Fit all encoders on the ids of training rows and encode both tables.

    Of the rows outside training only ids and times are used: ids give table rows, and the first held-out time bounds
    the daily counters (`before`). `recent` is what `recent_rows` gives.
    """
    sides = {"user": _joined(user_ids, users), "item": _joined(item_ids, items)}
    index = {"user": log.user_idx[log.train], "item": log.item_idx[log.train]}
    label = log.label[log.train]
    is_positive = positive_mask(label, positive)
    times = log.timestamp_ms[log.train]
    for feature in declared:
        sides[feature.side] = _with_computed(
            sides[feature.side], feature, index[feature.side], label=label, positive=is_positive, times=times
        )
    daily = [feature for feature in declared if feature.kind == "daily"]
    if daily:
        assert tables.item_daily is not None and before is not None
        sides["item"] = sides["item"].hstack(
            daily_counters(daily, tables.item_daily, before=before, item_ids=item_ids).get_columns()
        )
    item_days = {f.name: days_of(sides["item"][f.column]) for f in declared if f.kind == "age_days"}
    day = local_time(times, tables.timezone).day if item_days else None
    encoders = Encoders.fit(
        declared,
        users=sides["user"],
        items=sides["item"],
        train_users=_occurs(index["user"], len(user_ids)),
        train_items=_occurs(index["item"], len(item_ids)),
        train_ages={name: ages(day, days[index["item"]]) for name, days in item_days.items() if day is not None},
        train_recent={name: values[log.train] for name, values in recent.items()},
        timezone=tables.timezone,
    )
    return EncodedTables(
        schema=encoders.schema,
        encoders=encoders,
        users=encoders.encode("user", sides["user"]),
        items=encoders.encode("item", sides["item"]),
        user_ids=user_ids,
        item_ids=item_ids,
        item_days=item_days,
        item_recent={
            feature.name: latest_popularity(
                torch.from_numpy(index["item"][is_positive]),
                torch.from_numpy(times[is_positive]),
                num_items=len(item_ids),
                half_life_days=feature.half_life_days,
            ).numpy()
            for feature in declared
            if feature.kind == "recent"
        },
        display=display_columns(item_ids, items),
        meta={"as_of_ms": _latest(times), "timezone": tables.timezone},
    )


def recent_rows(
    declared: Iterable[Declaration], log: Log, *, positive: str, num_items: int
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
    user = encoders.user_context(log.timestamp_ms)
    days_R = {name: days[log.item_idx] for name, days in item_days.items()}
    item = encoders.item_context(log.timestamp_ms, days_R, recent)
    return {n: ("user", v) for n, v in user.items()} | {n: ("item", v) for n, v in item.items()}


def first_unseen_day(log: Log, timezone: str) -> datetime.date | None:
    """The first day that daily counters must not include: that of the earliest held-out row or, if it is earlier, of
    the latest training row. None where the log has no times."""
    timed = log.timestamp_ms != NO_TIMESTAMP
    held_out = log.timestamp_ms[timed & ~log.train]
    train = log.timestamp_ms[timed & log.train]
    bounds = [times.min() for times in (held_out,) if len(times)] + [times.max() for times in (train,) if len(times)]
    if not bounds:
        return None
    day = int(local_time(np.array([min(bounds)], dtype=np.int64), timezone).day[0])
    return datetime.date(1970, 1, 1) + datetime.timedelta(days=day)


def display_columns(item_ids: pl.Series, items: pl.DataFrame | None) -> pl.DataFrame:
    """`item_id` and the first text columns of the item table, shortened: what people recognise an item by."""
    frame = _joined(item_ids, items)
    names = [n for n, dtype in frame.schema.items() if dtype == pl.String and n != ITEM_ID][:MAX_DISPLAY_COLUMNS]
    return frame.select(ITEM_ID, *(pl.col(name).str.slice(0, MAX_DISPLAY_CHARACTERS) for name in names))


def _joined(ids: pl.Series, side: pl.DataFrame | None) -> pl.DataFrame:
    table = ids.to_frame()
    if side is None:
        return table
    return table.join(side.cast({ids.name: ids.dtype}), on=ids.name, how="left", maintain_order="left")


def _with_computed(
    frame: pl.DataFrame,
    feature: Declaration,
    idx: NDArray[np.int32],
    *,
    label: NDArray[np.float32],
    positive: NDArray[np.bool_],
    times: NDArray[np.int64],
) -> pl.DataFrame:
    """The side table with the column of a statistic, or of a vector that brings its own file."""
    if feature.kind == "statistic":
        column = train_statistic(
            feature, idx=idx, label=label, positive=positive, timestamp_ms=times, num_rows=frame.height
        )
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


def _occurs(idx: NDArray[np.int32], num_rows: int) -> pl.Series:
    return pl.Series(np.bincount(idx, minlength=num_rows) > 0)


def _latest(times: NDArray[np.int64]) -> int | None:
    timed = times[times != NO_TIMESTAMP]
    return int(timed.max()) if len(timed) else None
