"""The data side of Lightning: prepares the log once and hands out loaders."""

from __future__ import annotations

import copy
import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import lightning as L
import torch
from torch import Tensor

from towerrec.data.audit import audit
from towerrec.data.audit_findings import Finding
from towerrec.data.block_loader import BlockLoader
from towerrec.data.catalogue import train_history
from towerrec.data.cleaning import Cleaning
from towerrec.data.history import UserHistory
from towerrec.data.labels import Label
from towerrec.data.learning_rows import Learning
from towerrec.data.loader import BatchLoader, UserLoader
from towerrec.data.memory import BYTES_PER_ROW, memory_limit
from towerrec.data.past import Past
from towerrec.data.prepare import Prepared, prepare
from towerrec.data.rows import Rows
from towerrec.data.splits import Split
from towerrec.data.store import InteractionStore
from towerrec.data.tables import Source
from towerrec.data.user_batches import UserBatchLoader
from towerrec.positive import positive_mask

log = logging.getLogger(__name__)

UNITS = ("rows", "users")
BUFFER_ROWS = 1 << 21
"""Rows of a pool where the rows of a log that does not fit into memory stay on disk and nothing else is said."""


class RetrievalDataModule(L.LightningDataModule):
    """Loaders of whole batches over a prepared log.

    Validation and test hand out two loaders: chunks of users (int64 [B]) that have a positive there, for ranking, and
    batches of rows, for pointwise errors.

    Args:
        source: Where the tables come from.
        split: Which rows teach, tune and judge.
        label: What is learnt.
        features: The `features` group of the config, plain builtins.
        cache_dir: Holds prepared logs.
        cleaning: Which rows leave the log; None takes every default.
        batch_size: Training rows (or users, see `unit`) per step and process.
        eval_users: Users ranked at once.
        eval_rows: Rows predicted at once.
        history_length: Recent positives handed over with each row.
        unit: What `batch_size` counts: `rows`, or `users` with all their rows.
        target_share: With `unit="users"`, see `UserBatchLoader`.
        resident: Keep the rows on the training device; None: on a GPU whose free memory holds them three times.
        buffer_rows: Leave the training rows on disk and pool so many in memory (`BlockLoader`); None: where half of the
            memory there is would not hold what training makes of them.
        rows: Train on `all` rows, or only on the `positives`.
        positive: Rule of a positive in validation and test; None takes the label's.
        seed: Of the order of training rows.
        past: An earlier run that the log goes on after, see `prepare.prepare`.
        learning: Which training rows are learnt from then; None: all.

    Raises:
        ValueError: A unit that is none.
    """

    def __init__(
        self,
        *,
        source: Source,
        split: Split,
        label: Label,
        features: Mapping[str, Any],
        cache_dir: str,
        cleaning: Cleaning | None = None,
        batch_size: int = 4096,
        eval_users: int = 1024,
        eval_rows: int = 65536,
        history_length: int = 0,
        unit: str = "rows",
        target_share: float = 0.5,
        resident: bool | None = None,
        buffer_rows: int | None = None,
        rows: str = "all",
        positive: str | None = None,
        seed: int = 0,
        past: Past | None = None,
        learning: Learning | None = None,
    ) -> None:
        super().__init__()
        if unit not in UNITS:
            raise ValueError(f"loader.unit must be {' or '.join(UNITS)}, got {unit!r}")
        self._inputs: dict[str, Any] = {
            "source": source,
            "split": split,
            "label": label,
            "features": dict(features),
            "cache_dir": cache_dir,
            "cleaning": cleaning,
            "past": past,
        }
        self._learning = learning
        self._learnt: Rows | None = None
        self.save_hyperparameters(
            {
                "batch_size": batch_size,
                "eval_users": eval_users,
                "eval_rows": eval_rows,
                "history_length": history_length,
                "unit": unit,
                "target_share": target_share,
                "resident": resident,
                "buffer_rows": buffer_rows,
                "rows": rows,
                "positive": positive,
                "seed": seed,
            }
        )
        self._prepared: Prepared | None = None
        self._history: UserHistory | None = None

    @property
    def prepared(self) -> Prepared:
        """The prepared log; made on first use."""
        if self._prepared is None:
            made = prepare(**self._inputs)
            pooled = self._pools_rows(made.store)
            if pooled and self._inputs["past"] is not None:
                raise ValueError(
                    "continue_from: the rows of this log stay on disk (loader.buffer_rows), and a run goes on with "
                    "rows in memory: give the new days alone, set loader.resident=true, or train anew"
                )
            self._prepared = replace(made, store=replace(made.store, on_disk=True)) if pooled else made
        return self._prepared

    def audit(self) -> list[Finding]:
        """The leak audit of the prepared log, see `audit.audit`."""
        inputs = {name: value for name, value in self._inputs.items() if name != "cache_dir"}
        return audit(self.prepared, **inputs)

    def _pools_rows(self, store: InteractionStore) -> bool:
        """Whether the training rows stay on disk; one line says so where that was not asked for."""
        if self.hparams["buffer_rows"] is not None or self.hparams["resident"]:
            return not self.hparams["resident"]
        # Not by what is free now: the order of the rows depends on the answer, and all processes must find the same.
        needed, limit = BYTES_PER_ROW * store.num_rows("train"), memory_limit()
        if 2 * needed <= limit:
            return False
        log.info(
            f"training on {store.num_rows('train'):,} rows would take about {needed / 2**30:.1f} GiB of memory, there "
            f"are {limit / 2**30:.1f}: they stay on disk, {BUFFER_ROWS:,} of them in memory (loader.buffer_rows)"
        )
        return True

    def joined(self) -> RetrievalDataModule:
        """The same loaders over the log whose validation rows are training rows too (`Prepared.joined`)."""
        other = copy.copy(self)
        other._prepared, other._history, other._learnt = self.prepared.joined(), None, None
        return other

    @property
    def learns_from_all(self) -> bool:
        """Whether training learns from the training rows of the log and no others."""
        learning, store = self._learning, self.prepared.store
        return learning is None or (not learning.reads_earlier(store) and learning.places(store) is None)

    def learnt_rows(self) -> Rows:
        """The rows that are learnt from."""
        if self._learnt is None:
            store, learning = self.prepared.store, self._learning
            self._learnt = store.rows("train") if learning is None else learning.rows(self.prepared, store)
        return self._learnt

    @property
    def num_learnt(self) -> int:
        """How many they are."""
        return self.prepared.store.num_rows("train") if self.learns_from_all else len(self.learnt_rows())

    def item_counts(self, *, rule: str | None = None) -> Tensor:
        """Rows of every item that are learnt from, int64 [I]; with `rule` only those whose label passes it."""
        store = self.prepared.store
        if self.learns_from_all:
            return store.item_counts("train", rule=rule)
        rows = self.learnt_rows()
        kept = rows.item_idx if rule is None else rows.item_idx[positive_mask(rows.label, rule)]
        return torch.bincount(kept.long(), minlength=store.num_items)

    @property
    def positive(self) -> str:
        """The rule of a positive in validation and test."""
        given: str | None = self.hparams["positive"]
        return self.prepared.positive if given is None else given

    @property
    def history(self) -> UserHistory:
        """Training positives of every user."""
        if self._history is None:
            self._history = train_history(self.prepared.store, self.prepared.positive)
        return self._history

    def prepare_data(self) -> None:
        """Fill the cache (one process per machine)."""
        prepare(**self._inputs)

    def setup(self, stage: str) -> None:
        """Open the cache (every process)."""
        assert self.prepared.schema.num_users > 0

    def train_dataloader(self) -> BatchLoader | BlockLoader:
        """Batches of training rows in an order that each epoch draws anew."""
        hparams = self.hparams
        if self.prepared.store.on_disk:
            return self._block_loader()
        if hparams["unit"] == "rows":
            return self._row_loader("train", hparams["batch_size"], shuffle=True, kind=hparams["rows"])
        if hparams["history_length"] > 0:
            raise ValueError("loader.unit=users: a batch of users has no moment, set loader.history_length=0")
        return UserBatchLoader(
            self._placed(self.learnt_rows()),
            batch_size=hparams["batch_size"],
            target_share=hparams["target_share"],
            seed=hparams["seed"],
            kind=hparams["rows"],
            positive=self.prepared.positive,
            rank=self._rank,
            world_size=self._world_size,
        )

    def _block_loader(self) -> BlockLoader:
        hparams = self.hparams
        if hparams["unit"] != "rows":
            raise ValueError(
                "loader.unit=users draws users from the whole log in memory, but its rows stay on disk "
                "(loader.buffer_rows): choose a loss that reads rows, such as loss=bce or loss=in_batch_softmax, and "
                "loader.unit=rows, or give loader.resident=true more memory"
            )
        length: int = hparams["history_length"]
        step = hparams["batch_size"] * self._world_size
        return BlockLoader(
            self.prepared.store,
            batch_size=hparams["batch_size"],
            buffer_rows=hparams["buffer_rows"] or max(BUFFER_ROWS, step),
            seed=hparams["seed"],
            kind=hparams["rows"],
            positive=self.prepared.positive,
            history=self.history.to(self._device) if length > 0 else None,
            history_length=length,
            rank=self._rank,
            world_size=self._world_size,
            device=self._device,
        )

    def val_dataloader(self) -> list[UserLoader | BatchLoader]:
        """Users with a validation positive, and validation rows; nothing where the split has no validation rows."""
        return self.eval_loaders("val")

    def test_dataloader(self) -> list[UserLoader | BatchLoader]:
        """Users with a test positive, and test rows."""
        return self.eval_loaders("test")

    def eval_loaders(self, split: str) -> list[UserLoader | BatchLoader]:
        """The two loaders of a held-out split, an empty list where it has no rows."""
        if self.prepared.store.num_rows(split) == 0:
            return []
        users = UserLoader(
            self.users_with_positives(split),
            batch_size=self.hparams["eval_users"],
            rank=self._rank,
            world_size=self._world_size,
        )
        return [users, self._row_loader(split, self.hparams["eval_rows"], shuffle=False, kind="all")]

    def users_with_positives(self, split: str) -> Tensor:
        """Users that can be judged by a split, ascending, int64 [U]."""
        return self.prepared.store.positives(split, self.positive).counts.nonzero()[:, 0]

    def _row_loader(self, split: str, batch_size: int, *, shuffle: bool, kind: str) -> BatchLoader:
        length: int = self.hparams["history_length"]
        rows = self._placed(self.learnt_rows() if split == "train" else self.prepared.store.rows(split))
        return BatchLoader(
            rows,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=self.hparams["seed"],
            kind=kind,
            positive=self.prepared.positive,
            history=self.history.to(rows.label.device) if length > 0 else None,
            history_length=length,
            rank=self._rank,
            world_size=self._world_size,
        )

    def _placed(self, rows: Rows) -> Rows:
        device = self._device
        resident: bool | None = self.hparams["resident"]
        if resident is None:
            resident = device.type == "cuda" and 3 * rows.num_bytes < torch.cuda.mem_get_info(device)[0]
        return rows.to(device) if resident else rows

    @property
    def _device(self) -> torch.device:
        return torch.device("cpu") if self.trainer is None else self.trainer.strategy.root_device

    @property
    def _rank(self) -> int:
        return 0 if self.trainer is None else self.trainer.global_rank

    @property
    def _world_size(self) -> int:
        return 1 if self.trainer is None else self.trainer.world_size
