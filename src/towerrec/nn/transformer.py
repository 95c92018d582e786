"""A small transformer over the user's history.

Shape letters: R rows, H positions of the history (most recent first), L = H + 1 with the token, Q positions that ask,
W width, N heads, S width of a head.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from towerrec.nn.history import clamped_positions, look_up
from towerrec.schema import PAD

# Width of the feed-forward part over that of the rest (Vaswani et al. 2017).
_WIDER = 4


class TransformerLayer(nn.Module):
    """Attention and a feed-forward part, each behind a norm and added to its input (Xiong et al. 2020, pre-norm).

    Args:
        width: Of the vectors.
        heads: Of the attention; divides `width`.
        dropout: Of what each part adds, in training.
    """

    def __init__(self, width: int, *, heads: int, dropout: float) -> None:
        super().__init__()
        self.heads = heads
        self.norm = nn.LayerNorm(width)
        self.query = nn.Linear(width, width)
        # No bias on keys: it would add the same to every logit.
        self.key = nn.Linear(width, width, bias=False)
        self.value = nn.Linear(width, width)
        self.join = nn.Linear(width, width)
        self.feed = nn.Sequential(
            nn.LayerNorm(width), nn.Linear(width, _WIDER * width), nn.GELU(), nn.Linear(_WIDER * width, width)
        )
        self.dropout = nn.Dropout(dropout)

    def forward(self, x_RQW: Tensor, read_RLW: Tensor, present_R11L: Tensor) -> Tensor:
        """Outputs [R, Q, W] of positions that read all those that are present, themselves among them."""
        normed_RLW = self.norm(read_RLW)
        normed_RQW = normed_RLW if x_RQW is read_RLW else self.norm(x_RQW)
        attended_RNQS = F.scaled_dot_product_attention(
            self._by_head(self.query(normed_RQW)),
            self._by_head(self.key(normed_RLW)),
            self._by_head(self.value(normed_RLW)),
            attn_mask=present_R11L,
        )
        x_RQW = x_RQW + self.dropout(self.join(attended_RNQS.transpose(1, 2).flatten(2)))
        out: Tensor = x_RQW + self.dropout(self.feed(x_RQW))
        return out

    def _by_head(self, x_RLW: Tensor) -> Tensor:
        return x_RLW.unflatten(2, (self.heads, -1)).transpose(1, 2)


class HistoryTransformer(nn.Module):
    """Transformer layers over the history and a learned token, whose output is the answer.

    The token is always there, so an empty history has a vector like any other. Positions count from the most recent
    item, which is what a next item depends on. The history lies before the row's moment as a whole, so every position
    may read every other.

    Args:
        width: Of the embeddings and of the output.
        heads: Of the attention; divides `width`.
        layers: At least 1.
        positions: How many positions are told apart; older ones share the last.
        dropout: Of what each part of a layer adds, in training.
        init_std: Standard deviation of the initial token and positions.
    """

    def __init__(self, width: int, *, heads: int, layers: int, positions: int, dropout: float, init_std: float) -> None:
        super().__init__()
        if width % heads:
            raise ValueError(
                f"model.history_dim={width} must be a multiple of model.history_heads={heads}: every head of the "
                "transformer takes an equal part of it"
            )
        self.token = nn.Parameter(torch.randn(width) * init_std)
        self.position = nn.Parameter(torch.randn(positions, width) * init_std)
        self.layers = nn.ModuleList([TransformerLayer(width, heads=heads, dropout=dropout) for _ in range(layers)])
        self.norm = nn.LayerNorm(width)

    def forward(self, table_IW: Tensor, index_RH: Tensor) -> Tensor:
        """Vectors [R, W]."""
        num_rows = index_RH.shape[0]
        position_HW = self.position.index_select(0, clamped_positions(index_RH, self.position.shape[0]))
        token_R1W = self.token.expand(num_rows, 1, -1)
        x_RLW = torch.cat([token_R1W, look_up(table_IW, index_RH) + position_HW], dim=1)
        present_R11L = F.pad(index_RH != PAD, (1, 0), value=True)[:, None, None]
        # Of the last layer nothing but the token's output is read, so only the token asks.
        query_R1W = token_R1W
        for layer in self.layers[:-1]:
            x_RLW = layer(x_RLW, x_RLW, present_R11L)
            query_R1W = x_RLW[:, :1]
        answer_R1W = self.layers[-1](query_R1W, x_RLW, present_R11L)
        vectors: Tensor = self.norm(answer_R1W[:, 0])
        return vectors
