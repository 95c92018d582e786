"""The towers: folding, distinct evaluation, unknown rows, and every option."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from planted import NUM_ITEMS, NUM_USERS, schema_of, tables_of

from towerrec.nn.batch_scorer import BatchScorer
from towerrec.nn.cross import STRUCTURES
from towerrec.nn.history_encoders import ENCODERS
from towerrec.nn.lookup import Lists, pooled
from towerrec.nn.losses import BCE, FullSoftmax, InBatchSoftmax, Loss
from towerrec.nn.negatives import Negatives, NoNegatives, Uniform
from towerrec.nn.two_tower import TwoTower, build_two_tower, score
from towerrec.ragged import UserItems
from towerrec.schema import UNKNOWN, Batch, FeatureSchema, FeatureSpec, FeatureTable

CONTEXT = (
    FeatureSpec("hour", "user", "categorical", cardinality=26, context=True),
    FeatureSpec("age", "item", "numeric", context=True),
)


def with_context(schema: FeatureSchema) -> FeatureSchema:
    return FeatureSchema((*schema.features, *CONTEXT), schema.num_users, schema.num_items)


def model_of(schema: FeatureSchema | None = None, **keywords: Any) -> TwoTower:
    torch.manual_seed(0)
    small = {"embedding_dim": 6, "feature_dim": 3, "user_hidden": [5], "item_hidden": [4], "init_std": 0.5}
    return TwoTower(schema_of() if schema is None else schema, **{**small, **keywords})


def perturbed(model: TwoTower) -> TwoTower:
    """No parameter at zero, so that nothing is equal by accident."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)
    return model


def scorer_of(model: TwoTower, negatives: Negatives | None = None) -> BatchScorer:
    users, items = tables_of()
    known = UserItems.from_pairs(
        torch.arange(NUM_USERS), torch.arange(NUM_USERS) % NUM_ITEMS, num_users=NUM_USERS, num_items=NUM_ITEMS
    )
    return BatchScorer(
        model,
        users=users,
        items=items,
        item_counts=torch.ones(NUM_ITEMS),
        known=known,
        negatives=negatives or NoNegatives(),
    )


def batch_of(num_rows: int = 40, *, history: bool = False) -> Batch:
    draw = torch.Generator().manual_seed(1)
    user = torch.randint(20, (num_rows,), generator=draw)
    return Batch(
        user_idx=user,
        item_idx=user % NUM_ITEMS,
        label=(torch.rand(num_rows, generator=draw) < 0.5).float(),
        weight=torch.ones(num_rows),
        user_context={"hour": torch.randint(1, 26, (num_rows,), generator=draw)},
        item_context={"age": torch.randn(num_rows, generator=draw)},
        history=torch.randint(-1, NUM_ITEMS, (num_rows, 4), generator=draw) if history else None,
    )


@pytest.mark.parametrize("similarity", ["dot", "cosine"])
def test_one_dot_product_is_the_explicit_sum_of_similarity_and_biases(similarity: str):
    model = perturbed(model_of(similarity=similarity, scale=3.0)).eval()
    users, items = (t.gather(torch.arange(7)) for t in tables_of())
    vector_u, bias_u = model.user_tower(model.user_tower.pack(users, num_rows=7, device=model.device))
    vector_i, bias_i = model.item_tower(model.item_tower.pack(items, num_rows=7, device=model.device))
    if similarity == "cosine":
        assert model.log_scale is not None
        product = torch.cosine_similarity(vector_u, vector_i) * model.log_scale.exp()
    else:
        product = (vector_u * vector_i).sum(1)
    assert model.global_bias is not None
    torch.testing.assert_close(model(users, items), product + bias_u + bias_i + model.global_bias)
    plain = model_of(user_bias=False, item_bias=False, global_bias=False)
    assert plain.encode_users(users).shape == (7, 6) and model.encode_users(users).shape == (7, 8)


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("loss", [BCE(), InBatchSoftmax(), FullSoftmax()], ids=lambda loss: loss.name)
def test_evaluating_distinct_rows_equals_evaluating_every_row(loss: Loss, context: bool):
    schema = with_context(schema_of()) if context else schema_of()
    model = perturbed(model_of(schema)).eval()
    scorer, batch = scorer_of(model, Uniform(per_row=2, shared=9)), batch_of()
    scored = scorer.scored(batch, loss)
    users, items = tables_of()
    user = model.encode_users(users.gather(batch.user_idx) | batch.user_context)
    item_columns = items.gather(batch.item_idx)
    if loss.compares != "catalogue" or context:
        item_columns = item_columns | batch.item_context
    want = score(user, model.encode_items(item_columns))
    torch.testing.assert_close(scored.score_B[:40], want)
    torch.testing.assert_close(scorer.scored_rows(batch).score_B, want)
    if loss.compares == "rows":
        assert len(scored.label_B) == 120 and not scored.label_B[40:].any()
        liked = scored.user_idx_G[scored.group_B[40:]] == scored.item_idx_B[40:]
        assert torch.equal(scored.weight_B[40:] == 0, liked)


def test_padding_never_contributes_and_pooling_is_what_it_says():
    table = torch.tensor([[100.0, 100.0], [1.0, 2.0], [3.0, 6.0]])
    lists = Lists.of(torch.tensor([[1, 2, 0], [2, 0, 0], [0, 0, 0]]))
    total = torch.tensor([[4.0, 8.0], [3.0, 6.0], [0.0, 0.0]])
    torch.testing.assert_close(pooled(table, lists, "sum"), total)
    torch.testing.assert_close(pooled(table, lists, "mean"), total / torch.tensor([[2.0], [1.0], [1.0]]))
    torch.testing.assert_close(pooled(table, lists, "sqrt"), total / torch.tensor([[2.0], [1.0], [1.0]]).sqrt())


def test_padding_rows_get_no_gradient_and_change_nothing():
    model = model_of(history_dim=3)
    users, items = tables_of()
    history = torch.tensor([[0, -1, -1]]).repeat(NUM_USERS, 1)
    model.encode_users(users.columns, history).sum().backward()
    model.encode_items(items.columns).sum().backward()
    assert model.user_tower.history is not None
    tables = {"tags": model.item_tower.features.list_tables["tags"], "history": model.user_tower.history.table}
    for name, table in tables.items():
        assert table.grad is not None and not table.grad[0].any(), name
        assert table.grad.any(), name


def test_history_is_the_mean_of_its_items_whatever_their_order_and_padding():
    model = perturbed(model_of(history_dim=3)).eval()
    users, _ = tables_of()
    row = users.gather(torch.tensor([0, 0, 0]))
    vectors = model.encode_users(row, torch.tensor([[3, 7, -1], [7, -1, 3], [3, 5, -1]]))
    torch.testing.assert_close(vectors[0], vectors[1])
    assert not torch.allclose(vectors[0], vectors[2])
    with pytest.raises(ValueError, match=r"set loader.history_length"):
        model.encode_users(row)


def test_unknown_rows_start_at_zero_so_a_cold_item_has_the_vector_of_its_features():
    model = model_of()
    _, items = tables_of()
    cold = dict(items.gather(torch.arange(3))) | {"item_id": torch.full((3,), UNKNOWN)}
    for table in (model.user_tower, model.item_tower):
        assert table.id_vectors is not None and not table.id_vectors[: UNKNOWN + 1].any()
        assert table.id_vectors[UNKNOWN + 1 :].abs().min() > 0
    without_ids = model_of(use_ids=False)
    without_ids.item_tower.features.load_state_dict(model.item_tower.features.state_dict())
    without_ids.item_tower.layers.load_state_dict(model.item_tower.layers.state_dict())  # type: ignore[union-attr]
    without_ids.item_tower.output.load_state_dict(model.item_tower.output.state_dict())  # type: ignore[union-attr]
    torch.testing.assert_close(model.encode_items(cold), without_ids.encode_items(cold))


def test_absent_context_is_unknown_and_present_context_counts():
    model = perturbed(model_of(with_context(schema_of()))).eval()
    users, items = (dict(t.gather(torch.arange(4))) for t in tables_of())
    unknown = {"hour": torch.full((4,), UNKNOWN)}
    torch.testing.assert_close(model.encode_users(users), model.encode_users(users | unknown))
    assert not torch.allclose(model.encode_users(users), model.encode_users(users | {"hour": torch.full((4,), 9)}))
    assert not torch.allclose(model.encode_items(items), model.encode_items(items | {"age": torch.ones(4)}))


@pytest.mark.parametrize("structure", STRUCTURES)
@pytest.mark.parametrize("history", ENCODERS)
def test_gradients_reach_every_parameter(history: str, structure: str):
    model = model_of(
        with_context(schema_of()),
        history_dim=4,
        history=history,
        similarity="cosine",
        context_dropout=0.0,
        user_cross=1,
        item_cross=1,
        cross_rank=2,
        cross_structure=structure,
        residual=True,
    )
    loss = BCE()
    scored = scorer_of(model).scored(batch_of(history=True), loss)
    loss(scored, scorer_of(model).known).backward()
    for name, parameter in model.named_parameters():
        assert parameter.grad is not None and parameter.grad.any(), name


@pytest.mark.parametrize(
    "option",
    [
        {"embedding_dim": 7},
        {"use_ids": False},
        {"use_features": False},
        {"feature_dim": 4},
        {"feature_dims": {"author": 5}},
        {"user_hidden": []},
        {"item_hidden": [4, 4]},
        {"activation": "gelu"},
        {"norm": "layer"},
        {"norm": "batch"},
        {"dropout": 0.5},
        {"residual": True},
        {"user_cross": 1},
        {"item_cross": 2},
        {"user_cross": 1, "cross_rank": 2},
        {"item_cross": 1, "cross_structure": "parallel"},
        {"output_activation": True},
        {"residual_id": False},
        {"user_bias": False},
        {"item_bias": False},
        {"global_bias": False},
        {"similarity": "cosine"},
        {"similarity": "cosine", "scale": 2.0},
        {"similarity": "cosine", "learn_scale": False},
        {"id_dropout": 0.5},
        {"feature_dropout": 0.5},
        {"context_dropout": 0.6},
        {"pooling": "sum"},
        {"history_dim": 3},
        {"history_dim": 4, "history_dropout": 0.5},
        {"history_dim": 4, "history": "recency"},
        {"history_dim": 4, "history": "attention"},
        {"history_dim": 4, "history": "transformer"},
        {"history_dim": 6, "history_shared": True},
        {"history_dim": 4, "history": "attention", "history_heads": 4},
        {"history_dim": 4, "history": "transformer", "history_heads": 1},
        {"history_dim": 4, "history": "transformer", "history_layers": 2},
        {"history_dim": 4, "history": "attention", "history_positions": 2},
        {"history_dim": 4, "history": "transformer", "history_positions": 2},
        {"history_dim": 4, "history": "transformer", "history_layer_dropout": 0.5},
        {"init_std": 0.1},
    ],
    ids=str,
)
def test_every_option_changes_the_parameters_after_one_step(option: dict[str, Any]):
    # Without the last key: the others only say where it counts.
    base = dict(list(option.items())[:-1])
    states = []
    for keywords in (base, {**base, **option}):
        model = model_of(with_context(schema_of()), **keywords).train()
        torch.manual_seed(1)
        scored = scorer_of(model).scored(batch_of(history=model.reads_history), BCE())
        loss = BCE()(scored, scorer_of(model).known)
        loss.backward()
        optimizer = torch.optim.SGD(model.parameters(), lr=1.0)
        optimizer.step()
        states.append({name: value.clone() for name, value in model.state_dict().items()} | {"loss": loss.detach()})
    before, after = states
    same = before.keys() == after.keys() and all(
        before[name].shape == after[name].shape and torch.equal(before[name], after[name]) for name in before
    )
    assert not same


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"similarity": "l2"}, "dot or cosine"),
        ({"scale": 0.0}, "model.scale must be above 0"),
        ({"embedding_dim": 0}, "model.embedding_dim must be at least 1, got 0"),
        ({"id_dropout": 1.0}, r"model.id_dropout must be in \[0, 1\)"),
        ({"dropout": -0.1}, r"model.dropout must be in \[0, 1\)"),
        ({"norm": "rms"}, "none, layer or batch"),
        ({"activation": "swish"}, "relu, gelu, silu, tanh, none"),
        ({"pooling": "max"}, "mean, sum or sqrt"),
        ({"user_hidden": [0]}, "at least 1"),
        ({"feature_dims": {"authro": 4}}, "did you mean 'author'"),
        ({"use_ids": False, "use_features": False}, "the user tower has no input"),
    ],
)
def test_values_out_of_range_are_refused_by_name(keywords: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        model_of(**keywords)


def test_a_misspelt_model_key_is_refused_with_the_nearest_one():
    with pytest.raises(ValueError, match=r"did you mean model.embedding_dim"):
        build_two_tower(schema_of(), {"name": "x", "embeding_dim": 4})


def test_a_table_of_another_schema_is_refused_before_any_lookup():
    model = model_of()
    users, _ = tables_of()
    beyond = FeatureTable(users.columns | {"activity": torch.full((NUM_USERS,), 5)}, NUM_USERS)
    with pytest.raises(ValueError, match=r"'activity' holds the index 5, the schema allows 0..4"):
        model.pack("user", beyond)
    lacking = FeatureTable({"user_id": users.columns["user_id"]}, NUM_USERS)
    with pytest.raises(ValueError, match="user feature 'activity' is missing"):
        model.pack("user", lacking)


def test_plain_matrix_factorisation_is_the_product_of_its_tables():
    model = perturbed(
        model_of(
            use_features=False, user_bias=False, item_bias=False, global_bias=False, user_hidden=[], item_hidden=[]
        )
    )
    users, items = (t.gather(torch.arange(9)) for t in tables_of())
    assert model.user_tower.id_vectors is not None and model.item_tower.id_vectors is not None
    want = (model.user_tower.id_vectors[2:11] * model.item_tower.id_vectors[2:11]).sum(1)
    torch.testing.assert_close(model(users, items), want)


@pytest.mark.parametrize("model", [{}, {"residual_id": False}, {"residual": True}, {"user_hidden": []}], ids=str)
def test_rows_of_one_user_in_several_contexts_are_those_encoded_one_by_one(model: dict[str, Any]):
    towers = model_of(with_context(schema_of()), **model).eval()
    users, _ = tables_of()
    packed, at = towers.pack("user", users), torch.tensor([3, 0, 3, 3, 7])
    context = {"hour": torch.tensor([2, 3, 4, 2, 1])}
    together = towers.user_vectors(packed, context=context, at_R=at)
    rows = zip(at.split(1), context["hour"].split(1), strict=True)
    alone = [towers.user_vectors(packed.gather(user), context={"hour": hour}) for user, hour in rows]
    torch.testing.assert_close(together, torch.cat(alone))
