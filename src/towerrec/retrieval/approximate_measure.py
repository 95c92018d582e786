"""How good and how fast an approximate search is, against the exact one.

Shape letters: B users measured, D vector width, n and k lengths of lists.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import Tensor

from towerrec.ragged import TopN
from towerrec.retrieval.index import ItemIndex

Search = Callable[[Tensor, int], TopN]
"""`search(user_BD, n)`: the lists of some users."""

Latency = dict[str, dict[str, float]]

# A score counts as reached if it lies below by no more than rounding: this times the lengths of both vectors.
_ROUNDING = 2e-6
_SINGLE, _BATCHES, _BATCH = 200, 12, 100


class Truth:
    """What the exact search finds for some users, found once.

    Args:
        index: The exact one, with at least one item.
        user_BD: Vectors of the users.
        ks: Lengths of the lists that will be compared.
    """

    def __init__(self, index: ItemIndex, user_BD: Tensor, ks: Sequence[int]) -> None:
        self.index = index
        self.user_BD = user_BD
        # Where fewer are indexed all of them are the best.
        self.length = {k: min(k, len(index.item_idx_C)) for k in ks}
        best_Bn = index.search(user_BD, n=max(self.length.values())).scores
        rounding_B = _ROUNDING * user_BD.norm(dim=1) * index.vectors_CD.norm(dim=1).max()
        self.least_B = {k: best_Bn[:, self.length[k] - 1] - rounding_B for k in ks}

    def recall(self, search: Search, k: int) -> float:
        """Share of the k best that the lists of `search` hold, mean over users.

        An item counts if its exact score reaches the k-th best one, as in ann-benchmarks (Aumueller et al. 2020,
        section 2.1): which of equal items was taken is no fault.
        """
        items_Bk = search(self.user_BD, self.length[k]).items
        # Rows of the index: `item_idx_C` ascends.
        place_Bk = torch.searchsorted(self.index.item_idx_C, items_Bk.clamp(min=0))
        scores_Bk = torch.einsum("bd,bkd->bk", self.user_BD, self.index.vectors_CD[place_Bk])
        return float(((items_Bk >= 0) & (scores_Bk >= self.least_B[k][:, None])).double().mean())


def latency(search: Search, user_BD: Tensor, n: int) -> Latency:
    """Milliseconds of one query and of a batch: median and 95th percentile, after a first one that does not count."""
    batches = [user_BD[torch.arange(start, start + _BATCH) % len(user_BD)] for start in range(0, _BATCHES * 7, 7)]
    return {
        "one_query": _timed(search, list(user_BD[:_SINGLE].split(1)), n),
        f"batch_of_{_BATCH}": _timed(search, batches, n),
    }


def _timed(search: Search, asked: list[Tensor], n: int) -> dict[str, float]:
    search(asked[0], n)
    seconds = []
    for user_BD in asked:
        started = time.perf_counter()
        search(user_BD, n)
        seconds.append(time.perf_counter() - started)
    median, late = np.percentile(seconds, [50, 95]) * 1000
    return {"median_ms": round(float(median), 4), "p95_ms": round(float(late), 4)}
