"""What a user liked before, as one vector.

Shape letters: R rows, H positions of the history, W width.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class HistoryPool(nn.Module):
    """Mean embedding of the items in a user's history; an empty history is zero.

    Args:
        num_items: Rows of the item table.
        width: Width of the embeddings.
        dropout: Share of the history left out in training, so that no single item is leaned on.
        init_std: Standard deviation of the initial embeddings.
    """

    def __init__(self, num_items: int, *, width: int, dropout: float, init_std: float) -> None:
        super().__init__()
        if not 0.0 <= dropout < 1.0:
            raise ValueError(f"model.history_dropout must be in [0, 1), got {dropout}")
        self.dropout = dropout
        self.table = nn.Parameter(torch.empty(num_items + 1, width))
        nn.init.normal_(self.table, 0.0, init_std)
        nn.init.zeros_(self.table[:1])

    def forward(self, history_RH: Tensor) -> Tensor:
        """Pooled histories [R, W] of item rows, -1 where empty."""
        if self.training and self.dropout > 0.0:
            left_out_RH = torch.rand(history_RH.shape, device=history_RH.device) < self.dropout
            history_RH = history_RH.masked_fill(left_out_RH, -1)
        return F.embedding_bag(history_RH + 1, self.table, mode="mean", padding_idx=0)
