"""A trained model over the tables of a run: vectors of users and items, and the scores of single rows.

Shape letters: B users of a chunk, I items, R rows, V width of the vectors, H history length.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch import device as Device

from towerrec import distributed, progress
from towerrec.data.artefacts import EncodedTables
from towerrec.data.catalogue import Catalogue
from towerrec.data.history import UserHistory
from towerrec.data.loader import BatchLoader
from towerrec.data.rows import Rows
from towerrec.nn.ensemble import Model, without_biases
from towerrec.nn.profile import Profile, UserProfiles
from towerrec.nn.two_tower import score
from towerrec.ragged import UserItems
from towerrec.retrieval.exported_model import ExportedModel
from towerrec.retrieval.prior import with_column


@dataclass(frozen=True)
class Moment:
    """When lists are asked for: `None` knows no hour and weekday and takes items as old as at the end of training."""

    at_ms: int | None = None

    def item_context(self, tables: EncodedTables, device: Device) -> dict[str, Tensor]:
        at = tables.as_of_ms if self.at_ms is None else self.at_ms
        if at is None:
            return {}
        moments = np.full(tables.items.num_rows, at, dtype=np.int64)
        columns = tables.encoders.item_context(moments, tables.item_days, tables.item_recent)
        return {name: torch.from_numpy(column).long().to(device) for name, column in columns.items()}


def user_context(tables: EncodedTables, at_ms_B: Tensor, device: Device) -> dict[str, Tensor]:
    """Hour and weekday of the moments of some requests, int64 [B] each; unknown where one is `NO_TIMESTAMP`."""
    columns = tables.encoders.user_context(at_ms_B.cpu().numpy())
    return {name: torch.from_numpy(column).long().to(device) for name, column in columns.items()}


class TowerScores:
    """Vectors of a model in evaluation mode.

    Args:
        model: The two towers, of a run or of an exported folder.
        tables: Encoded users and items.
        history: Training positives of the users, read by models with a history.
        history_length: Positives handed over per user.
        profiles: Training rows of the users, read by models with a profile.
        device: Where to compute.
        moment: When lists are asked for.
    """

    def __init__(
        self,
        model: Model | ExportedModel,
        tables: EncodedTables,
        *,
        history: UserHistory,
        history_length: int,
        profiles: UserItems | None = None,
        device: Device,
        moment: Moment = Moment(),
    ) -> None:
        self.model: Model | ExportedModel = model.to(device).eval()
        self.tables = tables
        self.device = device
        self.moment = moment
        self.history = history.to(device) if model.reads_history else None
        self.history_length = history_length
        assert model.profile is None or profiles is not None, "a model with a profile comes with its catalogue"
        self.profiles = None
        if model.profile is not None and profiles is not None:
            self.profiles = UserProfiles(profiles).to(device)
        self._dial_I: Tensor | None = None
        self._rows_of: tuple[Tensor, Tensor] | None = None
        # What a model packs, it reads again: `PackedFeatures`, or `Columns` of an exported one.
        self._users: Any = model.pack("user", tables.users.to(device))
        self._items: Any = model.pack("item", tables.items.to(device))
        self._profile_IV = None if self.profiles is None else self._vectors({})

    def at(self, moment: Moment) -> TowerScores:
        """The same model, asked at another moment."""
        other = copy.copy(self)
        other.moment = moment
        return other

    def for_users(self, catalogue: Catalogue) -> TowerScores:
        """The same model and items over the users of another catalogue, with what these did."""
        other = copy.copy(self)
        other.tables = catalogue
        other._users = self.model.pack("user", catalogue.users.to(self.device))
        other.history = None if self.history is None else catalogue.history.to(self.device)
        if self.profiles is not None and catalogue.profiles is not None:
            other.profiles = UserProfiles(catalogue.profiles).to(self.device)
        return other

    def for_items(self, catalogue: Catalogue) -> TowerScores:
        """The same model and users over the items of another catalogue, which has those of this one first."""
        other = copy.copy(self)
        other.tables = catalogue
        other._items = self.model.pack("item", catalogue.items.to(self.device))
        if self.profiles is not None and catalogue.profiles is not None:
            other.profiles = UserProfiles(catalogue.profiles).to(self.device)
            other._profile_IV = other._vectors({})
        return other

    def with_dial(self, dial_I: Tensor) -> TowerScores:
        """The same model, whose vectors add `dial_I` to the score of every item; scores of rows stay as they are."""
        other = copy.copy(self)
        other._dial_I = dial_I
        return other

    def asked_by(self, user_row_U: Tensor, item_row_I: Tensor) -> TowerScores:
        """The same model, asked in the rows of another log's tables: which of its own rows stand for theirs."""
        other = copy.copy(self)
        other._rows_of = user_row_U, item_row_I
        return other

    @torch.inference_mode()
    def items(self, *, batch: int = 65536) -> Tensor:
        """Vectors of all items, float32 [I, V]."""
        vectors_IV = self._vectors(self.moment.item_context(self.tables, self.device), batch=batch)
        if self._rows_of is not None:
            vectors_IV = vectors_IV[self._rows_of[1].to(self.device)]
        return vectors_IV if self._dial_I is None else with_column(vectors_IV, self._dial_I)

    def directions(self) -> Tensor:
        """What the item tower says of every item, float32 [I, D]: vectors without biases (and without the column of
        ones that meets those of the users and would make all items alike), and without a dial."""
        undialled = copy.copy(self)
        undialled._dial_I = None
        return without_biases(self.model, undialled.items())

    @torch.inference_mode()
    def _vectors(self, context: dict[str, Tensor], *, batch: int = 65536) -> Tensor:
        parts = []
        for idx in torch.arange(self._items.num_rows, device=self.device).split(batch):
            part = {name: column[idx] for name, column in context.items()}
            parts.append(self.model.item_vectors(self._items.gather(idx), context=part))
        return torch.cat(parts).float()

    def _profile(self, user_idx_B: Tensor) -> Profile | None:
        if self.profiles is None:
            return None
        assert self._profile_IV is not None
        return self.profiles.of(user_idx_B, self._profile_IV)

    @torch.inference_mode()
    def users(self, user_idx_B: Tensor, at_ms_B: Tensor | None = None) -> Tensor:
        """Vectors of some rows of the user table, float32 [B, V].

        Args:
            user_idx_B: The rows.
            at_ms_B: When each of them asks, int64, `NO_TIMESTAMP` where that is not known; None: all at the one moment.
        """
        if self._rows_of is not None:
            user_idx_B = self._rows_of[0][user_idx_B.cpu()]
        idx = user_idx_B.to(self.device)
        if at_ms_B is None and self.moment.at_ms is not None:
            at_ms_B = torch.full((len(idx),), self.moment.at_ms)
        history = None if self.history is None else self.history.latest(idx, length=self.history_length)
        context = {} if at_ms_B is None else user_context(self.tables, at_ms_B, self.device)
        vectors_BV = self.model.user_vectors(
            self._users.gather(idx), context=context, history_RH=history, profile=self._profile(idx)
        ).float()
        return vectors_BV if self._dial_I is None else with_column(vectors_BV, 1.0)

    @torch.inference_mode()
    def rows(self, rows: Rows, *, batch: int = 65536) -> Tensor:
        """Score of every row in its own context, float32 [R], on the CPU."""
        rows = rows if self._rows_of is None else self._own(rows, *self._rows_of)
        loader = BatchLoader(
            rows,
            batch_size=batch,
            history=None if self.history is None else self.history.to(rows.label.device),
            history_length=self.history_length if self.history is not None else 0,
        )
        parts = []
        for on_cpu in progress.each(loader, "predicting rows", len(loader)):
            b = on_cpu.to(self.device)
            user_G, user_B = torch.unique(b.user_idx, return_inverse=True)
            item_G, item_B = torch.unique(b.item_idx, return_inverse=True)
            users = self.model.user_vectors(
                self._users.gather(user_G),
                context=b.user_context,
                history_RH=b.history,
                at_R=user_B,
                profile=self._profile(user_G),
            )
            items = self.model.item_vectors(self._items.gather(item_G), context=b.item_context, at_R=item_B)
            parts.append(score(users, items).float().cpu())
        return torch.cat(parts) if parts else torch.zeros(0)

    def _own(self, rows: Rows, user_row_U: Tensor, item_row_I: Tensor) -> Rows:
        """Rows of another log in rows of the own tables, their moments encoded as the own training had them.

        Popularity of the moment is that at the end of training: the model has seen nothing since.
        """
        encoders, times = self.tables.encoders, rows.timestamp_ms.numpy()
        user_idx, item_idx = user_row_U[rows.user_idx.long()], item_row_I[rows.item_idx.long()]
        days = {name: days[item_idx.numpy()] for name, days in self.tables.item_days.items()}
        recent = {name: values[item_idx.numpy()] for name, values in self.tables.item_recent.items()}
        contexts = encoders.user_context(times), encoders.item_context(times, days, recent)
        user_context, item_context = ({n: torch.from_numpy(c) for n, c in context.items()} for context in contexts)
        return replace(rows, user_idx=user_idx, item_idx=item_idx, user_context=user_context, item_context=item_context)


def torch_device(name: str) -> torch.device:
    """`auto` is CUDA where there is one; of several processes each takes its own.

    Raises:
        ValueError: If the device is unknown or not there.
    """
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    if name == "cuda" and torch.cuda.is_available():
        # Of several processes on a machine each has a device of its own.
        name = f"cuda:{distributed.local_rank() % torch.cuda.device_count()}"
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise ValueError(f"device={name} is not known: use auto, cpu, cuda or cuda:1") from error
    if device.type == "cuda" and not torch.cuda.is_available():
        raise ValueError(f"device={name}: this machine has no CUDA device that torch can use; use device=cpu")
    return device
