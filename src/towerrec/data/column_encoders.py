"""One encoder per kind of feature: fitted on the rows of ids that occur in training, then applied to any rows.

Each is a frozen dataclass of plain builtins, so that `asdict` and the constructor are its file format. This file: one
value per row. Shape letter: N rows of a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec.data.declarations import Declaration
from towerrec.data.vocabulary import Vocabulary
from towerrec.schema import FIRST, UNKNOWN, FeatureSpec, Side
from towerrec.wording import reason_of

# Beyond this many deviations a value says nothing more, and could only upset a tower.
CLIP = 10.0
_LARGEST = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ColumnEncoder:
    """What all encoders share: the feature's name, side, group and the columns it reads."""

    name: str
    side: Side
    group: str
    columns: tuple[str, ...]

    def specs(self) -> tuple[FeatureSpec, ...]:
        """The encoded features it yields."""
        raise NotImplementedError

    def encode(self, frame: pl.DataFrame) -> dict[str, Tensor]:
        """Encoded columns of a frame that holds `columns`."""
        raise NotImplementedError

    def _spec(self, **keywords: Any) -> FeatureSpec:
        return FeatureSpec(**{"name": self.name, "side": self.side, "group": self.group, **keywords})


@dataclass(frozen=True)
class Categorical(ColumnEncoder):
    """A value to its index; missing and unknown values share one."""

    vocabulary: Vocabulary

    @classmethod
    def fit(cls, declared: Declaration, train: pl.DataFrame, common: dict[str, Any]) -> Self:
        return cls(**common, vocabulary=Vocabulary.fit(train[declared.column], min_count=declared.min_count))

    def specs(self) -> tuple[FeatureSpec, ...]:
        return (self._spec(kind="categorical", cardinality=self.vocabulary.cardinality),)

    def encode(self, frame: pl.DataFrame) -> dict[str, Tensor]:
        return {self.name: _tensor(self.vocabulary.encode(frame[self.columns[0]]))}


@dataclass(frozen=True)
class Numeric(ColumnEncoder):
    """A number, standardised; a missing one becomes 0 (the mean) and, where training has gaps, raises an indicator."""

    transform: str
    mean: float
    deviation: float
    indicator: bool

    @classmethod
    def fit(cls, declared: Declaration, train: pl.DataFrame, common: dict[str, Any]) -> Self:
        values = _transformed(_floats(train[declared.column], declared.name), declared.transform)
        known = values[~np.isnan(values)]
        deviation = float(known.std()) if len(known) else 0.0
        return cls(
            **common,
            transform=declared.transform,
            mean=float(known.mean()) if len(known) else 0.0,
            deviation=deviation if deviation > 1e-12 else 1.0,
            indicator=0 < len(known) < len(values),
        )

    def specs(self) -> tuple[FeatureSpec, ...]:
        value = self._spec(kind="numeric")
        return (value, self._spec(kind="numeric", name=f"{self.name}_missing")) if self.indicator else (value,)

    def encode(self, frame: pl.DataFrame) -> dict[str, Tensor]:
        values = _transformed(_floats(frame[self.columns[0]], self.name), self.transform)
        missing = np.isnan(values)
        scaled = np.clip((values - self.mean) / self.deviation, -CLIP, CLIP)
        encoded = {self.name: torch.from_numpy(np.where(missing, 0.0, scaled).astype(np.float32))}
        if self.indicator:
            encoded[f"{self.name}_missing"] = torch.from_numpy(missing.astype(np.float32))
        return encoded


@dataclass(frozen=True)
class Bucket(ColumnEncoder):
    """A number to the quantile bucket of training it falls into."""

    edges: tuple[float, ...]

    @classmethod
    def fit(cls, declared: Declaration, train: pl.DataFrame, common: dict[str, Any]) -> Self:
        return cls(**common, edges=quantile_edges(_floats(train[declared.column], declared.name), declared.buckets))

    def specs(self) -> tuple[FeatureSpec, ...]:
        return (self._spec(kind="categorical", cardinality=FIRST + len(self.edges) + 1),)

    def encode(self, frame: pl.DataFrame) -> dict[str, Tensor]:
        values = _floats(frame[self.columns[0]], self.name)
        bucket = FIRST + np.searchsorted(self.edges, values, side="right")
        return {self.name: torch.from_numpy(np.where(np.isnan(values), UNKNOWN, bucket))}


def quantile_edges(values: np.ndarray, buckets: int) -> tuple[float, ...]:
    """Inner edges of at most `buckets` buckets with about equally many values; equal values share a bucket."""
    # A sort of plain numbers takes a tenth of the partition that `np.quantile(method="higher")` does, for equal edges.
    known = np.sort(values[~np.isnan(values)])
    if len(known) == 0:
        return ()
    edges = np.unique(known[np.ceil((len(known) - 1) * (np.arange(1, buckets) / buckets)).astype(np.int64)])
    return tuple(edges[edges > known[0]].astype(np.float64).tolist())


def _floats(column: pl.Series, name: str) -> np.ndarray:
    """Float64 [N] with NaN where missing, infinite or beyond float32: the mean of such numbers would be infinite."""
    try:
        values = column.cast(pl.Float64).fill_null(np.nan).to_numpy().copy()
    except pl.exceptions.PolarsError as error:
        raise ValueError(
            f"feature {name!r}: column {column.name!r} holds {column.dtype} that cannot be read as numbers: "
            f"{reason_of(error)}"
        ) from error
    values[~(np.abs(values) <= _LARGEST)] = np.nan
    return values


def _transformed(values: np.ndarray, transform: str) -> np.ndarray:
    return np.sign(values) * np.log1p(np.abs(values)) if transform == "log1p" else values


def _tensor(column: pl.Series) -> Tensor:
    return torch.from_numpy(column.to_numpy().copy())
