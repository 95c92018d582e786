"""One tower: the features of a user (or an item) to a vector and a bias.

Shape letters: N rows of a table, R rows encoded, E encoded width, D vector width, H history length.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from towerrec.nn.blocks import LayerSettings, activation_of
from towerrec.nn.checks import check_share
from towerrec.nn.embedding import FeatureEncoder, PackedFeatures, as_type, check_range
from towerrec.nn.history import History
from towerrec.nn.lookup import Readers, read
from towerrec.nn.sharded import RowShard
from towerrec.schema import FIRST, UNKNOWN, FeatureSpec


@dataclass(frozen=True)
class InputDropout:
    """Shares of what is hidden in training, so that a tower can do without.

    Args:
        id: Of rows whose id is replaced by unknown: prepares for rows without a known id.
        feature: Of pairs of row and feature whose feature is replaced by what a missing one is encoded as.
        context: Of rows whose whole context is replaced by unknown: prepares for requests without.

    Raises:
        ValueError: A share outside [0, 1).
    """

    id: float
    feature: float
    context: float

    def __post_init__(self) -> None:
        for name in ("id", "feature", "context"):
            check_share(f"{name}_dropout", getattr(self, name))


class Tower(nn.Module):
    """Embeddings, layers and a linear output; the id's own vector and bias are added to it.

    What it does depends on what it is given: ids alone are matrix factorisation, features alone a content model,
    both together a factorisation whose cold rows still have a vector.

    The vector and the bias of the unknown id are zero and are never trained: a row whose id is not known has exactly
    the vector of its features. Were they trained, unknown items that a loss takes for negatives would all be pushed
    down together.

    Args:
        features: Features without the id.
        id_spec: The id feature, or None.
        history: Encoder of the user's history, or None; its vector enters the layers.
        embedding_dim: Width of the vector.
        feature_dim: Embedding width of a feature; `feature_dims` overrides it by name.
        layers: Between the embeddings and the output.
        output_activation: Whether the activation also follows the output layer.
        bias: Whether the tower gives a bias: one per id, plus a linear one from the features.
        residual_id: Add the id's vector to the output; otherwise it enters the layers like any feature.
        hides: What is hidden in training.
        pooling: Of list features, see `FeatureEncoder`.
        init_std: Standard deviation of initial embeddings.
        constant: Without any input, give one learned vector for all rows: what else is known of them is added to it.
    """

    def __init__(
        self,
        features: Sequence[FeatureSpec],
        *,
        id_spec: FeatureSpec | None,
        history: History | None,
        embedding_dim: int,
        feature_dim: int,
        feature_dims: Mapping[str, int],
        layers: LayerSettings,
        output_activation: bool,
        bias: bool,
        residual_id: bool,
        hides: InputDropout,
        pooling: str,
        init_std: float,
        constant: bool = False,
    ) -> None:
        super().__init__()
        self.embedding_dim, self.hides = embedding_dim, hides
        self.id_spec, self.residual_id, self.history = id_spec, residual_id, history
        self.features = FeatureEncoder(
            features, width=feature_dim, widths=feature_dims, pooling=pooling, init_std=init_std
        )
        self.reads_context = any(spec.context for spec in features)
        self.id_vectors = self.id_biases = None
        self.shard: RowShard | None = None
        width = self.features.out_width + (0 if history is None else history.width)
        if id_spec is not None:
            id_width = embedding_dim if residual_id else feature_dims.get(id_spec.name, feature_dim)
            width += 0 if residual_id else id_width
            self.id_vectors = nn.Parameter(_id_table(id_spec.cardinality, id_width, init_std))
            self.id_biases = nn.Parameter(torch.zeros(id_spec.cardinality)) if bias else None
        self.layers = self.output = None
        if width:
            self.layers, last = layers.build(width)
            # One more output is the bias, so that both come from one matrix product.
            self.output = nn.Linear(last, embedding_dim + int(bias))
            nn.init.xavier_normal_(self.output.weight)
            nn.init.zeros_(self.output.bias)
        self.constant = None
        if constant and self.id_vectors is None and self.output is None:
            # Not zero: the cosine of a user without anything else would have no direction and a boundless gradient.
            self.constant = nn.Parameter(torch.randn(embedding_dim) * init_std)
        self.output_activation = activation_of(layers.activation)() if output_activation else None
        self.bias = bias

    def pack(
        self, columns: Mapping[str, Tensor], *, num_rows: int, device: torch.device, traced: bool = False
    ) -> PackedFeatures:
        """Lay out the columns of a table (its context features excluded), checked against the schema.

        `traced`: for a program that is traced, unchecked (see `FeatureEncoder.pack`).

        Raises:
            ValueError: A column is missing or holds an index that the schema does not allow.
        """
        packed = self.features.pack(columns, context=False, num_rows=num_rows, device=device, traced=traced)
        if self.id_spec is None:
            return packed
        spec = self.id_spec
        if spec.name not in columns:
            raise ValueError(f"the {spec.side} id column {spec.name!r} is missing: give it ({UNKNOWN} = unknown)")
        id_N = as_type(columns[spec.name], torch.int64)
        if traced:
            return replace(packed, id_N=id_N)
        check_range(spec, id_N)
        return replace(packed, id_N=id_N, has_unknown_ids=bool((id_N < FIRST).any()))

    def pack_context(self, context: Mapping[str, Tensor], *, num_rows: int) -> PackedFeatures:
        """The context of interactions, absent columns unknown; in training some rows lose theirs."""
        device = next(self.parameters()).device
        packed = self.features.pack(context, context=True, num_rows=num_rows, device=device)
        if self.training and self.hides.context > 0.0:
            hidden_R1 = (torch.rand(num_rows, device=device) < self.hides.context)[:, None]
            packed = self.features.hide(packed, lambda _: hidden_R1, context=True)
        return self._without_some(packed, context=True)

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
        of_table = self.features(self._without_some(packed, context=False)) if self.features.specs else None
        inputs: list[Tensor] = []
        if self.reads_context:
            inputs.append(self.features(self.pack_context(context or {}, num_rows=num_rows)))
        if self.history is not None:
            assert history_RH is not None, "TwoTower checks that the history is there"
            inputs.append(self.history(history_RH))
        vector_RD: Tensor | None = None
        bias_R: Tensor | None = None
        if self.id_vectors is not None:
            assert packed.id_N is not None
            # Of a table that is shared out, a process holds some rows: others' readers would be out of its range.
            whole = at_R is None and self.shard is None
            readers = packed.readers(None, self.id_vectors.shape[0]) if whole else None
            id_vector, bias_R = self._of_ids(spread(packed.id_N), readers, has_unknown=packed.has_unknown_ids)
            if self.residual_id:
                vector_RD = id_vector
            else:
                inputs.append(id_vector)
        if self.output is not None:
            from_features, feature_bias_R = self._output(self._hidden(of_table, inputs, at_R))
            vector_RD = from_features if vector_RD is None else vector_RD + from_features
            if feature_bias_R is not None:
                bias_R = feature_bias_R if bias_R is None else bias_R + feature_bias_R
        if self.constant is not None:
            vector_RD = self.constant.expand(num_rows, -1)
        assert vector_RD is not None, "TwoTower refuses towers without inputs"
        return vector_RD, bias_R

    def _hidden(self, of_table_NE: Tensor | None, inputs: list[Tensor], at_R: Tensor | None) -> Tensor:
        """What the layers make of the features of the table and, behind them, of the rows' own inputs."""
        assert self.layers is not None
        layers = list(self.layers) if isinstance(self.layers, nn.Sequential) else []
        first = layers[0] if layers else None
        if at_R is None or of_table_NE is None or not isinstance(first, nn.Linear):
            if of_table_NE is not None:
                inputs = [of_table_NE if at_R is None else read(of_table_NE, at_R), *inputs]
            hidden: Tensor = self.layers(torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0])
            return hidden
        # The first layer is linear: its part over the table's features is the same for all rows of a user or item, and
        # narrower than these. Summed in float32 at least.
        width = of_table_NE.shape[1]
        hidden_NE = F.linear(of_table_NE, first.weight[:, :width])
        hidden = read(hidden_NE.to(torch.promote_types(hidden_NE.dtype, torch.float32)), at_R)
        if inputs:
            own_RE = torch.cat(inputs, dim=1) if len(inputs) > 1 else inputs[0]
            hidden = hidden + F.linear(own_RE, first.weight[:, width:], first.bias)
        else:
            hidden = hidden + first.bias
        for layer in layers[1:]:
            hidden = layer(hidden)
        return hidden

    def _output(self, hidden_RE: Tensor) -> tuple[Tensor, Tensor | None]:
        """Vectors [R, D] and biases [R] from the last hidden layer."""
        assert self.output is not None
        vector_RD = self.output(hidden_RE)
        bias_R: Tensor | None = None
        if self.bias:
            # Split: the gradients of two slices would each fill a whole matrix.
            vector_RD, bias_R1 = vector_RD.split([self.embedding_dim, 1], dim=1)
            bias_R = bias_R1[:, 0]
        if self.output_activation is not None:
            vector_RD = self.output_activation(vector_RD)
        return vector_RD, bias_R

    def _of_ids(self, id_R: Tensor, readers: Readers | None, *, has_unknown: bool) -> tuple[Tensor, Tensor | None]:
        """Vectors and biases [R] of ids; in training some are unknown, and no gradient reaches those that are."""
        assert self.id_vectors is not None
        hides = self.training and self.hides.id > 0.0
        if hides:
            id_R = id_R.masked_fill(torch.rand(id_R.shape, device=id_R.device) < self.hides.id, UNKNOWN)
        vector_RD, bias_R = self._look_up(id_R, None if hides else readers)
        if self.training and (hides or has_unknown):
            known_R = id_R >= FIRST
            vector_RD = torch.where(known_R[:, None], vector_RD, vector_RD.detach())
            bias_R = None if bias_R is None else torch.where(known_R, bias_R, bias_R.detach())
        return vector_RD, bias_R

    def _look_up(self, id_R: Tensor, readers: Readers | None) -> tuple[Tensor, Tensor | None]:
        assert self.id_vectors is not None
        if self.shard is not None:
            tables = [self.id_vectors] if self.id_biases is None else [self.id_vectors, self.id_biases]
            found = self.shard.look_up(id_R, *tables)
            return found[0], None if self.id_biases is None else found[1]
        bias_R = None if self.id_biases is None else read(self.id_biases[:, None], id_R, readers)[:, 0]
        return read(self.id_vectors, id_R, readers), bias_R

    @property
    def blocks(self) -> list[nn.Parameter]:
        """Tables of which this process holds a block of rows only."""
        tables = (self.id_vectors, self.id_biases) if self.shard is not None else ()
        return [table for table in tables if table is not None]

    def keep(self, shard: RowShard) -> None:
        """Keep a block of rows of the id's tables; the others lie with other processes (`nn.sharded`)."""
        assert self.id_vectors is not None and self.shard is None
        self.shard = shard
        for name in ("id_vectors", "id_biases"):
            table = getattr(self, name)
            if table is not None:
                setattr(self, name, nn.Parameter(shard.cut(table.detach()), requires_grad=table.requires_grad))

    def _without_some(self, packed: PackedFeatures, *, context: bool) -> PackedFeatures:
        """In training, the features with some of them hidden."""
        share = self.hides.feature
        if not self.training or share == 0.0:
            return packed
        device = next(self.parameters()).device
        return self.features.hide(
            packed,
            lambda num_features: torch.rand(packed.num_rows, num_features, device=device) < share,
            context=context,
        )


def _id_table(cardinality: int, width: int, init_std: float) -> Tensor:
    table = torch.randn(cardinality, width) * init_std
    table[:FIRST] = 0.0
    return table
