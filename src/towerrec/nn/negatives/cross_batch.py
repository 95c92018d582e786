"""Items of former batches as candidates, with the vectors they had then.

Shape letters: B rows of a batch, F items encoded in this batch, S items only in the queue, C = F + S candidates,
I items, V width of the vectors.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from towerrec.nn.negatives.base import LogFacts, Negatives, at_least


class CrossBatch(Negatives):
    """The items of the last batches join the candidates of a softmax, with the vectors they had then.

    Wang et al., SIGIR 2021: vectors change slowly, so old ones serve as negatives without being encoded again; no
    gradient flows into them. An item that the present batch encodes anyway counts with its present vector. All batches
    draw items as often as the log shows them: with R rows in the queue, an item's expectation is that of B + R rows.

    Args:
        num_batches: Batches that are remembered, in training from the start of each epoch.
    """

    name = "cross_batch"
    serves = frozenset({"batch"})

    def __init__(self, *, num_batches: int = 4) -> None:
        self.num_batches = at_least("num_batches", num_batches, 1)
        self._queue: deque[Tensor] = deque()
        self._count_I = torch.zeros(0)
        self._vectors_IV: Tensor | None = None

    @property
    def cache(self) -> CrossBatch:
        return self

    @property
    def num_rows(self) -> int:
        """Rows in the queue."""
        return sum(item_idx_B.shape[0] for item_idx_B in self._queue)

    def attach(self, facts: LogFacts) -> None:
        self._count_I = torch.zeros(facts.known.num_items)
        self.start_epoch()

    def to(self, device: torch.device) -> None:
        self._count_I = self._count_I.to(device)

    def start_epoch(self) -> None:
        self._queue.clear()
        self._count_I.zero_()
        self._vectors_IV = None

    def running_state(self) -> dict[str, Any]:
        return {"queue": list(self._queue), "count": self._count_I, "vectors": self._vectors_IV}

    def load_running_state(self, state: Mapping[str, Any]) -> None:
        device = self._count_I.device
        self._queue = deque(item_idx_B.to(device) for item_idx_B in state["queue"])
        self._count_I = state["count"].to(device)
        self._vectors_IV = None if state["vectors"] is None else state["vectors"].to(device)

    def join(self, vectors_FV: Tensor, idx_F: Tensor, count_F: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Candidates of the batch and, behind them, those of the queue: vectors [C, V], items [C], draws [C]."""
        if self._vectors_IV is None:
            return vectors_FV, idx_F, count_F
        only_old_I = self._count_I.clone()
        only_old_I[idx_F] = 0.0
        idx_S = only_old_I.nonzero()[:, 0]
        return (
            torch.cat([vectors_FV, self._vectors_IV[idx_S].to(vectors_FV.dtype)]),
            torch.cat([idx_F, idx_S]),
            torch.cat([count_F + self._count_I[idx_F], self._count_I[idx_S]]),
        )

    def push(self, item_idx_B: Tensor, idx_F: Tensor, vectors_FV: Tensor) -> None:
        """Remember a batch and forget the oldest beyond `num_batches`."""
        vectors_FV = vectors_FV.detach()
        if self._vectors_IV is None:
            self._vectors_IV = vectors_FV.new_zeros(self._count_I.shape[0], vectors_FV.shape[1])
        self._vectors_IV[idx_F] = vectors_FV
        self._queue.append(item_idx_B)
        self._count_I += _counts(item_idx_B, self._count_I)
        if len(self._queue) > self.num_batches:
            self._count_I -= _counts(self._queue.popleft(), self._count_I)


def _counts(item_idx_B: Tensor, like_I: Tensor) -> Tensor:
    # Whole numbers: sums of ones are exact up to 2^24 rows, so what is added is taken away without a trace.
    return torch.bincount(item_idx_B, minlength=like_I.shape[0]).to(like_I.dtype)
