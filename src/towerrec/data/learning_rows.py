"""Which rows a run learns from when it goes on: those of the new days, and a share of the older ones.

A model that learns from new days alone forgets: what these days happened to show moves the layers that all users share.
Older rows beside them keep it from that (`benchmarks/continue_training.py` has the figures), whether the log holds them
or the prepared logs of earlier runs do.

Shape letters: R training rows, N rows that are learnt from, U users and I items of an earlier run.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec.data.artefacts import EncodedTables
from towerrec.data.ids import index_of
from towerrec.data.known import ContinuedStore
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

    def rows_in(self, tables: EncodedTables, before_ms: int | None) -> Rows:
        """Its training rows in the rows of larger tables, and those it held out of days that are over by `before_ms`:
        nobody is judged by them any more."""
        user_U, item_I = (
            torch.from_numpy(index_of(own, then))
            for own, then in ((tables.user_ids, self.user_ids), (tables.item_ids, self.item_ids))
        )
        parts = []
        for split in SPLITS:
            rows = self.store.rows(split)
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
        earlier: Prepared logs of the earlier runs, for a log that holds the new days alone; None where one is gone.
    """

    after_ms: int | None
    replay: float
    seed: int
    earlier: tuple[Earlier, ...] | None = ()

    def reads_earlier(self, store: InteractionStore) -> bool:
        """Whether rows of earlier logs are learnt from: the log does not hold them itself."""
        return isinstance(store, ContinuedStore) and self.replay > 0.0

    def rows(self, tables: EncodedTables, store: InteractionStore) -> Rows:
        """The rows, sorted by user and time.

        Raises:
            ValueError: If no row is of a new day, or older ones are wanted and are nowhere.
        """
        own = rows_at(store.rows("train"), self.places(store))
        if not self.reads_earlier(store):
            return own
        if self.earlier is None:
            raise ValueError(
                "continue_from: this log holds the new days alone, and the prepared log of the old ones is not in the "
                "cache of their run any more: give the old days with the new ones, or learn from the new ones alone "
                "(continue_replay=0), by which users without new rows lose"
            )
        timed = own.timestamp_ms[own.timestamp_ms != NO_TIMESTAMP]
        before_ms = int(timed.min()) if len(timed) else None
        older = _joined([log.rows_in(tables, before_ms) for log in self.earlier])
        joined = _joined([rows_at(older, self._drawn(len(older))), own])
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
        drawn = self._drawn(len(time_R))
        if drawn is not None:
            new_R[drawn.numpy()] = True
        return torch.from_numpy(np.flatnonzero(new_R))

    def _drawn(self, number: int) -> Tensor | None:
        """Places of so many rows that are learnt from again; None: all."""
        if self.replay == 1.0:
            return None
        return torch.from_numpy(np.flatnonzero(np.random.default_rng(self.seed).random(number) < self.replay))


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
