"""A user as the sum of his items: pooled as defined, never with what a batch asks for, and the same everywhere."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from planted import NUM_ITEMS, NUM_USERS, Planted, profiles_of, schema_of, tables_of
from test_two_tower import model_of, perturbed, with_context
from torch import Tensor

from towerrec.data.user_batches import UserBatchLoader
from towerrec.nn.batch_scorer import BatchScorer
from towerrec.nn.losses import BCE, FullSoftmax, Loss, Multi, Multinomial
from towerrec.nn.negatives import NoNegatives
from towerrec.nn.profile import Profile, ProfilePool, UserProfiles
from towerrec.nn.two_tower import TwoTower
from towerrec.ragged import UserItems
from towerrec.schema import UNKNOWN, Batch, FeatureTable

PLANTED = Planted.make()

# User 0 saw 0 (twice, liked once), 2 and 3; user 1 saw nothing; user 2 liked 4, 1 and saw 2.
SEEN = [(0, 0, 0), (0, 0, 1), (0, 2, 0), (0, 3, 1), (2, 4, 1), (2, 1, 1), (2, 2, 0)]


def small_profiles() -> UserProfiles:
    user, item, liked = (torch.tensor(column) for column in zip(*SEEN, strict=True))
    return UserProfiles(UserItems.from_pairs(user, item, num_users=3, num_items=5, values=liked.float()))


def slow_pool(pool: ProfilePool, user: int, item_IV: Tensor) -> Tensor:
    """Written from the definition: own vectors of the liked, a share and a vector more for what was only shown."""
    liked = {i for u, i, label in SEEN if u == user and label}
    shown = {i for u, i, _ in SEEN if u == user} - liked
    total, count = torch.zeros(pool.width), 0
    for item in sorted(liked | shown):
        vector = item_IV[item, : pool.width]
        if item in liked:
            total, count = total + vector, count + 1
        elif pool.shown_share is not None and pool.shown_ID is not None:
            total, count = total + pool.shown_share * vector + pool.shown_ID[item], count + 1
    return total / max(count, 1) ** pool.power


@pytest.mark.parametrize("power", [0.0, 0.5, 1.0])
@pytest.mark.parametrize("kind", ["positives", "rows"])
@pytest.mark.parametrize("joined", [0, 2], ids=["all_items_known", "two_joined_after_training"])
def test_a_pooled_profile_is_the_sum_over_a_power_of_the_number(kind: str, power: float, joined: int):
    torch.manual_seed(0)
    pool, item_IV = ProfilePool(5, width=4, kind=kind, power=power), torch.randn(5 + joined, 6)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter)
    users = torch.tensor([2, 0, 1, 0])
    got_GD = pool(small_profiles().of(users, item_IV))
    torch.testing.assert_close(got_GD, torch.stack([slow_pool(pool, int(u), item_IV) for u in users]))
    assert (got_GD[2] == 0).all() and got_GD.isfinite().all()
    half_GD = pool(small_profiles().of(users, item_IV.bfloat16()))
    assert half_GD.dtype == torch.float32
    torch.testing.assert_close(half_GD, got_GD, atol=0.05, rtol=0.02)


def test_the_gradient_of_a_pool_is_that_of_the_definition():
    torch.manual_seed(0)
    pool = ProfilePool(5, width=4, kind="rows", power=0.5)
    for parameter in pool.parameters():
        torch.nn.init.normal_(parameter)
    item_IV, weight_GD = torch.randn(5, 6, requires_grad=True), torch.randn(3, 4)
    inputs = [item_IV, *pool.parameters()]
    fast = (pool(small_profiles().of(torch.arange(3), item_IV)) * weight_GD).sum()
    slow = (torch.stack([slow_pool(pool, u, item_IV) for u in range(3)]) * weight_GD).sum()
    for got, want in zip(torch.autograd.grad(fast, inputs), torch.autograd.grad(slow, inputs), strict=True):
        torch.testing.assert_close(got, want)


def test_a_pair_both_liked_and_shown_is_a_positive_and_counts_once():
    whole = small_profiles().of(torch.tensor([0]), torch.zeros(5, 1))
    assert whole.item_P.tolist() == [0, 2, 3]
    assert whole.positive_P.tolist() == [True, False, True]


def listed(profile: Profile) -> list[set[int]]:
    rows, items = profile.pairs()
    num_rows = profile.num_groups if profile.at_R is None else len(profile.at_R)
    return [set(items[rows == row].tolist()) for row in range(num_rows)]


def test_what_is_asked_for_is_absent_and_nothing_else_is():
    rows = PLANTED.train
    profiles, loader = profiles_of(rows), UserBatchLoader(rows, batch_size=17, target_share=0.3)
    assert profiles is not None
    everything = {u: set(rows.item_idx[rows.user_idx == u].tolist()) for u in range(NUM_USERS)}
    for batch in loader:
        users, group_B = torch.unique(batch.user_idx, return_inverse=True)
        users = users.flip(0)  # groups come in any order of users
        group_B = len(users) - 1 - group_B
        left = profiles.of(users, torch.zeros(NUM_ITEMS, 1)).without(group_B, batch.item_idx)
        for user, got in zip(users.tolist(), listed(left), strict=True):
            assert got == everything[user] - set(batch.item_idx[batch.user_idx == user].tolist())


@pytest.mark.parametrize("asked", [[], [(1, 3)], [(0, 0), (0, 0), (0, 4), (2, 1), (2, 2), (2, 4)]])
def test_items_that_were_never_there_and_rows_without_any_change_nothing(asked: list[tuple[int, int]]):
    whole = small_profiles().of(torch.arange(3), torch.zeros(5, 1))
    group_B, item_B = torch.tensor([g for g, _ in asked]).long(), torch.tensor([i for _, i in asked]).long()
    expected = [items - {i for g, i in asked if g == group} for group, items in enumerate(listed(whole))]
    assert listed(whole.without(group_B, item_B)) == expected


def test_rows_that_share_a_profile_read_its_pairs_each():
    whole = small_profiles().of(torch.arange(3), torch.zeros(5, 1))
    rows = whole.read_by(torch.tensor([2, 0, 2, 1]))
    assert listed(rows) == [{1, 2, 4}, {0, 2, 3}, {1, 2, 4}, set()]
    assert (rows.pairs()[0].diff() >= 0).all()
    assert listed(rows.read_by(torch.tensor([3, 1]))) == [set(), {0, 2, 3}]


# -- in the towers ----------------------------------------------------------------------------------------------------


def scorer_of(model: TwoTower) -> BatchScorer:
    users, items = tables_of()
    return BatchScorer(
        model,
        users=users,
        items=items,
        item_counts=torch.ones(NUM_ITEMS),
        known=UserItems.empty(num_users=NUM_USERS, num_items=NUM_ITEMS),
        negatives=NoNegatives(),
        profiles=profiles_of(PLANTED.train, model.profile_kind),
    )


def profile_model(*, context: bool = False, **keywords: Any) -> TwoTower:
    schema = with_context(schema_of()) if context else schema_of()
    return perturbed(model_of(schema, **{"profile": "rows", **keywords})).eval()


def training_batch(num_rows: int = 60) -> Batch:
    """Rows of the training log in any order, as `loader.unit=rows` gives them."""
    rows, draw = PLANTED.train, torch.Generator().manual_seed(3)
    at = torch.randperm(len(rows), generator=draw)[:num_rows]
    user = rows.user_idx[at].long() % 20
    return Batch(
        user_idx=user,
        item_idx=rows.item_idx[at].long(),
        label=rows.label[at],
        weight=torch.ones(num_rows),
        user_context={"hour": torch.randint(1, 26, (num_rows,), generator=draw)},
        item_context={"age": torch.randn(num_rows, generator=draw)},
    )


def one_by_one(model: TwoTower, batch: Batch, *, whole: bool = False) -> Tensor:
    """User vectors [B, V], each row encoded alone, its profile written from the definition."""
    users, items = tables_of()
    rows, vectors = PLANTED.train, []
    item_IV = model.encode_items(items.columns)
    for at in range(len(batch)):
        user = int(batch.user_idx[at])
        asked = [] if whole else batch.item_idx[batch.user_idx == user].tolist()
        own = [i for i in rows.item_idx[rows.user_idx == user].tolist() if i not in asked]
        liked = torch.tensor([user % 8 == i % 8 for i in own])
        profile = Profile(torch.zeros(len(own), dtype=torch.int64), torch.tensor(own).long(), liked, 1, item_IV)
        packed = model.pack("user", FeatureTable(users.gather(torch.tensor([user])), 1))
        context = {name: column[at : at + 1] for name, column in batch.user_context.items()}
        vectors.append(model.user_vectors(packed, context=context, profile=profile))
    return torch.cat(vectors)


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("similarity", ["dot", "cosine"])
@pytest.mark.parametrize("kind", ["positives", "rows"])
@pytest.mark.parametrize("whole", [False, True], ids=["training", "held_out"])
def test_the_users_of_a_batch_are_those_of_the_rows_encoded_one_by_one(
    context: bool, similarity: str, kind: str, whole: bool
):
    model, batch = profile_model(context=context, similarity=similarity, profile=kind), training_batch()
    scorer = scorer_of(model)
    scored = scorer.scored_rows(batch) if whole else scorer.scored(batch, BCE())
    torch.testing.assert_close(scored.user_GV[scored.group_B], one_by_one(model, batch, whole=whole))
    assert torch.equal(scored.user_idx_G[scored.group_B], batch.user_idx)


def test_a_user_reads_nothing_of_the_items_a_batch_asks_for():
    """Leak test: the vectors and the labels of the items asked for can be anything."""
    model, batch = profile_model(profile="rows"), training_batch(40)
    asked, scorer = batch.item_idx.unique(), scorer_of(model)
    users = torch.ones(len(asked), dtype=torch.int64) * 3
    batch = Batch(users, asked, torch.zeros(len(asked)), torch.ones(len(asked)))
    before = scorer.scored(batch, BCE()).user_GV
    spoilt_IV = scorer.encoder.catalogue().detach().clone()
    spoilt_IV[asked] = torch.nan
    scorer.encoder.catalogue = lambda: spoilt_IV  # type: ignore[method-assign,assignment,misc]
    assert model.profile is not None and model.profile.shown_ID is not None
    model.profile.shown_ID.data[asked] = torch.nan
    assert scorer.profiles is not None and scorer.profiles.rows.values is not None
    scorer.profiles.rows.values[torch.isin(scorer.profiles.rows.items, asked)] = 1.0
    assert torch.equal(scorer.scored(batch, BCE()).user_GV, before)
    assert scorer.scored_rows(batch).user_GV[:, :6].isnan().all()  # they would have been read


@pytest.mark.parametrize("context", [False, True])
@pytest.mark.parametrize("shown_weight", [0.0, 0.5])
def test_a_softmax_beside_another_loss_leaves_out_the_same_profile_as_alone(context: bool, shown_weight: float):
    model, batch = profile_model(context=context), training_batch()
    part = Multinomial(shown_weight=shown_weight)
    both = Multi(parts={"bce": {"weight": 1.0, "loss": BCE()}, "softmax": {"weight": 1.0, "loss": part}})
    scorer = scorer_of(model)
    within = scorer.scored(batch, both).parts[1]
    assert within is not None and within.profile is not None
    rows = batch if shown_weight > 0 else batch.take((batch.label > 0).nonzero()[:, 0])
    expected = []
    for at in range(len(rows)):
        user = int(rows.user_idx[at])
        seen = set(PLANTED.train.item_idx[PLANTED.train.user_idx == user].tolist())
        expected.append(seen - set(batch.item_idx[batch.user_idx == user].tolist()))
    masked = listed(within.profile)
    assert [masked[int(g)] for g in within.group_B] == expected


@pytest.mark.parametrize("loss", [BCE(), Multinomial(), FullSoftmax()], ids=lambda loss: loss.name)
def test_rows_in_a_context_train_and_no_loss_falls_below_zero(loss: Loss):
    model, batch = model_of(with_context(schema_of()), profile="rows", similarity="cosine", scale=5.0), training_batch()
    optimizer, values = torch.optim.Adam(model.parameters(), lr=0.02), []
    for _ in range(150):
        value = loss_of(model, loss, batch)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(float(value.detach()))
    assert 0.0 <= values[-1] < values[0] and min(values) >= 0.0


def test_a_batch_without_rows_gives_a_loss_of_zero():
    model = profile_model()
    none = training_batch(0)
    for loss in (BCE(), Multinomial()):
        value = loss(scorer_of(model).scored(none, loss), scorer_of(model).known)
        value.backward()
        assert value == 0.0
    assert all(p.grad is None or bool((p.grad == 0).all()) for p in model.parameters())


def test_users_without_id_and_features_are_their_profiles_and_one_vector_for_all():
    keywords = {"use_features": False, "use_user_id": False, "similarity": "cosine", "embedding_dim": 8}
    model = model_of(schema_of(), profile="rows", **keywords)
    constant = model.user_tower.constant
    assert constant is not None and model.user_tower.id_vectors is None
    assert model.item_tower.constant is None and model.item_tower.id_vectors is not None
    everybody = torch.arange(5)
    vectors = model.user_vectors(model.pack("user", FeatureTable({"user_id": everybody + 2}, 5)))
    assert torch.equal(vectors, vectors[:1].expand(5, -1))
    # All that users did is asked for: nothing is left of them but the vector for all, and its gradient is bounded.
    batch = next(iter(UserBatchLoader(PLANTED.train, batch_size=NUM_USERS, target_share=1.0)))
    scorer, loss = scorer_of(model), Multinomial()
    loss(scorer.scored(batch, loss), scorer.known).backward()
    assert constant.grad is not None and 0.0 < float(constant.grad.norm()) < 100.0


def test_an_item_without_a_known_id_counts_in_a_profile_with_the_vector_of_its_features():
    model = profile_model(profile="positives", profile_power=0.0)
    items = tables_of()[1]
    items.columns["item_id"][3] = UNKNOWN
    of_features = model.item_tower(model.pack("item", FeatureTable(items.gather(torch.tensor([3])), 1)))[0]
    one = Profile(torch.tensor([0]), torch.tensor([3]), torch.tensor([True]), 1, model.encode_items(items.columns))
    assert model.profile is not None
    torch.testing.assert_close(model.profile(one), of_features)


def test_without_a_profile_a_model_without_users_is_refused():
    with pytest.raises(ValueError, match="the user tower has no input"):
        model_of(use_features=False, use_user_id=False)
    with pytest.raises(ValueError, match=r"model\.profile must be none, positives or rows, got 'row'"):
        model_of(profile="row")
    with pytest.raises(ValueError, match=r"model.profile_power must be in \[0, 1\], got 2"):
        model_of(profile="rows", profile_power=2.0)
    with pytest.raises(ValueError, match="a profile reads the vectors of all items"):
        users, items = tables_of()
        BatchScorer(
            model_of(profile="rows"),
            users=users,
            items=items,
            item_counts=torch.ones(NUM_ITEMS),
            known=UserItems.empty(num_users=NUM_USERS, num_items=NUM_ITEMS),
            negatives=NoNegatives(),
            profiles=profiles_of(PLANTED.train),
            micro_batch=8,
        )


@pytest.mark.parametrize(
    "change", [{"profile": "positives"}, {"profile": "none"}, {"profile_power": 1.0}, {"use_user_id": False}], ids=str
)
def test_every_option_of_a_profile_changes_the_scores(change: dict[str, Any]):
    loss, batch = FullSoftmax(), training_batch()
    values = []
    for keywords in ({}, change):
        model = profile_model(**keywords)
        values.append(float(loss_of(model, loss, batch).detach()))
    assert values[0] != values[1]


def loss_of(model: TwoTower, loss: Loss, batch: Batch) -> Tensor:
    scorer = scorer_of(model)
    value: Tensor = loss(scorer.scored(batch, loss), scorer.known)
    return value


def test_an_unknown_user_is_one_with_an_empty_profile():
    model = profile_model(profile="rows")
    users, items = tables_of()
    packed = model.pack("user", FeatureTable(users.gather(torch.arange(4)), 4))
    item_IV = model.encode_items(items.columns)
    nobody = UserProfiles(
        UserItems.from_pairs(
            torch.zeros(0).long(), torch.zeros(0).long(), num_users=4, num_items=NUM_ITEMS, values=torch.zeros(0)
        )
    )
    empty = nobody.of(torch.arange(4), item_IV)
    torch.testing.assert_close(model.user_vectors(packed, profile=empty), model.user_vectors(packed))
