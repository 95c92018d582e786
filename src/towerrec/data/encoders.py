"""All encoders of a model together: fitted once, saved as JSON, used again for new users and items.

Shape letters: N rows of a table or of a log.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from towerrec.data.column_encoders import Bucket, Categorical, ColumnEncoder, Numeric, quantile_edges
from towerrec.data.columns import require_columns
from towerrec.data.declarations import Declaration
from towerrec.data.list_encoders import Multi, Text, Vector
from towerrec.data.time import NO_DAY, ages, as_category, days_of, local_time
from towerrec.data.vocabulary import Vocabulary
from towerrec.schema import FIRST, ITEM_ID, UNKNOWN, USER_ID, FeatureSchema, FeatureSpec, FeatureTable, Side

ENCODERS: dict[str, type[Any]] = {
    "id": Categorical,
    "categorical": Categorical,
    "multi": Multi,
    "text": Text,
    "numeric": Numeric,
    "statistic": Numeric,
    "daily": Numeric,
    "bucket": Bucket,
    "vector": Vector,
}
CONTEXT_KINDS = ("hour", "weekday", "age_days", "recent")
# Computed while preparing; a file of new users or items does not bring them.
COMPUTED_KINDS = ("statistic", "daily")


@dataclass(frozen=True)
class ContextEncoder:
    """A feature of the row's moment.

    Args:
        kind: `hour`, `weekday`, `age_days` or `recent`.
        column: The item's date column (`age_days`).
        edges: Quantile edges of the age in days (`age_days`) or of the popularity (`recent`).
        half_life_days: Of the popularity (`recent`).
    """

    name: str
    side: Side
    group: str
    kind: str
    column: str
    edges: tuple[float, ...]
    half_life_days: float = 7.0

    def spec(self) -> FeatureSpec:
        values = {"hour": 24, "weekday": 7}.get(self.kind, len(self.edges) + 1)
        return FeatureSpec(self.name, self.side, "categorical", FIRST + values, context=True, group=self.group)


@dataclass(frozen=True)
class Encoders:
    """Fitted encoders of both sides.

    Args:
        declared: The features they were made from, in the same order as `encoders` and `context` together.
        encoders: Of the table columns.
        context: Of the row-level features.
        num_users: Rows of the user table.
        num_items: Rows of the item table.
        timezone: In which hours and days are read.
    """

    encoders: tuple[tuple[str, ColumnEncoder], ...]
    context: tuple[ContextEncoder, ...]
    num_users: int
    num_items: int
    timezone: str

    @classmethod
    def fit(
        cls,
        declared: Iterable[Declaration],
        *,
        users: pl.DataFrame,
        items: pl.DataFrame,
        train_users: pl.Series,
        train_items: pl.Series,
        train_ages: Mapping[str, NDArray[np.int32]],
        train_recent: Mapping[str, NDArray[np.float32]],
        timezone: str,
    ) -> Encoders:
        """Learn vocabularies and statistics.

        Args:
            declared: The features.
            users: One row per user, with all columns that the features read.
            items: The same of items.
            train_users: Which users occur in training rows, Boolean; nothing is learnt from the others.
            train_items: The same of items.
            train_ages: Ages in days of the training rows by `age_days` feature, -1 where not known.
            train_recent: Popularity just before the training rows by `recent` feature, 0 where there was none.
            timezone: In which hours and days are read.
        """
        frames = {"user": users.filter(train_users), "item": items.filter(train_items)}
        encoders: list[tuple[str, ColumnEncoder]] = []
        context: list[ContextEncoder] = []
        for feature in declared:
            common: dict[str, Any] = {"name": feature.name, "side": feature.side, "group": feature.group}
            if feature.kind in CONTEXT_KINDS:
                edges: tuple[float, ...] = ()
                if feature.kind == "age_days":
                    edges = _age_edges(train_ages[feature.name], feature.buckets)
                elif feature.kind == "recent":
                    edges = _recent_edges(train_recent[feature.name], feature.buckets)
                common |= {"column": feature.column, "edges": edges, "half_life_days": feature.half_life_days}
                context.append(ContextEncoder(**common, kind=feature.kind))
                continue
            reads = columns_read(feature)
            encoder = ENCODERS[feature.kind].fit(
                _reading(feature, reads), frames[feature.side], common | {"columns": reads}
            )
            encoders.append((feature.kind, encoder))
        return cls(tuple(encoders), tuple(context), users.height, items.height, timezone)

    @property
    def schema(self) -> FeatureSchema:
        """What the towers see."""
        specs = [spec for _, encoder in self.encoders for spec in encoder.specs()]
        return FeatureSchema(tuple(specs + [c.spec() for c in self.context]), self.num_users, self.num_items)

    def missing_columns(self, side: Side, columns: Iterable[str]) -> list[str]:
        """Columns that `encode` would read as unknown because a frame lacks them; computed ones do not count."""
        there = set(columns)
        needed = [
            column
            for kind, encoder in self.encoders
            if encoder.side == side and kind not in (*COMPUTED_KINDS, "id")
            for column in encoder.columns
        ]
        return [column for column in dict.fromkeys(needed) if column not in there]

    def encode(self, side: Side, frame: pl.DataFrame, *, allow_missing: bool = False) -> FeatureTable:
        """Encode rows of users or items.

        Args:
            side: `user` or `item`.
            frame: The columns that the features read. Popularity of a new row is unknown and may be absent.
            allow_missing: Take absent columns as unknown in every row instead of raising.

        Raises:
            ValueError: If a column is missing or holds the wrong type.
        """
        columns: dict[str, Tensor] = {}
        for kind, encoder in self.encoders:
            if encoder.side != side:
                continue
            for name in encoder.columns:
                if name not in frame.columns and (allow_missing or kind in (*COMPUTED_KINDS, "id")):
                    frame = frame.with_columns(pl.lit(None, dtype=_EMPTY.get(kind, pl.Null)).alias(name))
                require_columns((name,), frame.columns, f"feature {encoder.name!r}: the {side} table")
            columns |= encoder.encode(frame)
        return FeatureTable(columns, frame.height)

    def user_context(self, timestamp_ms: NDArray[np.int64]) -> dict[str, NDArray[np.uint8]]:
        """Hour and weekday of moments, one column per feature, uint8 [N]."""
        wanted = [encoder for encoder in self.context if encoder.side == "user"]
        if not wanted:
            return {}
        local = local_time(timestamp_ms, self.timezone)
        return {e.name: as_category(local.hour if e.kind == "hour" else local.weekday) for e in wanted}

    def item_context(
        self,
        timestamp_ms: NDArray[np.int64],
        item_days: Mapping[str, NDArray[np.int32]],
        recent: Mapping[str, NDArray[np.float32]],
    ) -> dict[str, NDArray[np.uint8]]:
        """Buckets of the age and of the popularity of items at moments, uint8 [N].

        Args:
            timestamp_ms: The moments.
            item_days: The item's day in each row by `age_days` feature, [N].
            recent: Its popularity just before by `recent` feature, [N].
        """
        wanted = [encoder for encoder in self.context if encoder.side == "item"]
        day = local_time(timestamp_ms, self.timezone).day if item_days else None
        return {
            e.name: _recent_bucket(recent[e.name], e.edges)
            if day is None or e.kind == "recent"
            else _age_bucket(ages(day, item_days[e.name]), e.edges)
            for e in wanted
        }

    def grow_item_days(
        self, item_days: Mapping[str, NDArray[np.int32]], frame: pl.DataFrame
    ) -> dict[str, NDArray[np.int32]]:
        """The days of the items with those of further items appended; unknown where the frame lacks the column."""
        column_of = {encoder.name: encoder.column for encoder in self.context}
        grown = {}
        for name, days in item_days.items():
            known = column_of[name] in frame.columns
            new = days_of(frame[column_of[name]]) if known else np.full(frame.height, NO_DAY, dtype=np.int32)
            grown[name] = np.concatenate([days, new])
        return grown

    def to_dict(self) -> dict[str, Any]:
        """Plain builtins, for JSON."""
        return {
            "encoders": [{"kind": kind, **_plain(encoder)} for kind, encoder in self.encoders],
            "context": [asdict(encoder) for encoder in self.context],
            "num_users": self.num_users,
            "num_items": self.num_items,
            "timezone": self.timezone,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> Encoders:
        return cls(
            encoders=tuple((e["kind"], _revived(e)) for e in plain["encoders"]),
            context=tuple(ContextEncoder(**{**e, "edges": tuple(e["edges"])}) for e in plain["context"]),
            num_users=plain["num_users"],
            num_items=plain["num_items"],
            timezone=plain["timezone"],
        )


_EMPTY: dict[str, Any] = {"multi": pl.List(pl.String), "text": pl.String, "categorical": pl.String, "id": pl.String}


def columns_read(feature: Declaration) -> tuple[str, ...]:
    """Columns of the prepared side frame that the encoder of a feature reads."""
    if feature.kind == "id":
        return (USER_ID if feature.side == "user" else ITEM_ID,)
    if feature.kind in COMPUTED_KINDS or feature.path:
        return (feature.name,)
    return feature.sources


def _reading(feature: Declaration, reads: tuple[str, ...]) -> Declaration:
    """The declaration with its column as it is called in the prepared frame."""
    plain = {**feature.__dict__, "column": reads[0] if feature.kind != "text" else feature.column}
    return Declaration(**plain)


def _plain(encoder: ColumnEncoder) -> dict[str, Any]:
    # Not `asdict`, which would copy every value of every vocabulary.
    plain = {f.name: getattr(encoder, f.name) for f in fields(encoder)}
    return {name: value.to_dict() if isinstance(value, Vocabulary) else value for name, value in plain.items()}


def _revived(plain: Mapping[str, Any]) -> ColumnEncoder:
    keywords = {
        key: tuple(value) if isinstance(value, list) else value for key, value in plain.items() if key != "kind"
    }
    if "vocabulary" in keywords:
        keywords["vocabulary"] = Vocabulary.from_dict(plain["vocabulary"])
    encoder: ColumnEncoder = ENCODERS[plain["kind"]](**keywords)
    return encoder


def _age_edges(age: NDArray[np.int32], buckets: int) -> tuple[float, ...]:
    return quantile_edges(age[age >= 0], buckets)


def _age_bucket(age: NDArray[np.int32], edges: tuple[float, ...]) -> NDArray[np.uint8]:
    # Ages are whole days, and all above the last edge share a bucket: a table has room for what a search would find.
    most = int(edges[-1]) + 1 if edges else 0
    table = np.searchsorted(np.asarray(edges), np.arange(most + 1), side="right") + FIRST
    return np.append(table, UNKNOWN).astype(np.uint8)[np.where(age < 0, most + 1, np.minimum(age, most))]


def _recent_edges(popularity: NDArray[np.float32], buckets: int) -> tuple[float, ...]:
    return quantile_edges(np.where(popularity > 0, popularity.astype(np.float64), np.nan), buckets)


def _recent_bucket(popularity: NDArray[np.float32], edges: tuple[float, ...]) -> NDArray[np.uint8]:
    bucket = np.searchsorted(np.asarray(edges), popularity, side="right") + FIRST
    return np.where(popularity > 0, bucket, UNKNOWN).astype(np.uint8)
