"""Weights over grown tables: what was known stays bit by bit, what is new begins as what was not known."""

import pytest
import torch

from towerrec.nn.ensemble import build_model
from towerrec.nn.growth import grow
from towerrec.nn.profile import UserProfiles
from towerrec.ragged import UserItems
from towerrec.schema import FIRST, UNKNOWN, FeatureSchema, FeatureSpec, FeatureTable

# Items 0..3 of the run lie at these rows of the larger table; rows 1 and 4 are new.
ROWS = torch.tensor([0, 2, 3, 5])
NEW = [1, 4]
MODELS = {
    "ids and features": {},
    "ids inside the layers": {"residual_id": False},
    "ids alone": {"use_features": False},
    "profile of rows": {"profile": "rows", "use_user_id": False, "similarity": "cosine"},
    "history of its own": {"history_dim": 6, "history": "mean"},
    "history that shares ids": {"history_dim": 8, "history": "attention", "history_shared": True},
    "two members": {"members": 2},
    "another width": {"feature_dims": {"author": 3}},
}


def schema(*, users: int, items: int, authors: int, tags: int, width: int) -> FeatureSchema:
    return FeatureSchema(
        (
            FeatureSpec("user_id", "user", "categorical", cardinality=users + FIRST),
            FeatureSpec("city", "user", "categorical", cardinality=4),
            FeatureSpec("hour", "user", "categorical", cardinality=26, context=True),
            FeatureSpec("item_id", "item", "categorical", cardinality=items + FIRST),
            FeatureSpec("author", "item", "categorical", cardinality=authors + FIRST),
            FeatureSpec("kind", "item", "categorical", cardinality=5),
            FeatureSpec("tags", "item", "multi", cardinality=tags + FIRST, width=width),
            FeatureSpec("length", "item", "numeric"),
        ),
        num_users=users,
        num_items=6 if items > 4 else 4,
    )


OLD = schema(users=5, items=4, authors=3, tags=3, width=2)
GROWN = schema(users=7, items=6, authors=5, tags=4, width=3)
USERS = FeatureTable({"user_id": torch.arange(5) + FIRST, "city": torch.tensor([1, 2, 3, 2, 0])}, 5)
ITEMS = FeatureTable(
    {
        "item_id": torch.arange(4) + FIRST,
        "author": torch.tensor([2, 3, 4, UNKNOWN]),
        "kind": torch.tensor([2, 3, 4, 2]),
        "tags": torch.tensor([[2, 3], [4, 0], [0, 0], [3, 4]]),
        "length": torch.tensor([0.5, -1.0, 0.0, 2.0]),
    },
    4,
)
# The same users and two new ones, the same items at ROWS and two new ones between them, with new values of features.
MORE_USERS = FeatureTable({"user_id": torch.arange(7) + FIRST, "city": torch.tensor([1, 2, 3, 2, 0, 1, 2])}, 7)
MORE_ITEMS = FeatureTable(
    {
        "item_id": torch.tensor([2, 6, 3, 4, 7, 5]),
        "author": torch.tensor([2, 5, 3, 4, 6, UNKNOWN]),
        "kind": torch.tensor([2, 3, 3, 4, 4, 2]),
        "tags": torch.tensor([[2, 3, 0], [2, 0, 0], [4, 0, 0], [0, 0, 0], [0, 0, 0], [3, 4, 0]]),
        "length": torch.tensor([0.5, 1.0, -1.0, 0.0, -2.0, 2.0]),
    },
    6,
)


def trained(model: dict) -> torch.nn.Module:
    """A model whose parameters are all other than it was made with; what is never trained stays zero."""
    torch.manual_seed(1)
    made = build_model(OLD, {"name": "m", "embedding_dim": 8, "init_std": 0.5, **model})
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            moved = parameter + torch.randn_like(parameter) * 0.1
            if "id_vectors" in name or "id_biases" in name or "list_tables" in name:
                moved[:FIRST] = 0.0
            if "history.table" in name:
                moved[:1] = 0.0
            parameter.copy_(moved)
    return made.eval()


def vectors(model, users: FeatureTable, items: FeatureTable, seen: list[list[int]]):
    """Vectors of all users, with `seen` for history and profile, and of all items."""
    packed_items = model.pack("item", items)
    item_IV = model.item_vectors(packed_items)
    history = torch.tensor(seen)
    rows = UserItems.from_pairs(
        torch.arange(users.num_rows).repeat_interleave(history.shape[1]),
        history.flatten(),
        num_users=users.num_rows,
        num_items=items.num_rows,
        values=(torch.arange(history.numel()) % 2).float(),
    )
    profile = UserProfiles(rows).of(torch.arange(users.num_rows), item_IV) if model.profile is not None else None
    return model.user_vectors(
        model.pack("user", users), history_RH=history if model.reads_history else None, profile=profile
    ), item_IV


@pytest.mark.parametrize("model", list(MODELS.values()), ids=list(MODELS))
@torch.no_grad()
def test_known_users_and_items_keep_their_vectors(model: dict):
    old = trained(model)
    made = build_model(GROWN, {"name": "m", "embedding_dim": 8, "init_std": 0.5, **model}).eval()
    grow(made, old, ROWS)
    seen = [[0, 1], [2, 3], [0, 3], [1, 2], [3, 1]]
    user_UV, item_IV = vectors(old, USERS, ITEMS, seen)
    moved = [*ROWS[torch.tensor(seen)].tolist(), [0, 2], [2, 3]]
    more_UV, more_IV = vectors(made, MORE_USERS, MORE_ITEMS, moved)
    torch.testing.assert_close(more_IV[ROWS], item_IV)
    torch.testing.assert_close(more_UV[:5], user_UV)


@torch.no_grad()
def test_rows_of_known_values_are_the_same_bits_at_their_new_places():
    old = trained({"profile": "rows", "history_dim": 6})
    made = build_model(GROWN, {"name": "m", "embedding_dim": 8, "profile": "rows", "history_dim": 6})
    grow(made, old, ROWS)
    for side in ("user_tower", "item_tower"):
        for name in ("id_vectors", "id_biases"):
            then, now = getattr(getattr(old, side), name), getattr(getattr(made, side), name)
            assert torch.equal(now[: len(then)], then)
    for name, then_at, now_at, number in (("author", 0, 0, 5), ("kind", 5, 7, 5)):
        tables = [model.item_tower.features.tables["8"] for model in (old, made)]
        assert old.item_tower.features.offsets[name] == then_at
        assert made.item_tower.features.offsets[name] == now_at
        assert torch.equal(tables[1][now_at : now_at + number], tables[0][then_at : then_at + number])
    tags = [model.item_tower.features.list_tables["tags"] for model in (old, made)]
    assert torch.equal(tags[1][:5], tags[0])
    assert torch.equal(made.user_tower.history.table[ROWS + 1], old.user_tower.history.table[1:])
    assert torch.equal(made.profile.shown_ID[ROWS], old.profile.shown_ID)
    assert not made.profile.shown_ID[NEW].any() and not made.user_tower.history.table[torch.tensor(NEW) + 1].any()


@torch.no_grad()
def test_a_new_item_begins_with_exactly_the_vector_of_its_features():
    old = trained({})
    made = build_model(GROWN, {"name": "m", "embedding_dim": 8}).eval()
    grow(made, old, ROWS)
    # As the old model read it: an unknown id, an unknown author, no tag it knows.
    as_unknown = {name: column[NEW].clone() for name, column in MORE_ITEMS.columns.items()}
    as_unknown["item_id"][:] = as_unknown["author"][:] = UNKNOWN
    now = made.item_vectors(made.pack("item", MORE_ITEMS))[NEW]
    then = old.item_vectors(old.pack("item", FeatureTable(as_unknown, 2)))
    torch.testing.assert_close(now, then)


@torch.no_grad()
def test_where_ids_are_all_there_is_new_ones_begin_as_any_models():
    torch.manual_seed(0)
    made = build_model(GROWN, {"name": "m", "embedding_dim": 8, "use_features": False})
    grow(made, trained({"use_features": False}), ROWS)
    assert made.item_tower.id_vectors[-2:].abs().min() > 0
    assert not made.item_tower.id_biases[-2:].any()
