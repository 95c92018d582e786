"""From a batch of indices to what the loss reads: the rows, their negatives and candidates, encoded once each.

Shape letters: B rows of a batch, G groups (distinct users, or rows), C candidates, I items, V width of the vectors,
M items drawn for each row, D draws (rows and shared negatives), A draws of all processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from towerrec.nn.encoder import TableEncoder, Users
from towerrec.nn.ensemble import Model
from towerrec.nn.losses import Loss, Scored
from towerrec.nn.negatives import (
    Candidates,
    KnownPairs,
    LogFacts,
    Negatives,
    OwnCandidates,
    Request,
    RowNegatives,
    distinct,
)
from towerrec.nn.peers import ALONE, Peers
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
        self.elsewhere = None if negatives.elsewhere is None else KnownPairs(negatives.elsewhere)
        self.positive = positive
        # What a row of a batch and what the sources are expected to show of every item.
        self.q_I = (item_counts.double() / item_counts.sum()).float()
        self.expected_I = _expected(negatives, items.num_rows, processes=1)
        self.peers, self._expected_of_all_I = ALONE, self.expected_I

    def to(self, device: torch.device) -> BatchScorer:
        """Move the tables (not the model) to a device."""
        self.encoder.to(device)
        self.known = self.known.to(device)
        self.negatives.to(device)
        self.profiles = None if self.profiles is None else self.profiles.to(device)
        self.elsewhere = None if self.elsewhere is None else self.elsewhere.to(device)
        self.q_I = self.q_I.to(device)
        self.expected_I = None if self.expected_I is None else self.expected_I.to(device)
        self._expected_of_all_I = None if self._expected_of_all_I is None else self._expected_of_all_I.to(device)
        return self

    def share_with(self, peers: Peers) -> None:
        """Training batches are from now on those of several processes, each of which holds some of the rows."""
        self.peers = peers
        expected_I = _expected(self.negatives, self.encoder.num_items, processes=peers.world_size)
        self._expected_of_all_I = None if expected_I is None else expected_I.to(self.q_I.device)

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
        scored.peers = self.peers
        if loss.compares == "catalogue":
            self._catalogue(scored, batch, self.encoder.catalogue() if all_IV is None else all_IV)
        elif loss.compares == "batch":
            self._batch(scored, batch, loss)
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

    def _batch(self, scored: Scored, batch: Batch, loss: Loss) -> None:
        """Distinct items of the batch, of the shared sources and of former batches compete, each as often as drawn."""
        shared = self.negatives.for_batch(self.encoder.num_items, batch.item_idx.device)
        drawn = batch.item_idx if shared is None else torch.cat([batch.item_idx, shared])
        item_CV, idx_C, column = self._candidates(scored, batch, drawn, exact=loss.gather and self.peers.several)
        item_idx_B, expected_I = batch.item_idx, self.expected_I
        if loss.gather and self.peers.several:
            item_CV, idx_C, column, item_idx_B = self._of_all(drawn, len(batch), item_CV, column)
            expected_I = self._expected_of_all_I
        count_C = torch.zeros(idx_C.shape[0], device=idx_C.device)
        count_C.index_add_(0, column, torch.ones_like(column, dtype=torch.float32))
        # The refined correction takes the positive for granted: the other rows are what was drawn.
        rows = len(item_idx_B) - (1 if loss.correction == "refined" else 0)
        cache = self.negatives.cache
        if cache is not None:
            rows += cache.num_rows
            present, encoded = idx_C, item_CV
            item_CV, idx_C, count_C = cache.join(item_CV, idx_C, count_C)
            cache.push(item_idx_B, present, encoded)
        pool = None if loss.correction == "none" else _Pool(rows, self.q_I, expected_I)
        log_q_C = None if pool is None else pool.log_q(idx_C)
        own = self._own(scored, batch, pool)
        scored.candidates = Candidates(item_CV, idx_C, log_q_C, count_C.log(), own)
        if self.elsewhere is not None:
            scored.candidates.elsewhere = self.elsewhere.known

    def _of_all(
        self, drawn_D: Tensor, num_rows: int, item_CV: Tensor, column_D: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """As `_candidates` over the draws of all processes: vectors, items, places of their draws, items of their rows.

        Each process sends its vectors once; of an item that several have, that of the first one competes.
        """
        peers = self.peers
        rows_W, draws_W, vectors_W = peers.sizes(num_rows, len(drawn_D), len(item_CV), device=drawn_D.device)
        idx_A, place_A = peers.gather(torch.stack([drawn_D, column_D], 1), draws_W).unbind(1)
        all_V = peers.gather(item_CV, vectors_W)
        ends = list(accumulate(vectors_W, initial=0))
        place_A = torch.cat([part + first for part, first in zip(place_A.split(draws_W), ends, strict=False)])
        idx_C, column_A = distinct(idx_A, self.encoder.num_items)
        place_C = torch.full_like(idx_C, len(all_V)).scatter_reduce_(0, column_A, place_A, "amin")
        row_idx = torch.cat([part[:rows] for part, rows in zip(idx_A.split(draws_W), rows_W, strict=True)])
        return all_V.index_select(0, place_C), idx_C, column_A, row_idx

    def _candidates(self, scored: Scored, batch: Batch, drawn: Tensor, *, exact: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Vectors of the distinct items drawn, the items, and the place of every draw; fills in the rows' vectors."""
        if not self.encoder.reads_item_context:
            exact = exact or self.negatives.cache is not None
            item_CV, idx_C, column = self.encoder.distinct_items(drawn, exact=exact)
            scored.item_KV, scored.place_B = item_CV, column[: len(batch)]
            return item_CV, idx_C, column
        vectors, _ = self.encoder.of_rows(drawn, batch)
        scored.item_KV = vectors[: len(batch)]
        idx_C, column = distinct(drawn, self.encoder.num_items)
        # The candidate takes the context of one of its draws.
        draw_C = torch.zeros_like(idx_C)
        draw_C[column] = torch.arange(len(drawn), device=column.device)
        return vectors.index_select(0, draw_C), idx_C, column

    def _own(self, scored: Scored, batch: Batch, pool: _Pool | None) -> OwnCandidates | None:
        """Candidates of single rows; `pool` is None where nothing is corrected."""
        drawn = self.negatives.own(self._request(scored, batch))
        if not drawn:
            return None
        idx_BM = torch.cat([d.idx_BM for d in drawn], 1)
        weight_BM = torch.cat([self._own_weight(d, batch, pool) for d in drawn], 1)
        vectors_DV, _, place = self.encoder.distinct_items(idx_BM.reshape(-1))
        return OwnCandidates(vectors_DV, place.view_as(idx_BM), weight_BM)

    def _own_weight(self, drawn: RowNegatives, batch: Batch, pool: _Pool | None) -> Tensor:
        """Log weights [B, M]: -inf for positives, and for what only another source may draw."""
        user_B1 = batch.user_idx[:, None]
        refused_BM = self.known.contains(user_B1, drawn.idx_BM) | (drawn.idx_BM == batch.item_idx[:, None])
        if self.elsewhere is not None and drawn.log_q_BM is None:
            refused_BM |= self.elsewhere.contains(user_B1, drawn.idx_BM)
        log_BM = torch.zeros(drawn.idx_BM.shape, device=drawn.idx_BM.device)
        if drawn.weight_BM is not None:
            log_BM = drawn.weight_BM.log()
        if pool is not None:
            log_BM = log_BM - (pool.log_q(drawn.idx_BM) if drawn.log_q_BM is None else drawn.log_q_BM)
        return log_BM.masked_fill(refused_BM, -torch.inf)


@dataclass
class _Pool:
    """What was drawn into the candidates: `rows` as the log shows items, `q_I` of the time each, and `expected_I` times
    from the sources."""

    rows: int
    q_I: Tensor
    expected_I: Tensor | None

    def log_q(self, idx: Tensor) -> Tensor:
        """Log of the expected draws of some items: one expectation for the whole pool (Bengio and Senecal 2003; Yi et
        al., RecSys 2019, section 3)."""
        expected = self.rows * self.q_I[idx]
        if self.expected_I is not None:
            expected = expected + self.expected_I[idx]
        # An item that nothing draws is no candidate, but its value must stay finite.
        return expected.clamp(min=1e-12).log()


def _expected(negatives: Negatives, num_items: int, *, processes: int) -> Tensor | None:
    expected_I = negatives.expected(num_items, processes=processes)
    return None if expected_I is None else expected_I.float()


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
