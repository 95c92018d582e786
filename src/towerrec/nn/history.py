"""What a user liked before, as one vector; it never depends on the item to be scored.

Shape letters: R rows, H positions of the history (most recent first), I rows of the item table, W width, N heads,
P positions that are told apart.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from towerrec.nn.lookup import weighted_rows
from towerrec.schema import PAD, UNKNOWN


class History(nn.Module):
    """Looks up the items of a user's history and hands them to an encoder.

    Args:
        num_items: Rows of the item table.
        encoder: From the embeddings, row 0 being no item, and indices
            [R, H] to vectors [R, W].
        width: Width of the embeddings and of the encoder's vectors.
        dropout: Share of the history left out in training, so that no single item is leaned on.
        shared: The embeddings are the item tower's id vectors, handed over by `share`, instead of an own table.
        init_std: Standard deviation of the initial embeddings.
    """

    table: nn.Parameter
    ids: Tensor | None

    def __init__(
        self, num_items: int, encoder: nn.Module, *, width: int, dropout: float, shared: bool, init_std: float
    ) -> None:
        super().__init__()
        self.num_items, self.width, self.dropout, self.shared = num_items, width, dropout, shared
        self.encoder = encoder
        self.register_buffer("ids", None, persistent=False)
        if not shared:
            self.table = nn.Parameter(torch.empty(num_items + 1, width))
            nn.init.normal_(self.table, 0.0, init_std)
            nn.init.zeros_(self.table[:1])

    def share(self, table_IW: nn.Parameter) -> None:
        """Read these embeddings, of which row `PAD` is no item."""
        assert self.shared and table_IW.shape[1] == self.width
        self.table = table_IW

    def learn_ids(self, id_I: Tensor) -> None:
        """Which row of shared embeddings each row of the item table has, int64 [I]; unknown ids count as no item."""
        known_I = id_I[: self.num_items].masked_fill(id_I[: self.num_items] == UNKNOWN, PAD)
        self.ids = F.pad(known_I, (1, 0), value=PAD).to(self.table.device)

    def forward(self, history_RH: Tensor) -> Tensor:
        """Vectors [R, W] of histories, item rows with -1 where empty.

        Raises:
            ValueError: The embeddings are shared and no item table was packed yet.
        """
        if self.training and self.dropout > 0.0:
            left_out_RH = torch.rand(history_RH.shape, device=history_RH.device) < self.dropout
            history_RH = history_RH.masked_fill(left_out_RH, -1)
        index_RH = history_RH + 1
        if self.shared:
            if self.ids is None:
                raise ValueError(
                    "with model.history_shared the items of a history are looked up by their ids: hand the item table "
                    "over first, model.pack('item', items)"
                )
            index_RH = self.ids.index_select(0, index_RH.reshape(-1)).view_as(index_RH)
        vectors: Tensor = self.encoder(self.table, index_RH)
        return vectors


class MeanPool(nn.Module):
    """The mean embedding; an empty history is zero."""

    def forward(self, table_IW: Tensor, index_RH: Tensor) -> Tensor:
        """Vectors [R, W]."""
        if torch.compiler.is_exporting():
            present_RH = (index_RH != PAD).to(table_IW.dtype)
            return weighted_rows(table_IW, index_RH, present_RH / present_RH.sum(1, keepdim=True).clamp(min=1))
        return F.embedding_bag(index_RH, table_IW, mode="mean", padding_idx=PAD)


class RecencyPool(nn.Module):
    """The mean weighted by `(1 + position) ** -decay`, position 0 being the most recent; empty is zero.

    The decay is learned and starts at 0, the plain mean.
    """

    def __init__(self) -> None:
        super().__init__()
        self.decay = nn.Parameter(torch.zeros(()))

    def forward(self, table_IW: Tensor, index_RH: Tensor) -> Tensor:
        """Vectors [R, W]."""
        age_H = torch.arange(index_RH.shape[1], device=index_RH.device, dtype=table_IW.dtype).log1p()
        weight_RH = masked_softmax((-self.decay * age_H).expand(index_RH.shape), index_RH != PAD)
        if torch.compiler.is_exporting():
            return weighted_rows(table_IW, index_RH, weight_RH)
        return F.embedding_bag(
            index_RH, table_IW, mode="sum", per_sample_weights=weight_RH.to(table_IW.dtype), padding_idx=PAD
        )


class AttentionPool(nn.Module):
    """Learned queries, one per head, each pool the history by their own weights; a linear map joins the heads.

    Multi-head attention (Vaswani et al. 2017) whose query is a parameter (Lee et al. 2019, pooling by attention). The
    projection of the keys and the query only occur as their product, a vector per head; projecting the values and
    pooling commute. So there are no projections per position. Position h adds `position[n, h]` to the logit of head n.
    An empty history is zero.

    Args:
        width: Of the embeddings and of the output.
        heads: Number of queries.
        positions: How many positions are told apart; older ones share the last.
    """

    def __init__(self, width: int, *, heads: int, positions: int) -> None:
        super().__init__()
        self.query = nn.Linear(width, heads, bias=False)
        self.position = nn.Parameter(torch.zeros(heads, positions))
        self.join = nn.Linear(heads * width, width, bias=False)

    def forward(self, table_IW: Tensor, index_RH: Tensor) -> Tensor:
        """Vectors [R, W]."""
        item_RHW = look_up(table_IW, index_RH)
        position_NH = self.position.index_select(1, clamped_positions(index_RH, self.position.shape[1]))
        logit_RNH = self.query(item_RHW).transpose(1, 2) + position_NH
        weight_RNH = masked_softmax(logit_RNH, (index_RH != PAD)[:, None])
        vectors: Tensor = self.join((weight_RNH @ item_RHW).flatten(1))
        return vectors


def masked_softmax(logit: Tensor, present: Tensor) -> Tensor:
    """Softmax over the last axis of what is present; zero elsewhere, and everywhere where nothing is present."""
    least = torch.finfo(logit.dtype).min
    return logit.masked_fill(~present, least).softmax(-1) * present


def look_up(table_IW: Tensor, index_RH: Tensor) -> Tensor:
    """Embeddings [R, H, W]."""
    # index_select: its backward adds rows several times faster on a CPU than that of F.embedding.
    return table_IW.index_select(0, index_RH.reshape(-1)).view(*index_RH.shape, -1)


def clamped_positions(index_RH: Tensor, positions: int) -> Tensor:
    """0, 1, ... [H], those beyond the last of `positions` being the last."""
    return torch.arange(index_RH.shape[1], device=index_RH.device).clamp(max=positions - 1)
