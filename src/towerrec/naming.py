"""What people know items by: a line to print, a title, and the category that tells most of them apart."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl

from towerrec.data.artefacts import EncodedTables
from towerrec.schema import FIRST, ITEM_ID

# A category worth a colour or a row: few enough values to read, and not one value for nearly everything.
FEWEST, MOST = 2, 64
LARGEST_SHARE = 0.9
LEAST_KNOWN = 0.5

_CHARACTERS = 60


@dataclass(frozen=True)
class Categories:
    """One category per item.

    Attributes:
        name: The column or feature that it is read from.
        of: One text per item, null where it is not known, [I].
    """

    name: str
    of: pl.Series


def item_titles(tables: EncodedTables) -> pl.Series:
    """The text that tells items apart best (a caption, say), null where an item has none, [I].

    That is the column of most distinct values, where it has at least as many as half of the items it is known for;
    otherwise no item has a title.
    """
    counts = {column: tables.display[column].n_unique() for column in _text_columns(tables)}
    best = max(counts, key=lambda column: counts[column], default=None)
    if best is None or counts[best] < 0.5 * tables.display[best].count():
        return pl.Series("title", [None] * tables.display.height, dtype=pl.String)
    return tables.display.select(_line(best).alias("title"))["title"]


def item_categories(tables: EncodedTables) -> Categories | None:
    """The first text column that is a category, or else the first feature with such values; None where there is none.

    A list of values (tags) counts by its first one.
    """
    for column in _text_columns(tables):
        found = tables.display[column]
        if is_category(found):
            return Categories(column, found.alias("category"))
    for kind, encoder in tables.encoders.encoders:
        if encoder.side != "item" or kind not in ("categorical", "multi"):
            continue
        index = tables.items.columns[encoder.name]
        first = (index if kind == "categorical" else index[:, 0]).long()
        known = first >= FIRST
        values = encoder.vocabulary.values  # type: ignore[attr-defined]
        found = pl.Series("category", [str(values[i - FIRST]) if i >= FIRST else None for i in first.tolist()])
        if bool(known.any()) and is_category(found):
            return Categories(encoder.name, found)
    return None


def is_category(column: pl.Series) -> bool:
    """Whether a column has few values, known of most items, of which none covers nearly all."""
    known = column.drop_nulls()
    if known.len() < LEAST_KNOWN * column.len() or not FEWEST <= known.n_unique() <= MOST:
        return False
    largest = known.value_counts()["count"].max()
    assert isinstance(largest, int)
    return largest <= LARGEST_SHARE * known.len()


def _text_columns(tables: EncodedTables) -> list[str]:
    return [column for column in tables.display.columns if column != ITEM_ID]


def _line(column: str) -> pl.Expr:
    """A text on one line, shortened; an empty one is none."""
    text = pl.col(column).cast(pl.String).str.replace_all(r"\s+", " ").str.strip_chars().str.slice(0, _CHARACTERS)
    return pl.when(text != "").then(text)
