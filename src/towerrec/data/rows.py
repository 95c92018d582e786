"""Rows of a log as tensors.

Shape letter: R rows.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor
from torch import device as Device


@dataclass
class Rows:
    """Rows of one split as tensors, all [R]: indices int32, `label` and `weight` float32, `timestamp_ms` int64.

    `weight` is None where every row counts once; context columns are uint8 (categorical) or float32 (numeric).
    """

    user_idx: Tensor
    item_idx: Tensor
    label: Tensor
    timestamp_ms: Tensor
    weight: Tensor | None = None
    user_context: dict[str, Tensor] = field(default_factory=dict)
    item_context: dict[str, Tensor] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.user_idx.shape[0]

    @property
    def num_bytes(self) -> int:
        """Memory of all columns."""
        contexts = [*self.user_context.values(), *self.item_context.values()]
        weight = [] if self.weight is None else [self.weight]
        columns = [self.user_idx, self.item_idx, self.label, self.timestamp_ms, *weight, *contexts]
        return sum(column.numel() * column.element_size() for column in columns)

    def part(self, rows: slice) -> Rows:
        """Some rows in a row."""
        return Rows(
            user_idx=self.user_idx[rows],
            item_idx=self.item_idx[rows],
            label=self.label[rows],
            timestamp_ms=self.timestamp_ms[rows],
            weight=None if self.weight is None else self.weight[rows],
            user_context={name: column[rows] for name, column in self.user_context.items()},
            item_context={name: column[rows] for name, column in self.item_context.items()},
        )

    def to(self, device: Device | str) -> Rows:
        return Rows(
            user_idx=self.user_idx.to(device),
            item_idx=self.item_idx.to(device),
            label=self.label.to(device),
            timestamp_ms=self.timestamp_ms.to(device),
            weight=None if self.weight is None else self.weight.to(device),
            user_context={name: column.to(device) for name, column in self.user_context.items()},
            item_context={name: column.to(device) for name, column in self.item_context.items()},
        )
