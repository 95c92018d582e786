"""Which training rows a run learns from when it goes on: those of the new days, and a share of the older ones.

Shape letters: R training rows, N rows that are learnt from.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from towerrec.data.store import InteractionStore, Rows
from towerrec.schema import NO_TIMESTAMP


@dataclass(frozen=True)
class Learning:
    """What is learnt from.

    Args:
        after_ms: Rows later than this are of the new days; None: nobody can tell, so all are.
        replay: Share of the other rows that is learnt from too, in [0, 1].
        seed: Of their draw.
    """

    after_ms: int | None
    replay: float
    seed: int

    def places(self, store: InteractionStore) -> Tensor | None:
        """Places of the rows among the training rows, ascending, int64 [N]; None: all of them.

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
        coin_R = np.random.default_rng(self.seed).random(len(time_R))
        return torch.from_numpy(np.flatnonzero(new_R | (coin_R < self.replay)))


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
