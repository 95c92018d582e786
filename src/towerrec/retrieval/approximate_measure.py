"""How good and how fast an approximate search is, against the exact one.

Shape letters: B users measured, D vector width, n length of the lists.
"""

from __future__ import annotations

import time
from collections.abc import Callable

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


def recall(search: Search, index: ItemIndex, user_BD: Tensor, n: int) -> float:
    """Share of the n best that the lists of `search` hold, mean over users.

    An item counts if its exact score reaches the n-th best one, as in ann-benchmarks (Aumueller et al. 2020, section
    2.1): which of equal items was taken is no fault. Where fewer than n items are indexed all of them are the best.
    """
    n = min(n, len(index.item_idx_C))
    if n == 0:
        return 1.0
    best_B1 = index.search(user_BD, n=n).scores[:, -1:]
    items_Bn = search(user_BD, n).items
    # Rows of the index: `item_idx_C` ascends.
    place_Bn = torch.searchsorted(index.item_idx_C, items_Bn.clamp(min=0))
    scores_Bn = torch.empty(items_Bn.shape)
    for rows in torch.arange(len(user_BD)).split(1024):
        scores_Bn[rows] = torch.einsum("bd,bnd->bn", user_BD[rows], index.vectors_CD[place_Bn[rows]])
    lengths_B1 = user_BD.norm(dim=1, keepdim=True) * index.vectors_CD.norm(dim=1).max()
    reached_Bn = (items_Bn >= 0) & (scores_Bn >= best_B1 - _ROUNDING * lengths_B1)
    return float(reached_Bn.double().mean())


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
