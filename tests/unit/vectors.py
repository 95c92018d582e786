"""Towers that are nothing but their vectors, so that a test knows every score."""

from __future__ import annotations

from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn

from towerrec.nn.batch_scorer import BatchScorer
from towerrec.nn.negatives import Negatives, NoNegatives
from towerrec.ragged import UserItems
from towerrec.schema import Batch, FeatureTable


@dataclass
class Places:
    """A packed table whose only feature is the row's place."""

    idx: Tensor

    @property
    def num_rows(self) -> int:
        return len(self.idx)

    def gather(self, idx_B: Tensor) -> Places:
        return Places(self.idx[idx_B])

    def to(self, device: Any) -> Places:
        return Places(self.idx.to(device))


class Vectors(nn.Module):
    """The part of `TwoTower` that a `BatchScorer` uses."""

    reads_history = False
    profile = None
    user_tower = item_tower = SimpleNamespace(reads_context=False)

    def __init__(self, users_UV: Tensor, items_IV: Tensor) -> None:
        super().__init__()
        self.users, self.items = nn.Parameter(users_UV), nn.Parameter(items_IV)

    @property
    def device(self) -> torch.device:
        return self.users.device

    def pack(self, side: str, table: FeatureTable) -> Places:
        return Places(torch.arange(table.num_rows))

    def user_vectors(self, packed: Places, *, history_RH: Tensor | None = None, profile: Any = None) -> Tensor:
        return self.users[packed.idx]

    def item_vectors(self, packed: Places, *, context: Any = None) -> Tensor:
        return self.items[packed.idx]


def scorer_of(
    model: Vectors,
    negatives: Negatives | None = None,
    *,
    item_counts: Tensor | None = None,
    known: UserItems | None = None,
    views: Tensor | None = None,
    skips: UserItems | None = None,
) -> BatchScorer:
    num_users, num_items = len(model.users), len(model.items)
    return BatchScorer(
        model,  # type: ignore[arg-type]
        users=FeatureTable({}, num_users),
        items=FeatureTable({}, num_items),
        item_counts=torch.ones(num_items) if item_counts is None else item_counts,
        known=UserItems.empty(num_users=num_users, num_items=num_items) if known is None else known,
        negatives=NoNegatives() if negatives is None else negatives,
        views=views,
        skips=skips,
    )


def batch_of(user: Tensor, item: Tensor, *, label: Tensor | None = None, weight: Tensor | None = None) -> Batch:
    ones = torch.ones(len(user))
    return Batch(user, item, ones if label is None else label, ones if weight is None else weight)
