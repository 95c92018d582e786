"""The two-tower model: a user vector, an item vector, and their dot product as the score.

Biases and scale are folded into the vectors: `[s u, b_u + b, 1] . [v, 1, b_i] = s u.v + b_u + b_i + b`, so whatever
serves the vectors needs nothing but a dot product.

Shape letters: N rows of a table, R rows encoded, B rows scored, D width of the tower outputs, V width of the vectors
(D, or D + 2 where a bias is folded in), H history length.
"""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from towerrec.nn.blocks import LayerSettings
from towerrec.nn.checks import check_least, check_one_of, check_widths
from towerrec.nn.embedding import PackedFeatures
from towerrec.nn.history import History
from towerrec.nn.history_encoders import user_history
from towerrec.nn.profile import KINDS, AnyProfile, ProfilePool
from towerrec.nn.towers import InputDropout, Tower
from towerrec.schema import ITEM_ID, USER_ID, FeatureSchema, FeatureSpec, FeatureTable, Side


class TwoTower(nn.Module):
    """Two towers over the features of a schema.

    Args:
        schema: The features; `user_id` and `item_id` among them are the ids.
        embedding_dim: Width of the tower outputs (two more where a bias is folded in).
        use_ids: Read the ids; without, only features speak.
        use_user_id: Read the user's id, where ids are read: a user that is known by his profile needs none.
        use_features: Read the other features; without, ids alone are matrix factorisation.
        feature_dim: Embedding width of a categorical or list feature.
        feature_dims: Other widths for some features, by name.
        user_hidden: Widths of the hidden layers of the user tower.
        item_hidden: The same of the item tower.
        activation: `relu`, `gelu`, `silu`, `tanh` or `none`.
        norm: `none`, `layer` or `batch`, before each activation. Batch statistics are over the distinct rows.
        dropout: Of the hidden layers.
        residual: Add the input of every hidden layer to its output, through a matrix where their widths differ.
        user_cross: Cross layers (DCN-v2) of the user tower, 0 for none.
        item_cross: The same of the item tower.
        cross_rank: Rank of their matrices; None keeps them whole.
        cross_structure: `stacked`: the hidden layers read what the cross layers give; `parallel`: both read the input.
        output_activation: Whether the activation also follows the output layers.
        residual_id: Add the id's own vector to the output; otherwise the id is a feature of width `feature_dim`.
        user_bias: A bias per user: from the id and linearly from the features.
        item_bias: The same per item.
        global_bias: One bias for all.
        similarity: `dot`, or `cosine` of the tower outputs times `scale`.
        scale: Initial factor of the cosine.
        learn_scale: Whether that factor is learned.
        id_dropout: Share of rows whose id is hidden in training, for rows whose id is not known later.
        feature_dropout: Share of pairs of row and feature whose feature is hidden in training, for missing features.
        context_dropout: Share of rows whose context is hidden in training, for requests without a context.
        pooling: Embeddings of a list feature: `mean`, `sum` or `sqrt`.
        history: How the user's history becomes a vector: `mean`, `recency` (a mean that weighs recent items more, as
            learned), `attention` (learned queries) or `transformer`; see `history_encoders`.
        history_dim: Width of the history's embeddings and vector, 0 for none (needs `loader.history_length`).
        history_shared: Embed the history by the item tower's id vectors, not by a table of its own.
        history_heads: Heads of `attention` and `transformer`.
        history_layers: Layers of `transformer`.
        history_positions: Positions that `attention` and `transformer` tell apart; older ones share the last.
        history_dropout: Share of the history hidden in training.
        history_layer_dropout: Of the layers of `transformer`.
        profile: Add the pooled vectors of the user's items to his vector (see `nn.profile`): `none`, `positives`, or
            `rows` for all that was shown to him.
        profile_power: Of the number of pooled items, which divides their sum: 0 sums, 1 averages.
        init_std: Standard deviation of the initial embeddings.

    Raises:
        ValueError: A value out of its range, an unknown feature in `feature_dims`, a tower without any input, a shared
            history whose width is not that of the ids' vectors.
    """

    def __init__(
        self,
        schema: FeatureSchema,
        *,
        embedding_dim: int = 64,
        use_ids: bool = True,
        use_user_id: bool = True,
        use_features: bool = True,
        feature_dim: int = 8,
        feature_dims: Mapping[str, int] | None = None,
        user_hidden: Sequence[int] = (128,),
        item_hidden: Sequence[int] = (128,),
        activation: str = "relu",
        norm: str = "none",
        dropout: float = 0.0,
        residual: bool = False,
        user_cross: int = 0,
        item_cross: int = 0,
        cross_rank: int | None = None,
        cross_structure: str = "stacked",
        output_activation: bool = False,
        residual_id: bool = True,
        user_bias: bool = True,
        item_bias: bool = True,
        global_bias: bool = True,
        similarity: str = "dot",
        scale: float = 1.0,
        learn_scale: bool = True,
        id_dropout: float = 0.0,
        feature_dropout: float = 0.0,
        context_dropout: float = 0.1,
        pooling: str = "mean",
        history: str = "mean",
        history_dim: int = 0,
        history_shared: bool = False,
        history_heads: int = 2,
        history_layers: int = 1,
        history_positions: int = 64,
        history_dropout: float = 0.0,
        history_layer_dropout: float = 0.0,
        profile: str = "none",
        profile_power: float = 0.5,
        init_std: float = 0.05,
    ) -> None:
        super().__init__()
        check_one_of("similarity", similarity, ("dot", "cosine"))
        check_one_of("profile", profile, KINDS)
        if scale <= 0.0:
            raise ValueError(f"model.scale must be above 0, got {scale}")
        for key, value, least in (
            ("embedding_dim", embedding_dim, 1),
            ("feature_dim", feature_dim, 1),
            ("user_cross", user_cross, 0),
            ("item_cross", item_cross, 0),
            ("history_dim", history_dim, 0),
        ):
            check_least(key, value, least)
        self.schema, self.similarity = schema, similarity
        widths = dict(feature_dims or {})
        check_widths(widths, schema)
        hides = InputDropout(id=id_dropout, feature=feature_dropout, context=context_dropout)

        def tower(side: Side, hidden: Sequence[int], cross: int, bias: bool, history: History | None) -> Tower:
            reads_id = use_ids and (side == "item" or use_user_id)
            ids, features = _inputs(schema, side, use_ids=reads_id, use_features=use_features)
            pooled = side == "user" and profile != "none"
            if not ids and not features and history is None and not pooled:
                given = [spec.name for spec in schema.side(side)] or "no features"
                raise ValueError(
                    f"the {side} tower has no input: the schema gives it {given}, with model.use_ids={use_ids} and "
                    f"model.use_features={use_features}; choose other features or another model"
                )
            return Tower(
                features,
                id_spec=ids[0] if ids else None,
                history=history,
                embedding_dim=embedding_dim,
                feature_dim=feature_dim,
                feature_dims=widths,
                layers=LayerSettings(
                    hidden=hidden,
                    activation=activation,
                    norm=norm,
                    dropout=dropout,
                    residual=residual,
                    cross=cross,
                    cross_rank=cross_rank,
                    cross_structure=cross_structure,
                ),
                output_activation=output_activation,
                bias=bias,
                residual_id=residual_id,
                hides=hides,
                pooling=pooling,
                init_std=init_std,
                constant=pooled,
            )

        liked = None
        if history_dim:
            liked = user_history(
                schema.num_items,
                encoder=history,
                width=history_dim,
                heads=history_heads,
                layers=history_layers,
                positions=history_positions,
                shared=history_shared,
                dropout=history_dropout,
                layer_dropout=history_layer_dropout,
                init_std=init_std,
            )
        self.user_tower = tower("user", user_hidden, user_cross, user_bias, liked)
        self.item_tower = tower("item", item_hidden, item_cross, item_bias, None)
        if liked is not None and history_shared:
            liked.share(_id_vectors(self.item_tower, history_dim))
        self.profile = None
        if profile != "none":
            self.profile = ProfilePool(schema.num_items, width=embedding_dim, kind=profile, power=profile_power)
        self.global_bias = nn.Parameter(torch.zeros(())) if global_bias else None
        self.log_scale = None
        if similarity == "cosine":
            self.log_scale = nn.Parameter(torch.tensor(scale).log(), requires_grad=learn_scale)
        self.folds_bias = user_bias or item_bias or global_bias

    def freeze_levels(self) -> None:
        """Leave alone what moves all scores of a user alike: a loss that only orders items gives it no gradient beyond
        the noise of rounding, and Adam makes full steps of that."""
        for level in (self.global_bias, self.user_tower.id_biases):
            if level is not None:
                level.requires_grad_(False)

    @property
    def num_members(self) -> int:
        """Models that its vectors stand side by side of (`nn.ensemble`)."""
        return 1

    @property
    def reads_history(self) -> bool:
        return self.user_tower.history is not None

    @property
    def profile_kind(self) -> str:
        """What the model reads of what a user did: `none`, `positives` or `rows`."""
        return "none" if self.profile is None else self.profile.kind

    @property
    def device(self) -> torch.device:
        return next(self.parameters()).device

    def pack(self, side: Side, table: FeatureTable) -> PackedFeatures:
        """Check and lay out a whole feature table once, to be gathered from in every step.

        A shared history learns from the item table which row has which id.
        """
        tower = self.user_tower if side == "user" else self.item_tower
        device = next(iter(table.columns.values())).device if table.columns else self.device
        packed = tower.pack(table.columns, num_rows=table.num_rows, device=device)
        history = self.user_tower.history
        # Further items may be appended to the table, and some may be packed alone: neither is in any history.
        if side == "item" and history is not None and history.shared and table.num_rows >= self.schema.num_items:
            assert packed.id_N is not None
            history.learn_ids(packed.id_N)
        return replace(packed, constant=True)

    def user_vectors(
        self,
        packed: PackedFeatures,
        *,
        context: Mapping[str, Tensor] | None = None,
        history_RH: Tensor | None = None,
        at_R: Tensor | None = None,
        profile: AnyProfile | None = None,
    ) -> Tensor:
        """Vectors [R, V] of packed users, or of those that `at_R` points to; context and history are one per result,
        profiles one per packed user. Without a profile it is empty.

        Raises:
            ValueError: The model reads histories and none is given.
        """
        if self.reads_history and history_RH is None:
            raise ValueError(
                "the model reads the user's history, but none was given: set loader.history_length, for instance to 50"
            )
        vector_RD, bias_R = self.user_tower(packed, at_R=at_R, context=context, history_RH=history_RH)
        if self.profile is not None and profile is not None:
            pooled_RD = self.profile(profile)
            vector_RD = vector_RD + (pooled_RD if at_R is None else pooled_RD.index_select(0, at_R))
        if self.log_scale is not None:
            vector_RD = F.normalize(vector_RD, dim=1) * self.log_scale.exp()
        if not self.folds_bias:
            return vector_RD
        return torch.cat([vector_RD, self._user_bias(bias_R, vector_RD), _ones(vector_RD)], dim=1)

    def item_vectors(
        self, packed: PackedFeatures, *, context: Mapping[str, Tensor] | None = None, at_R: Tensor | None = None
    ) -> Tensor:
        """Vectors [R, V] of packed items, or of those that `at_R` points to, with one context per result."""
        vector_RD, bias_R = self.item_tower(packed, at_R=at_R, context=context)
        if self.log_scale is not None:
            vector_RD = F.normalize(vector_RD, dim=1)
        if not self.folds_bias:
            return vector_RD
        bias_R1 = torch.zeros_like(vector_RD[:, :1]) if bias_R is None else bias_R[:, None]
        return torch.cat([vector_RD, _ones(vector_RD), bias_R1], dim=1)

    def encode_users(self, features: Mapping[str, Tensor], history_RH: Tensor | None = None) -> Tensor:
        """Vectors [R, V] of users given as encoded feature columns; context columns may be left out."""
        packed = self.user_tower.pack(features, num_rows=_num_rows(features), device=self.device)
        return self.user_vectors(packed, context=features, history_RH=history_RH)

    def encode_items(self, features: Mapping[str, Tensor]) -> Tensor:
        """Vectors [R, V] of items given as encoded feature columns; context columns may be left out."""
        packed = self.item_tower.pack(features, num_rows=_num_rows(features), device=self.device)
        return self.item_vectors(packed, context=features)

    def forward(
        self, users: Mapping[str, Tensor], items: Mapping[str, Tensor], history_BH: Tensor | None = None
    ) -> Tensor:
        """Scores [B] of user rows against item rows, one to one."""
        return score(self.encode_users(users, history_BH), self.encode_items(items))

    def _user_bias(self, bias_R: Tensor | None, vector_RD: Tensor) -> Tensor:
        bias_R1 = torch.zeros_like(vector_RD[:, :1]) if bias_R is None else bias_R[:, None]
        return bias_R1 if self.global_bias is None else bias_R1 + self.global_bias


def score(user_BV: Tensor, item_BV: Tensor) -> Tensor:
    """Scores [B]: the dot product, row by row."""
    return (user_BV * item_BV).sum(-1)


def build_two_tower(schema: FeatureSchema, model: Mapping[str, Any]) -> TwoTower:
    """The model that a config describes: keywords of `TwoTower` and a `name`.

    Raises:
        ValueError: A keyword `TwoTower` does not take, or a value it refuses.
    """
    keywords = {key: value for key, value in model.items() if key != "name"}
    known = [name for name in inspect.signature(TwoTower).parameters if name != "schema"]
    for key in keywords:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            raise ValueError(f"model.{key} is not known: {f'did you mean model.{near[0]}?' if near else sorted(known)}")
    return TwoTower(schema, **keywords)


def _ones(vector_RD: Tensor) -> Tensor:
    return torch.ones_like(vector_RD[:, :1])


def _num_rows(features: Mapping[str, Tensor]) -> int:
    if not features:
        raise ValueError("no feature columns were given: the number of rows is unknown")
    return next(iter(features.values())).shape[0]


def _inputs(
    schema: FeatureSchema, side: Side, *, use_ids: bool, use_features: bool
) -> tuple[list[FeatureSpec], list[FeatureSpec]]:
    """The id (or nothing) and the other features of one tower."""
    specs, id_name = schema.side(side), USER_ID if side == "user" else ITEM_ID
    ids = [spec for spec in specs if spec.name == id_name] if use_ids else []
    return ids, [spec for spec in specs if spec.name != id_name] if use_features else []


def _id_vectors(item_tower: Tower, width: int) -> nn.Parameter:
    vectors = item_tower.id_vectors
    if vectors is None:
        raise ValueError(
            "model.history_shared needs the items' ids: set model.use_ids=true and keep the feature item_id, or set "
            "model.history_shared=false"
        )
    if vectors.shape[1] != width:
        raise ValueError(
            f"with model.history_shared the history has the width of the items' id vectors: set model.history_dim="
            f"{vectors.shape[1]}, got {width}"
        )
    return vectors
