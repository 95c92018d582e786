"""Counted features: popularity and rates from training rows only, daily counters only from days before the split.

Shape letters: R training rows, N rows of the user or item table.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterable

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray

from towerrec.data.declarations import Declaration
from towerrec.data.recent import latest_popularity
from towerrec.schema import ITEM_ID

SUMMED = ("mean_label", "positive_rate")
"""Statistics that a sum over the rows of each id makes."""


def train_statistic(
    declared: Declaration,
    *,
    idx: NDArray[np.int32],
    label: NDArray[np.float32],
    positive: NDArray[np.bool_],
    timestamp_ms: NDArray[np.int64],
    num_rows: int,
) -> pl.Series:
    """One value per table row, Float64 with null where an id has no training row.

    `views` counts rows; `mean_label` and `positive_rate` mix `smoothing` rows of average behaviour into each id, the
    rate as log odds, so that rare positives keep their distances; `recent_positives` is the decayed count of positives
    beside that of the average row of the table, as log(1 + x).

    Args:
        declared: The feature.
        idx: Row of the table of every training row [R].
        label: Labels of the training rows [R].
        positive: Which of them are positives [R].
        timestamp_ms: Moments of the training rows [R].
        num_rows: Rows of the table.
    """
    count = np.bincount(idx, minlength=num_rows).astype(np.float64)
    if declared.of in SUMMED:
        weights = label if declared.of == "mean_label" else positive
        total = np.bincount(idx, weights=weights, minlength=num_rows).astype(np.float64)
        return of_sums(declared, count, total)
    if declared.of == "views":
        return of_sums(declared, count, count)
    value = np.log1p(
        latest_popularity(
            torch.from_numpy(idx[positive]),
            torch.from_numpy(timestamp_ms[positive]),
            num_items=num_rows,
            half_life_days=declared.half_life_days,
        ).numpy()
    ).astype(np.float64)
    return pl.Series(declared.name, value).set(pl.Series(count == 0), None)


def of_sums(declared: Declaration, count: NDArray[np.float64], total: NDArray[np.float64]) -> pl.Series:
    """The same from the number of rows of each table row and the sum of their labels (`mean_label`) or positives
    (`positive_rate`), each [N]."""
    if declared.of == "views":
        value = count
    elif declared.of == "mean_label":
        value = _smooth(total, count, declared.smoothing)
    else:
        rate = _smooth(total, count, declared.smoothing)
        # Half a row keeps the log odds of "always" and "never" finite.
        rate = (rate * count + 0.5) / (count + 1.0)
        value = np.log(rate) - np.log1p(-rate)
    return pl.Series(declared.name, value).set(pl.Series(count == 0), None)


def _smooth(total: NDArray[np.float64], count: NDArray[np.float64], smoothing: float) -> NDArray[np.float64]:
    average = total.sum() / max(count.sum(), 1.0)
    return (total + smoothing * average) / np.maximum(count + smoothing, 1e-12)


def daily_counters(
    declared: Iterable[Declaration], daily: pl.LazyFrame, *, before: datetime.date, item_ids: pl.Series
) -> pl.DataFrame:
    """Sums of counters over all days strictly before a date, or smoothed ratios of two of them.

    Args:
        declared: Features of kind `daily`.
        daily: `item_id`, `date` and counters.
        before: First day that must not be seen.
        item_ids: Ids of the item table [N], in its order.

    Returns:
        One column per feature, Float64 [N], null where an item has no such day.
    """
    features = list(declared)
    columns = sorted({name for feature in features for name in feature.sources})
    sums = (
        daily.filter(pl.col("date") < before)
        .group_by(ITEM_ID)
        .agg(pl.col(columns).cast(pl.Float64).sum())
        .collect(engine="streaming")
    )
    table = pl.DataFrame({ITEM_ID: item_ids}).join(
        sums.cast({ITEM_ID: item_ids.dtype}), on=ITEM_ID, how="left", maintain_order="left"
    )
    return table.select(_daily_value(feature).alias(feature.name) for feature in features)


def _daily_value(feature: Declaration) -> pl.Expr:
    total = pl.col(feature.column)
    if not feature.per:
        return total
    shown = pl.col(feature.per)
    average = total.sum() / pl.max_horizontal(shown.sum(), 1.0)
    return (total + feature.smoothing * average) / (shown + feature.smoothing)
