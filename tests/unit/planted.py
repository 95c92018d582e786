"""A small log whose tastes are known: users of a group like the items of that group."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import lightning as L
import torch
from torch import Tensor

from towerrec.data.loader import BatchLoader, UserLoader
from towerrec.data.rows import Rows
from towerrec.module import RetrievalModule
from towerrec.nn.losses import BCE, LabelFacts, Loss
from towerrec.nn.negatives import Negatives, NoNegatives
from towerrec.nn.profile import UserProfiles
from towerrec.optim import Adam, Constant, OptimizerSettings, Schedule
from towerrec.positive import positive_mask
from towerrec.ragged import UserItems
from towerrec.resident import RankingTask, Resident
from towerrec.schema import FIRST, FeatureSchema, FeatureSpec, FeatureTable

NUM_USERS, NUM_ITEMS, NUM_GROUPS = 120, 80, 8


def schema_of(num_users: int = NUM_USERS, num_items: int = NUM_ITEMS) -> FeatureSchema:
    return FeatureSchema(
        (
            FeatureSpec("user_id", "user", "categorical", cardinality=num_users + FIRST),
            FeatureSpec("activity", "user", "categorical", cardinality=5),
            FeatureSpec("fans", "user", "numeric"),
            FeatureSpec("item_id", "item", "categorical", cardinality=num_items + FIRST),
            FeatureSpec("author", "item", "categorical", cardinality=7),
            FeatureSpec("tags", "item", "multi", cardinality=6, width=3),
            FeatureSpec("text", "item", "vector", width=4),
        ),
        num_users,
        num_items,
    )


def tables_of(num_users: int = NUM_USERS, num_items: int = NUM_ITEMS) -> tuple[FeatureTable, FeatureTable]:
    draw = torch.Generator().manual_seed(5)
    users = FeatureTable(
        {
            "user_id": torch.arange(num_users) + FIRST,
            "activity": torch.randint(1, 5, (num_users,), generator=draw),
            "fans": torch.randn(num_users, generator=draw),
        },
        num_users,
    )
    items = FeatureTable(
        {
            "item_id": torch.arange(num_items) + FIRST,
            "author": torch.randint(1, 7, (num_items,), generator=draw),
            "tags": torch.randint(0, 6, (num_items, 3), generator=draw),
            "text": torch.randn(num_items, 4, generator=draw),
        },
        num_items,
    )
    return users, items


@dataclass
class Planted:
    """All user-item pairs, half of them in training; liked where the groups agree."""

    train: Rows
    held_out: Rows

    @classmethod
    def make(cls, seed: int = 0) -> Planted:
        draw = torch.Generator().manual_seed(seed)
        user = torch.arange(NUM_USERS).repeat_interleave(NUM_ITEMS)
        item = torch.arange(NUM_ITEMS).repeat(NUM_USERS)
        label = (user % NUM_GROUPS == item % NUM_GROUPS).float()
        train = torch.rand(len(user), generator=draw) < 0.5
        return cls(cls._rows(user, item, label, train), cls._rows(user, item, label, ~train))

    @staticmethod
    def _rows(user: Tensor, item: Tensor, label: Tensor, keep: Tensor) -> Rows:
        return Rows(user[keep].int(), item[keep].int(), label[keep], torch.zeros(int(keep.sum()), dtype=torch.int64))


def pairs_of(rows: Rows, rule: str | None = "> 0") -> UserItems:
    keep = slice(None) if rule is None else positive_mask(rows.label, rule)
    return UserItems.from_pairs(rows.user_idx[keep], rows.item_idx[keep], num_users=NUM_USERS, num_items=NUM_ITEMS)


def profiles_of(rows: Rows, kind: str = "rows") -> UserProfiles | None:
    """What `Prepared.profiles` makes of these rows."""
    if kind == "none":
        return None
    keep = slice(None) if kind == "rows" else rows.label > 0
    user, item, label = rows.user_idx[keep], rows.item_idx[keep], rows.label[keep]
    values = (label > 0).float()
    return UserProfiles(UserItems.from_pairs(user, item, num_users=NUM_USERS, num_items=NUM_ITEMS, values=values))


def module_of(
    planted: Planted,
    *,
    loss: Loss | None = None,
    negatives: Negatives | None = None,
    optimizer: OptimizerSettings | None = None,
    scheduler: Schedule | None = None,
    model: dict[str, Any] | None = None,
    seed: int = 0,
    micro_batch: int | None = None,
) -> RetrievalModule:
    loss = BCE() if loss is None else loss
    torch.manual_seed(seed)
    module = RetrievalModule(
        schema=schema_of().to_dict(),
        model={"embedding_dim": 16, "user_hidden": [16], "item_hidden": [16], **(model or {})},
        loss=loss,
        negatives=NoNegatives() if negatives is None else negatives,
        optimizer=Adam(lr=0.02) if optimizer is None else optimizer,
        scheduler=Constant() if scheduler is None else scheduler,
        ks=[10],
        seed=seed,
        settings={"name": "planted"},
        micro_batch=micro_batch,
    )
    rows = planted.train
    kept = rows.label if loss.rows == "all" else rows.label[rows.label > 0]
    compared = next((part.rows for part in loss.objectives if part.compares == "batch"), loss.rows)
    items = rows.item_idx if compared == "all" else rows.item_idx[rows.label > 0]
    users_table, items_table = tables_of()
    resident = Resident(
        users=users_table,
        items=items_table,
        item_counts=torch.bincount(items, minlength=NUM_ITEMS),
        known=pairs_of(rows),
        labels=LabelFacts(float(kept.mean()), float(kept.min()), float(kept.max())),
        views=torch.bincount(rows.item_idx, minlength=NUM_ITEMS),
        skips=pairs_of(rows, None).without(pairs_of(rows)),
        profiles=profiles_of(rows, module.model.profile_kind),
        tasks={"val": RankingTask(pairs_of(planted.held_out), exclude=pairs_of(rows, None))},
    )
    module.attach(resident)
    return module


def train_loader(planted: Planted, module: RetrievalModule, *, batch_size: int = 256, seed: int = 0) -> BatchLoader:
    return BatchLoader(
        planted.train, batch_size=batch_size, shuffle=True, seed=seed, kind=module.loss.rows, positive="> 0"
    )


def val_loaders(planted: Planted) -> list[UserLoader | BatchLoader]:
    users = pairs_of(planted.held_out).counts.nonzero()[:, 0]
    return [UserLoader(users, batch_size=50), BatchLoader(planted.held_out, batch_size=1000)]


def trainer_of(**keywords: Any) -> L.Trainer:
    quiet = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "num_sanity_val_steps": 0,
    }
    return L.Trainer(**{**quiet, **keywords})
