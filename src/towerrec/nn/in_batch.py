"""The candidates of losses over a batch: what its rows, the sources and former batches put beside each positive.

Shape letters: B rows of a batch, C candidates, I items, V width of the vectors, M items drawn for each row, D draws
(rows and shared negatives), A draws of all processes.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import accumulate

import torch
from torch import Tensor

from towerrec.nn.encoder import TableEncoder
from towerrec.nn.losses import Loss, Scored
from towerrec.nn.negatives import Candidates, KnownPairs, Negatives, OwnCandidates, Request, RowNegatives, distinct
from towerrec.nn.peers import ALONE, Peers
from towerrec.schema import Batch


class InBatch:
    """Finds the candidates of a batch, and how probable each was (`_Pool`).

    Args:
        encoder: Gives vectors of items.
        negatives: Where further candidates come from; it knows the log.
        item_counts: Training rows (of the kind that losses over a batch read) of every item.
    """

    def __init__(self, encoder: TableEncoder, negatives: Negatives, item_counts: Tensor) -> None:
        self.encoder, self.negatives = encoder, negatives
        self.elsewhere = None if negatives.elsewhere is None else KnownPairs(negatives.elsewhere)
        # What a row of a batch and what the sources are expected to show of every item.
        self.q_I = (item_counts.double() / item_counts.sum()).float()
        self.expected_I = self._expected(processes=1)
        self.peers, self._expected_of_all_I = ALONE, self.expected_I

    def to(self, device: torch.device) -> None:
        """Move what was counted (not encoder and negatives) to a device."""
        self.elsewhere = None if self.elsewhere is None else self.elsewhere.to(device)
        self.q_I = self.q_I.to(device)
        self.expected_I = None if self.expected_I is None else self.expected_I.to(device)
        self._expected_of_all_I = None if self._expected_of_all_I is None else self._expected_of_all_I.to(device)

    def share_with(self, peers: Peers) -> None:
        """Batches are from now on those of several processes, each of which holds some of the rows."""
        self.peers = peers
        self._expected_of_all_I = self._expected(processes=peers.world_size)

    def _expected(self, *, processes: int) -> Tensor | None:
        expected_I = self.negatives.expected(self.encoder.num_items, processes=processes)
        return None if expected_I is None else expected_I.float().to(self.q_I.device)

    def put_into(self, scored: Scored, batch: Batch, loss: Loss, request: Request) -> None:
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
        own = self._own(batch, request, pool)
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

    def _own(self, batch: Batch, request: Request, pool: _Pool | None) -> OwnCandidates | None:
        """Candidates of single rows; `pool` is None where nothing is corrected."""
        drawn = self.negatives.own(request)
        if not drawn:
            return None
        idx_BM = torch.cat([d.idx_BM for d in drawn], 1)
        weight_BM = torch.cat([self._own_weight(d, batch, request.known, pool) for d in drawn], 1)
        vectors_DV, _, place = self.encoder.distinct_items(idx_BM.reshape(-1))
        return OwnCandidates(vectors_DV, place.view_as(idx_BM), weight_BM)

    def _own_weight(self, drawn: RowNegatives, batch: Batch, known: KnownPairs, pool: _Pool | None) -> Tensor:
        """Log weights [B, M]: -inf for positives, and for what only another source may draw."""
        user_B1 = batch.user_idx[:, None]
        refused_BM = known.contains(user_B1, drawn.idx_BM) | (drawn.idx_BM == batch.item_idx[:, None])
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
