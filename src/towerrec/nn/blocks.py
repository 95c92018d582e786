"""Building blocks of a tower."""

from __future__ import annotations

from collections.abc import Sequence

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "none": nn.Identity,
}


def activation_of(name: str) -> type[nn.Module]:
    """The activation's class.

    Raises:
        ValueError: An unknown name.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"model.activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]


def hidden_layers(width: int, hidden: Sequence[int], *, activation: str, norm: str, dropout: float) -> nn.Sequential:
    """Linear, normalisation, activation, dropout for every width of `hidden`.

    Args:
        width: Input width.
        hidden: Output widths, each at least 1; none gives the identity.
        activation: A name of `ACTIVATIONS`.
        norm: `none`, `layer` or `batch`.
        dropout: Share of units silenced in training, in [0, 1).

    Raises:
        ValueError: A value out of its range.
    """
    if norm not in ("none", "layer", "batch"):
        raise ValueError(f"model.norm must be none, layer or batch, got {norm!r}")
    if not 0.0 <= dropout < 1.0:
        raise ValueError(f"model.dropout must be in [0, 1), got {dropout}")
    make_activation = activation_of(activation)
    layers: list[nn.Module] = []
    for out in hidden:
        if out < 1:
            raise ValueError(f"hidden widths must be at least 1, got {list(hidden)}")
        linear = nn.Linear(width, out)
        # He et al. 2015: keeps the variance of activations through rectified layers.
        nn.init.kaiming_normal_(linear.weight, nonlinearity="relu")
        nn.init.zeros_(linear.bias)
        layers.append(linear)
        if norm == "layer":
            layers.append(nn.LayerNorm(out))
        elif norm == "batch":
            layers.append(nn.BatchNorm1d(out))
        layers.append(make_activation())
        if dropout > 0.0:
            layers.append(nn.Dropout(dropout))
        width = out
    return nn.Sequential(*layers)
