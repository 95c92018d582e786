"""Whole batches from index slices: no per-row Python, no worker processes.

Shape letters: R rows, B rows of a batch, U users.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import pairwise

import torch
from torch import Tensor
from torch import device as Device

from towerrec.data.history import UserHistory, without_target
from towerrec.data.rows import Rows
from towerrec.positive import positive_mask
from towerrec.schema import Batch


class BatchLoader:
    """Iterates over `Batch`es of one split.

    With `shuffle` every epoch is a permutation drawn from (seed, epoch). Under several processes each batch of
    `batch_size * world_size` rows is dealt out row by row, so that all processes take the same number of steps, every
    row comes once, and no process waits for another at the end.

    Args:
        rows: Rows of a split; batches are gathered on their device.
        batch_size: Rows per batch and process.
        shuffle: Permute the rows in every epoch.
        seed: Of the permutation (a GPU draws another one than the CPU).
        kind: `all` rows, or only the `positives`.
        positive: Rule that says what a positive is, such as `"> 0"`; needed by `kind="positives"`.
        history: Training positives of the users, where the model reads a history.
        history_length: Positives handed over with each row (0: none).
        rank: Number of this process.
        world_size: Number of processes.
        drop_last: Leave out the last batch where it is not full.
    """

    def __init__(
        self,
        rows: Rows,
        *,
        batch_size: int,
        shuffle: bool = False,
        seed: int = 0,
        kind: str = "all",
        positive: str | None = None,
        history: UserHistory | None = None,
        history_length: int = 0,
        rank: int = 0,
        world_size: int = 1,
        drop_last: bool = False,
    ) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        if not 0 <= rank < world_size:
            raise ValueError(f"rank must lie in 0..{world_size - 1}, got {rank}")
        if history_length > 0 and history is None:
            raise ValueError(f"history_length={history_length} needs the users' history")
        self.rows = rows
        self.batch_size = batch_size
        self.shuffle = shuffle
        self.seed = seed
        self.history = history
        self.history_length = history_length
        self.rank = rank
        self.world_size = world_size
        self.drop_last = drop_last
        self.epoch = self._first = 0
        self.chosen = _chosen(rows, kind, positive)
        self._windows: tuple[Tensor, Tensor] | None = None
        if history is not None and history_length > 0:
            self._windows = history.windows(rows.user_idx, rows.timestamp_ms)
        self._ones = torch.ones(batch_size + 1, device=rows.label.device)

    @property
    def num_rows(self) -> int:
        """Rows of an epoch, over all processes."""
        return len(self.rows) if self.chosen is None else self.chosen.shape[0]

    @property
    def sampler(self) -> BatchLoader:
        """The loader is its own sampler: Lightning calls `sampler.set_epoch` before each epoch, also after a resume."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the permutation of the next pass."""
        self.epoch = epoch

    def start_at(self, batch: int) -> None:
        """Leave out the batches before that one in the next pass: training goes on within an epoch."""
        self._first = batch

    @property
    def batch_sampler(self) -> None:
        """None: Lightning looks here before it asks what kind of sampler there is."""

    @property
    def num_units(self) -> int:
        """What batches count: rows."""
        return self.num_rows

    def __len__(self) -> int:
        return len(self._bounds()) - 1

    def __iter__(self) -> Iterator[Batch]:
        first, self._first = self._first, 0
        order = self._order()
        bounds = self._bounds()[first:]
        for start, end in pairwise(bounds):
            yield self._batch(order, start, end)

    def _bounds(self) -> list[int]:
        return batch_bounds(
            self.num_units, batch_size=self.batch_size, world_size=self.world_size, drop_last=self.drop_last
        )

    def _order(self) -> Tensor | None:
        """Row numbers in the order of this epoch, int64 [R]; None means 0, 1, 2, ..."""
        if not self.shuffle:
            return self.chosen
        order = torch.randperm(self.num_rows, generator=self._generator(), device=self.rows.label.device)
        return order if self.chosen is None else self.chosen[order]

    def _generator(self) -> torch.Generator:
        return torch.Generator(device=self.rows.label.device).manual_seed(mix(self.seed, self.epoch))

    def _batch(self, order: Tensor | None, start: int, end: int) -> Batch:
        share = slice(start + self.rank, end, self.world_size)
        return self._gathered(share if order is None else order[share])

    def _gathered(self, at: Tensor | slice) -> Batch:
        def take(column: Tensor) -> Tensor:
            # index_select runs on one thread and beats advanced indexing several times over at this size.
            return column[at] if isinstance(at, slice) else column.index_select(0, at)

        rows = self.rows
        user_idx, item_idx = take(rows.user_idx).long(), take(rows.item_idx).long()
        history = None
        if self.history is not None and self._windows is not None:
            first, last = self._windows
            window = self.history.gather(take(first), take(last), length=self.history_length)
            history = without_target(window, item_idx)
        return Batch(
            user_idx=user_idx,
            item_idx=item_idx,
            label=take(rows.label),
            weight=self._ones[: len(user_idx)] if rows.weight is None else take(rows.weight),
            user_context={name: _widen(take(column)) for name, column in rows.user_context.items()},
            item_context={name: _widen(take(column)) for name, column in rows.item_context.items()},
            history=history,
        )


def batch_bounds(num_units: int, *, batch_size: int, world_size: int = 1, drop_last: bool = False) -> list[int]:
    """Where the batches of all processes together begin, and the end."""
    step = batch_size * world_size
    full = num_units // step
    rest = num_units - full * step
    bounds = [i * step for i in range(full + 1)]
    if rest > 0 and not drop_last:
        if rest < world_size and full > 0:
            # Too few for one in each process: they join the batch before.
            bounds[-1] = num_units
        else:
            bounds.append(num_units)
    return bounds


class UserLoader:
    """Iterates over chunks of user indices, int64 [B]; dealt out over processes like rows of a `BatchLoader`."""

    def __init__(self, user_idx_U: Tensor, *, batch_size: int, rank: int = 0, world_size: int = 1) -> None:
        if batch_size < 1:
            raise ValueError(f"batch_size must be at least 1, got {batch_size}")
        self.user_idx = user_idx_U[rank::world_size].long()
        self.batch_size = batch_size
        # The longest share decides: every process takes as many steps, the last one of some may be empty.
        self.num_batches = math.ceil(math.ceil(len(user_idx_U) / world_size) / batch_size)

    def __len__(self) -> int:
        return self.num_batches

    def __iter__(self) -> Iterator[Tensor]:
        for i in range(self.num_batches):
            yield self.user_idx[i * self.batch_size : (i + 1) * self.batch_size]

    def to(self, device: Device | str) -> UserLoader:
        self.user_idx = self.user_idx.to(device)
        return self


def _chosen(rows: Rows, kind: str, positive: str | None) -> Tensor | None:
    if kind == "all":
        return None
    if kind != "positives":
        raise ValueError(f"rows of a loader are 'all' or 'positives', got {kind!r}")
    if positive is None:
        raise ValueError("kind='positives' needs the rule that says what a positive is")
    return torch.nonzero(positive_mask(rows.label, positive)).squeeze(1)


def _widen(column: Tensor) -> Tensor:
    """Categorical context is stored in a byte and read as int64."""
    return column if column.is_floating_point() else column.long()


def mix(seed: int, epoch: int) -> int:
    """One number of two, so that seed 0 in epoch 1 and seed 1 in epoch 0 differ."""
    return (seed * 0x9E3779B1 + epoch * 0x85EBCA77 + 1) % (2**63)
