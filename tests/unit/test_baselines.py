"""Baselines against their definitions on logs that fit on the screen."""

from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest
import torch

from towerrec.baselines import implicit
from towerrec.baselines.category import CategoryAffinity
from towerrec.baselines.implicit import ALS, BPR
from towerrec.baselines.item_rate import ItemRate, estimate_strength
from towerrec.baselines.neighbours import EASE, ItemKNN
from towerrec.baselines.popularity import DecayedPopularity, MostPositive, MostViewed, Random, best_list_in_hindsight
from towerrec.baselines.registry import NAMES, baseline, why_not
from towerrec.baselines.rows import TrainRows
from towerrec.ragged import UserItems
from towerrec.retrieval.search import top_n_by
from towerrec.schema import NO_TIMESTAMP

HAS_IMPLICIT = find_spec("implicit") is not None
needs_implicit = pytest.mark.skipif(not HAS_IMPLICIT, reason="the optional library implicit is not installed")
DAY = 86_400_000

#            user item liked
LOG = [
    (0, 0, True), (0, 1, False), (0, 2, False), (0, 2, False),
    (1, 0, True), (1, 2, True), (1, 3, True),
    (2, 2, False), (2, 3, True),
]  # fmt: skip


def rows(log: list[tuple[int, int, bool]] = LOG, num_users: int = 4, num_items: int = 5) -> TrainRows:
    user, item, liked = (torch.tensor(column) for column in zip(*log, strict=True))
    times = torch.arange(len(log)) * DAY
    return TrainRows(user, item, liked, num_users, num_items, times, {"kind": torch.arange(num_items) % 3 + 1})


PRESENT = [name for name in NAMES if HAS_IMPLICIT or name not in ("als", "bpr")]


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
    for name in PRESENT:
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
    fine = set(PRESENT)

    def silent(log: TrainRows) -> set[str]:
        return {name for name in fine if why_not(baseline(name), log)}

    assert silent(rows()) == set()
    assert silent(positives) == {"item_rate", "category_affinity"}
    assert silent(nothing) == fine - {"random", "most_viewed"}
    assert "20,000 items" in (why_not(EASE(), rows(num_items=20_001)) or "")


def test_what_a_log_lacks_is_named_with_the_remedy():
    user, item, liked = (torch.tensor(column) for column in zip(*LOG, strict=True))
    plain = TrainRows(user, item, liked, 4, 5)
    assert "decayed_popularity needs the times of the rows" in (why_not(DecayedPopularity(), plain) or "")
    untimed = TrainRows(user, item, liked, 4, 5, torch.full((len(LOG),), NO_TIMESTAMP))
    assert "data.columns.timestamp" in (why_not(DecayedPopularity(), untimed) or "")
    assert "needs an item feature of kind categorical or multi" in (why_not(CategoryAffinity(), plain) or "")
    assert "no item feature 'tag': choose from kind" in (why_not(CategoryAffinity(feature="tag"), rows()) or "")
    wide = TrainRows(user, item, liked, 10**6, 5, categories={"author": torch.full((5,), 500)})
    assert "here 501,000,000" in (why_not(CategoryAffinity(), wide) or "")


def test_without_the_library_als_and_bpr_say_how_to_install_it(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(implicit, "find_spec", lambda name: None)
    for chosen in (ALS(), BPR()):
        assert "pip install 'towerrec[implicit]'" in (why_not(chosen, rows()) or "")


@pytest.mark.parametrize(("half_life", "counts"), [(1.0, "positives"), (3.5, "positives"), (1.0, "views")])
def test_decayed_popularity_halves_a_row_with_every_half_life(half_life: float, counts: str):
    expected = np.zeros(5)
    for day, (_, item, liked) in enumerate(LOG):
        if liked or counts == "views":
            expected[item] += 0.5 ** ((len(LOG) - 1 - day) / half_life)
    got = scores_of_user(DecayedPopularity(half_life_days=half_life, counts=counts).fit(rows()), 0)
    assert got == pytest.approx(expected / expected.max(), rel=1e-6)


def test_a_row_without_a_time_is_no_part_of_decayed_popularity():
    log = rows([(0, 0, True), (0, 1, True), (1, 1, True)], num_items=2)
    assert log.timestamp_ms is not None
    log.timestamp_ms[1:] = torch.tensor([NO_TIMESTAMP, 0])
    assert scores_of_user(DecayedPopularity().fit(log), 0) == [1, 1]


@pytest.mark.parametrize("strength", [0.5, 20.0])
def test_category_affinity_is_the_users_rate_drawn_towards_that_of_the_category(strength: float):
    # Item 0 has two categories, item 4 none, item 3 one that only an index beyond the unknown makes.
    tags = torch.tensor([[2, 3], [2, 0], [3, 1], [4, 0], [1, 0]])
    user, item, liked = (torch.tensor(column) for column in zip(*LOG, strict=True))
    log = TrainRows(user, item, liked, 4, 5, categories={"tags": tags})
    known = [[t for t in row if t >= 2] for row in tags.tolist()]

    def rate(who: int | None, tag: int) -> tuple[int, int]:
        seen = [hit for u, i, hit in LOG if tag in known[i] and who in (None, u)]
        return len(seen), sum(seen)

    for who in range(4):
        expected = []
        for of_item in known:
            rates = []
            for tag in of_item:
                (views, likes), (all_views, all_likes) = rate(who, tag), rate(None, tag)
                rates.append((likes + strength * all_likes / all_views) / (views + strength))
            expected.append(sum(rates) / len(rates) if rates else 5 / 9)
        got = scores_of_user(CategoryAffinity(prior_strength=strength).fit(log), who)
        assert got == pytest.approx(expected, abs=2e-6)  # equal items go by their positives, in steps below that


def test_category_affinity_reads_the_feature_it_is_told_and_orders_equal_items_by_their_positives():
    user, item, liked = (torch.tensor(column) for column in zip(*LOG, strict=True))
    columns = {"one": torch.tensor([2, 2, 2, 2, 2]), "two": torch.tensor([2, 2, 3, 3, 3])}
    log = TrainRows(user, item, liked, 4, 5, categories=columns)
    lists = {f: top_n_by(CategoryAffinity(feature=f).fit(log), torch.arange(1), num_items=5, n=5) for f in columns}
    assert lists["one"].items.tolist() == [[0, 3, 2, 1, 4]]  # likes 2, 2, 1, 0, 0
    assert lists["two"].items.tolist() == [[0, 1, 3, 2, 4]]  # (1 + 20 * 2/3) / 22 > (0 + 20 * 3/6) / 22


def two_tastes() -> tuple[TrainRows, torch.Tensor]:
    """40 users, 20 items: even users like even items, each has seen seven of their ten; the rest is to be found."""
    liked = torch.arange(40)[:, None] % 2 == torch.arange(20) % 2
    seen = torch.rand(40, 20, generator=torch.Generator().manual_seed(0)) < 0.7
    user, item = (liked & seen).nonzero(as_tuple=True)
    return TrainRows(user, item, torch.ones(len(user), dtype=torch.bool), 40, 20), liked


# What finds them, and a change of every option.
FACTORS = {
    "als": ALS(factors=2, regularisation=1.0, alpha=5.0, iterations=5),
    "bpr": BPR(factors=4, learning_rate=0.1, iterations=60),
}
CHANGES: dict[str, dict[str, float]] = {
    "als": {"factors": 3, "regularisation": 5.0, "alpha": 2.0, "iterations": 2, "seed": 1},
    "bpr": {"factors": 2, "regularisation": 0.3, "learning_rate": 0.01, "iterations": 2, "seed": 1},
}


@needs_implicit
@pytest.mark.parametrize("name", FACTORS)
def test_factors_find_the_planted_tastes(name: str):
    log, liked = two_tastes()
    scores = FACTORS[name].fit(log)(torch.arange(40))
    lowest_right = scores.masked_fill(~liked, torch.inf).amin(1)
    highest_wrong = scores.masked_fill(liked, -torch.inf).amax(1)
    assert ((lowest_right > highest_wrong).float().mean()) > 0.95


@needs_implicit
@pytest.mark.parametrize("name", FACTORS)
def test_every_option_of_the_factors_matters_and_equal_seeds_give_equal_scores(name: str):
    log, _ = two_tastes()
    chosen, users = FACTORS[name], torch.arange(40)
    base = chosen.fit(log)(users)
    assert torch.equal(replace(chosen).fit(log)(users), base)
    for key, value in CHANGES[name].items():
        assert not torch.equal(replace(chosen, **{key: value}).fit(log)(users), base), key


@needs_implicit
def test_als_reaches_the_same_objective_as_exact_alternating_least_squares():
    log, _ = two_tastes()
    strength, alpha, factors = 1.0, 5.0, 3
    liked = log.liked_items().mask_of(torch.arange(40)).double().numpy()
    weight = 1 + (alpha - 1) * liked

    def objective(scores: np.ndarray) -> float:
        # Of all factors with these scores the best balanced ones cost twice the nuclear norm (Srebro et al., 2005).
        penalty = 2 * strength * np.linalg.norm(scores, "nuc")
        return float((weight * (liked - scores) ** 2).sum() + penalty)

    def solved(fixed: np.ndarray, weight: np.ndarray, wanted: np.ndarray) -> np.ndarray:
        pairs = zip(weight, wanted, strict=True)
        rows = [(fixed.T * w @ fixed + strength * np.eye(factors), fixed.T @ (w * p)) for w, p in pairs]
        return np.stack([np.linalg.solve(left, right) for left, right in rows])

    item = np.random.default_rng(0).normal(size=(20, factors))
    for _ in range(100):
        user = solved(item, weight, liked)
        item = solved(user, weight.T, liked.T)
    fitted = ALS(factors=factors, regularisation=strength, alpha=alpha, iterations=100).fit(log)
    assert objective(fitted(torch.arange(40)).double().numpy()) == pytest.approx(objective(user @ item.T), rel=0.01)


@pytest.mark.parametrize(
    "make",
    [
        lambda: ItemRate(prior_strength=0),
        lambda: EASE(regularisation=0),
        lambda: ItemKNN(num_neighbours=0),
        lambda: DecayedPopularity(half_life_days=0),
        lambda: DecayedPopularity(counts="likes"),
        lambda: ALS(factors=0),
        lambda: CategoryAffinity(prior_strength=0),
        lambda: BPR(regularisation=-1),
        lambda: BPR(learning_rate=0),
    ],
)
def test_settings_out_of_range_are_refused(make):
    with pytest.raises(ValueError, match="must be"):
        make()
