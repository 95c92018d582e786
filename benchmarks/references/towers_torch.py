"""Towers and softmax of the torch references: a vector for every category, concatenated, one hidden layer, one output.

Shape letters: B rows, F categorical features, E encoded width, V vector width.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

ID_WIDTH, FEATURE_WIDTH, HIDDEN, WIDTH = 64, 8, 128, 64


class Tower(nn.Module):
    """Categories int64 [B, F], the id first, to vectors [B, V].

    Args:
        sizes: Number of categories of every column.
        by_index_select: Look rows up by `index_select`, whose backward is faster on a CPU than that of `nn.Embedding`.
    """

    def __init__(self, sizes: Sequence[int], *, by_index_select: bool = False) -> None:
        super().__init__()
        self.by_index_select = by_index_select
        self.id = nn.Embedding(sizes[0], ID_WIDTH)
        # One table for all features, each with an offset of its own: one lookup instead of F.
        offsets = torch.tensor([0, *sizes[1:-1]]).cumsum(0) if len(sizes) > 1 else torch.zeros(0, dtype=torch.int64)
        self.register_buffer("offsets", offsets)
        self.features = nn.Embedding(sum(sizes[1:]), FEATURE_WIDTH)
        for table in (self.id, self.features):
            nn.init.normal_(table.weight, std=0.05)
        width = ID_WIDTH + FEATURE_WIDTH * (len(sizes) - 1)
        self.layers = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, WIDTH))

    def forward(self, categories_BF: Tensor) -> Tensor:
        features_BE = self._rows(self.features, categories_BF[:, 1:] + self.offsets).flatten(1)
        return self.layers(torch.cat([self._rows(self.id, categories_BF[:, 0]), features_BE], dim=1))

    def _rows(self, table: nn.Embedding, idx: Tensor) -> Tensor:
        if not self.by_index_select:
            return table(idx)
        return table.weight.index_select(0, idx.flatten()).view(*idx.shape, -1)


class NotebookTower(nn.Module):
    """Numbers [B, F] through two dense layers to vectors [B, 128]: the Keras notebook's."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(width, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU())

    def forward(self, numbers_BF: Tensor) -> Tensor:
        return self.layers(numbers_BF)


def in_batch_softmax(user_BV: Tensor, item_BV: Tensor, item_B: Tensor, log_q: Tensor) -> Tensor:
    """Cross-entropy of each row's item against those of the batch, logQ-corrected."""
    logits_BB = user_BV @ item_BV.T - log_q[item_B]
    return F.cross_entropy(logits_BB, torch.arange(len(item_B)))
