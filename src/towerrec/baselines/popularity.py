"""Lists that are the same for everyone, and the list of chance.

Shape letters: B users, I items.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from towerrec.baselines.rows import TrainRows
from towerrec.ragged import UserItems
from towerrec.retrieval.one_ranking import SameForAll
from towerrec.retrieval.search import Scorer

# Numbers mixed at once: what stays in the cache through a dozen passes.
_MIXED_AT_ONCE = 1 << 17


def same_for_all(score_I: Tensor) -> SameForAll:
    """Every user gets the same scores."""
    return SameForAll(score_I.float())


@dataclass(frozen=True)
class MostViewed:
    """Items by the number of their training rows."""

    name: ClassVar[str] = "most_viewed"

    def why_not(self, rows: TrainRows) -> str | None:
        return rows.lacks("rows")

    def fit(self, rows: TrainRows) -> Scorer:
        return same_for_all(rows.views)


@dataclass(frozen=True)
class MostPositive:
    """Items by the number of their positive training rows."""

    name: ClassVar[str] = "most_positive"

    def why_not(self, rows: TrainRows) -> str | None:
        return rows.lacks("rows", "positives")

    def fit(self, rows: TrainRows) -> Scorer:
        return same_for_all(rows.likes)


@dataclass(frozen=True)
class DecayedPopularity:
    """Items by their recent training rows: each counts half as much for every half-life before the last of them.

    Args:
        half_life_days: After how many days a row counts half.
        counts: `positives`, or all `views`.
    """

    half_life_days: float = 3.0
    counts: str = "positives"

    name: ClassVar[str] = "decayed_popularity"

    def __post_init__(self) -> None:
        if not self.half_life_days > 0:
            raise ValueError(f"half_life_days must be positive, got {self.half_life_days}")
        if self.counts not in ("positives", "views"):
            raise ValueError(f"counts must be 'positives' or 'views', got {self.counts!r}")

    def why_not(self, rows: TrainRows) -> str | None:
        return rows.lacks("rows", *(["positives"] if self.counts == "positives" else []), "times")

    def fit(self, rows: TrainRows) -> Scorer:
        recent_I = rows.recent(half_life_days=self.half_life_days, positives_only=self.counts == "positives")
        # Shares of the largest: what is left of an old log is tiny, and float32 must keep its order.
        return same_for_all(recent_I / recent_I.max())


@dataclass(frozen=True)
class Random:
    """A random order of the items for every user, fixed by the seed, the user and the item alone."""

    seed: int = 0

    name: ClassVar[str] = "random"

    def why_not(self, rows: TrainRows) -> str | None:
        return None

    def fit(self, rows: TrainRows) -> Scorer:
        num_items = rows.num_items
        rows_at_once = max(1, _MIXED_AT_ONCE // max(1, num_items))

        def score(user_idx_B: Tensor) -> Tensor:
            item_I = torch.arange(num_items, device=user_idx_B.device)
            scores_BI = torch.empty(len(user_idx_B), num_items, device=user_idx_B.device)
            user_B1 = _mix_(user_idx_B[:, None] + (self.seed << 32))
            for scores_bI, user_b1 in zip(scores_BI.split(rows_at_once), user_B1.split(rows_at_once), strict=True):
                # 23 bits: every value is a different float32.
                scores_bI.copy_(_mix_(user_b1 ^ item_I).bitwise_and_(0x7FFFFF))
            return scores_BI

        return score


def best_list_in_hindsight(relevant: UserItems, *, candidates: UserItems | None = None) -> Scorer:
    """The single list that fits the judged rows themselves best: a bound for every list without taste, no system.

    Items are ordered by the share of the users who may be given them (all, or those of `candidates`) to whom they are
    relevant. A system that passes it knows something about users and not only about items.
    """
    liked_I = torch.bincount(relevant.items, minlength=relevant.num_items).double()
    if candidates is None:
        return same_for_all(liked_I)
    return same_for_all(liked_I / torch.bincount(candidates.items, minlength=relevant.num_items).clamp(min=1))


def _mix_(value: Tensor) -> Tensor:
    """The finalizer of SplitMix64 (Steele et al., OOPSLA 2014), in place on int64, which wraps; masks make shifts
    unsigned."""
    value.sub_(0x61C8864680B583EB)
    value.bitwise_xor_((value >> 30).bitwise_and_(0x3FFFFFFFF)).mul_(-0x40A7B892E31B1A47)
    value.bitwise_xor_((value >> 27).bitwise_and_(0x1FFFFFFFFF)).mul_(-0x6B2FB644ECCEEE15)
    return value.bitwise_xor_((value >> 31).bitwise_and_(0x1FFFFFFFF))
