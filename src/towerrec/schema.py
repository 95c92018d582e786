"""The one schema every part of towerrec reads: canonical column names, features, encoded tables, batches.

Shape letters used in this file: N rows of a table, B rows of a batch, L values of a multi-valued feature, D width.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from torch import Tensor
from torch import device as Device

# Reserved rows of every embedding table and of every encoded categorical column.
PAD = 0
UNKNOWN = 1
FIRST = 2
"""Index of the first known value of a vocabulary."""

# Canonical column names of the interaction table. Everything else a source delivers keeps its own name.
USER_ID = "user_id"
ITEM_ID = "item_id"
TIMESTAMP_MS = "timestamp_ms"
TIMESTAMP = "timestamp"
LABEL = "label"
SPLIT = "split"
WATCH_RATIO = "watch_ratio"
PLAY_DURATION_MS = "play_duration_ms"
DURATION_MS = "duration_ms"
MATRIX = "matrix"

NO_TIMESTAMP = -(2**63)
"""Stands in `timestamp_ms` where a row has no time."""

EARLIEST_MS = -62_135_510_400_000
"""2 January of year 1: with a day to spare for time zones, the first moment that every calendar has."""

LATEST_MS = 253_402_214_400_000
"""The last one, 31 December 9999."""

SPLITS = ("train", "val", "test")

Side = Literal["user", "item"]
Kind = Literal["categorical", "multi", "numeric", "vector"]


@dataclass(frozen=True)
class FeatureSpec:
    """One encoded feature, as the towers see it.

    Args:
        name: Name of the feature, unique within the schema.
        side: The tower that reads it.
        kind: `categorical` is an index, `multi` a padded list of indices, `numeric` a standardised float and
            `vector` a row of floats.
        cardinality: Rows of the embedding table, reserved rows included (0 for `numeric` and `vector`).
        width: Longest list of a `multi`, length of a `vector`, 1 otherwise.
        context: True where the value belongs to the interaction (hour, age of the item) and not to the table row.
        group: The word that selects or drops it together with its siblings.
    """

    name: str
    side: Side
    kind: Kind
    cardinality: int = 0
    width: int = 1
    context: bool = False
    group: str = ""

    def __post_init__(self) -> None:
        if self.side not in ("user", "item"):
            raise ValueError(f"feature {self.name!r}: side must be 'user' or 'item', got {self.side!r}")
        if self.kind not in ("categorical", "multi", "numeric", "vector"):
            raise ValueError(f"feature {self.name!r}: unknown kind {self.kind!r}")
        if self.kind in ("categorical", "multi") and self.cardinality <= UNKNOWN:
            raise ValueError(
                f"feature {self.name!r}: a {self.kind} feature needs cardinality > {UNKNOWN} "
                f"(0 is padding, 1 is unknown), got {self.cardinality}"
            )
        if self.width < 1:
            raise ValueError(f"feature {self.name!r}: width must be at least 1, got {self.width}")
        if self.context and self.kind not in ("categorical", "numeric"):
            raise ValueError(f"feature {self.name!r}: a context feature must be categorical or numeric")


@dataclass(frozen=True)
class FeatureSchema:
    """All features of both towers and the sizes of the two tables."""

    features: tuple[FeatureSpec, ...]
    num_users: int
    num_items: int

    def __post_init__(self) -> None:
        names = [spec.name for spec in self.features]
        twice = sorted({name for name in names if names.count(name) > 1})
        if twice:
            raise ValueError(f"feature names must be unique, but {twice} occur more than once: rename one of each")

    def side(self, side: Side, *, context: bool | None = None) -> tuple[FeatureSpec, ...]:
        """Features of one tower; `context` keeps only the row-level (True) or only the table-level (False) ones."""
        return tuple(s for s in self.features if s.side == side and (context is None or s.context == context))

    def to_dict(self) -> dict[str, Any]:
        """Plain builtins, for a checkpoint or JSON."""
        return {
            "features": [asdict(spec) for spec in self.features],
            "num_users": self.num_users,
            "num_items": self.num_items,
        }

    @classmethod
    def from_dict(cls, plain: Mapping[str, Any]) -> FeatureSchema:
        return cls(
            features=tuple(FeatureSpec(**spec) for spec in plain["features"]),
            num_users=int(plain["num_users"]),
            num_items=int(plain["num_items"]),
        )

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits that change with any feature or size."""
        return fingerprint(self.to_dict())

    def require(self, other: FeatureSchema, *, name: str, other_name: str) -> None:
        """Refuse another schema than this one.

        Raises:
            ValueError: Naming what has the one, what has the other, and the first difference.
        """
        if self.fingerprint != other.fingerprint:
            raise ValueError(
                f"{name} and {other_name} were made with different features ({self.fingerprint} and "
                f"{other.fingerprint}): {_first_difference(self, other, name, other_name)}; write both with one run"
            )


def _first_difference(one: FeatureSchema, other: FeatureSchema, name: str, other_name: str) -> str:
    own = {spec.name: spec for spec in one.features}
    theirs = {spec.name: spec for spec in other.features}
    for feature in dict.fromkeys([*own, *theirs]):
        if feature not in theirs or feature not in own:
            return f"{feature!r} is only in {name if feature in own else other_name}"
        if own[feature] != theirs[feature]:
            was, now = asdict(own[feature]), asdict(theirs[feature])
            key = next(key for key in was if was[key] != now[key])
            return f"{feature!r} has {key} {was[key]!r} in {name} and {now[key]!r} in {other_name}"
    if (one.num_users, one.num_items) != (other.num_users, other.num_items):
        return (
            f"{one.num_users:,} users and {one.num_items:,} items in {name}, {other.num_users:,} and "
            f"{other.num_items:,} in {other_name}"
        )
    return "the features come in another order"


def fingerprint(plain: Any) -> str:
    """Sixteen hexadecimal digits of the SHA-256 of a JSON-serialisable value, independent of key order."""
    text = json.dumps(plain, sort_keys=True, ensure_ascii=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class FeatureTable:
    """Encoded features of all users or all items, one row each.

    `columns[name]` is int64 [N] (categorical), int32 or int64 [N, L] padded with 0 (multi), float32 [N] (numeric) or
    float32 [N, D] (vector).
    """

    columns: dict[str, Tensor]
    num_rows: int

    def __post_init__(self) -> None:
        for name, column in self.columns.items():
            if column.shape[0] != self.num_rows:
                raise ValueError(f"column {name!r} has {column.shape[0]} rows, the table has {self.num_rows}")

    def gather(self, idx_B: Tensor) -> dict[str, Tensor]:
        """Rows `idx_B` of every column."""
        return {name: column[idx_B] for name, column in self.columns.items()}

    def to(self, device: Device | str) -> FeatureTable:
        return FeatureTable({name: column.to(device) for name, column in self.columns.items()}, self.num_rows)


@dataclass
class Batch:
    """A whole batch: indices into the two tables and what happened there.

    Shapes: `user_idx`, `item_idx` int64 [B]; `label`, `weight` float32 [B]; every context column [B];
    `history` int64 [B, H] of item rows, -1 where empty, most recent first (None where no history is read).
    """

    user_idx: Tensor
    item_idx: Tensor
    label: Tensor
    weight: Tensor
    user_context: dict[str, Tensor] = field(default_factory=dict)
    item_context: dict[str, Tensor] = field(default_factory=dict)
    history: Tensor | None = None

    def __len__(self) -> int:
        return self.user_idx.shape[0]

    def take(self, row_b: Tensor) -> Batch:
        """Some of the rows, by their places int64 [b]."""
        return Batch(
            user_idx=self.user_idx[row_b],
            item_idx=self.item_idx[row_b],
            label=self.label[row_b],
            weight=self.weight[row_b],
            user_context={name: column[row_b] for name, column in self.user_context.items()},
            item_context={name: column[row_b] for name, column in self.item_context.items()},
            history=None if self.history is None else self.history[row_b],
        )

    def to(self, device: Device | str, non_blocking: bool = False) -> Batch:
        def move(tensor: Tensor) -> Tensor:
            return tensor.to(device, non_blocking=non_blocking)

        return Batch(
            user_idx=move(self.user_idx),
            item_idx=move(self.item_idx),
            label=move(self.label),
            weight=move(self.weight),
            user_context={name: move(column) for name, column in self.user_context.items()},
            item_context={name: move(column) for name, column in self.item_context.items()},
            history=None if self.history is None else move(self.history),
        )
