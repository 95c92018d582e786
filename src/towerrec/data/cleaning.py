"""Cleaning: rows that never happened leave the log, and every reason is counted."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from towerrec.data.columns import require_columns
from towerrec.data.conditions import condition, passing
from towerrec.data.duplicates import possible_repeats
from towerrec.data.labels import LABEL_RAW
from towerrec.schema import (
    DURATION_MS,
    EARLIEST_MS,
    ITEM_ID,
    LATEST_MS,
    MATRIX,
    PLAY_DURATION_MS,
    SPLIT,
    TIMESTAMP_MS,
    USER_ID,
    WATCH_RATIO,
)
from towerrec.unreadable import UNREADABLE
from towerrec.wording import reason_of

# What an event is made of. `time` and `date` are labels of log partitions: one event may lie under two of them.
EVENT_FIELDS = (USER_ID, ITEM_ID, TIMESTAMP_MS, PLAY_DURATION_MS, DURATION_MS, WATCH_RATIO, LABEL_RAW)
# What a pair's rows are averaged in, and what keeps two rows of a pair apart.
AVERAGED = (WATCH_RATIO, PLAY_DURATION_MS, DURATION_MS, LABEL_RAW)
APART = (MATRIX, SPLIT)
REPEATED_PAIRS = ("keep", "mean")
PARTITION_FIELDS = frozenset({"time", "date", "hourmin", "matrix", "split"})


@dataclass(frozen=True)
class Cleaning:
    """Which rows leave the log. The first row of several equal ones stays, and the file order is kept.

    Args:
        exact_duplicates: Rows equal in every field of the event, partition labels (`time`, `date`) aside.
        near_duplicates: Rows of one user, item and timestamp that differ in another field.
        impossible: Watch ratios and durations that are negative, not finite or beyond float32, and zero durations. In
            any case rows leave that have no user or item id, or a time beyond the years 1 to 9999, which no calendar
            has.
        untimed_duplicates: Apply `exact_duplicates` to rows without a timestamp too. Off by default: two equal rows
            of a log without times may well be two events.
        repeated_pairs: `keep` every row of a user and item, or the `mean` of them: one row with averaged watch ratio,
            durations and label, everything else as in the latest. Rows of another matrix or file stay apart.
        items: SQL condition over the item table; rows of items that do not pass leave the log.
    """

    exact_duplicates: bool = True
    near_duplicates: bool = True
    impossible: bool = True
    untimed_duplicates: bool = False
    repeated_pairs: str = "keep"
    items: str | None = None

    def __post_init__(self) -> None:
        if self.repeated_pairs not in REPEATED_PAIRS:
            raise ValueError(
                f"cleaning.repeated_pairs must be one of {', '.join(REPEATED_PAIRS)}, got {self.repeated_pairs!r}"
            )
        if self.items is not None:
            condition("cleaning.items", self.items)

    def settings(self) -> dict[str, Any]:
        """Plain builtins, for the fingerprint of the cache."""
        return asdict(self)


def clean(
    interactions: pl.LazyFrame,
    *,
    rules: Cleaning | None = None,
    columns: Sequence[str] | None = None,
    required: Sequence[str] = (),
    items: pl.DataFrame | None = None,
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Load the log and leave out what the rules name.

    Args:
        interactions: The log, `user_id` and `item_id` at least.
        rules: What to drop; None takes every default.
        columns: Columns to return besides the two ids; None returns all. Only these and the event fields are read.
        required: Columns without which a row is useless (those of the label): null, NaN and infinite values drop it.
        items: The item table, for `rules.items`.

    Returns:
        The rows in file order, and the number of rows by reason: `rows_read`, one entry per rule that dropped
        something, `rows_kept`. A row counts once, under the first reason that holds.

    Raises:
        ValueError: If a column is missing, a value cannot be read, or no row is left.
    """
    rules = rules or Cleaning()
    existing = interactions.collect_schema()
    wanted = list(dict.fromkeys([USER_ID, ITEM_ID, *(existing.names() if columns is None else columns), *required]))
    require_columns(wanted, existing.names(), "the log")
    event = [name for name in EVENT_FIELDS if name in existing] if reads_events(rules) else []
    frame = _load(interactions.select(list(dict.fromkeys([*wanted, *event]))))
    counts = {"rows_read": frame.height}
    frame, dropped = drop_impossible(frame, impossible_reasons(frame.schema, rules, required))
    counts |= dropped
    if rules.items is not None:
        frame, dropped = keep_items(frame, rules.items, items)
        counts |= dropped
    fields = [name for name in dict.fromkeys([*event, *wanted]) if name not in PARTITION_FIELDS]
    keep, dropped = _first_ones(frame, rules, fields)
    counts |= dropped
    if keep is not None:
        series = frame.get_columns()
        del frame
        frame = column_by_column(series, lambda column: column.filter(keep))
    if rules.repeated_pairs == "mean":
        frame, dropped = average_pairs(frame)
        counts |= dropped
    counts["rows_kept"] = frame.height
    if frame.height == 0:
        raise ValueError(f"no row of the log is left after cleaning: {counts}")
    return frame.select(wanted), counts


def reads_events(rules: Cleaning) -> bool:
    """Whether any rule compares or judges what happened in a row."""
    return rules.exact_duplicates or rules.near_duplicates or rules.impossible or rules.repeated_pairs != "keep"


def keep_items(frame: pl.DataFrame, rule: str, items: pl.DataFrame | None) -> tuple[pl.DataFrame, dict[str, int]]:
    """Leave the rows whose item passes a condition over the item table."""
    if items is None:
        raise ValueError(f"cleaning.items={rule!r} asks for columns of the items, but the data has no table of items")
    expression = condition("cleaning.items", rule)
    require_columns(expression.meta.root_names(), items.columns, f"cleaning.items={rule!r}: the table of items")
    passed = items[ITEM_ID].filter(pl.Series(passing(items, expression, key="cleaning.items", text=rule)))
    kept = frame.filter(pl.col(ITEM_ID).is_in(passed.cast(frame.schema[ITEM_ID]).implode()))
    dropped = frame.height - kept.height
    return kept, {f"items other than {rule}": dropped} if dropped else {}


def impossible_reasons(schema: pl.Schema, rules: Cleaning, required: Sequence[str] = ()) -> dict[str, pl.Expr]:
    """One boolean expression per reason to drop a row, in the order in which they are counted."""
    reasons: dict[str, pl.Expr] = {f"no {name}": pl.col(name).is_null() for name in (USER_ID, ITEM_ID)}
    if rules.impossible:
        for name in (WATCH_RATIO, PLAY_DURATION_MS, DURATION_MS):
            if name in schema:
                reasons[f"impossible {name}"] = _impossible(name, schema)
        if DURATION_MS in schema:
            reasons[f"zero {DURATION_MS}"] = pl.col(DURATION_MS) == 0
    if TIMESTAMP_MS in schema:
        reasons[f"impossible {TIMESTAMP_MS}"] = ~pl.col(TIMESTAMP_MS).is_between(EARLIEST_MS, LATEST_MS)
    for name in required:
        column = pl.col(name)
        reasons[f"no {name}"] = column.is_null() | ~column.is_finite() if schema[name].is_float() else column.is_null()
    return reasons


def _impossible(name: str, schema: pl.Schema) -> pl.Expr:
    column = pl.col(name)
    # As it will be kept: what float32 cannot hold is as good as infinite.
    return (column < 0) | ~column.cast(pl.Float32).is_finite() if schema[name].is_float() else column < 0


def _load(interactions: pl.LazyFrame) -> pl.DataFrame:
    try:
        columns = interactions.collect(engine="streaming").get_columns()
    except UNREADABLE as error:
        raise ValueError(f"the log cannot be read: {reason_of(error)}") from error
    # One chunk each, so that arrays can share their memory.
    return column_by_column(columns, pl.Series.rechunk)


def column_by_column(columns: list[pl.Series], work: Callable[[pl.Series], pl.Series]) -> pl.DataFrame:
    """The columns after `work`; each gives way to its result before the next, so that no log is in memory twice."""
    for place in range(len(columns)):
        columns[place] = work(columns[place])
    return pl.DataFrame(columns)


def drop_impossible(frame: pl.DataFrame, reasons: dict[str, pl.Expr]) -> tuple[pl.DataFrame, dict[str, int]]:
    """Leave out the rows that have a reason, and count them by the first."""
    if not reasons or not frame.select(pl.any_horizontal(reason.any() for reason in reasons.values())).item():
        return frame, {}
    names = list(reasons)
    first = pl.lit(len(names), pl.UInt8)
    for number in reversed(range(len(names))):
        first = pl.when(reasons[names[number]]).then(pl.lit(number, pl.UInt8)).otherwise(first)
    reason = frame.select(first.alias("reason")).to_series()
    counts = dict(reason.value_counts().iter_rows())
    dropped = {name: counts[number] for number, name in enumerate(names) if number in counts}
    return (frame.filter(reason == len(names)) if dropped else frame), dropped


def drop_duplicates(
    frame: pl.DataFrame, rules: Cleaning, *, fields: Sequence[str]
) -> tuple[pl.DataFrame, dict[str, int]]:
    """Leave the first row of every group of equal rows."""
    keep, counts = _first_ones(frame, rules, fields)
    return (frame if keep is None else frame.filter(keep)), counts


def _first_ones(frame: pl.DataFrame, rules: Cleaning, fields: Sequence[str]) -> tuple[pl.Series | None, dict[str, int]]:
    """Which rows are no duplicates (None: all of them), and how many are by kind."""
    timed = TIMESTAMP_MS in frame.columns and frame[TIMESTAMP_MS].null_count() < frame.height
    drop_timed = timed and (rules.exact_duplicates or rules.near_duplicates)
    drop_untimed = rules.exact_duplicates and rules.untimed_duplicates
    if not (drop_timed or drop_untimed):
        return None, {}
    key = [USER_ID, ITEM_ID, TIMESTAMP_MS] if TIMESTAMP_MS in frame.columns else [USER_ID, ITEM_ID]
    possible = possible_repeats(frame, key)
    # Only these are compared, which keeps memory flat at tens of millions of rows.
    few = frame.select(fields)[possible.row_P]
    has_time = few[TIMESTAMP_MS].is_not_null().to_numpy() if timed else np.zeros(few.height, dtype=bool)
    equal = possible.again(few, fields)
    exact = equal & np.where(has_time, rules.exact_duplicates, drop_untimed)
    near = possible.again(few, key) & ~equal & has_time & rules.near_duplicates
    counts = {"exact duplicates": int(exact.sum()), "near duplicates": int(near.sum())}
    dropped = possible.row_P[exact | near]
    if not len(dropped):
        return None, {}
    keep = np.ones(frame.height, dtype=bool)
    keep[dropped] = False
    return pl.Series(keep), {name: number for name, number in counts.items() if number}


def average_pairs(frame: pl.DataFrame) -> tuple[pl.DataFrame, dict[str, int]]:
    """One row for all rows of a user and item, in the place of the latest; see `Cleaning.repeated_pairs`."""
    key = [USER_ID, ITEM_ID, *(name for name in APART if name in frame.columns)]
    suspects = possible_repeats(frame, key).row_P
    if not len(suspects):
        return frame, {}
    suspect = pl.repeat(False, frame.height, dtype=pl.Boolean, eager=True).scatter(suspects, True)
    values = [name for name in AVERAGED if name in frame.columns]
    few = frame.select(
        pl.int_range(pl.len()).alias("row"), *key, *values, *([TIMESTAMP_MS] if TIMESTAMP_MS in frame.columns else [])
    ).filter(suspect)
    if TIMESTAMP_MS in few.columns:
        few = few.sort(TIMESTAMP_MS, nulls_last=False, maintain_order=True)
    pairs = few.group_by(key).agg(pl.col("row").last(), *(pl.col(name).cast(pl.Float64).mean() for name in values))
    keep = (~suspect).scatter(pairs["row"], True)
    averaged = [frame[name].clone().scatter(pairs["row"], _as(pairs[name], frame.schema[name])) for name in values]
    averaged_frame = frame.with_columns(averaged).filter(keep)
    return averaged_frame, {"repeats of a pair, averaged": frame.height - averaged_frame.height}


def _as(mean: pl.Series, dtype: pl.DataType) -> pl.Series:
    return mean.round().cast(dtype) if dtype.is_integer() else mean.cast(dtype)
