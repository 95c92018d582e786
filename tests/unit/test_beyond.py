"""Figures beyond accuracy: by hand, beside slow references with loops over pairs, and beside other libraries."""

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from towerrec.metrics import beyond
from towerrec.metrics.beyond import (
    candidate_sums,
    exposure,
    gini,
    list_means,
    percentile,
    self_information,
    sums_over,
    tag_diversity,
    vector_diversity,
)
from towerrec.ragged import UserItems
from towerrec.report.beyond import Beyond

NUM_ITEMS, KS = 40, [1, 2, 5, 12]


def adversarial_lists(seed: int = 0) -> Tensor:
    """Lists of 12 items: one ends after five, one after one, one is empty, one holds items without any tag."""
    generator = torch.Generator().manual_seed(seed)
    items = torch.stack([torch.randperm(NUM_ITEMS, generator=generator)[:12] for _ in range(8)])
    items[0, 5:], items[1, 1:], items[2] = -1, -1, -1
    return items


def some_tags(seed: int = 0, num_tags: int = 9) -> Tensor:
    """Up to four tags per item, some without any."""
    generator = torch.Generator().manual_seed(seed)
    tags = torch.full((NUM_ITEMS, 4), -1)
    for i in range(NUM_ITEMS):
        number = int(torch.randint(0, 5, (1,), generator=generator))
        tags[i, :number] = torch.randperm(num_tags, generator=generator)[:number]
    return tags


# --- exposure --------------------------------------------------------------------------------------------------------


def test_gini_is_0_for_equal_exposure_and_close_to_1_where_one_item_has_all():
    assert gini(torch.tensor([3, 3, 3, 3])) == 0
    assert gini(torch.tensor([0, 0, 0, 4])) == pytest.approx(3 / 4)
    assert gini(torch.tensor([1, 3])) == pytest.approx(1 / 4)


def test_gini_of_nothing_shown_is_no_number_and_of_one_candidate_0():
    assert math.isnan(gini(torch.zeros(5)))
    assert gini(torch.tensor([7])) == 0


def test_gini_is_half_the_mean_absolute_difference_over_the_mean():
    counts = np.random.default_rng(0).poisson(0.7, 200)
    mean_difference = np.abs(counts[:, None] - counts[None, :]).mean()
    assert gini(torch.from_numpy(counts)) == pytest.approx(mean_difference / (2 * counts.mean()))


def test_exposure_counts_each_place_up_to_the_cut_once():
    items = torch.tensor([[2, 0, 1], [2, -1, -1]])
    assert exposure(items, 4, 2).tolist() == [1, 0, 2, 0]


# --- values of items -------------------------------------------------------------------------------------------------


def test_an_item_that_half_of_the_users_saw_has_one_bit_and_an_unseen_one_that_of_a_single_user():
    bits = self_information(torch.tensor([8, 4, 1, 0]), 8)
    assert bits.tolist() == [0, 1, 3, 3]


def test_the_percentile_counts_equal_items_half_and_is_one_half_in_the_mean():
    likes, among = torch.tensor([5, 1, 1, 9, 3]), torch.tensor([True, True, True, True, False])
    assert percentile(likes, among).tolist() == [5 / 8, 2 / 8, 2 / 8, 7 / 8, 4 / 8]
    assert float(percentile(likes, among)[among].mean()) == 0.5


def test_the_percentile_is_that_of_scipy():
    stats = pytest.importorskip("scipy.stats", reason="the percentile is compared with SciPy's")
    likes = torch.from_numpy(np.random.default_rng(0).poisson(3, 300))
    among = torch.from_numpy(np.random.default_rng(1).random(300) < 0.6)
    expected = [stats.percentileofscore(likes[among].numpy(), v, kind="mean") / 100 for v in likes.tolist()]
    np.testing.assert_allclose(percentile(likes, among).numpy(), expected)


def test_a_mean_over_a_list_leaves_out_what_is_unknown_and_what_is_not_there():
    value = torch.tensor([1.0, 3.0, math.nan, 8.0])
    items = torch.tensor([[0, 1, 3], [2, 1, -1], [2, -1, -1], [-1, -1, -1]])
    expected = torch.tensor([[1, 4], [math.nan, 3], [math.nan, math.nan], [math.nan, math.nan]], dtype=torch.float64)
    torch.testing.assert_close(list_means(value, items, [1, 3]), expected, equal_nan=True)


def test_a_cut_beyond_the_list_is_its_end():
    assert list_means(torch.tensor([1.0, 3.0]), torch.tensor([[0, 1]]), [2, 50]).tolist() == [[2, 2]]


# --- variety ---------------------------------------------------------------------------------------------------------


def test_two_items_with_one_tag_of_three_in_common_are_two_thirds_apart():
    tags = torch.tensor([[0, 1], [1, 2], [3, -1], [-1, -1]])
    lists = torch.tensor([[0, 1, 2], [0, 3, 1], [0, 3, -1]])
    # The second leaves out the item without tags, and the third has one item left.
    expected = torch.tensor([[2 / 3, (2 / 3 + 1 + 1) / 3], [math.nan, 2 / 3], [math.nan, math.nan]])
    torch.testing.assert_close(tag_diversity(lists, tags, [2, 3]).float(), expected, equal_nan=True)


def of_pairs(lists: Tensor, similarity, described) -> Tensor:
    """1 - mean similarity by a loop over all pairs of described items."""
    found = [
        [
            [similarity(a, b) for a, b in itertools.combinations([i for i in row[:k] if i >= 0 and described(i)], 2)]
            for k in KS
        ]
        for row in lists.tolist()
    ]
    return torch.tensor([[1 - np.mean(pairs) if pairs else math.nan for pairs in row] for row in found])


@pytest.mark.parametrize("room", [None, 1 << 8], ids=["one_table_of_sets", "list_by_list"])
@pytest.mark.parametrize("num_tags", [4, 200])
def test_diversity_by_tags_is_that_of_a_loop_over_pairs(room: int | None, num_tags: int, monkeypatch):
    if room is not None:
        monkeypatch.setattr(beyond, "_MARKS", room)
        monkeypatch.setattr(beyond, "_AT_ONCE", room)
    lists, tags = adversarial_lists(), some_tags(num_tags=num_tags)
    sets = [{t for t in row if t >= 0} for row in tags.tolist()]
    expected = of_pairs(lists, lambda a, b: len(sets[a] & sets[b]) / len(sets[a] | sets[b]), lambda i: sets[i])
    torch.testing.assert_close(tag_diversity(lists, tags, KS), expected, equal_nan=True, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("at_once", [1 << 22, 10])
def test_diversity_by_vectors_is_that_of_a_loop_over_scikit_learns_cosines(at_once: int, monkeypatch):
    monkeypatch.setattr(beyond, "_AT_ONCE", at_once)
    lists, vectors = adversarial_lists(), torch.randn(NUM_ITEMS, 5, generator=torch.Generator().manual_seed(1))
    vectors[3] = 0
    pairwise = pytest.importorskip("sklearn.metrics.pairwise", reason="cosines are compared with scikit-learn's")
    cosine = pairwise.cosine_similarity(vectors.double().numpy())
    expected = of_pairs(lists, lambda a, b: cosine[a, b], lambda i: True)
    torch.testing.assert_close(vector_diversity(lists, vectors, KS), expected, equal_nan=True)


def test_the_same_vector_again_and_again_is_no_variety_and_opposite_ones_are_the_most():
    vectors = torch.tensor([[1.0, 0.0], [5.0, 0.0], [-2.0, 0.0], [0.0, 1.0]])
    lists = torch.tensor([[0, 1], [0, 2], [0, 3]])
    assert vector_diversity(lists, vectors, [2])[:, 0].tolist() == [0, 2, 1]


def test_lists_that_are_all_empty_have_no_variety():
    empty = torch.full((2, 3), -1)
    assert tag_diversity(empty, some_tags(), [3]).isnan().all()
    assert vector_diversity(empty, torch.ones(NUM_ITEMS, 2), [3]).isnan().all()


# --- candidates ------------------------------------------------------------------------------------------------------

VALUES = torch.tensor([[1.0, 1.0], [2.0, 0.0], [4.0, 1.0], [8.0, 1.0]], dtype=torch.float64)
SEEN = UserItems.from_pairs(torch.tensor([0, 0, 2]), torch.tensor([1, 3, 0]), num_users=3, num_items=4)


def test_sums_over_sets_of_users_and_the_empty_set():
    assert sums_over(SEEN, torch.tensor([2, 1, 0]), VALUES).tolist() == [[1, 1], [0, 0], [10, 1]]
    nothing = UserItems.empty(num_users=3, num_items=4)
    assert sums_over(nothing, torch.arange(3), VALUES).tolist() == [[0, 0]] * 3


def test_candidates_are_those_allowed_for_all_less_what_the_user_has_seen():
    users, allowed = torch.arange(3), torch.tensor([True, True, True, False])
    assert candidate_sums(None, None, users, VALUES)[:, 0].tolist() == [15, 15, 15]
    assert candidate_sums(None, SEEN, users, VALUES)[:, 0].tolist() == [5, 15, 14]
    assert candidate_sums(allowed, SEEN, users, VALUES)[:, 0].tolist() == [5, 7, 6]


def test_candidates_of_each_user_are_the_users_own_list():
    users, others = (
        torch.tensor([2, 0]),
        UserItems.from_pairs(torch.tensor([0]), torch.tensor([3]), num_users=3, num_items=4),
    )
    assert candidate_sums(SEEN, None, users, VALUES)[:, 0].tolist() == [1, 10]
    assert candidate_sums(SEEN, others, users, VALUES)[:, 0].tolist() == [1, 2]


# --- together --------------------------------------------------------------------------------------------------------


def test_a_systems_figures_bear_their_cuts_and_a_duration_is_beside_that_of_the_candidates():
    known = Beyond(
        candidate_I=torch.tensor([True, True, True, False]),
        values={"novelty": torch.tensor([1.0, 2.0, 3.0, 9.0]), "duration_bias": torch.tensor([0.0, 2.0, 4.0, 0.0])},
        less={"duration_bias": torch.tensor([1.0, 3.0])},
    )
    lists = torch.tensor([[0, 2], [1, -1]])
    found = {name: column.tolist() for name, column in known.per_user(lists, [1, 2]).items()}
    assert found == {
        "novelty@1": [1, 2],
        "novelty@2": [2, 2],
        "duration_bias@1": [-1, -1],
        "duration_bias@2": [1, -1],
    }
    # The fourth item is no candidate, so it does not count among those never shown.
    assert known.of_all(lists, 2) == {"gini": 0}
