"""One tower: the features of a user (or an item) to a vector and a bias.

Shape letters: N rows of a table, R rows encoded, E encoded width, D vector width, H history length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn

from towerrec.nn.blocks import activation_of, hidden_layers
from towerrec.nn.embedding import FeatureEncoder, PackedFeatures, check_range
from towerrec.nn.history import HistoryPool
from towerrec.schema import FIRST, UNKNOWN, FeatureSpec


class Tower(nn.Module):
    """Embeddings, hidden layers and a linear output; the id's own vector and bias are added to it.

    What it does depends on what it is given: ids alone are matrix factorisation, features alone a content model,
    both together a factorisation whose cold rows still have a vector.

    Args:
        features: Features without the id.
        id_spec: The id feature, or None.
        history: Pool of the user's history, or None.
        embedding_dim: Width of the vector.
        feature_dim: Embedding width of a feature; `feature_dims` overrides it by name.
        hidden: Widths of the hidden layers.
        activation: See `blocks.ACTIVATIONS`.
        norm: `none`, `layer` or `batch`.
        dropout: Of the hidden layers.
        output_activation: Whether the activation also follows the output layer.
        bias: Whether the tower gives a bias: one per id, plus a linear one from the features.
        residual_id: Add the id's vector to the output; otherwise it enters the hidden layers like any feature.
        id_dropout: Share of rows whose id is replaced by unknown in training: prepares for rows without a known id.
        context_dropout: Share of rows whose context is replaced by unknown in training: prepares for requests without.
        pooling: Of list features, see `FeatureEncoder`.
        init_std: Standard deviation of initial embeddings.
    """

    def __init__(
        self,
        features: Sequence[FeatureSpec],
        *,
        id_spec: FeatureSpec | None,
        history: HistoryPool | None,
        embedding_dim: int,
        feature_dim: int,
        feature_dims: Mapping[str, int],
        hidden: Sequence[int],
        activation: str,
        norm: str,
        dropout: float,
        output_activation: bool,
        bias: bool,
        residual_id: bool,
        id_dropout: float,
        context_dropout: float,
        pooling: str,
        init_std: float,
    ) -> None:
        super().__init__()
        self.embedding_dim, self.id_dropout, self.context_dropout = embedding_dim, id_dropout, context_dropout
        self.id_spec, self.residual_id, self.history = id_spec, residual_id, history
        self.features = FeatureEncoder(
            features, width=feature_dim, widths=feature_dims, pooling=pooling, init_std=init_std
        )
        self.reads_context = any(spec.context for spec in features)
        self.id_vectors = self.id_biases = None
        width = self.features.out_width + (0 if history is None else history.table.shape[1])
        if id_spec is not None:
            id_width = embedding_dim if residual_id else feature_dims.get(id_spec.name, feature_dim)
            width += 0 if residual_id else id_width
            self.id_vectors = nn.Parameter(_id_table(id_spec.cardinality, id_width, init_std))
            self.id_biases = nn.Parameter(torch.zeros(id_spec.cardinality)) if bias else None
        self.layers = self.output = None
        if width:
            self.layers = hidden_layers(width, hidden, activation=activation, norm=norm, dropout=dropout)
            last = hidden[-1] if hidden else width
            # One more output is the bias, so that both come from one matrix product.
            self.output = nn.Linear(last, embedding_dim + int(bias))
            nn.init.xavier_normal_(self.output.weight)
            nn.init.zeros_(self.output.bias)
        self.output_activation = activation_of(activation)() if output_activation else None
        self.bias = bias

    def pack(self, columns: Mapping[str, Tensor], *, num_rows: int, device: torch.device) -> PackedFeatures:
        """Lay out the columns of a table (its context features excluded), checked against the schema.

        Raises:
            ValueError: A column is missing or holds an index that the schema does not allow.
        """
        packed = self.features.pack(columns, context=False, num_rows=num_rows, device=device)
        if self.id_spec is None:
            return packed
        spec = self.id_spec
        if spec.name not in columns:
            raise ValueError(f"the {spec.side} id column {spec.name!r} is missing: give it ({UNKNOWN} = unknown)")
        check_range(spec, columns[spec.name])
        return replace(packed, id_N=columns[spec.name].long())

    def pack_context(self, context: Mapping[str, Tensor], *, num_rows: int) -> PackedFeatures:
        """The context of interactions, absent columns unknown; in training some rows lose theirs."""
        device = next(self.parameters()).device
        packed = self.features.pack(context, context=True, num_rows=num_rows, device=device)
        if self.training and self.context_dropout > 0.0:
            packed = self.features.without_context(packed, torch.rand(num_rows, device=device) < self.context_dropout)
        return packed

    def forward(
        self,
        packed: PackedFeatures,
        *,
        at_R: Tensor | None = None,
        context: Mapping[str, Tensor] | None = None,
        history_RH: Tensor | None = None,
    ) -> tuple[Tensor, Tensor | None]:
        """Vectors [R, D] and biases [R] (None without `bias`).

        Args:
            packed: Rows of the table.
            at_R: Which of them each row to encode is, where rows repeat: embeddings are then looked up and pooled once
                per distinct row, and only the layers run for all. None takes the rows as they are.
            context: Context columns, one value per row to encode.
            history_RH: Histories, one per row to encode.
        """

        def spread(values: Tensor) -> Tensor:
            return values if at_R is None else values.index_select(0, at_R)

        num_rows = packed.num_rows if at_R is None else at_R.shape[0]
        id_R = self._ids(None if packed.id_N is None else spread(packed.id_N))
        inputs = [spread(self.features(packed))] if self.features.specs else []
        if self.reads_context:
            inputs.append(self.features(self.pack_context(context or {}, num_rows=num_rows)))
        if self.history is not None:
            assert history_RH is not None, "TwoTower checks that the history is there"
            inputs.append(self.history(history_RH))
        vector_RD: Tensor | None = None
        bias_R: Tensor | None = None
        if self.id_vectors is not None:
            assert id_R is not None
            id_vector = self.id_vectors.index_select(0, id_R)
            if self.residual_id:
                vector_RD = id_vector
            else:
                inputs.append(id_vector)
            if self.id_biases is not None:
                bias_R = self.id_biases.index_select(0, id_R)
        if self.output is not None:
            assert self.layers is not None
            out = self.output(self.layers(torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]))
            from_features = out[:, : self.embedding_dim]
            if self.output_activation is not None:
                from_features = self.output_activation(from_features)
            vector_RD = from_features if vector_RD is None else vector_RD + from_features
            if self.bias:
                bias_R = out[:, -1] if bias_R is None else bias_R + out[:, -1]
        assert vector_RD is not None, "TwoTower refuses towers without inputs"
        return vector_RD, bias_R

    def _ids(self, id_R: Tensor | None) -> Tensor | None:
        if id_R is not None and self.training and self.id_dropout > 0.0:
            id_R = id_R.masked_fill(torch.rand(id_R.shape, device=id_R.device) < self.id_dropout, UNKNOWN)
        return id_R


def _id_table(cardinality: int, width: int, init_std: float) -> Tensor:
    table = torch.randn(cardinality, width) * init_std
    table[:FIRST] = 0.0
    return table
