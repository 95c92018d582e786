"""What a source of negatives is asked, what it answers, and the two sources that draw nothing of their own.

A source may serve a pointwise or pairwise loss (`for_rows`: some items for every row), and a softmax (`for_batch`:
items that join the candidates of all rows; `own`: items that join the candidates of one row). What a softmax needs
beside the items is how often each was to be expected among the candidates: `expected` and `RowNegatives.log_q_BM`.
Pointwise and pairwise losses take what is drawn as it comes: there the source is part of the question, and a
probability that BCE learns is one among the rows and the negatives drawn for them.

Shape letters: B rows of a batch, G groups (distinct users, or rows), C candidates, D distinct own items, I items,
V width of the vectors, M items drawn for each row, N shared items.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from towerrec.nn.negatives.known import KnownPairs
from towerrec.ragged import UserItems

if TYPE_CHECKING:
    from towerrec.nn.negatives.cross_batch import CrossBatch


@dataclass
class OwnCandidates:
    """Candidates of single rows: `vectors_DV` [D, V] of distinct items, `place_BM` int64 [B, M] into them, and
    `log_weight_BM` float32 [B, M], added to their scores (-inf where one must not compete)."""

    vectors_DV: Tensor
    place_BM: Tensor
    log_weight_BM: Tensor


@dataclass
class Candidates:
    """Items that compete in a softmax, each once.

    Attributes:
        vectors_CV: Their vectors.
        idx_C: Distinct item rows.
        log_q_C: Log of how often the sampling is expected to put the item among the candidates (None: no correction).
        log_count_C: Log of how often it was drawn into this batch. An item drawn m times weighs m times: one column
            with log m added is the same sum as m equal columns.
        own: Further candidates of single rows.
        elsewhere: Items of every user that only `own` draws: they are left out of the shared candidates.
    """

    vectors_CV: Tensor
    idx_C: Tensor
    log_q_C: Tensor | None = None
    log_count_C: Tensor | None = None
    own: OwnCandidates | None = None
    elsewhere: UserItems | None = None


@dataclass
class RowNegatives:
    """Items drawn for every row.

    Attributes:
        idx_BM: The items, int64.
        weight_BM: How much each counts, 0 where it is none at all; None: one each.
        log_q_BM: Log of the expected draws of each, given the user; None: that of the shared candidates.
    """

    idx_BM: Tensor
    weight_BM: Tensor | None = None
    log_q_BM: Tensor | None = None


@dataclass
class Request:
    """What a source may look at when it draws for the rows of a batch.

    Attributes:
        user_idx_B: User of every row.
        item_idx_B: Item of every row.
        num_items: Items of the catalogue.
        user_GV: Vectors of the groups.
        user_idx_G: Their users.
        group_B: Group of every row.
        known: Known positives.
        encode: Vectors of items as they are now, without a gradient.
    """

    user_idx_B: Tensor
    item_idx_B: Tensor
    num_items: int
    user_GV: Tensor
    user_idx_G: Tensor
    group_B: Tensor
    known: KnownPairs
    encode: Callable[[Tensor], Tensor]


@dataclass
class LogFacts:
    """What sources know of the training log.

    Attributes:
        known: Positives of every user.
        views_I: Rows of every item, for sources that need `views`.
        skips: Items shown to a user and never positive, for sources that need `skips`.
    """

    known: UserItems
    views_I: Tensor | None = None
    skips: UserItems | None = None


class Negatives:
    """Base of the sources.

    Attributes:
        name: Short name.
        per_row: Negatives of every row under a pointwise or pairwise loss.
        serves: What a loss may compare with (`Loss.compares`) for the source to matter.
        needs: Which of `LogFacts` it reads: `views`, `skips`.
        cache: The queue of former batches, where the source holds one.
    """

    name: str
    per_row = 0
    serves: frozenset[str] = frozenset({"rows", "pairs", "batch"})
    needs: frozenset[str] = frozenset()

    @property
    def cache(self) -> CrossBatch | None:
        return None

    @property
    def elsewhere(self) -> UserItems | None:
        """Items of every user that only `own` draws, see `Candidates`."""
        return None

    def check(self, compares: Sequence[str], loss: str) -> None:
        """Refuse a loss that the source gives nothing to.

        Raises:
            ValueError: Nothing the loss compares with comes from here.
        """
        if self.serves.isdisjoint(compares):
            remedy = "negatives=none" if "catalogue" in compares else "negatives=uniform"
            raise ValueError(f"negatives={self.name} changes nothing under loss={loss}: choose {remedy}")

    def attach(self, facts: LogFacts) -> None:
        """Hand over the log, before the first draw."""

    def to(self, device: torch.device) -> None:
        """Move what the source holds to a device."""

    def start_epoch(self) -> None:
        """Forget what earlier epochs left, so that a resumed run equals an uninterrupted one."""

    def running_state(self) -> dict[str, Any]:
        """What the batches of this epoch have left, in tensors and builtins: what `start_epoch` forgets."""
        return {}

    def load_running_state(self, state: Mapping[str, Any]) -> None:
        """Go on within an epoch where `running_state` was asked for."""

    def for_rows(self, request: Request) -> RowNegatives | None:
        """Negatives of every row for a pointwise or pairwise loss, or None."""
        return None

    def for_batch(self, num_items: int, device: torch.device) -> Tensor | None:
        """Items int64 [N] that join the candidates of every row of a softmax, or None."""
        return None

    def own(self, request: Request) -> list[RowNegatives]:
        """Items that join the candidates of single rows of a softmax."""
        return []

    def expected(self, num_items: int, *, processes: int = 1) -> Tensor | None:
        """Expected draws of every item into the candidates of one row beside the batch's own items, float64 [I].

        Where the candidates of several `processes` are gathered, each of these draws shared ones.
        """
        return None


class NoNegatives(Negatives):
    """The rows of the log alone: a pointwise loss learns from their labels, a softmax compares within the batch."""

    name = "none"
    serves = frozenset({"rows", "pairs", "batch", "catalogue"})


class InBatch(Negatives):
    """Items of other rows of the batch: negatives as popular as the rows.

    A softmax over the batch compares with them anyway; this source gives the same kind of negatives to a pointwise or
    pairwise loss.

    Args:
        per_row: Negatives of every row.
    """

    name = "in_batch"

    def __init__(self, *, per_row: int = 1) -> None:
        self.per_row = at_least("per_row", per_row, 1)

    def for_rows(self, request: Request) -> RowNegatives | None:
        item_idx_B = request.item_idx_B
        draw = torch.randint(max(item_idx_B.shape[0], 1), (item_idx_B.shape[0], self.per_row), device=item_idx_B.device)
        return RowNegatives(item_idx_B[draw])


def at_least(name: str, value: int, least: int) -> int:
    if value < least:
        raise ValueError(f"negatives.{name} must be at least {least}, got {value}")
    return value
