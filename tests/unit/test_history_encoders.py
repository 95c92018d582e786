"""Encoders of the history against slow references, what they do with nothing, and what only some of them can learn."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from planted import NUM_ITEMS, schema_of, tables_of
from torch import Tensor, nn

from towerrec.nn.history import AttentionPool, RecencyPool
from towerrec.nn.history_encoders import ENCODERS, user_history
from towerrec.nn.transformer import HistoryTransformer
from towerrec.nn.two_tower import TwoTower
from towerrec.schema import FIRST, UNKNOWN, FeatureSchema, FeatureSpec, FeatureTable

WIDTH, TABLE = 4, 11
HISTORY = torch.tensor([[3, 7, -1, 2], [-1, -1, 5, -1], [9, 9, 9, 1], [-1, -1, -1, -1]])


def history_of(encoder: str, **keywords: Any) -> nn.Module:
    torch.manual_seed(0)
    own = {
        "encoder": encoder, "width": WIDTH, "heads": 2, "layers": 2, "positions": 3, "shared": False, "dropout": 0.0,
        "layer_dropout": 0.0, "init_std": 1.0,
    }  # fmt: skip
    return perturbed(user_history(TABLE - 1, **{**own, **keywords}))


def perturbed(module: nn.Module) -> nn.Module:
    """No parameter at its start, so that nothing is equal by accident."""
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.5)
    return module


def plain(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def softmax(logits: list[float]) -> np.ndarray:
    powers = np.exp(np.array(logits) - max(logits))
    return powers / powers.sum()


def slow_recency(pool: RecencyPool, items: np.ndarray, places: list[int]) -> np.ndarray:
    weights = np.array([(1.0 + place) ** -pool.decay.item() for place in places])
    return (weights[:, None] * items).sum(0) / weights.sum()


def slow_attention(pool: AttentionPool, items: np.ndarray, places: list[int]) -> np.ndarray:
    query, position, join = plain(pool.query.weight), plain(pool.position), plain(pool.join.weight)
    pooled = []
    for head in range(len(query)):
        logits = [query[head] @ item + position[head, min(place, 2)] for item, place in zip(items, places, strict=True)]
        pooled.append(sum(w * item for w, item in zip(softmax(logits), items, strict=True)))
    return join @ np.concatenate(pooled)


def slow_norm(x: np.ndarray, norm: nn.LayerNorm) -> np.ndarray:
    return (x - x.mean()) / np.sqrt(x.var() + norm.eps) * plain(norm.weight) + plain(norm.bias)


def slow_linear(x: np.ndarray, linear: nn.Linear) -> np.ndarray:
    return plain(linear.weight) @ x + (0.0 if linear.bias is None else plain(linear.bias))


def slow_transformer(model: HistoryTransformer, items: np.ndarray, places: list[int]) -> np.ndarray:
    position = plain(model.position)
    x = [plain(model.token)] + [item + position[min(place, 2)] for item, place in zip(items, places, strict=True)]
    for layer in model.layers:
        normed = [slow_norm(one, layer.norm) for one in x]
        keys = [slow_linear(one, layer.key) for one in normed]
        values = [slow_linear(one, layer.value) for one in normed]
        size, out = WIDTH // layer.heads, []
        for own, one in zip(x, normed, strict=True):
            query, read = slow_linear(one, layer.query), []
            for part in (slice(h * size, (h + 1) * size) for h in range(layer.heads)):
                weights = softmax([query[part] @ key[part] / np.sqrt(size) for key in keys])
                read.append(sum(w * value[part] for w, value in zip(weights, values, strict=True)))
            attended = own + slow_linear(np.concatenate(read), layer.join)
            norm, wide, _, narrow = layer.feed
            inner = plain(F.gelu(torch.from_numpy(slow_linear(slow_norm(attended, norm), wide))))
            out.append(attended + slow_linear(inner, narrow))
        x = out
    return slow_norm(x[0], model.norm)


@pytest.mark.parametrize(
    ("name", "slow"),
    [("recency", slow_recency), ("attention", slow_attention), ("transformer", slow_transformer)],
)
def test_an_encoder_equals_its_definition_over_the_items_that_are_there(name: str, slow: Any):
    history = history_of(name).eval()
    got_RW = history(HISTORY)
    for row, got in zip(HISTORY[:3].tolist(), got_RW, strict=False):
        places = [place for place, item in enumerate(row) if item >= 0]
        items = plain(history.table)[[row[place] + 1 for place in places]]
        np.testing.assert_allclose(plain(got), slow(history.encoder, items, places), atol=1e-5)


@pytest.mark.parametrize("name", ENCODERS)
def test_an_empty_history_has_a_finite_vector_and_gives_no_gradient_to_any_item(name: str):
    history = history_of(name)
    vector_RW = history(torch.full((2, 5), -1))
    assert vector_RW.isfinite().all()
    if name == "transformer":
        assert vector_RW.any() and torch.equal(vector_RW[0], vector_RW[1])
    else:
        assert not vector_RW.any()
    vector_RW.square().sum().backward()
    assert history.table.grad is None or not history.table.grad.any()
    for parameter in history.parameters():
        assert parameter.grad is None or parameter.grad.isfinite().all()


@pytest.mark.parametrize("name", ENCODERS)
def test_what_is_not_there_changes_nothing_and_gets_no_gradient(name: str):
    history = history_of(name)
    before = history(HISTORY)
    before.square().sum().backward()
    assert not history.table.grad[0].any() and history.table.grad[[1 + i for i in (3, 7, 2, 5, 9, 1)]].any(1).all()
    assert not history.table.grad[[1 + i for i in (0, 4, 6, 8)]].any()
    with torch.no_grad():
        history.table[0] += 100.0
    torch.testing.assert_close(history(HISTORY), before)
    torch.testing.assert_close(history(F.pad(HISTORY, (0, 3), value=-1)), before)


@pytest.mark.parametrize("name", ENCODERS)
def test_only_the_mean_is_blind_to_order(name: str):
    history = history_of(name).eval()
    ahead, back = history(torch.tensor([[3, 7, 5]])), history(torch.tensor([[5, 7, 3]]))
    assert torch.allclose(ahead, back, atol=1e-6) == (name == "mean")


def test_recency_starts_as_the_mean():
    history, mean = (history_of(name) for name in ("recency", "mean"))
    torch.nn.init.zeros_(history.encoder.decay)
    with torch.no_grad():
        history.table.copy_(mean.table)
    torch.testing.assert_close(history(HISTORY), mean(HISTORY))


@pytest.mark.parametrize("name", ["attention", "transformer"])
def test_positions_beyond_the_last_are_the_last(name: str):
    history = history_of(name, positions=2).eval()
    near, far = torch.tensor([[1, 2, -1, -1]]), torch.tensor([[1, -1, -1, 2]])
    torch.testing.assert_close(history(near), history(far))
    longer = history_of(name, positions=4).eval()
    assert not torch.allclose(longer(near), longer(far))


def test_a_left_out_item_is_as_if_it_had_not_been_there():
    history = history_of("mean", dropout=0.5).train()
    torch.manual_seed(3)
    halved = history(torch.tensor([[2, 5]]).repeat(400, 1))
    table = history.table
    possible = torch.stack([torch.zeros(WIDTH), table[3], table[6], (table[3] + table[6]) / 2])
    which = torch.cdist(halved, possible).argmin(1)
    torch.testing.assert_close(halved, possible[which])
    assert torch.bincount(which, minlength=4).min() > 70


def ordered_log(num_items: int, num_rows: int, *, seed: int) -> tuple[Tensor, Tensor]:
    """Random histories, some short, and the video that follows the most recent one."""
    draw = torch.Generator().manual_seed(seed)
    history_RH = torch.randint(num_items, (num_rows, 6), generator=draw)
    length_R1 = torch.randint(1, 7, (num_rows, 1), generator=draw)
    history_RH[torch.arange(6) >= length_R1] = -1
    return history_RH, (history_RH[:, 0] * 3 + 1) % num_items


@pytest.mark.parametrize(
    ("name", "learns"), [("mean", False), ("recency", True), ("attention", True), ("transformer", True)]
)
def test_the_video_that_follows_the_last_one_is_learned_by_those_that_see_the_order(name: str, learns: bool):
    num_items = 20
    torch.manual_seed(0)
    schema = FeatureSchema(
        (FeatureSpec("item_id", "item", "categorical", cardinality=num_items + FIRST),), 1, num_items
    )
    model = TwoTower(schema, embedding_dim=16, history=name, history_dim=16, user_hidden=[32], init_std=0.3)
    item = model.pack("item", FeatureTable({"item_id": torch.arange(num_items) + FIRST}, num_items))

    def logits(history_RH: Tensor) -> Tensor:
        nobody = model.user_tower.pack({}, num_rows=len(history_RH), device=model.device)
        return model.user_vectors(nobody, history_RH=history_RH) @ model.item_vectors(item).T

    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for step in range(250):
        history_RH, target_R = ordered_log(num_items, 256, seed=step)
        optimizer.zero_grad()
        F.cross_entropy(logits(history_RH), target_R).backward()
        optimizer.step()
    history_RH, target_R = ordered_log(num_items, 1000, seed=-1)
    right = (logits(history_RH).argmax(1) == target_R).float()[(history_RH >= 0).sum(1) > 3].mean()
    assert (right > 0.95) == learns and (right < 0.7) != learns, right


# --- shared embeddings -----------------------------------------------------------------------------------------------


def shared_model(**keywords: Any) -> TwoTower:
    torch.manual_seed(0)
    return TwoTower(schema_of(), embedding_dim=6, history_dim=6, history_shared=True, init_std=0.5, **keywords)


def test_a_shared_history_is_the_mean_of_the_items_id_vectors_whatever_the_order_of_the_table():
    model = shared_model()
    _, items = tables_of()
    turned = items.columns["item_id"].flip(0).clone()
    turned[4] = UNKNOWN
    model.pack("item", FeatureTable(items.columns | {"item_id": turned}, NUM_ITEMS))
    vectors = model.item_tower.id_vectors
    assert model.user_tower.history is not None and vectors is not None
    assert model.user_tower.history.table is vectors
    got = model.user_tower.history(torch.tensor([[0, 3, -1], [4, 0, -1]]))
    torch.testing.assert_close(got[0], (vectors[turned[0]] + vectors[turned[3]]) / 2)
    torch.testing.assert_close(got[1], vectors[turned[0]])  # an item without an id says nothing


def test_a_shared_history_teaches_the_items_and_is_one_parameter_of_the_model():
    model = shared_model()
    users, items = tables_of()
    model.pack("item", items)
    own = TwoTower(schema_of(), embedding_dim=6, history_dim=6, init_std=0.5)
    names = [name for name, _ in model.named_parameters()]
    assert len(names) == len([name for name, _ in own.named_parameters()]) - 1
    model.encode_users(users.gather(torch.tensor([0])), torch.tensor([[7, -1]])).sum().backward()
    assert model.item_tower.id_vectors is not None and model.item_tower.id_vectors.grad is not None
    assert model.item_tower.id_vectors.grad.any(1).nonzero().flatten().tolist() == [7 + FIRST]


def test_a_shared_history_survives_its_checkpoint_and_asks_for_the_item_table():
    model, again = perturbed(shared_model()), shared_model()
    users, items = tables_of()
    again.load_state_dict(model.state_dict())
    row, history_RH = users.gather(torch.arange(3)), torch.tensor([[1, 2], [3, -1], [-1, -1]])
    with pytest.raises(ValueError, match=r"model.pack\('item', items\)"):
        again.encode_users(row, history_RH)
    for one in (model, again):
        one.pack("item", items)
    again.pack("item", FeatureTable({k: v[:2] for k, v in items.columns.items()}, 2))  # some new ones alone
    torch.testing.assert_close(model.encode_users(row, history_RH), again.encode_users(row, history_RH))


def test_a_shared_history_needs_ids_of_its_own_width():
    with pytest.raises(ValueError, match=r"set model.history_dim=6, got 5"):
        TwoTower(schema_of(), embedding_dim=6, history_dim=5, history_shared=True)
    with pytest.raises(ValueError, match=r"needs the items' ids: set model.use_ids=true"):
        TwoTower(schema_of(), embedding_dim=6, history_dim=6, history_shared=True, use_ids=False)


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"history": "gru"}, "model.history must be mean, recency, attention or transformer, got 'gru'"),
        ({"history": "transformer", "history_heads": 3}, "model.history_dim=8 must be a multiple of model.history_he"),
        ({"history_heads": 0}, "model.history_heads must be at least 1, got 0"),
        ({"history_layers": 0}, "model.history_layers must be at least 1"),
        ({"history_positions": 0}, "model.history_positions must be at least 1"),
        ({"history_dropout": 1.0}, r"model.history_dropout must be in \[0, 1\), got 1.0"),
        ({"history_layer_dropout": -0.5}, r"model.history_layer_dropout must be in \[0, 1\)"),
    ],
)
def test_a_history_out_of_its_range_is_refused_by_name(keywords: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        TwoTower(schema_of(), history_dim=8, **keywords)


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("shared", [False, True])
def test_a_new_video_is_scored_from_its_features_whatever_encodes_the_history(name: str, shared: bool):
    torch.manual_seed(0)
    model = TwoTower(
        schema_of(), embedding_dim=6, history=name, history_dim=6, history_shared=shared, init_std=0.5
    ).eval()
    users, items = tables_of()
    grown = {column: torch.cat([values, values[:1]]) for column, values in items.columns.items()}
    grown["item_id"][-1] = UNKNOWN
    packed = model.pack("item", FeatureTable(grown, NUM_ITEMS + 1))
    new = model.item_vectors(packed, at_R=torch.tensor([NUM_ITEMS]))
    assert model.item_tower.id_vectors is not None and model.item_tower.id_biases is not None
    known = model.item_vectors(packed, at_R=torch.tensor([0]))
    known[:, :6] -= model.item_tower.id_vectors[FIRST]
    known[:, -1] -= model.item_tower.id_biases[FIRST]
    torch.testing.assert_close(new, known)
    user = model.user_vectors(model.pack("user", users), at_R=torch.tensor([5]), history_RH=torch.tensor([[2, 0, -1]]))
    assert (user @ new.T).isfinite().all()
