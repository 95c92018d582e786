"""From a batch of indices to what the loss reads: the rows, their negatives and candidates, encoded once each.

Shape letters: B rows of a batch, G groups (distinct users, or rows), I items, V width of the vectors, M items drawn for
each row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from towerrec.nn.encoder import TableEncoder, Users
from towerrec.nn.ensemble import Model
from towerrec.nn.in_batch import InBatch
from towerrec.nn.losses import Loss, Scored
from towerrec.nn.negatives import Candidates, KnownPairs, LogFacts, Negatives, Request, distinct
from towerrec.nn.peers import Peers
from towerrec.nn.profile import UserProfiles
from towerrec.positive import positive_mask
from towerrec.ragged import UserItems
from towerrec.schema import Batch, FeatureTable


class BatchScorer:
    """Everything a loss reads of a batch.

    Args:
        model: The two towers.
        users: Encoded users.
        items: Encoded items.
        item_counts: Training rows (of the kind that losses over a batch read) of every item.
        known: Training positives of every user.
        negatives: Where further candidates come from.
        views: Training rows of every item, for sources that need them.
        skips: Items shown to a user and never positive, for sources that need them.
        positive: Rule of a positive, for losses that read all rows and treat positives apart.
        profiles: Training rows of every user, where the model reads them.
        micro_batch: Rows that pass a tower at once; None: all.
    """

    def __init__(
        self,
        model: Model,
        *,
        users: FeatureTable,
        items: FeatureTable,
        item_counts: Tensor,
        known: UserItems,
        negatives: Negatives,
        views: Tensor | None = None,
        skips: UserItems | None = None,
        positive: str = "> 0",
        profiles: UserProfiles | None = None,
        micro_batch: int | None = None,
    ) -> None:
        assert (profiles is None) == (model.profile is None), "profiles go with models that read them"
        self.profiles = profiles
        self.encoder = TableEncoder(model, users, items, micro_batch=micro_batch)
        self.known = KnownPairs(known)
        self.negatives = negatives
        negatives.attach(LogFacts(known, views, skips))
        self.in_batch = InBatch(self.encoder, negatives, item_counts)
        self.positive = positive

    def to(self, device: torch.device) -> BatchScorer:
        """Move the tables (not the model) to a device."""
        self.encoder.to(device)
        self.known = self.known.to(device)
        self.negatives.to(device)
        self.profiles = None if self.profiles is None else self.profiles.to(device)
        self.in_batch.to(device)
        return self

    def share_with(self, peers: Peers) -> None:
        """Training batches are from now on those of several processes, each of which holds some of the rows."""
        self.in_batch.share_with(peers)

    def scored(self, batch: Batch, loss: Loss) -> Scored:
        """Encode what `loss` needs of a batch, sampled negatives included."""
        all_IV = None
        if self.profiles is not None or any(part.compares == "catalogue" for part in loss.objectives):
            all_IV = self.encoder.catalogue()
        users = self.encoder.of_users(batch, self.profiles, all_IV)
        if loss.compares != "parts":
            return self._scored(batch, users, loss, all_IV)
        parts = []
        for part in loss.objectives:
            own = (batch, users) if part.rows == loss.rows else self._positives(batch, users)
            parts.append(self._scored(*own, part, all_IV))
        scored = _of_users(batch, users)
        scored.parts = tuple(parts)
        return scored

    def scored_rows(self, batch: Batch, item_IV: Tensor | None = None) -> Scored:
        """Encode held-out rows, without negatives; `item_IV`, the catalogue without a context, for profiles (None: it
        is encoded for this batch)."""
        all_IV = self.encoder.catalogue() if self.profiles is not None and item_IV is None else item_IV
        scored = _of_users(batch, self.encoder.of_users(batch, self.profiles, all_IV, whole=True))
        scored.item_KV, scored.place_B = self.encoder.of_rows(batch.item_idx, batch)
        return scored

    def user_vectors(
        self, user_idx_B: Tensor, history_BH: Tensor | None = None, item_IV: Tensor | None = None
    ) -> Tensor:
        """Vectors of users without a context [B, V]; `item_IV`, the catalogue without a context, for profiles."""
        encoder, profile = self.encoder, None
        if self.profiles is not None:
            assert item_IV is not None, "profiles are sums of item vectors"
            profile = self.profiles.of(user_idx_B, item_IV)
        return encoder.model.user_vectors(encoder.users.gather(user_idx_B), history_RH=history_BH, profile=profile)

    def item_vectors(self, context: dict[str, Tensor] | None = None) -> Tensor:
        """Vectors of the whole catalogue [I, V]; `context` holds a value per item."""
        return self.encoder.catalogue(context)

    def _scored(self, batch: Batch, users: Users, loss: Loss, all_IV: Tensor | None) -> Scored:
        """One objective; `all_IV` holds the vectors of the catalogue where another objective needs them anyway."""
        scored = _of_users(batch, users)
        scored.peers = self.in_batch.peers
        if loss.compares == "catalogue":
            self._catalogue(scored, batch, self.encoder.catalogue() if all_IV is None else all_IV)
        elif loss.compares == "batch":
            self.in_batch.put_into(scored, batch, loss, self._request(scored, batch))
        else:
            self._sampled(scored, batch, all_IV)
        return scored

    def _positives(self, batch: Batch, users: Users) -> tuple[Batch, Users]:
        """The positive rows of a batch and the groups that have one; there may be none."""
        keep = positive_mask(batch.label, self.positive).nonzero()[:, 0]
        kept_G, group_b = distinct(users.group_B[keep], users.vectors_GV.shape[0])
        profile = None if users.profile is None else users.profile.read_by(kept_G)
        return batch.take(keep), Users(users.vectors_GV.index_select(0, kept_G), users.idx_G[kept_G], group_b, profile)

    def _request(self, scored: Scored, batch: Batch) -> Request:
        return Request(
            user_idx_B=batch.user_idx,
            item_idx_B=batch.item_idx,
            num_items=self.encoder.num_items,
            user_GV=scored.user_GV,
            user_idx_G=scored.user_idx_G,
            group_B=scored.group_B,
            known=self.known,
            encode=self.encoder.of_items,
        )

    def _sampled(self, scored: Scored, batch: Batch, all_IV: Tensor | None) -> None:
        """Rows of the batch and, behind them, sampled negatives with label 0."""
        drawn = self.negatives.for_rows(self._request(scored, batch))
        if drawn is not None:
            per_row = drawn.idx_BM.shape[1]
            sampled = drawn.idx_BM.reshape(-1)
            user = batch.user_idx.repeat_interleave(per_row)
            # A sampled item that the user is known to like is no negative.
            weight = batch.weight.repeat_interleave(per_row) * ~self.known.contains(user, sampled)
            if drawn.weight_BM is not None:
                weight = weight * drawn.weight_BM.reshape(-1)
            scored.group_B = torch.cat([scored.group_B, scored.group_B.repeat_interleave(per_row)])
            scored.each = False
            scored.item_idx_B = torch.cat([batch.item_idx, sampled])
            scored.label_B = torch.cat([batch.label, torch.zeros_like(weight)])
            scored.weight_B = torch.cat([batch.weight, weight])
        if all_IV is None or self.encoder.reads_item_context:
            scored.item_KV, scored.place_B = self.encoder.of_rows(scored.item_idx_B, batch)
        else:
            scored.item_KV, scored.place_B = all_IV, scored.item_idx_B

    def _catalogue(self, scored: Scored, batch: Batch, all_IV: Tensor) -> None:
        scored.candidates = Candidates(all_IV, torch.arange(all_IV.shape[0], device=all_IV.device))
        in_context = self.encoder.reads_item_context
        if in_context:
            scored.item_KV, scored.place_B = self.encoder.of_rows(batch.item_idx, batch)
        else:
            scored.item_KV, scored.place_B = all_IV, batch.item_idx
        scored.positive_B = positive_mask(batch.label, self.positive)
        scored.in_context = in_context


def _of_users(batch: Batch, users: Users) -> Scored:
    """The user side; the items are filled in by what follows."""
    return Scored(
        user_GV=users.vectors_GV,
        user_idx_G=users.idx_G,
        group_B=users.group_B,
        item_KV=users.vectors_GV,
        item_idx_B=batch.item_idx,
        label_B=batch.label,
        weight_B=batch.weight,
        num_rows=len(batch),
        profile=users.profile,
        each=users.each,
    )
