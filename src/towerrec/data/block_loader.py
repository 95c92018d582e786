"""Batches of training rows that do not fit into memory, from the memory-mapped store.

Shuffling: the rows of the store are sorted by user, so neighbours are alike. Every epoch cuts them anew into short runs
of `run_rows` rows (where the first cut falls is drawn), visits the runs in a random order, pools those of
`buffer_rows` rows, and permutes the pool. A batch thus holds rows of as many places as it has rows, and what an epoch
shows is every row once. The order is a function of (seed, epoch) alone.

Memory: about three pools, the one that is trained on and the next one while it is made; the pages of the files that
were read are given back at once. Shape letters: M rows of a pool.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch import device as Device

from towerrec.data.history import UserHistory
from towerrec.data.loader import BatchLoader, batch_bounds, mix
from towerrec.data.rows import Rows
from towerrec.data.store import InteractionStore
from towerrec.positive import positive_mask
from towerrec.schema import Batch

RUN_ROWS = 256
# Runs looked at together: enough for array operations to pay.
_RUNS_AT_ONCE = 1024


class BlockLoader:
    """Iterates over `Batch`es of the training rows of a store, a pool of them in memory at a time.

    Processes share every batch as in `BatchLoader`: each reads all pools and takes its part of every batch, so that all
    take the same number of steps, every row comes once, and the batches of N processes are those of one.

    Args:
        store: The log.
        batch_size: Rows per batch and process.
        buffer_rows: Rows of a pool, at least those of one batch of all processes.
        seed: Of the order.
        kind: `all` rows, or only the `positives`.
        positive: Rule that says what a positive is; needed by `kind="positives"`.
        history: Training positives of the users, where the model reads a history.
        history_length: Positives handed over with each row (0: none).
        rank: Number of this process.
        world_size: Number of processes.
        device: Where pools are put; batches are gathered there.
        run_rows: Rows that are read together: the fewer, the better the shuffle and the slower the reading.

    Raises:
        ValueError: A pool smaller than a batch, or no rule of a positive where one is needed.
    """

    def __init__(
        self,
        store: InteractionStore,
        *,
        batch_size: int,
        buffer_rows: int,
        seed: int = 0,
        kind: str = "all",
        positive: str | None = None,
        history: UserHistory | None = None,
        history_length: int = 0,
        rank: int = 0,
        world_size: int = 1,
        device: Device | str = "cpu",
        run_rows: int = RUN_ROWS,
    ) -> None:
        step = batch_size * world_size
        if buffer_rows < step:
            raise ValueError(
                f"loader.buffer_rows={buffer_rows} holds less than one batch of all processes ({step} rows): raise it, "
                "or lower loader.batch_size"
            )
        if kind == "positives" and positive is None:
            raise ValueError("kind='positives' needs the rule that says what a positive is")
        self.store, self.batch_size, self.seed, self.run_rows = store, batch_size, seed, run_rows
        # Whole batches: none lies across two pools.
        self.buffer_rows = buffer_rows // step * step
        self.rule = positive if kind == "positives" else None
        self.history, self.history_length = history, history_length
        self.rank, self.world_size, self.device = rank, world_size, torch.device(device)
        self.epoch = self._first = 0
        self.num_rows = store.count("train", rule=self.rule)

    @property
    def sampler(self) -> BlockLoader:
        """As `BatchLoader.sampler`."""
        return self

    @property
    def batch_sampler(self) -> None:
        """None, as in `BatchLoader`."""

    def set_epoch(self, epoch: int) -> None:
        """Choose the order of the next pass."""
        self.epoch = epoch

    def start_at(self, batch: int) -> None:
        """As `BatchLoader.start_at`; pools before that batch are not read."""
        self._first = batch

    def __len__(self) -> int:
        return len(batch_bounds(self.num_rows, batch_size=self.batch_size, world_size=self.world_size)) - 1

    def __iter__(self) -> Iterator[Batch]:
        first, self._first = self._first, 0
        pools = self._pools(first * self.batch_size * self.world_size)
        # The next pool is made while the last one is trained on.
        with ThreadPoolExecutor(max_workers=1) as thread:
            coming = thread.submit(next, pools, None)
            while (pool := coming.result()) is not None:
                coming = thread.submit(next, pools, None)
                batches = BatchLoader(
                    pool.rows,
                    batch_size=self.batch_size,
                    history=self.history,
                    history_length=self.history_length,
                    rank=self.rank,
                    world_size=self.world_size,
                )
                batches.start_at(pool.seen // (self.batch_size * self.world_size))
                yield from batches

    def _pools(self, seen: int = 0) -> Iterator[_Pool]:
        """The rows of an epoch in their order, a pool at a time; the first `seen` of them are those of whole batches,
        and what lies before the pool of the next one is not read."""
        columns = _Columns(self.store, with_times=self.history_length > 0)
        generator = torch.Generator().manual_seed(mix(self.seed, self.epoch))
        for place_M in self._places(columns):
            order_M = torch.randperm(len(place_M), generator=generator).numpy()
            if seen < len(place_M):
                yield _Pool(columns.rows(place_M, order_M, self.device), seen)
            seen = max(seen - len(place_M), 0)

    def _places(self, columns: _Columns) -> Iterator[NDArray[np.int64]]:
        """Which rows make each pool; the last takes in what would not fill a batch of all processes."""
        waiting: list[NDArray[np.int64]] = []
        num_waiting, left = 0, self.num_rows
        step = self.batch_size * self.world_size
        for places in self._runs(columns):
            waiting.append(places)
            num_waiting += len(places)
            while num_waiting >= (size := self._size(left, step)) > 0:
                pooled = np.concatenate(waiting)
                yield pooled[:size]
                waiting, num_waiting, left = [pooled[size:]], num_waiting - size, left - size
        assert left == 0 and num_waiting == 0, "every row comes once"

    def _size(self, left: int, step: int) -> int:
        """Rows of the next pool."""
        return left if left - self.buffer_rows < step else self.buffer_rows

    def _runs(self, columns: _Columns) -> Iterator[NDArray[np.int64]]:
        """Rows of the runs of this epoch in random order, some runs at a time."""
        start, end = self.store.offsets["train"]
        rng = np.random.default_rng([self.seed, self.epoch])
        first_cut = start + int(rng.integers(1, self.run_rows + 1))
        begin = np.concatenate([[start], np.arange(first_cut, end, self.run_rows)])
        for few in np.array_split(rng.permutation(begin), max(len(begin) // _RUNS_AT_ONCE, 1)):
            # The run before the first cut is shorter than the others, and so may be the last one.
            stop = np.where(few == start, min(first_cut, end), np.minimum(few + self.run_rows, end))
            length = stop - few
            places = np.repeat(few - (np.cumsum(length) - length), length) + np.arange(length.sum())
            if self.rule is not None:
                places = places[np.asarray(positive_mask(columns.read("label", places), self.rule))]
            yield places


@dataclass(frozen=True)
class _Pool:
    """Rows of a pool, of which the first `seen` were trained on before."""

    rows: Rows
    seen: int


class _Columns:
    """The columns of a store, mapped for reading only; pages that were read can be given back."""

    def __init__(self, store: InteractionStore, *, with_times: bool) -> None:
        self.store = store
        self.names = ["user_idx", "item_idx", "label", *(["timestamp_ms"] if with_times else [])]
        self.names += ["weight"] if store.has_weight else []
        self.names += [f"context_{name}" for name in store.context]
        self.maps: dict[str, tuple[mmap.mmap, NDArray[np.generic]]] = {}
        for name in self.names:
            path = store.directory / f"{name}.npy"
            header = np.load(path, mmap_mode="r")
            with path.open("rb") as file:
                mapped = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            array = np.frombuffer(mapped, dtype=header.dtype, offset=header.offset, count=len(header))
            self.maps[name] = (mapped, array)

    def read(self, name: str, places: NDArray[np.int64]) -> NDArray[np.generic]:
        return self.maps[name][1].take(places)

    def rows(self, place_M: NDArray[np.int64], order_M: NDArray[np.int64], device: Device) -> Rows:
        """Some rows in another order, on a device."""
        # Read as they lie, then permuted in memory: files like that, and so do caches.
        taken = {name: self._placed(self.read(name, place_M).take(order_M), device) for name in self.names}
        for mapped, _ in self.maps.values():
            mapped.madvise(mmap.MADV_DONTNEED)
        context = {
            side: {name: taken[f"context_{name}"] for name, of in self.store.context.items() if of == side}
            for side in ("user", "item")
        }
        no_time = torch.zeros((), dtype=torch.int64, device=device).expand(len(place_M))
        return Rows(
            user_idx=taken["user_idx"],
            item_idx=taken["item_idx"],
            label=taken["label"],
            timestamp_ms=taken.get("timestamp_ms", no_time),
            weight=taken.get("weight"),
            user_context=context["user"],
            item_context=context["item"],
        )

    @staticmethod
    def _placed(values: NDArray[np.generic], device: Device) -> Tensor:
        column = torch.from_numpy(values)
        return column.pin_memory().to(device, non_blocking=True) if device.type == "cuda" else column
