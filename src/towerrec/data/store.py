"""The packed log: memory-mapped columns sorted by split, user, time and file order.

Shape letters: R rows of a split, U users, I items.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from torch import Tensor

from towerrec.data.history import UserHistory
from towerrec.data.on_disk import history_on_disk, lists_on_disk
from towerrec.data.row_order import sort_order
from towerrec.data.rows import Rows
from towerrec.data.selection import at_places
from towerrec.npy import save_array
from towerrec.positive import positive_mask
from towerrec.ragged import UserItems
from towerrec.schema import SPLITS

Kept = TypeVar("Kept")
OPTIONAL = ("weight", "value", "grade", "duration_s", "base", "spread")
# Rows looked at at once where a whole column would be too much.
BLOCK_ROWS = 1 << 20
COLUMNS = {"user_idx": np.int32, "item_idx": np.int32, "label": np.float32, "timestamp_ms": np.int64}


@dataclass(frozen=True)
class InteractionStore:
    """Read access to a store directory written by `InteractionStore.write`.

    Attributes:
        directory: Holds one .npy per column.
        num_users: Rows of the user table.
        num_items: Rows of the item table.
        offsets: Where the rows of each split begin and end.
        context: Name -> side of the row-level features.
        has_weight: Whether rows count differently.
        beside: Those of the columns in `OPTIONAL` that are there.
        train_order: Order of the training rows, int64 [R]; None: as they lie in the files.
        on_disk: Whether the log does not fit into memory: lists of users are then built in blocks and lie on disk.
        block_rows: Rows of a block.
    """

    directory: Path
    num_users: int
    num_items: int
    offsets: dict[str, tuple[int, int]]
    context: dict[str, str]
    has_weight: bool
    beside: tuple[str, ...] = ()
    train_order: Tensor | None = None
    on_disk: bool = False
    block_rows: int = BLOCK_ROWS
    _kept: dict[tuple[Any, ...], Any] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def write(
        cls,
        directory: Path,
        *,
        split: np.ndarray,
        columns: Mapping[str, np.ndarray],
        context: Mapping[str, tuple[str, np.ndarray]],
        num_users: int,
        num_items: int,
    ) -> InteractionStore:
        """Sort the rows and write one .npy per column.

        Args:
            directory: Is created.
            split: uint8, 1 train, 2 val, 3 test (no other value).
            columns: `user_idx`, `item_idx`, `label`, `timestamp_ms` and, where rows count differently, `weight`, and
                where the label is a transform of something, `value`: that something, and further columns of
                `labels.kept_beside`; and where the transform depends on the row, its `base` and `spread` (see
                `labels.Label.terms`).
            context: Name -> (side, values) of the row-level features.
            num_users: Rows of the user table.
            num_items: Rows of the item table.
        """
        directory.mkdir(parents=True)
        order = sort_order(split, columns["user_idx"], columns["timestamp_ms"])
        dtypes = COLUMNS | {name: np.float32 for name in OPTIONAL if name in columns}
        for name, dtype in dtypes.items():
            save_array(directory / f"{name}.npy", columns[name].astype(dtype, copy=False).take(order))
        for name, (_, values) in context.items():
            save_array(directory / f"context_{name}.npy", values.take(order))
        rows = np.bincount(split, minlength=4)[1:4]
        assert rows.sum() == len(split), "rows of no split must be dropped before they are stored"
        sides = {name: side for name, (side, _) in context.items()}
        return cls.described(
            directory, rows=rows, columns=list(dtypes), context=sides, num_users=num_users, num_items=num_items
        )

    @classmethod
    def described(
        cls,
        directory: Path,
        *,
        rows: np.ndarray,
        columns: Collection[str],
        context: Mapping[str, str],
        num_users: int,
        num_items: int,
    ) -> InteractionStore:
        """Write beside the columns what they are: rows of each split [3], names, sides of row-level features."""
        bounds = np.concatenate([[0], np.cumsum(rows)])
        meta = {
            "num_users": num_users,
            "num_items": num_items,
            "offsets": {name: [int(bounds[i]), int(bounds[i + 1])] for i, name in enumerate(SPLITS)},
            "context": dict(context),
            "has_weight": "weight" in columns,
            "beside": [name for name in OPTIONAL if name in columns],
        }
        (directory / "store.json").write_text(json.dumps(meta, indent=1), encoding="utf-8")
        return cls.open(directory)

    @classmethod
    def open(cls, directory: Path) -> InteractionStore:
        """Open a store; the columns stay on disk until they are read."""
        meta: dict[str, Any] = json.loads((directory / "store.json").read_text(encoding="utf-8"))
        return cls(
            directory=directory,
            num_users=meta["num_users"],
            num_items=meta["num_items"],
            offsets={name: (start, end) for name, (start, end) in meta["offsets"].items()},
            context=meta["context"],
            has_weight=meta["has_weight"],
            beside=tuple(meta["beside"]),
        )

    def joined(self) -> InteractionStore:
        """The same log with its validation rows among the training rows, sorted alike; none is left for validation.

        Rows of one user and moment: those that were for training first, each kind in file order.
        """
        assert self.train_order is None, "validation rows join the training rows once"
        if self.on_disk:
            raise ValueError(
                "refit=true sorts training and validation rows in memory, but this log stays on disk "
                "(loader.buffer_rows): set refit=false"
            )
        start, end = self.offsets["train"][0], self.offsets["val"][1]
        joined = replace(self, offsets={**self.offsets, "train": (start, end), "val": (end, end)})
        user_idx, timestamp_ms = (joined._column(name, "train").numpy() for name in ("user_idx", "timestamp_ms"))
        order = sort_order(np.ones(end - start, dtype=np.uint8), user_idx, timestamp_ms)
        return replace(joined, train_order=torch.from_numpy(order))

    def num_rows(self, split: str) -> int:
        start, end = self._bounds(split)
        return end - start

    def mapped(self, name: str, split: str) -> np.ndarray:
        """A column of a split as it lies in the file, mapped for reading only."""
        start, end = self._bounds(split)
        return np.load(self.directory / f"{name}.npy", mmap_mode="r")[start:end]

    def blocks(self, name: str, *splits: str) -> Iterator[np.ndarray]:
        """A column of some splits (all where none is named) in pieces of at most `block_rows` rows, read-only and in
        the order of the files."""
        for split in splits or SPLITS:
            column = self.mapped(name, split)
            for at in range(0, len(column), self.block_rows):
                yield column[at : at + self.block_rows]

    def count(self, split: str, *, rule: str | None = None) -> int:
        """Rows of a split; with `rule` only those whose label passes it."""
        if rule is None:
            return self.num_rows(split)
        return sum(int(positive_mask(block, rule).sum()) for block in self.blocks("label", split))

    def label_facts(self, split: str, *, rule: str | None = None) -> tuple[float, float, float]:
        """Mean, smallest and largest label of a split (whose label passes `rule`); NaN where there are none."""
        number, total, low, high = 0, 0.0, math.inf, -math.inf
        for block in self.blocks("label", split):
            kept = block if rule is None else block[positive_mask(block, rule)]
            if len(kept):
                number, total = number + len(kept), total + float(kept.sum(dtype=np.float64))
                low, high = min(low, float(kept.min())), max(high, float(kept.max()))
        return (total / number, low, high) if number else (math.nan, math.nan, math.nan)

    def rows(self, split: str) -> Rows:
        """Rows of a split, sorted by user, time and file order; the tensors share the memory-mapped files
        (training rows that were joined are copies)."""
        return Rows(
            user_idx=self._column("user_idx", split),
            item_idx=self._column("item_idx", split),
            label=self._column("label", split),
            timestamp_ms=self._column("timestamp_ms", split),
            weight=self._column("weight", split) if self.has_weight else None,
            user_context=self._context("user", split),
            item_context=self._context("item", split),
        )

    @property
    def value_column(self) -> str:
        """The column that `values` gives."""
        return "value" if "value" in self.beside else "label"

    def values(self, split: str) -> Tensor:
        """What the label was made from, such as the watch ratio before it was clipped; otherwise the label. [R]"""
        return self._column(self.value_column, split)

    def grades(self, split: str) -> Tensor:
        """How much every row was worth, such as its watch ratio; where the log does not say, its value. [R]"""
        return self._column("grade" if "grade" in self.beside else self.value_column, split)

    def durations(self, split: str) -> Tensor | None:
        """Seconds of the video of every row whose value is a watch ratio, NaN where not known; None without any. [R]"""
        return self._column("duration_s", split) if "duration_s" in self.beside else None

    def mean_and_median(self, split: str) -> tuple[float, float]:
        """Of `values`; of an even number of rows the lower of the two in the middle."""
        name, number = self.value_column, self.num_rows(split)
        total = sum(float(block.sum(dtype=np.float64)) for block in self.blocks(name, split))
        return total / number, at_places(lambda: self.blocks(name, split), [(number - 1) // 2])[0]

    def without_terms(self, label_R: Tensor, split: str) -> Tensor:
        """Labels of the rows of a split (predicted ones, say), no longer relative to anything of their row. [R]"""
        if "base" not in self.beside:
            return label_R
        return label_R * self._column("spread", split) + self._column("base", split)

    def positives(self, split: str, rule: str) -> UserItems:
        """Items of every user with a row of `split` whose label passes `rule`; `values` is the largest label."""
        if self.on_disk:
            return self._on_disk(split, rule=rule, values="label", positives_only=True)
        label = self._column("label", split)
        kept = positive_mask(label, rule)
        return UserItems.from_pairs(
            self._column("user_idx", split)[kept],
            self._column("item_idx", split)[kept],
            num_users=self.num_users,
            num_items=self.num_items,
            values=label[kept],
        )

    def seen(self, *splits: str) -> UserItems:
        """Items of every user in the rows of these splits, whatever the label."""
        if self.on_disk:
            return self._on_disk(*splits, rule=None, values="none", positives_only=False)
        return UserItems.from_pairs(
            torch.cat([self._column("user_idx", split) for split in splits]),
            torch.cat([self._column("item_idx", split) for split in splits]),
            num_users=self.num_users,
            num_items=self.num_items,
        )

    def profiles(self, split: str, rule: str, *, positives_only: bool) -> UserItems:
        """What every user did: the items of his rows, `values` 1 where a row of the pair passes `rule`, 0 elsewhere."""
        if self.on_disk:
            return self._on_disk(split, rule=rule, values="positive", positives_only=positives_only)
        positive = positive_mask(self._column("label", split), rule)
        kept = positive if positives_only else torch.ones_like(positive)
        return UserItems.from_pairs(
            self._column("user_idx", split)[kept],
            self._column("item_idx", split)[kept],
            num_users=self.num_users,
            num_items=self.num_items,
            values=positive[kept].float(),
        )

    def item_counts(self, split: str, *, rule: str | None = None) -> Tensor:
        """Rows per item, int64 [I]; with `rule` only those whose label passes it."""
        total = np.zeros(self.num_items, dtype=np.int64)
        for item_idx, label in zip(self.blocks("item_idx", split), self.blocks("label", split), strict=True):
            kept = item_idx if rule is None else item_idx[positive_mask(label, rule)]
            total += np.bincount(kept, minlength=self.num_items)
        return torch.from_numpy(total)

    def in_log(self, side: str, *splits: str) -> Tensor:
        """Which users or items have a row in these splits (all where none is named), bool [U] or [I]."""
        present = np.zeros(self.num_users if side == "user" else self.num_items, dtype=bool)
        for block in self.blocks(f"{side}_idx", *splits):
            present[block] = True
        return torch.from_numpy(present)

    def history(self, rule: str) -> UserHistory:
        """The training rows whose label passes the rule, as histories."""
        if self.on_disk:
            return self._once(("history", rule), lambda: history_on_disk(self, rule))
        kept = positive_mask(self._column("label", "train"), rule)
        user_idx, item_idx, times = (self._column(n, "train")[kept] for n in ("user_idx", "item_idx", "timestamp_ms"))
        return UserHistory.build(user_idx, item_idx, times, num_users=self.num_users)

    def _on_disk(self, *splits: str, rule: str | None, values: str, positives_only: bool) -> UserItems:
        def make() -> UserItems:
            return lists_on_disk(self, splits, rule=rule, values=values, positives_only=positives_only)

        return self._once((splits, rule, values, positives_only), make)

    def _once(self, key: tuple[Any, ...], make: Callable[[], Kept]) -> Kept:
        """What lies on disk is made once."""
        if key not in self._kept:
            self._kept[key] = make()
        made: Kept = self._kept[key]
        return made

    def _bounds(self, split: str) -> tuple[int, int]:
        if split not in self.offsets:
            raise ValueError(f"split {split!r} is not known: choose one of {', '.join(SPLITS)}")
        return self.offsets[split]

    def _column(self, name: str, split: str) -> Tensor:
        start, end = self._bounds(split)
        # Copy-on-write: torch wants a writable buffer, and nothing written to it may ever reach the file.
        column = torch.from_numpy(np.load(self.directory / f"{name}.npy", mmap_mode="c")[start:end])
        return column if split != "train" or self.train_order is None else column[self.train_order]

    def _context(self, side: str, split: str) -> dict[str, Tensor]:
        return {name: self._column(f"context_{name}", split) for name, of in self.context.items() if of == side}
