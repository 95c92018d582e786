"""Encoders of features with several values per row: lists, text, vectors.

Shape letters: N rows of a table, L values of a list, P pairs of a row and a value, D width of a vector.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec.data import text
from towerrec.data.column_encoders import ColumnEncoder
from towerrec.data.columns import require_columns
from towerrec.data.declarations import Declaration
from towerrec.data.vocabulary import Vocabulary
from towerrec.schema import PAD, UNKNOWN, FeatureSpec
from towerrec.unreadable import UNREADABLE
from towerrec.wording import reason_of


@dataclass(frozen=True)
class Multi(ColumnEncoder):
    """A list of values to a padded list of indices; values that training does not know are left out."""

    vocabulary: Vocabulary
    width: int

    @classmethod
    def fit(cls, declared: Declaration, train: pl.DataFrame, common: dict[str, Any]) -> Self:
        pairs = _exploded(train[declared.column], declared.name)
        vocabulary = Vocabulary.fit(pairs["value"], min_count=declared.min_count)
        longest = _longest(pairs.filter(vocabulary.encode(pairs["value"]) != UNKNOWN))
        return cls(**common, vocabulary=vocabulary, width=min(max(longest, 1), declared.max_length))

    def grown(self, declared: Declaration, train: pl.DataFrame) -> Self:
        """With the further values of later rows, and as wide as their lists need."""
        pairs = _exploded(train[self.columns[0]], self.name)
        vocabulary = self.vocabulary.grown(pairs["value"], min_count=declared.min_count)
        return replace(self, vocabulary=vocabulary, width=_wider(self.width, pairs, vocabulary, "value", declared))

    def specs(self) -> tuple[FeatureSpec, ...]:
        return (self._spec(kind="multi", cardinality=self.vocabulary.cardinality, width=self.width),)

    def encode(self, frame: pl.DataFrame) -> dict[str, Tensor]:
        pairs = _exploded(frame[self.columns[0]], self.name)
        return {self.name: padded(pairs["row"], self.vocabulary.encode(pairs["value"]), frame.height, self.width)}


@dataclass(frozen=True)
class Text(ColumnEncoder):
    """Text to a padded list of hashed n-grams; those rarer than `min_count` in training are left out."""

    lengths: tuple[int, ...]
    buckets: int
    vocabulary: Vocabulary
    width: int

    @classmethod
    def fit(cls, declared: Declaration, train: pl.DataFrame, common: dict[str, Any]) -> Self:
        grams = text.ngrams(text.joined(train, declared.columns), lengths=declared.ngrams, buckets=declared.buckets)
        vocabulary = Vocabulary.fit(grams["bucket"], min_count=declared.min_count)
        longest = _longest(grams.filter(vocabulary.encode(grams["bucket"]) != UNKNOWN))
        return cls(
            **common,
            lengths=declared.ngrams,
            buckets=declared.buckets,
            vocabulary=vocabulary,
            width=min(max(longest, 1), declared.max_length),
        )

    def grown(self, declared: Declaration, train: pl.DataFrame) -> Self:
        """As `Multi.grown`."""
        grams = text.ngrams(text.joined(train, self.columns), lengths=self.lengths, buckets=self.buckets)
        vocabulary = self.vocabulary.grown(grams["bucket"], min_count=declared.min_count)
        return replace(self, vocabulary=vocabulary, width=_wider(self.width, grams, vocabulary, "bucket", declared))

    def specs(self) -> tuple[FeatureSpec, ...]:
        return (self._spec(kind="multi", cardinality=self.vocabulary.cardinality, width=self.width),)

    def encode(self, frame: pl.DataFrame) -> dict[str, Tensor]:
        grams = text.ngrams(text.joined(frame, self.columns), lengths=self.lengths, buckets=self.buckets)
        return {self.name: padded(grams["row"], self.vocabulary.encode(grams["bucket"]), frame.height, self.width)}


@dataclass(frozen=True)
class Vector(ColumnEncoder):
    """A list of floats, precomputed elsewhere; a missing one is all zeros.

    The first of `columns` holds the lists; `prepare` joins it in where the feature names its own file.
    """

    normalise: str
    mean: tuple[float, ...]
    deviation: tuple[float, ...]

    @classmethod
    def fit(cls, declared: Declaration, train: pl.DataFrame, common: dict[str, Any]) -> Self:
        values, known = _matrix(train[common["columns"][0]], declared.name, None)
        if not known.any():
            raise ValueError(f"feature {declared.name!r}: no id of the training rows has a vector; check its ids")
        kept = values[known].astype(np.float64)
        standard = declared.normalise == "standard"
        deviation = kept.std(0)
        return cls(
            **common,
            normalise=declared.normalise,
            mean=tuple((kept.mean(0) if standard else np.zeros(kept.shape[1])).tolist()),
            deviation=tuple((np.where(deviation > 1e-12, deviation, 1.0) if standard else deviation * 0 + 1).tolist()),
        )

    def specs(self) -> tuple[FeatureSpec, ...]:
        return (self._spec(kind="vector", width=len(self.mean)),)

    def encode(self, frame: pl.DataFrame) -> dict[str, Tensor]:
        values, known = _matrix(frame[self.columns[0]], self.name, len(self.mean))
        scaled = (values - np.asarray(self.mean)) / np.asarray(self.deviation)
        if self.normalise == "unit":
            scaled /= np.maximum(np.linalg.norm(scaled, axis=1, keepdims=True), 1e-12)
        return {self.name: torch.from_numpy(np.where(known[:, None], scaled, 0.0).astype(np.float32))}


def padded(row: pl.Series, index: pl.Series, num_rows: int, width: int) -> Tensor:
    """Pairs (row, index), ascending by row, as int32 [N, L]; unknown indices are left out, the rest is `PAD`."""
    pairs = text.distinct(pl.DataFrame({"row": row, "index": index}).filter(pl.col("index") != UNKNOWN))
    row_P, index_P = (column.to_numpy() for column in pairs.get_columns())
    first_N = np.concatenate([[0], np.cumsum(np.bincount(row_P, minlength=num_rows))])
    place_P = np.arange(len(row_P)) - first_N[row_P]
    fits_P = place_P < width
    table = np.full((num_rows, width), PAD, dtype=np.int32)
    table[row_P[fits_P], place_P[fits_P]] = index_P[fits_P]
    return torch.from_numpy(table)


def _wider(width: int, pairs: pl.DataFrame, vocabulary: Vocabulary, values: str, declared: Declaration) -> int:
    """The width of lists once they may hold values that came later; never less than it was."""
    longest = _longest(pairs.filter(vocabulary.encode(pairs[values]) != UNKNOWN))
    return max(width, min(longest, declared.max_length))


def _longest(pairs: pl.DataFrame) -> int:
    return int(pairs.group_by("row").len()["len"].max() or 0)  # type: ignore[arg-type]


def _exploded(column: pl.Series, name: str) -> pl.DataFrame:
    """Columns `row` and `value` of a list column, nulls left out."""
    if not isinstance(column.dtype, pl.List | pl.Array):
        raise ValueError(
            f"feature {name!r}: column {column.name!r} holds {column.dtype}, a multi feature needs lists "
            '(in a CSV file written as "[1, 2]"); declare it as categorical, or change the file'
        )
    inner = pl.List(column.dtype.inner)
    lists = column.cast(inner).rename("value").to_frame().with_row_index("row").cast({"row": pl.Int64})
    return lists.explode("value").drop_nulls("value")


def _matrix(column: pl.Series, name: str, width: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Lists of floats as float32 [N, D] and which rows have one, bool [N]."""
    if column.dtype == pl.Null:
        return np.zeros((len(column), width or 1), dtype=np.float32), np.zeros(len(column), dtype=bool)
    if not isinstance(column.dtype, pl.List | pl.Array):
        raise ValueError(
            f"feature {name!r}: column {column.name!r} holds {column.dtype}, a vector needs lists of floats"
        )
    lists = column.cast(pl.List(pl.Float32))
    known = lists.is_not_null().to_numpy()
    lengths = lists.list.len().drop_nulls().unique().sort().to_list()
    expected = width if width is not None else (lengths[0] if lengths else 1)
    if lengths and lengths != [expected]:
        raise ValueError(f"feature {name!r}: vectors must all have length {expected}, found lengths {lengths[:5]}")
    if expected == 0:
        raise ValueError(
            f"feature {name!r}: the vectors of column {column.name!r} are all empty: leave the feature out"
        )
    values = np.zeros((len(column), expected), dtype=np.float32)
    if known.any():
        values[known] = lists.drop_nulls().explode().to_numpy().reshape(-1, expected)
    bad = ~np.isfinite(values).all(1)
    if bad.any():
        raise ValueError(
            f"feature {name!r}: {int(bad.sum())} vectors hold NaN, nulls or infinite values; mend the file"
        )
    return values, known


def vectors_of_file(declared: Declaration) -> tuple[str, pl.DataFrame]:
    """The id column and the table of a vector feature that brings its own file.

    Raises:
        ValueError: If the file or a column is missing, or an id occurs twice.
    """
    path = Path(declared.path)
    where = f"features.declared.{declared.name}.path={declared.path}"
    if not path.is_file():
        raise ValueError(f"{where}: there is no such file")
    try:
        frame = pl.read_parquet(path, glob=False)
    except UNREADABLE as error:
        raise ValueError(f"{where} cannot be read as Parquet: {reason_of(error)}") from error
    id_column = declared.id_column or f"{declared.side}_id"
    require_columns((id_column, declared.column), frame.columns, where)
    if frame[id_column].is_duplicated().any():
        raise ValueError(f"{where}: column {id_column!r} holds ids twice; keep one row each")
    return id_column, frame.select(id_column, declared.column)
