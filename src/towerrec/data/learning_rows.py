"""Which rows a run learns from when it goes on: those of the new days, and a share of the older ones.

A model that learns from new days alone forgets: what these days happened to show moves the layers that all users share.
Older rows beside them keep it from that (`benchmarks/continue_training.py` has the figures), whether the log holds them
or the prepared logs of earlier runs do.

Shape letters: R training rows, N rows that are learnt from, U users and I items of an earlier run.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec.data.artefacts import EncodedTables
from towerrec.data.ids import index_of
from towerrec.data.known import ContinuedStore
from towerrec.data.memory import BYTES_PER_ROW, memory_limit
from towerrec.data.row_order import sort_order
from towerrec.data.rows import Rows
from towerrec.data.store import InteractionStore
from towerrec.schema import NO_TIMESTAMP, SPLITS


@dataclass(frozen=True)
class Earlier:
    """The prepared log of an earlier run."""

    store: InteractionStore
    user_ids: pl.Series
    item_ids: pl.Series

    @classmethod
    def open(cls, directory: Path) -> Earlier:
        """A prepared log, from its place in the cache."""
        users, items = (
            pl.read_parquet(directory / f"{name}s.parquet", glob=False)[name] for name in ("user_id", "item_id")
        )
        return cls(InteractionStore.open(directory / "store"), users, items)

    @property
    def num_rows(self) -> int:
        """All of them."""
        return sum(self.store.num_rows(split) for split in SPLITS)

    def rows_in(self, tables: EncodedTables, before_ms: int | None, drawn: Callable[[int], Tensor | None]) -> Rows:
        """Its training rows in the rows of larger tables, and those it held out of days that are over by `before_ms`:
        nobody is judged by them any more.

        Args:
            tables: The larger ones.
            before_ms: A moment, if one is known.
            drawn: Places of the rows that are read, of so many; None: all.
        """
        user_U, item_I = (
            torch.from_numpy(index_of(own, then))
            for own, then in ((tables.user_ids, self.user_ids), (tables.item_ids, self.item_ids))
        )
        parts = []
        for split in SPLITS:
            rows = rows_at(self.store.rows(split), drawn(self.store.num_rows(split)))
            if split != "train":
                over = (rows.timestamp_ms != NO_TIMESTAMP) & (rows.timestamp_ms < (before_ms or NO_TIMESTAMP))
                rows = rows_at(rows, over.nonzero()[:, 0])
            parts.append(rows)
        rows = _joined(parts)
        rows.user_idx, rows.item_idx = user_U[rows.user_idx.long()], item_I[rows.item_idx.long()]
        return rows


@dataclass(frozen=True)
class Learning:
    """What is learnt from.

    Args:
        after_ms: Rows later than this are of the new days; None: nobody can tell, so all are.
        replay: Share of the older rows that is learnt from too, in [0, 1].
        seed: Of their draw.
        earlier: Opens the prepared logs of the earlier runs, for a log that holds the new days alone.
    """

    after_ms: int | None
    replay: float
    seed: int
    earlier: Callable[[], Sequence[Earlier]] = tuple

    def reads_earlier(self, store: InteractionStore) -> bool:
        """Whether rows of earlier logs are learnt from: the log does not hold them itself."""
        return isinstance(store, ContinuedStore) and self.replay > 0.0

    def rows(self, tables: EncodedTables, store: InteractionStore) -> Rows:
        """The rows, sorted by user and time.

        Raises:
            ValueError: If no row is of a new day, or older ones are wanted and are in no cache, or are more than memory
                holds.
        """
        own = rows_at(store.rows("train"), self.places(store))
        if not self.reads_earlier(store):
            return own
        timed = own.timestamp_ms[own.timestamp_ms != NO_TIMESTAMP]
        before_ms = int(timed.min()) if len(timed) else None
        logs, draw = self.earlier(), partial(self._drawn, np.random.default_rng(self.seed))
        self._check_room(sum(log.num_rows for log in logs))
        older = _joined([log.rows_in(tables, before_ms, draw) for log in logs])
        joined = _joined([_without(older, [store.rows(split) for split in SPLITS if store.num_rows(split)]), own])
        order = sort_order(np.ones(len(joined), dtype=np.uint8), joined.user_idx.numpy(), joined.timestamp_ms.numpy())
        return rows_at(joined, torch.from_numpy(order))

    def places(self, store: InteractionStore) -> Tensor | None:
        """Places of the rows among the training rows of the log, ascending, int64 [N]; None: all of them.

        Rows without a time are older ones where others have one: old and new cannot be told apart by them.

        Raises:
            ValueError: If no row is of a new day.
        """
        if self.after_ms is None or self.replay == 1.0:
            return None
        time_R = store.rows("train").timestamp_ms.numpy()
        new_R = (time_R > self.after_ms) & (time_R != NO_TIMESTAMP)
        if not new_R.any():
            day = np.datetime64(self.after_ms, "ms")
            raise ValueError(
                f"continue_from: no training row is later than {day}, the last moment the run has learnt from: give "
                "the log of the days since, or set continue_replay=1 to go on learning from the same rows"
            )
        drawn = self._drawn(np.random.default_rng(self.seed), len(time_R))
        if drawn is not None:
            new_R[drawn.numpy()] = True
        return torch.from_numpy(np.flatnonzero(new_R))

    def _drawn(self, rng: np.random.Generator, number: int) -> Tensor | None:
        """Places of so many rows that are learnt from again; None: all."""
        if self.replay == 1.0:
            return None
        return torch.from_numpy(np.flatnonzero(rng.random(number) < self.replay))

    def _check_room(self, number: int) -> None:
        """Refuse older rows that would not fit, by the rule of a log's own (`RetrievalDataModule`)."""
        limit = memory_limit()
        fitting = limit / (2 * BYTES_PER_ROW * max(number, 1))
        if self.replay > fitting:
            raise ValueError(
                f"continue_from: the old days have {number:,} rows, and to learn from {self.replay:.0%} of them again "
                f"takes more than half of the memory there is ({limit / 2**30:.1f} GiB): set continue_replay to a "
                f"share that fits, {_rounded_down(fitting)} at most"
            )


def _rounded_down(share: float) -> str:
    """A share with one digit that counts."""
    digits = max(-math.floor(math.log10(share)), 0)
    return f"{math.floor(share * 10**digits) / 10**digits:.{digits}f}"


def _without(rows: Rows, others: Sequence[Rows]) -> Rows:
    """The rows, but for those of which the others hold the same user, item and moment: days of which both logs tell."""
    first = min(int(other.timestamp_ms.min()) for other in others)
    if first != NO_TIMESTAMP and int(rows.timestamp_ms.max()) < first:
        return rows
    there, known = _named(rows), pl.concat([_named(other) for other in others])
    kept = there.with_row_index("place").join(known, on=known.columns, how="anti", maintain_order="left")
    return rows_at(rows, kept["place"].cast(pl.Int64).to_torch())


def _named(rows: Rows) -> pl.DataFrame:
    """What tells rows apart."""
    names = ("user_idx", "item_idx", "timestamp_ms")
    return pl.DataFrame({name: getattr(rows, name).numpy() for name in names})


def rows_at(rows: Rows, place_N: Tensor | None) -> Rows:
    """Some rows, by their places; copies of them, where places are given."""
    if place_N is None:
        return rows
    return Rows(
        user_idx=rows.user_idx[place_N],
        item_idx=rows.item_idx[place_N],
        label=rows.label[place_N],
        timestamp_ms=rows.timestamp_ms[place_N],
        weight=None if rows.weight is None else rows.weight[place_N],
        user_context={name: column[place_N] for name, column in rows.user_context.items()},
        item_context={name: column[place_N] for name, column in rows.item_context.items()},
    )


def _joined(parts: list[Rows]) -> Rows:
    """Rows of one kind, one after the other."""
    first = parts[0]
    return Rows(
        user_idx=torch.cat([part.user_idx for part in parts]),
        item_idx=torch.cat([part.item_idx for part in parts]),
        label=torch.cat([part.label for part in parts]),
        timestamp_ms=torch.cat([part.timestamp_ms for part in parts]),
        weight=None if first.weight is None else torch.cat([p.weight for p in parts if p.weight is not None]),
        user_context={name: torch.cat([part.user_context[name] for part in parts]) for name in first.user_context},
        item_context={name: torch.cat([part.item_context[name] for part in parts]) for name in first.item_context},
    )
