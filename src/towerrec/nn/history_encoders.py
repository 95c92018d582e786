"""A user history from what a config says."""

from __future__ import annotations

from torch import nn

from towerrec.nn.checks import check_least, check_one_of, check_share
from towerrec.nn.history import AttentionPool, History, MeanPool, RecencyPool
from towerrec.nn.transformer import HistoryTransformer

ENCODERS = ("mean", "recency", "attention", "transformer")


def user_history(
    num_items: int,
    *,
    encoder: str,
    width: int,
    heads: int,
    layers: int,
    positions: int,
    shared: bool,
    dropout: float,
    layer_dropout: float,
    init_std: float,
) -> History:
    """The history with one of the encoders: `MeanPool`, `RecencyPool`, `AttentionPool` or `HistoryTransformer`.

    Args:
        num_items: Rows of the item table.
        encoder: A name of `ENCODERS`.
        width: Width of the embeddings and of the vectors.
        heads: Of `attention` and `transformer`.
        layers: Of `transformer`.
        positions: Positions that `attention` and `transformer` tell apart.
        shared: Whether the embeddings are handed over by `History.share`.
        dropout: Share of the history left out in training.
        layer_dropout: Of what the layers of `transformer` add.
        init_std: Standard deviation of initial embeddings, and of positions and token of `transformer`.

    Raises:
        ValueError: A value out of its range.
    """
    check_one_of("history", encoder, ENCODERS)
    for key, value in (("heads", heads), ("layers", layers), ("positions", positions)):
        check_least(f"history_{key}", value, 1)
    for key, share in (("dropout", dropout), ("layer_dropout", layer_dropout)):
        check_share(f"history_{key}", share)

    def made() -> nn.Module:
        if encoder == "mean":
            return MeanPool()
        if encoder == "recency":
            return RecencyPool()
        if encoder == "attention":
            return AttentionPool(width, heads=heads, positions=positions)
        return HistoryTransformer(
            width, heads=heads, layers=layers, positions=positions, dropout=layer_dropout, init_std=init_std
        )

    return History(num_items, made(), width=width, dropout=dropout, shared=shared, init_std=init_std)
