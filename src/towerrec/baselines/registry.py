"""Baselines by name, with their default settings; the config group `baseline` builds them with others."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable
from typing import ClassVar, Protocol

from towerrec.baselines.category import CategoryAffinity
from towerrec.baselines.implicit import ALS, BPR
from towerrec.baselines.item_rate import ItemRate
from towerrec.baselines.neighbours import EASE, ItemKNN
from towerrec.baselines.popularity import DecayedPopularity, MostPositive, MostViewed, Random
from towerrec.baselines.rows import TrainRows
from towerrec.retrieval.search import Scorer

HINDSIGHT = "best_list_in_hindsight"
"""Not a baseline but a bound, since it reads the judged rows: see `popularity.best_list_in_hindsight`."""


class Baseline(Protocol):
    """Learns from training rows and scores all items for any user."""

    name: ClassVar[str]

    def why_not(self, rows: TrainRows) -> str | None:
        """Why it has nothing to say about a log, to be read after its name; None where it has."""
        ...

    def fit(self, rows: TrainRows) -> Scorer: ...


_CLASSES: tuple[type[Baseline], ...] = (
    Random,
    MostViewed,
    MostPositive,
    DecayedPopularity,
    ItemRate,
    CategoryAffinity,
    ItemKNN,
    EASE,
    ALS,
    BPR,
)
NAMES = tuple(kind.name for kind in _CLASSES)


def baseline(name: str, *, seed: int = 0) -> Baseline:
    """The baseline of that name with its default settings.

    Raises:
        ValueError: If no baseline has this name.
    """
    known = {kind.name: kind for kind in _CLASSES}
    if name not in known:
        near = difflib.get_close_matches(name, NAMES, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"choose from {', '.join(NAMES)}"
        raise ValueError(f"there is no baseline {name!r}: {hint}")
    make: Callable[..., Baseline] = known[name]
    return make(seed=seed) if "seed" in inspect.signature(make).parameters else make()


def why_not(chosen: Baseline, rows: TrainRows) -> str | None:
    """Why a baseline has nothing to say about a log, in one sentence; None where it has.

    A caller that was asked for this baseline by name raises it; one that shows the usual ones says it and goes on.
    """
    reason = chosen.why_not(rows)
    return None if reason is None else f"{chosen.name} {reason}"
