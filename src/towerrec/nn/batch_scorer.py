"""From a batch of indices to what the loss reads: rows gathered from resident tables, encoded once each.

Shape letters: B rows of a batch, G groups (distinct users, or rows), C candidates, I items, V width of the vectors,
N rows of a table.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from towerrec.nn.embedding import PackedFeatures
from towerrec.nn.losses import Loss, Scored
from towerrec.nn.negatives import Candidates, KnownPairs, Negatives, distinct, log_q
from towerrec.nn.two_tower import TwoTower
from towerrec.ragged import UserItems
from towerrec.schema import Batch, FeatureTable

# On an accelerator a table of up to this many times the batch is encoded whole: that needs no distinct rows, whose
# number the host would have to wait for.
_WHOLE_TABLE = 4


class BatchScorer:
    """The towers over the two feature tables of a log.

    Static rows are evaluated once per distinct user and item of a batch; rows with a context or a history one by one.

    Args:
        model: The two towers.
        users: Encoded users.
        items: Encoded items.
        item_counts: Training rows (of the kind the loss reads) of every item.
        known: Training positives of every user.
        batch_size: Rows of a batch, which the sampling correction counts with.
        negatives: Where further candidates come from.
    """

    def __init__(
        self,
        model: TwoTower,
        *,
        users: FeatureTable,
        items: FeatureTable,
        item_counts: Tensor,
        known: UserItems,
        batch_size: int,
        negatives: Negatives,
    ) -> None:
        self.model = model
        self.negatives = negatives
        self.users = model.pack("user", users)
        self.items = model.pack("item", items)
        self.known = KnownPairs(known)
        self.log_q_I = log_q(item_counts, batch_size=batch_size, shared=negatives.shared)

    def to(self, device: torch.device) -> BatchScorer:
        """Move the tables (not the model) to a device."""
        self.users, self.items = self.users.to(device), self.items.to(device)
        self.known = self.known.to(device)
        self.log_q_I = self.log_q_I.to(device)
        return self

    def scored(self, batch: Batch, loss: Loss) -> Scored:
        """Encode what `loss` needs of a batch, sampled negatives included."""
        scored = self._scored_users(batch)
        if loss.compares == "rows":
            self._pointwise(scored, batch)
        elif loss.compares == "catalogue":
            self._catalogue(scored, batch)
        else:
            self._batch(scored, batch, corrected=loss.corrects_sampling)
        return scored

    def scored_rows(self, batch: Batch) -> Scored:
        """Encode the rows themselves, without negatives."""
        scored = self._scored_users(batch)
        scored.item_BV = self._items(batch.item_idx, batch)
        return scored

    def _scored_users(self, batch: Batch) -> Scored:
        """The user side; the items are filled in by what follows."""
        user_GV, user_idx_G, group_B = self._users(batch)
        return Scored(
            user_GV=user_GV,
            user_idx_G=user_idx_G,
            group_B=group_B,
            item_BV=user_GV,
            item_idx_B=batch.item_idx,
            label_B=batch.label,
            weight_B=batch.weight,
        )

    def user_vectors(self, user_idx_B: Tensor, history_BH: Tensor | None = None) -> Tensor:
        """Vectors of users without a context [B, V]."""
        return self.model.user_vectors(self.users.gather(user_idx_B), history_RH=history_BH)

    def item_vectors(self, context: dict[str, Tensor] | None = None, *, chunk: int = 65536) -> Tensor:
        """Vectors of the whole catalogue [I, V]; `context` holds a value per item."""
        parts = []
        for idx_R in torch.arange(self.items.num_rows, device=self.model.device).split(chunk):
            part = {name: column[idx_R] for name, column in (context or {}).items()}
            parts.append(self.model.item_vectors(self.items.gather(idx_R), context=part))
        return torch.cat(parts)

    def _users(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of the groups, their users, and the group of every row."""
        model = self.model
        rows = _rows(batch.user_idx, self.users.num_rows)
        if model.user_tower.reads_context or model.reads_history:
            vectors = model.user_vectors(
                _gather(self.users, rows), context=batch.user_context, history_RH=batch.history, at_R=rows.group_B
            )
            return vectors, batch.user_idx, torch.arange(len(batch), device=vectors.device)
        return model.user_vectors(_gather(self.users, rows)), rows.idx_G, rows.group_B

    def _items(self, item_idx_B: Tensor, batch: Batch) -> Tensor:
        """Vectors [B', V] of the batch's items and of sampled ones behind them, which have no context."""
        if self.model.item_tower.reads_context:
            sampled = item_idx_B[len(batch) :]
            rows = _rows(batch.item_idx, self.items.num_rows)
            vectors = self.model.item_vectors(_gather(self.items, rows), context=batch.item_context, at_R=rows.group_B)
            return vectors if len(sampled) == 0 else torch.cat([vectors, self._without_context(sampled)])
        rows = _rows(item_idx_B, self.items.num_rows)
        return self.model.item_vectors(_gather(self.items, rows)).index_select(0, rows.group_B)

    def _without_context(self, item_idx_B: Tensor) -> Tensor:
        return self.model.item_vectors(self.items.gather(item_idx_B))

    def _pointwise(self, scored: Scored, batch: Batch) -> None:
        """Rows of the batch and, behind them, sampled negatives with label 0."""
        sampled_BM = self.negatives.for_rows(batch.item_idx, self.items.num_rows)
        if sampled_BM is None:
            scored.item_BV = self._items(batch.item_idx, batch)
            return
        per_row = sampled_BM.shape[1]
        sampled = sampled_BM.reshape(-1)
        user = batch.user_idx.repeat_interleave(per_row)
        # A sampled item that the user is known to like is no negative.
        weight = batch.weight.repeat_interleave(per_row) * ~self.known.contains(user, sampled)
        scored.group_B = torch.cat([scored.group_B, scored.group_B.repeat_interleave(per_row)])
        scored.item_idx_B = torch.cat([batch.item_idx, sampled])
        scored.label_B = torch.cat([batch.label, torch.zeros_like(weight)])
        scored.weight_B = torch.cat([batch.weight, weight])
        scored.item_BV = self._items(scored.item_idx_B, batch)

    def _catalogue(self, scored: Scored, batch: Batch) -> None:
        all_IV = self.item_vectors()
        scored.candidates = Candidates(all_IV, torch.arange(all_IV.shape[0], device=all_IV.device))
        reads_context = self.model.item_tower.reads_context
        scored.item_BV = self._items(batch.item_idx, batch) if reads_context else all_IV[batch.item_idx]

    def _batch(self, scored: Scored, batch: Batch, *, corrected: bool) -> None:
        """Distinct items of the batch and the shared negatives compete, each as often as it was drawn."""
        shared = self.negatives.for_batch(self.items.num_rows, batch.item_idx.device)
        drawn = batch.item_idx if shared is None else torch.cat([batch.item_idx, shared])
        num_items = self.items.num_rows
        if self.model.item_tower.reads_context:
            vectors = self._items(drawn, batch)
            scored.item_BV = vectors[: len(batch)]
            idx_C, column = distinct(drawn, num_items)
            # The candidate takes the context of one of its draws.
            draw_C = torch.zeros_like(idx_C)
            draw_C[column] = torch.arange(len(drawn), device=column.device)
            item_CV = vectors.index_select(0, draw_C)
        else:
            rows = _rows(drawn, num_items, unique=True)
            idx_C, column = rows.idx_G, rows.group_B
            item_CV = self.model.item_vectors(_gather(self.items, rows))
            scored.item_BV = item_CV.index_select(0, column[: len(batch)])
        count_C = torch.zeros(idx_C.shape[0], device=idx_C.device)
        count_C.index_add_(0, column, torch.ones_like(column, dtype=torch.float32))
        scored.candidates = Candidates(
            item_CV, idx_C, log_q_C=self.log_q_I[idx_C] if corrected else None, log_count_C=count_C.log()
        )


@dataclass
class _Rows:
    """Which rows of a table to encode (`whole`: all of them), and where each element of the batch finds its row."""

    idx_G: Tensor
    group_B: Tensor
    whole: bool


def _rows(idx_B: Tensor, num_rows: int, *, unique: bool = False) -> _Rows:
    if idx_B.device.type != "cpu":
        if num_rows <= _WHOLE_TABLE * idx_B.shape[0]:
            return _Rows(torch.arange(num_rows, device=idx_B.device), idx_B, whole=True)
        if not unique:
            return _Rows(idx_B, torch.arange(idx_B.shape[0], device=idx_B.device), whole=False)
    return _Rows(*distinct(idx_B, num_rows), whole=False)


def _gather(table: PackedFeatures, rows: _Rows) -> PackedFeatures:
    return table if rows.whole else table.gather(rows.idx_G)
