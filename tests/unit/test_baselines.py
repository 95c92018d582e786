"""Baselines against their definitions on logs that fit on the screen."""

import numpy as np
import pytest
import torch

from towerrec.baselines.item_rate import ItemRate, estimate_strength
from towerrec.baselines.neighbours import EASE, ItemKNN
from towerrec.baselines.popularity import MostPositive, MostViewed, Random, best_list_in_hindsight
from towerrec.baselines.registry import NAMES, baseline, why_not
from towerrec.baselines.rows import TrainRows
from towerrec.ragged import UserItems
from towerrec.retrieval.search import top_n_by

#            user item liked
LOG = [
    (0, 0, True), (0, 1, False), (0, 2, False), (0, 2, False),
    (1, 0, True), (1, 2, True), (1, 3, True),
    (2, 2, False), (2, 3, True),
]  # fmt: skip


def rows(log: list[tuple[int, int, bool]] = LOG, num_users: int = 4, num_items: int = 5) -> TrainRows:
    user, item, liked = (torch.tensor(column) for column in zip(*log, strict=True))
    return TrainRows(user, item, liked, num_users, num_items)


def scores_of_user(fitted, user: int) -> list[float]:
    return fitted(torch.tensor([user]))[0].tolist()


def test_most_viewed_counts_rows_and_most_positive_counts_liked_ones():
    for user in (0, 3):  # 3 has no row
        assert scores_of_user(MostViewed().fit(rows()), user) == [2, 1, 4, 2, 0]
        assert scores_of_user(MostPositive().fit(rows()), user) == [2, 0, 1, 2, 0]


def test_item_rate_draws_rates_towards_the_mean_by_the_strength():
    mean, strength = 5 / 9, 3.0
    expected = [(p + strength * mean) / (v + strength) for p, v in [(2, 2), (0, 1), (1, 4), (2, 2), (0, 0)]]
    assert scores_of_user(ItemRate(prior_strength=strength).fit(rows()), 0) == pytest.approx(expected)


def test_the_estimated_strength_finds_the_prior_the_rates_were_drawn_from():
    generator = np.random.default_rng(0)
    for strength in (5, 60):
        rate = generator.beta(0.2 * strength, 0.8 * strength, 4000)
        views = generator.integers(1, 200, 4000)
        likes = generator.binomial(views, rate)
        found = estimate_strength(torch.tensor(views).double(), torch.tensor(likes).double())
        assert found == pytest.approx(strength, rel=0.15)


def test_rates_that_differ_by_chance_only_get_the_largest_strength():
    generator = np.random.default_rng(1)
    views = np.full(2000, 50)
    likes = generator.binomial(views, 0.3)
    assert estimate_strength(torch.tensor(views).double(), torch.tensor(likes).double()) > 1000
    even = torch.full((5,), 10.0).double()
    assert estimate_strength(even, even / 2) == 1e6


def test_random_lists_depend_on_seed_and_user_and_not_on_the_chunk():
    one, again, other = (Random(seed=s).fit(rows(num_items=400)) for s in (1, 1, 2))
    users = torch.arange(4)
    assert torch.equal(one(users), torch.cat([again(users[:1]), again(users[1:])]))
    assert not torch.equal(one(users), other(users))
    assert not torch.equal(one(users)[0], one(users)[1])


def test_random_lists_show_every_item_equally_often():
    log = rows(num_users=3000, num_items=50)
    lists = top_n_by(Random(seed=0).fit(log), torch.arange(3000), num_items=50, n=10)
    shown = torch.bincount(lists.items.flatten(), minlength=50).double()
    # 3000 lists of 10 of 50: 600 each, standard deviation about 22.
    assert (shown - 600).abs().max() < 100


def test_scores_may_be_overwritten_without_changing_the_next_list():
    for name in NAMES:
        fitted = baseline(name).fit(rows())
        before = fitted(torch.tensor([1])).clone()
        fitted(torch.tensor([1])).fill_(-torch.inf)
        assert torch.equal(fitted(torch.tensor([1])), before), name


def liked_matrix() -> np.ndarray:
    matrix = np.zeros((4, 5))
    for user, item, liked in LOG:
        matrix[user, item] = max(matrix[user, item], float(liked))
    return matrix


def test_ease_solves_each_items_ridge_regression_on_the_others():
    liked, regularisation = liked_matrix(), 0.7
    weight = np.zeros((5, 5))
    for item in range(5):
        others = [i for i in range(5) if i != item]
        x = liked[:, others]
        weight[others, item] = np.linalg.solve(x.T @ x + regularisation * np.eye(4), x.T @ liked[:, item])
    got = EASE(regularisation=regularisation).fit(rows())(torch.arange(4))
    np.testing.assert_allclose(got.numpy(), liked @ weight, atol=1e-5)


@pytest.mark.parametrize("num_neighbours", [1, 3, 20])
def test_item_knn_adds_the_cosines_of_the_nearest_items(num_neighbours: int):
    generator = np.random.default_rng(3)
    liked, shrinkage = generator.random((60, 20)) < generator.random(20), 0.5
    user, item = np.nonzero(liked)
    gram = liked.T.astype(float) @ liked
    length = np.sqrt(np.diag(gram))
    cosine = gram / (np.outer(length, length) + shrinkage)
    np.fill_diagonal(cosine, 0)
    for column in cosine.T:
        column[np.argsort(-column, kind="stable")[num_neighbours:]] = 0
    log = TrainRows(torch.tensor(user), torch.tensor(item), torch.ones(len(user), dtype=torch.bool), 60, 20)
    got = ItemKNN(num_neighbours=num_neighbours, shrinkage=shrinkage).fit(log)(torch.arange(60))
    np.testing.assert_allclose(got.numpy(), liked @ cosine, atol=1e-4)


def test_the_best_list_in_hindsight_orders_items_by_their_judged_rows():
    relevant = UserItems.from_pairs(torch.tensor([0, 1, 2, 0]), torch.tensor([3, 3, 3, 1]), num_users=4, num_items=4)
    assert scores_of_user(best_list_in_hindsight(relevant), 3) == [0, 1, 0, 3]
    candidates = UserItems.from_pairs(
        torch.tensor([0, 0, 1, 2, 3]), torch.tensor([1, 3, 3, 3, 3]), num_users=4, num_items=4
    )
    assert scores_of_user(best_list_in_hindsight(relevant, candidates=candidates), 3) == [0, 1, 0, 0.75]


def test_an_unknown_baseline_is_named_with_the_closest_known_one():
    with pytest.raises(ValueError, match="no baseline 'itemrate': did you mean 'item_rate'"):
        baseline("itemrate")
    with pytest.raises(ValueError, match="choose from random, most_viewed"):
        baseline("xyz")


def test_a_baseline_without_anything_to_say_gives_the_reason():
    positives = rows([(0, 0, True), (1, 1, True)])
    nothing = rows([(0, 0, False), (1, 1, False)])
    assert [name for name in NAMES if why_not(name, positives)] == ["item_rate"]
    assert [name for name in NAMES if why_not(name, nothing)] == ["most_positive", "item_rate", "item_knn", "ease"]
    assert [name for name in NAMES if why_not(name, rows())] == []
    assert "20,000 items" in (why_not("ease", rows(num_items=20_001)) or "")


@pytest.mark.parametrize(
    "make", [lambda: ItemRate(prior_strength=0), lambda: EASE(regularisation=0), lambda: ItemKNN(num_neighbours=0)]
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()
