"""What stands between the embeddings of a tower and its output: hidden layers, with or without cross layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from towerrec.nn.checks import check_least, check_one_of, check_share
from towerrec.nn.cross import STRUCTURES, CrossNetwork, ParallelCross

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "none": nn.Identity,
}
NORMS = ("none", "layer", "batch")


def activation_of(name: str) -> type[nn.Module]:
    """The activation's class.

    Raises:
        ValueError: An unknown name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"model.activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


class Residual(nn.Module):
    """A block whose input is added to its output (He et al. 2016); through a matrix where their widths differ.

    Args:
        block: Of any kind.
        width: Of its input.
        out: Of its output. Equal widths add the input as it is.
    """

    def __init__(self, block: nn.Module, *, width: int, out: int) -> None:
        super().__init__()
        self.block = block
        self.skip = nn.Identity() if width == out else nn.Linear(width, out, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        total: Tensor = self.skip(x) + self.block(x)
        return total


@dataclass(frozen=True)
class LayerSettings:
    """The layers of one tower, built once the width of their input is known.

    Args:
        hidden: Output widths, each at least 1; none gives the identity.
        activation: A name of `ACTIVATIONS`.
        norm: `none`, `layer` or `batch`.
        dropout: Share of units silenced in training, in [0, 1).
        residual: Add the input of every hidden layer to its output, see `Residual`.
        cross: Number of cross layers, 0 for none, see `CrossNetwork`.
        cross_rank: Of their matrices; None keeps them whole.
        cross_structure: `stacked`: the hidden layers read what the cross layers give; `parallel`: both read the input.
            Without hidden layers the two are the same.

    Raises:
        ValueError: A value out of its range.
    """

    hidden: Sequence[int]
    activation: str
    norm: str
    dropout: float
    residual: bool
    cross: int
    cross_rank: int | None
    cross_structure: str

    def __post_init__(self) -> None:
        activation_of(self.activation)
        check_one_of("norm", self.norm, NORMS)
        check_one_of("cross_structure", self.cross_structure, STRUCTURES)
        check_share("dropout", self.dropout)
        if any(width < 1 for width in self.hidden):
            raise ValueError(f"hidden widths must be at least 1, got {list(self.hidden)}")
        if self.cross_rank is not None:
            check_least("cross_rank", self.cross_rank, 1)

    def build(self, width: int) -> tuple[nn.Module, int]:
        """The layers for inputs of `width`, and the width of what they give."""
        deep, out = self._deep(width), self.hidden[-1] if self.hidden else width
        if self.cross == 0:
            return deep, out
        cross = CrossNetwork(width, num_layers=self.cross, rank=self.cross_rank)
        if not self.hidden:
            return cross, width
        if self.cross_structure == "parallel":
            return ParallelCross(cross, deep), width + out
        return nn.Sequential(cross, deep), out

    def _deep(self, width: int) -> nn.Sequential:
        """Linear, normalisation, activation, dropout for every width of `hidden`."""
        layers: list[nn.Module] = []
        for out in self.hidden:
            block = self._hidden_layer(width, out)
            layers += [Residual(nn.Sequential(*block), width=width, out=out)] if self.residual else block
            width = out
        return nn.Sequential(*layers)

    def _hidden_layer(self, width: int, out: int) -> list[nn.Module]:
        linear = nn.Linear(width, out)
        # He et al. 2015: keeps the variance of activations through rectified layers.
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers: list[nn.Module] = [linear]
        if self.norm == "layer":
            layers.append(nn.LayerNorm(out))
        elif self.norm == "batch":
            layers.append(nn.BatchNorm1d(out))
        layers.append(activation_of(self.activation)())
        if self.dropout > 0.0:
            layers.append(nn.Dropout(self.dropout))
        return layers
