"""A trained model over the tables of a run: vectors of users and items, and the scores of single rows.

Shape letters: B users of a chunk, I items, R rows, V width of the vectors, H history length.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor
from torch import device as Device

from towerrec.data.artefacts import EncodedTables
from towerrec.data.history import UserHistory
from towerrec.data.loader import BatchLoader
from towerrec.data.store import Rows
from towerrec.nn.two_tower import TwoTower, score
from towerrec.schema import FeatureTable


@dataclass(frozen=True)
class Moment:
    """When lists are asked for: `None` knows no hour and weekday and takes items as old as at the end of training."""

    at_ms: int | None = None

    def user_context(self, tables: EncodedTables, num_rows: int, device: Device) -> dict[str, Tensor]:
        if self.at_ms is None:
            return {}
        columns = tables.encoders.user_context(np.full(1, self.at_ms, dtype=np.int64))
        return {name: torch.from_numpy(c).long().to(device).expand(num_rows) for name, c in columns.items()}

    def item_context(self, tables: EncodedTables, device: Device) -> dict[str, Tensor]:
        at = tables.as_of_ms if self.at_ms is None else self.at_ms
        if at is None:
            return {}
        moments = np.full(tables.items.num_rows, at, dtype=np.int64)
        columns = tables.encoders.item_context(moments, tables.item_days)
        return {name: torch.from_numpy(column).long().to(device) for name, column in columns.items()}


class TowerScores:
    """Vectors of a model in evaluation mode.

    Args:
        model: The two towers.
        tables: Encoded users and items.
        history: Training positives of the users, read by models with a history.
        history_length: Positives handed over per user.
        device: Where to compute.
        moment: When lists are asked for.
    """

    def __init__(
        self,
        model: TwoTower,
        tables: EncodedTables,
        *,
        history: UserHistory,
        history_length: int,
        device: Device,
        moment: Moment = Moment(),
    ) -> None:
        self.model = model.to(device).eval()
        self.tables = tables
        self.device = device
        self.moment = moment
        self.history = history.to(device) if model.reads_history else None
        self.history_length = history_length
        self._users = model.pack("user", tables.users.to(device))
        self._items = model.pack("item", tables.items.to(device))

    @torch.inference_mode()
    def items(self, *, batch: int = 65536) -> Tensor:
        """Vectors of all items, float32 [I, V]."""
        context = self.moment.item_context(self.tables, self.device)
        parts = []
        for idx in torch.arange(self._items.num_rows, device=self.device).split(batch):
            part = {name: column[idx] for name, column in context.items()}
            parts.append(self.model.item_vectors(self._items.gather(idx), context=part))
        return torch.cat(parts).float()

    @torch.inference_mode()
    def users(self, user_idx_B: Tensor) -> Tensor:
        """Vectors of some rows of the user table, float32 [B, V]."""
        idx = user_idx_B.to(self.device)
        history = None if self.history is None else self.history.latest(idx, length=self.history_length)
        context = self.moment.user_context(self.tables, len(idx), self.device)
        return self.model.user_vectors(self._users.gather(idx), context=context, history_RH=history).float()

    @torch.inference_mode()
    def new_users(self, table: FeatureTable) -> Tensor:
        """Vectors of users the log does not know, from their encoded features and an empty history."""
        packed = self.model.pack("user", table.to(self.device))
        empty = torch.full((table.num_rows, self.history_length), -1, device=self.device)
        context = self.moment.user_context(self.tables, table.num_rows, self.device)
        return self.model.user_vectors(
            packed, context=context, history_RH=empty if self.history is not None else None
        ).float()

    @torch.inference_mode()
    def rows(self, rows: Rows, *, batch: int = 65536) -> Tensor:
        """Score of every row in its own context, float32 [R], on the CPU."""
        loader = BatchLoader(
            rows,
            batch_size=batch,
            history=None if self.history is None else self.history.to(rows.label.device),
            history_length=self.history_length if self.history is not None else 0,
        )
        parts = []
        for on_cpu in loader:
            b = on_cpu.to(self.device)
            user_G, user_B = torch.unique(b.user_idx, return_inverse=True)
            item_G, item_B = torch.unique(b.item_idx, return_inverse=True)
            users = self.model.user_vectors(
                self._users.gather(user_G), context=b.user_context, history_RH=b.history, at_R=user_B
            )
            items = self.model.item_vectors(self._items.gather(item_G), context=b.item_context, at_R=item_B)
            parts.append(score(users, items).float().cpu())
        return torch.cat(parts) if parts else torch.zeros(0)


def torch_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one.

    Raises:
        ValueError: If the device is unknown or not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name} is not known: use auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name}: this machine has no CUDA device that torch can use; use device=cpu")
    return device
