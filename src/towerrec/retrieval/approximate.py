"""An approximate item index through FAISS: built, set to a goal of recall, measured against exact search, written.

Shape letters: U users, B some of them, C items with a vector, V vector width, n length of the lists.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from towerrec.ragged import TopN
from towerrec.retrieval.approximate_build import KINDS, built, kind_for, require_faiss, threads
from towerrec.retrieval.approximate_index import ApproximateIndex
from towerrec.retrieval.approximate_measure import Truth, latency
from towerrec.retrieval.index import ItemIndex

__all__ = ["KINDS", "ApproximateIndex", "build_approximate", "require_faiss", "write_approximate"]

# Users by whom a setting is chosen, and as many others by whom it is measured.
_USERS = 500
_LOWEST_SETTING, _HIGHEST_SETTING = 8, 4096
_SHORT_LIST = 10
# Items scored anew for each one that is asked of compressed lists: the more, the less it matters how coarse codes are.
_CANDIDATES = (4, 16, 64)


def build_approximate(index: ItemIndex, *, kind: str = "auto", seed: int = 0) -> ApproximateIndex:
    """An approximate index of the same items; the same seed gives the same bytes.

    Args:
        index: The exact one.
        kind: `flat`, `hnsw`, `ivf_pq`, or `auto`: by the number of items, see `approximate_build.kind_for`.
        seed: Of the levels of a graph, of the vectors drawn for training and of their clusters.

    Raises:
        ValueError: If the kind is not known, FAISS is not installed, or there is nothing to index.
    """
    require_faiss(kind)
    vectors_CD = np.ascontiguousarray(index.vectors_CD.cpu().float().numpy())
    if vectors_CD.size == 0:
        raise ValueError(f"there is nothing to index: the item vectors have shape {vectors_CD.shape}")
    if not np.isfinite(vectors_CD).all():
        raise ValueError("some item vectors are not numbers (NaN or infinite): the model has diverged")
    kind = kind_for(len(vectors_CD)) if kind == "auto" else kind
    made, parameters = built(vectors_CD, index.item_idx_C.cpu().numpy(), kind=kind, seed=seed)
    return ApproximateIndex(made, kind, index.num_items, parameters)


def write_approximate(
    directory: Path,
    index: ItemIndex,
    user_UV: Tensor,
    *,
    kind: str = "auto",
    goal: float = 0.95,
    n: int = 100,
    seed: int = 0,
) -> dict[str, Any]:
    """Build, set to a goal, measure against the exact search and write; returns what stands in `faiss.json`.

    Args:
        directory: Folder for `index.faiss` and `faiss.json`; one of an older index gives way.
        index: The exact index.
        user_UV: Vectors of users to set and to measure it by, disjoint halves of at most 500 each.
        kind: As in `build_approximate`.
        goal: Recall@10 and recall@n that a graph or lists shall reach with the first half: the narrowest search that
            does is taken (for lists: the fewest that do, then the fewest candidates), or the widest, and
            `goal_reached` says so.
        n: Length of the lists.
        seed: Of the index and of the users drawn.

    Raises:
        ValueError: As in `build_approximate`, or without users.
    """
    if len(user_UV) == 0:
        raise ValueError("an approximate index is measured by users: give at least one user vector")
    started = time.perf_counter()
    made = build_approximate(index, kind=kind, seed=seed)
    seconds = time.perf_counter() - started
    index, user_UV = index.to("cpu"), user_UV.detach().cpu().float()
    drawn_U = torch.randperm(len(user_UV), generator=torch.Generator().manual_seed(seed))
    half = min(len(drawn_U) // 2, _USERS)
    chosen_by, measured_by = drawn_U[:half], drawn_U[half : half + _USERS]
    with threads(torch.get_num_threads()):
        reached = _set_to_goal(made, index, user_UV[chosen_by if half else measured_by], goal, n)
        facts = _measured(made, index, user_UV[measured_by], n)
    return made.save(
        directory,
        {
            "asked": kind,
            "seed": seed,
            "n": n,
            "goal": goal,
            "goal_reached": reached,
            "users_for_the_goal": half,
            "users": len(measured_by),
            **facts,
            "build_seconds": round(seconds, 3),
            "threads": torch.get_num_threads(),
        },
    )


def _set_to_goal(made: ApproximateIndex, index: ItemIndex, user_BV: Tensor, goal: float, n: int) -> bool:
    """Take the narrowest search that reaches the goal, of equal ones that with the fewest candidates."""
    if made.kind == "flat":
        return True
    is_graph = made.kind == "hnsw"
    widest = min(made.index.ntotal, _HIGHEST_SETTING) if is_graph else made.parameters["lists"]
    setting = min(_LOWEST_SETTING, widest)
    truth = Truth(index, user_BV, (_SHORT_LIST, n))
    while True:
        for candidates in (None,) if is_graph else _CANDIDATES:
            made.set_to(setting, candidates=candidates)
            if all(truth.recall(_search_of(made), k) >= goal for k in (_SHORT_LIST, n)):
                return True
        if setting >= widest:
            return False
        setting = min(2 * setting, widest)


def _measured(made: ApproximateIndex, index: ItemIndex, user_BV: Tensor, n: int) -> dict[str, Any]:
    truth = Truth(index, user_BV, (_SHORT_LIST, n))
    return {
        "recall": {f"recall@{k}": round(truth.recall(_search_of(made), k), 5) for k in (_SHORT_LIST, n)},
        "latency": {
            "exact": latency(lambda users, k: index.search(users, n=k), user_BV, n),
            "approximate": latency(_search_of(made), user_BV, n),
        },
    }


def _search_of(made: ApproximateIndex) -> Callable[[Tensor, int], TopN]:
    return lambda user_BV, n: made.search(user_BV, n=n)
