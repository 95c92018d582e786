"""Cross layers and skip connections against slow references; what is hidden in training and what that does."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from planted import schema_of, tables_of
from torch import Tensor, nn

from towerrec.nn.blocks import LayerSettings, Residual
from towerrec.nn.cross import CrossNetwork, ParallelCross
from towerrec.nn.two_tower import TwoTower
from towerrec.schema import FIRST, UNKNOWN, FeatureSchema, FeatureSpec, FeatureTable


def settings(**keywords: Any) -> LayerSettings:
    own: dict[str, Any] = {
        "hidden": [6], "activation": "tanh", "norm": "none", "dropout": 0.0, "residual": False, "cross": 0,
        "cross_rank": None, "cross_structure": "stacked",
    }  # fmt: skip
    return LayerSettings(**{**own, **keywords})


def plain(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


# --- cross layers and residual layers --------------------------------------------------------------------------------


@pytest.mark.parametrize("rank", [None, 2])
def test_cross_layers_equal_the_formula_of_dcn_v2_written_in_loops(rank: int | None):
    torch.manual_seed(0)
    network = CrossNetwork(4, num_layers=3, rank=rank)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    x_RE = torch.randn(5, 4)
    for x0, got in zip(plain(x_RE), network(x_RE), strict=True):
        x = x0
        for layer in network.layers:
            weight, bias = plain(layer.weight.weight), plain(layer.weight.bias)
            weight = weight if layer.reduce is None else weight @ plain(layer.reduce.weight)
            product = [sum(weight[i, j] * x[j] for j in range(4)) + bias[i] for i in range(4)]
            x = np.array([x0[i] * product[i] + x[i] for i in range(4)])
        np.testing.assert_allclose(plain(got), x, rtol=1e-4, atol=1e-4)


def test_low_rank_saves_parameters():
    whole, low = (sum(p.numel() for p in CrossNetwork(32, num_layers=2, rank=r).parameters()) for r in (None, 4))
    assert (whole, low) == (2 * (32 * 32 + 32), 2 * (2 * 32 * 4 + 32))


def test_stacked_feeds_the_hidden_layers_with_the_crosses_and_parallel_joins_both():
    torch.manual_seed(0)
    x_RE = torch.randn(3, 4)
    stacked, width = settings(cross=2).build(4)
    assert width == 6
    cross, deep = stacked
    torch.testing.assert_close(stacked(x_RE), deep(cross(x_RE)))
    parallel, width = settings(cross=2, cross_structure="parallel").build(4)
    assert width == 4 + 6 and isinstance(parallel, ParallelCross)
    torch.testing.assert_close(parallel(x_RE), torch.cat([parallel.cross(x_RE), parallel.deep(x_RE)], dim=1))
    alone, width = settings(cross=1, hidden=[], cross_structure="parallel").build(4)
    assert width == 4 and isinstance(alone, CrossNetwork)


def test_a_residual_layer_adds_its_input_through_a_matrix_where_widths_differ():
    torch.manual_seed(0)
    layers, width = settings(hidden=[6, 6], residual=True).build(4)
    first, second = layers
    assert width == 6 and isinstance(first, Residual) and isinstance(second, Residual)
    x = np.array([1.0, -2.0, 0.5, 3.0])
    for layer in (first, second):
        linear = layer.block[0]
        inner = np.tanh(plain(linear.weight) @ x + plain(linear.bias))
        x = inner + (x if layer is second else plain(layer.skip.weight) @ x)
    got = layers(torch.tensor([[1.0, -2.0, 0.5, 3.0]]))[0]
    np.testing.assert_allclose(plain(got), x, rtol=1e-5)
    assert isinstance(second.skip, nn.Identity)


def test_products_of_features_are_learned_with_cross_layers_and_not_by_a_linear_tower():
    """An author counts for active users only: the user tower must multiply two of its features."""
    draw = torch.Generator().manual_seed(0)
    schema = FeatureSchema(
        (
            FeatureSpec("a", "user", "numeric"),
            FeatureSpec("b", "user", "numeric"),
            FeatureSpec("item_id", "item", "categorical", cardinality=FIRST + 1),
        ),
        1,
        1,
    )
    sign = torch.randn(2000, 2, generator=draw).sign()
    errors = {}
    for num_layers in (0, 1):
        torch.manual_seed(0)
        model = TwoTower(schema, embedding_dim=2, user_hidden=[], item_hidden=[], user_cross=num_layers, init_std=0.5)
        optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
        for _ in range(300):
            got = model({"a": sign[:, 0], "b": sign[:, 1]}, {"item_id": torch.full((2000,), FIRST)})
            loss = (got - sign.prod(1)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        errors[num_layers] = loss.item()
    assert errors[0] > 0.95 and errors[1] < 0.01


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"user_cross": -1}, "model.user_cross must be at least 0, got -1"),
        ({"item_cross": -1}, "model.item_cross must be at least 0, got -1"),
        ({"cross_rank": 0}, "model.cross_rank must be at least 1, got 0"),
        ({"cross_structure": "both"}, "model.cross_structure must be stacked or parallel, got 'both'"),
        ({"feature_dropout": 1.0}, r"model.feature_dropout must be in \[0, 1\), got 1.0"),
        ({"context_dropout": -0.1}, r"model.context_dropout must be in \[0, 1\)"),
    ],
)
def test_values_out_of_range_are_refused_by_name(keywords: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        TwoTower(schema_of(), **keywords)


# --- widths of features ----------------------------------------------------------------------------------------------


def test_every_feature_has_the_width_it_was_given():
    model = TwoTower(schema_of(), feature_dim=3, feature_dims={"author": 5, "tags": 2, "user_id": 4}, residual_id=False)
    item, user = model.item_tower, model.user_tower
    assert {name: tuple(t.shape) for name, t in item.features.tables.items()} == {"5": (7, 5)}
    assert item.features.list_tables["tags"].shape == (6, 2)
    assert item.features.out_width == 5 + 2 + 4  # and the text as it is
    assert user.features.tables["3"].shape == (5, 3)
    assert user.id_vectors is not None and user.id_vectors.shape[1] == 4
    assert item.id_vectors is not None and item.id_vectors.shape[1] == 3


# --- hidden in training ----------------------------------------------------------------------------------------------

MISSING = FeatureSchema(
    (
        FeatureSpec("tab", "user", "categorical", cardinality=9),
        FeatureSpec("city", "user", "categorical", cardinality=5),
        FeatureSpec("tags", "user", "multi", cardinality=6, width=2),
        FeatureSpec("age", "user", "numeric"),
        FeatureSpec("age_missing", "user", "numeric"),
        FeatureSpec("text", "user", "vector", width=3),
        FeatureSpec("hour", "user", "categorical", cardinality=26, context=True),
        FeatureSpec("item_id", "item", "categorical", cardinality=4),
    ),
    2000,
    2,
)
COLUMNS = {
    "tab": torch.full((2000,), 4),
    "city": torch.full((2000,), 3),
    "tags": torch.tensor([[2, 5]]).repeat(2000, 1),
    "age": torch.full((2000,), 0.7),
    "age_missing": torch.zeros(2000),
    "text": torch.tensor([[0.1, 0.2, 0.3]]).repeat(2000, 1),
}
# Every feature, as it is and as the encoders give a missing one.
FORMS = {
    "tab": (4, UNKNOWN),
    "city": (3, UNKNOWN),
    "tags": ([2, 5], [0, 0]),
    "age": ([0.7, 0.0], [0.0, 1.0]),
    "text": ([0.1, 0.2, 0.3], [0.0, 0.0, 0.0]),
}


def hidden_columns(share: float) -> dict[str, Tensor]:
    """The static features of 2,000 equal users as a tower reads them in training."""
    model = TwoTower(MISSING, feature_dim=3, feature_dims={"city": 2}, feature_dropout=share).train()
    encoder = model.user_tower.features
    packed = model.user_tower.pack(COLUMNS, num_rows=2000, device=model.device)
    torch.manual_seed(0)
    seen = model.user_tower._without_some(packed, context=False)
    assert seen.dense_NX is not None
    return {
        "tab": seen.index[3][:, 0] - encoder.offsets["tab"],
        "city": seen.index[2][:, 0] - encoder.offsets["city"],
        "tags": seen.lists["tags"].padded,
        "age": seen.dense_NX[:, :2],
        "text": seen.dense_NX[:, 2:],
    }


@pytest.mark.parametrize("name", FORMS)
def test_a_hidden_feature_looks_exactly_like_a_missing_one_and_the_share_is_kept(name: str):
    column = hidden_columns(0.3)[name]
    there, missing = (torch.tensor(form) for form in FORMS[name])
    is_missing = (column == missing).reshape(2000, -1).all(1)
    assert ((column == there).reshape(2000, -1).all(1) | is_missing).all()
    assert abs(is_missing.float().mean() - 0.3) < 0.04


def test_features_are_hidden_apart_from_each_other_and_only_in_training():
    columns = hidden_columns(0.5)
    tab, city = columns["tab"] == UNKNOWN, columns["city"] == UNKNOWN
    assert abs((tab & city).float().mean() - 0.25) < 0.04
    model = TwoTower(MISSING, feature_dropout=0.5)
    assert (model.train().encode_users(COLUMNS).std(0)[:-1] > 0).any()
    assert not model.eval().encode_users(COLUMNS).std(0).any()


def test_context_features_are_hidden_too():
    model = TwoTower(MISSING, feature_dropout=0.4, context_dropout=0.0).train()
    torch.manual_seed(0)
    packed = model.user_tower.pack_context({"hour": torch.full((2000,), 9)}, num_rows=2000)
    hidden = packed.index[8][:, 0] == model.user_tower.features.offsets["hour"] + UNKNOWN
    assert abs(hidden.float().mean() - 0.4) < 0.04


def test_the_unknown_value_is_trained_where_features_are_hidden_so_that_a_missing_one_is_met_prepared():
    model = TwoTower(MISSING, feature_dropout=0.5).train()
    model.encode_users(COLUMNS).sum().backward()
    table = model.user_tower.features.tables["8"]
    assert table.grad is not None and table.grad[model.user_tower.features.offsets["tab"] + UNKNOWN].any()


def trained(**keywords: Any) -> tuple[TwoTower, FeatureTable]:
    """A model whose items 0..9 have no id, trained as negatives beside the rest."""
    torch.manual_seed(0)
    model = TwoTower(schema_of(), embedding_dim=6, init_std=0.5, **keywords).train()
    users, items = tables_of()
    columns = items.columns | {"item_id": items.columns["item_id"].clone()}
    columns["item_id"][:10] = UNKNOWN
    optimizer = torch.optim.Adam(model.parameters(), lr=0.05)
    for _ in range(10):
        optimizer.zero_grad()
        (model.encode_users(users.columns) @ model.encode_items(columns).T)[:, :10].sigmoid().sum().backward()
        optimizer.step()
    return model.eval(), FeatureTable(columns, items.num_rows)


@pytest.mark.parametrize(
    "keywords", [{}, {"id_dropout": 0.5}, {"residual_id": False}, {"id_dropout": 0.5, "norm": "layer"}]
)
def test_the_unknown_id_stays_exactly_zero_in_training_even_where_unknown_items_are_negatives(keywords: dict[str, Any]):
    model, _ = trained(**keywords)
    for tower in (model.user_tower, model.item_tower):
        assert tower.id_vectors is not None and tower.id_biases is not None
        assert not tower.id_vectors[:FIRST].any() and not tower.id_biases[:FIRST].any()
    assert model.user_tower.id_vectors is not None and model.user_tower.id_vectors[FIRST:].any()


def test_after_training_a_cold_item_has_the_vector_of_its_features():
    model, items = trained(id_dropout=0.3)
    cold = items.gather(torch.tensor([3]))
    packed = model.item_tower.features.pack(cold, context=False, num_rows=1, device=model.device)
    tower = model.item_tower
    assert tower.layers is not None and tower.output is not None
    out = tower.output(tower.layers(tower.features(packed)))
    vector, bias = tower(tower.pack(cold, num_rows=1, device=model.device))
    torch.testing.assert_close(vector, out[:, :-1])
    torch.testing.assert_close(bias, out[:, -1])
