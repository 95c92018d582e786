"""Baselines by name."""

from __future__ import annotations

import difflib
from typing import Protocol

from towerrec.baselines.item_rate import ItemRate
from towerrec.baselines.neighbours import EASE, MAX_ITEMS, ItemKNN
from towerrec.baselines.popularity import MostPositive, MostViewed, Random
from towerrec.baselines.rows import TrainRows
from towerrec.retrieval.search import Scorer

NAMES = ("random", "most_viewed", "most_positive", "item_rate", "item_knn", "ease")
HINDSIGHT = "best_list_in_hindsight"
"""Not a baseline but a bound, since it reads the judged rows: see `popularity.best_list_in_hindsight`."""


class Baseline(Protocol):
    """Learns from training rows and scores all items for any user."""

    def fit(self, rows: TrainRows) -> Scorer: ...


def baseline(name: str, *, seed: int = 0) -> Baseline:
    """The baseline of that name with its default settings.

    Raises:
        ValueError: If no baseline has this name.
    """
    known: dict[str, Baseline] = {
        "random": Random(seed=seed),
        "most_viewed": MostViewed(),
        "most_positive": MostPositive(),
        "item_rate": ItemRate(),
        "item_knn": ItemKNN(),
        "ease": EASE(),
    }
    if name not in known:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(NAMES)}"
        raise ValueError(f"there is no baseline {name!r}: {hint}")
    return known[name]


def why_not(name: str, rows: TrainRows) -> str | None:
    """Why a baseline has nothing to say about a log, in one sentence; None where it has.

    A caller that was asked for this baseline by name raises it; one that shows the usual ones says it and goes on.
    """
    if name == "item_rate" and bool(rows.positive.all()):
        return "item_rate needs rows that are not positive: with positives alone every rate is 1 (use most_positive)"
    if name != "random" and rows.user_idx.numel() == 0:
        return f"{name} needs training rows, there are none"
    if name in ("most_positive", "item_rate", "item_knn", "ease") and not bool(rows.positive.any()):
        return f"{name} needs positive training rows, there are none"
    if name in ("item_knn", "ease") and rows.num_items > MAX_ITEMS:
        return f"{name} takes up to {MAX_ITEMS:,} items, the log has {rows.num_items:,}"
    return None
