"""Columns of the item table by what they say: how long an item is, since when there is one, what it is about.

Shape letters: I items, L values of an item.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec.config_eval import FactsConfig
from towerrec.data.columns import missing_column
from towerrec.data.inference import infer
from towerrec.data.time import ages, days_of, local_time
from towerrec.schema import DURATION_MS, ITEM_ID

ABOUT = re.compile(r"(^|_)(tags?|categor(y|ies)|genres?|topics?)($|_)", re.IGNORECASE)
"""Names of columns that say what an item is about."""


@dataclass(frozen=True)
class FactColumns:
    """The columns that are read, None or empty where the log has none."""

    duration: str | None
    date: str | None
    tags: tuple[str, ...]


@dataclass(frozen=True)
class TagColumn:
    """One column of tags: which of its values each item has.

    Attributes:
        name: The column.
        member_IL: Places in `labels`, int64, filled up with -1; an item without a value has none.
        labels: The values as people read them, most frequent first.
    """

    name: str
    member_IL: Tensor
    labels: list[str]


def fact_columns(items: pl.DataFrame, config: FactsConfig) -> FactColumns:
    """The columns of a config, or what is found where it names none.

    Raises:
        ValueError: If a named column is not there.
    """
    named = [("duration", config.duration), ("date", config.date), *(("tags", tag) for tag in config.tags or [])]
    for key, name in named:
        if name is not None and name not in items.columns:
            raise missing_column(name, [c for c in items.columns if c != ITEM_ID], f"eval.facts.{key}: the item table")
    dates = [n for n, dtype in items.schema.items() if dtype == pl.Date or isinstance(dtype, pl.Datetime)]
    return FactColumns(
        duration=config.duration or (DURATION_MS if DURATION_MS in items.columns else None),
        date=config.date or next(iter(dates), None),
        tags=_found_tags(items) if config.tags is None else tuple(config.tags),
    )


def durations(items: pl.DataFrame, name: str) -> Tensor:
    """How long every item is, float64 [I]; NaN where it is not known or not above 0.

    Raises:
        ValueError: If the column holds no numbers.
    """
    if not items.schema[name].is_numeric():
        raise ValueError(f"eval.facts.duration={name} holds {items.schema[name]}; a duration needs numbers")
    value_I = torch.from_numpy(items[name].cast(pl.Float64).fill_null(np.nan).to_numpy().copy())
    return torch.where(value_I.isfinite() & (value_I > 0), value_I, torch.nan)


def ages_in_days(items: pl.DataFrame, name: str, *, as_of_ms: int, timezone: str) -> Tensor:
    """Whole days from every item's date to a moment, float64 [I]: 0 for what came later, NaN where not known.

    Raises:
        ValueError: If the column cannot be read as dates.
    """
    try:
        day_I = days_of(items[name])
    except ValueError as error:
        raise ValueError(f"eval.facts.date={name}: {error}") from error
    age_I = ages(local_time(np.array([as_of_ms], dtype=np.int64), timezone).day, day_I)
    return torch.from_numpy(np.where(age_I < 0, np.nan, age_I))


def tag_column(items: pl.DataFrame, name: str, *, where: str = "eval.facts.tags") -> TagColumn:
    """The values of a column, lists or single ones; `x_name` beside `x_id` gives the names of its values.

    Raises:
        ValueError: If the column holds decimal numbers, which are no tags; `where` says who asked for it.
    """
    column = items[name]
    inner = column.dtype.inner if isinstance(column.dtype, pl.List | pl.Array) else column.dtype
    if isinstance(inner, pl.DataType) and (inner.is_float() or inner.is_nested()):
        raise ValueError(f"{where}: column {name!r} holds {column.dtype}; words, codes or lists of them make groups")
    pairs = _pairs(column)
    counted = pairs.group_by("value").len("items").sort(["items", "value"], descending=[True, False])
    code = counted.select("value", code=pl.int_range(pl.len()))
    coded = pairs.join(code, on="value", maintain_order="left")
    return TagColumn(name, _padded(coded, items.height), _labels(items, name, counted["value"]))


def together(columns: list[TagColumn]) -> Tensor | None:
    """Tags of all columns side by side, int64 [I, L], different for different columns; None where there is none."""
    parts, first = [], 0
    for column in columns:
        parts.append(torch.where(column.member_IL >= 0, column.member_IL + first, -1))
        first += len(column.labels)
    return torch.cat(parts, dim=1) if first else None


def _found_tags(items: pl.DataFrame) -> tuple[str, ...]:
    """Lists of words or codes, and categories by name; a category's name beside its id says nothing more."""
    schema = items.schema
    about = [
        name
        for name, dtype in schema.items()
        if isinstance(dtype, pl.List | pl.Array) or (ABOUT.search(name) and not _names_another(name, items.columns))
    ]
    found = infer(None, items.select(ITEM_ID, *about), has_time=False)
    columns = [feature.column for feature in found if feature.kind in ("multi", "categorical")]
    return tuple(name for name in columns if not _holds_commas(items[name]))


def _holds_commas(column: pl.Series) -> bool:
    """Whether a text is several words in one (`cats,dogs`), which as one value would have nothing in common."""
    return column.dtype == pl.String and bool(column.str.contains(",", literal=True).any())


def _names_another(name: str, columns: list[str]) -> bool:
    return name.endswith("_name") and f"{name.removesuffix('_name')}_id" in columns


def _pairs(column: pl.Series) -> pl.DataFrame:
    """`row` and `value` (text), each once; nulls and empty texts are none."""
    frame = column.rename("value").to_frame().with_row_index("row")
    if isinstance(column.dtype, pl.List | pl.Array):
        inner = column.dtype.inner
        frame = frame.with_columns(pl.col("value").cast(pl.List(inner))).explode("value")
    value = pl.col("value").cast(pl.String)
    known = value.is_not_null() & (value.str.strip_chars() != "")
    return frame.filter(known).with_columns(value).unique(maintain_order=True)


def _padded(coded: pl.DataFrame, num_rows: int) -> Tensor:
    """Columns `row` and `code`, rows ascending, as a table [I, L] filled up with -1."""
    row_P, code_P = coded["row"].to_numpy().astype(np.int64), coded["code"].to_numpy()
    size_I = np.bincount(row_P, minlength=num_rows)
    place_P = np.arange(len(row_P)) - (np.cumsum(size_I) - size_I)[row_P]
    table_IL = np.full((num_rows, max(int(size_I.max(initial=0)), 1)), -1, dtype=np.int64)
    table_IL[row_P, place_P] = code_P
    return torch.from_numpy(table_IL)


def _labels(items: pl.DataFrame, name: str, values: pl.Series) -> list[str]:
    beside = f"{name.removesuffix('_id')}_name"
    if not name.endswith("_id") or beside not in items.columns:
        return values.to_list()
    named = items.select(value=pl.col(name).cast(pl.String), label=pl.col(beside).cast(pl.String)).drop_nulls()
    first = named.unique("value", keep="first", maintain_order=True)
    table = values.to_frame("value").join(first, on="value", how="left", maintain_order="left")
    return [value if label is None else f"{label} ({value})" for value, label in table.iter_rows()]
