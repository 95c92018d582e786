"""Cross layers: products of features, of a degree that grows with every layer.

Shape letters: R rows, E width of the input, K rank.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

STRUCTURES = ("stacked", "parallel")


class CrossLayer(nn.Module):
    """`x_0 * (W x + b) + x`, elementwise product (DCN-v2, Wang et al., WWW 2021, equation 1).

    Args:
        width: Of the input and the output.
        rank: W is U V^T with this many columns (equation 2); None keeps W whole.
    """

    def __init__(self, width: int, *, rank: int | None) -> None:
        super().__init__()
        self.reduce = None if rank is None else nn.Linear(width, rank, bias=False)
        self.weight = nn.Linear(width if rank is None else rank, width)
        for linear in (self.weight, self.reduce):
            if linear is not None:
                nn.init.xavier_normal_(linear.weight)
        nn.init.zeros_(self.weight.bias)

    def forward(self, x0_RE: Tensor, x_RE: Tensor) -> Tensor:
        """Output [R, E]."""
        inner = x_RE if self.reduce is None else self.reduce(x_RE)
        crossed: Tensor = x0_RE * self.weight(inner) + x_RE
        return crossed


class CrossNetwork(nn.Module):
    """Cross layers one after the other, each crossing with the first input.

    Args:
        width: Of the input and the output.
        num_layers: The output holds products of up to `num_layers + 1` inputs.
        rank: Of the weight matrices; None keeps them whole.
    """

    def __init__(self, width: int, *, num_layers: int, rank: int | None) -> None:
        super().__init__()
        self.layers = nn.ModuleList([CrossLayer(width, rank=rank) for _ in range(num_layers)])

    def forward(self, x0_RE: Tensor) -> Tensor:
        """Output [R, E]."""
        x_RE = x0_RE
        for layer in self.layers:
            x_RE = layer(x0_RE, x_RE)
        return x_RE


class ParallelCross(nn.Module):
    """Cross network and hidden layers side by side, their outputs joined (DCN-v2, figure 1b).

    Args:
        cross: Reads the input.
        deep: Reads the same input.
    """

    def __init__(self, cross: CrossNetwork, deep: nn.Module) -> None:
        super().__init__()
        self.cross, self.deep = cross, deep

    def forward(self, x_RE: Tensor) -> Tensor:
        """Output [R, E + width of the deep part]."""
        return torch.cat([self.cross(x_RE), self.deep(x_RE)], dim=1)
