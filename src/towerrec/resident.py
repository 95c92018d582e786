"""What training and validation need of the log beside their batches.

Shape letters: B users of a batch, I items, H history length.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from towerrec.nn.losses import LabelFacts
from towerrec.nn.profile import UserProfiles
from towerrec.ragged import UserItems
from towerrec.retrieval.search import Allowed
from towerrec.schema import FeatureTable


@dataclass
class RankingTask:
    """What validation ranks against: relevant items, items never listed, candidates (see `retrieval.search.top_n`)."""

    relevant: UserItems
    exclude: UserItems | None = None
    allowed: Allowed = None

    def to(self, device: torch.device) -> RankingTask:
        return RankingTask(
            self.relevant.to(device),
            None if self.exclude is None else self.exclude.to(device),
            None if self.allowed is None else self.allowed.to(device),
        )


@dataclass
class Resident:
    """What a module needs of the log beside its batches; it sits on the device and in no checkpoint.

    Attributes:
        users: Encoded users.
        items: Encoded items.
        item_counts: Training rows (of the kind that objectives over a batch read) of every item, [I].
        known: Training positives of every user.
        labels: Facts about the training labels (of the rows the loss reads).
        positive: Rule of a positive.
        views: Training rows of every item, [I], where the negatives need `views`.
        skips: Items shown to each user and never positive in training, where the negatives need `skips`.
        profiles: Training rows of every user, for models that read them.
        tasks: What is ranked in which stage, by `val` and `test`.
        item_context: Context of every item when validation asks for lists, for instance its age then.
        latest_history: `latest_history(user_idx_B) -> history_BH`, for models that read a history.
        inverse: From label space to the raw value, where they differ: errors are then logged in both.
    """

    users: FeatureTable
    items: FeatureTable
    item_counts: Tensor
    known: UserItems
    labels: LabelFacts
    positive: str = "> 0"
    views: Tensor | None = None
    skips: UserItems | None = None
    profiles: UserProfiles | None = None
    tasks: dict[str, RankingTask] = field(default_factory=dict)
    item_context: dict[str, Tensor] = field(default_factory=dict)
    latest_history: Callable[[Tensor], Tensor] | None = None
    inverse: Callable[[Tensor], Tensor] | None = None
