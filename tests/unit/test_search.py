"""Exact search: equal to a full stable sort, whatever the chunk, the ties, the exclusions and the candidates."""

import numpy as np
import pytest
import torch

from towerrec.ragged import UserItems
from towerrec.retrieval.candidates import only_candidates
from towerrec.retrieval.one_ranking import SameForAll
from towerrec.retrieval.search import top_n, top_n_by
from towerrec.retrieval.select import top


def sorted_lists(scores: np.ndarray, n: int) -> tuple[list[list[int]], list[list[float]]]:
    """Reference: sort every row by (-score, item); what is -inf is no candidate."""
    items, values = [], []
    for row in scores.tolist():
        order = sorted((i for i in range(len(row)) if row[i] > -np.inf), key=lambda i: (-row[i], i))[:n]
        items.append(order + [-1] * (n - len(order)))
        values.append([row[i] for i in order] + [-np.inf] * (n - len(order)))
    return items, values


def whole_numbers(*shape: int, seed: int, high: int = 3) -> torch.Tensor:
    """Small whole numbers: dot products are exact in float32 and tie often."""
    return torch.randint(-high, high + 1, shape, generator=torch.Generator().manual_seed(seed)).float()


def random_lists(num_users: int, num_items: int, num_pairs: int, seed: int) -> UserItems:
    generator = torch.Generator().manual_seed(seed)
    user = torch.randint(0, num_users, (num_pairs,), generator=generator)
    item = torch.randint(0, num_items, (num_pairs,), generator=generator)
    return UserItems.from_pairs(user, item, num_users=num_users, num_items=num_items)


@pytest.mark.parametrize("chunk", [None, 1, 7, 1000])
@pytest.mark.parametrize("n", [1, 5, 60, 90])  # 90: more than there are
def test_chunked_search_equals_a_full_stable_sort(n: int, chunk: int | None):
    user_BD, item_ID = whole_numbers(33, 3, seed=0), whole_numbers(60, 3, seed=1)
    exclude = random_lists(33, 60, 400, seed=2)
    scores = (user_BD @ item_ID.T).masked_fill(exclude.mask_of(torch.arange(33)), -torch.inf)
    got = top_n(user_BD, item_ID, n=n, exclude=exclude, chunk=chunk)
    items, values = sorted_lists(scores.numpy(), n)
    assert got.items.tolist() == items
    assert got.scores.tolist() == values
    assert got.lengths.tolist() == [sum(i >= 0 for i in row) for row in items]


@pytest.mark.parametrize(("num_items", "n"), [(500, 3), (1003, 20), (97, 10), (4096, 100)])
@pytest.mark.parametrize("high", [0, 1, 2, 1000])  # 0: all scores equal
def test_the_two_step_selection_equals_a_full_stable_sort(num_items: int, n: int, high: int):
    scores = whole_numbers(20, num_items, seed=n + high, high=high)
    values, columns = top(scores, n)
    expected = torch.sort(scores, dim=1, descending=True, stable=True)
    assert torch.equal(columns, expected.indices[:, :n])
    assert torch.equal(values, expected.values[:, :n])


@pytest.mark.parametrize("seed", range(20))
def test_lists_with_further_pairs_and_those_of_some_users_equal_sets(seed: int):
    users, items = 1 + seed % 5, 1 + seed % 7
    lists, further = random_lists(users, items, 3 * (seed % 6), seed), random_lists(users, items, seed % 9, seed + 100)
    lists.items = lists.items.int() if seed % 2 else lists.items  # as it lies on disk
    user, item, _ = further.pairs_of(torch.arange(users))
    shuffled = torch.randperm(len(user), generator=torch.Generator().manual_seed(seed))
    more, few = lists.with_pairs(user[shuffled], item[shuffled]), lists.only(torch.arange(users).flip(0)[::2])

    def of(packed: UserItems, u: int) -> list[int]:
        return packed.items[packed.offsets[u] : packed.offsets[u + 1]].tolist()

    for u in range(users):
        assert of(more, u) == sorted({*of(lists, u), *of(further, u)})
        assert of(few, u) == (of(lists, u) if (users - 1 - u) % 2 == 0 else [])


def test_negative_scores_and_scores_of_zero_are_listed_like_any_other():
    got = top_n(torch.tensor([[1.0]]), torch.tensor([[-2.0], [0.0], [-1.0]]), n=3)
    assert got.items.tolist() == [[1, 2, 0]]


def test_a_mask_of_candidates_restricts_everybody():
    user_BD, item_ID = whole_numbers(9, 3, seed=3), whole_numbers(40, 3, seed=4)
    allowed = torch.arange(40) % 3 == 0
    exclude = random_lists(9, 40, 60, seed=5)
    scores = (user_BD @ item_ID.T).masked_fill(~allowed | exclude.mask_of(torch.arange(9)), -torch.inf)
    got = top_n(user_BD, item_ID, n=10, exclude=exclude, allowed=allowed)
    assert (got.items.tolist(), got.scores.tolist()) == sorted_lists(scores.numpy(), 10)
    assert set(got.items.flatten().tolist()) <= {-1, *range(0, 40, 3)}


def test_lists_of_candidates_restrict_each_user_alone():
    user_BD, item_ID = whole_numbers(4, 3, seed=6), whole_numbers(30, 3, seed=7)
    allowed, exclude = random_lists(8, 30, 70, seed=8), random_lists(8, 30, 30, seed=9)
    users = torch.tensor([7, 0, 3, 3])
    admitted = allowed.mask_of(users) & ~exclude.mask_of(users)
    scores = (user_BD @ item_ID.T).masked_fill(~admitted, -torch.inf)
    for chunk in (None, 1, 3):
        got = top_n(user_BD, item_ID, n=6, user_idx_B=users, exclude=exclude, allowed=allowed, chunk=chunk)
        assert (got.items.tolist(), got.scores.tolist()) == sorted_lists(scores.numpy(), 6)


def test_a_scorer_is_searched_by_the_same_rules_as_vectors():
    user_UD, item_ID = whole_numbers(20, 3, seed=10), whole_numbers(50, 3, seed=11)
    exclude = random_lists(20, 50, 100, seed=12)
    users = torch.tensor([4, 19, 0])
    for allowed in (None, torch.arange(50) < 31, random_lists(20, 50, 300, seed=13)):
        by_vector = top_n(user_UD[users], item_ID, n=7, user_idx_B=users, exclude=exclude, allowed=allowed)
        by_score = top_n_by(
            lambda u: user_UD[u] @ item_ID.T, users, num_items=50, n=7, exclude=exclude, allowed=allowed, chunk=2
        )
        assert torch.equal(by_vector.items, by_score.items)
        assert torch.equal(by_vector.scores, by_score.scores)


@pytest.mark.parametrize("high", [0, 2, 1000])  # 0: all scores equal
def test_one_ranking_for_all_gives_what_scores_for_each_give(high: int):
    score_I = whole_numbers(60, seed=20, high=high)
    score_I[::7] = -torch.inf
    same, users = SameForAll(score_I), torch.arange(400)[torch.randperm(400)]
    exclude, few = random_lists(400, 60, 9000, seed=21), random_lists(400, 60, 2000, seed=22)
    rules = [
        {"exclude": exclude},
        {"exclude": exclude, "allowed": torch.arange(60) % 3 > 0},
        {"allowed": few},
        {"allowed": few, "exclude": exclude},
        {"exclude": None, "allowed": torch.zeros(60, dtype=torch.bool)},
        {},
    ]
    for rule in rules:
        for n in (1, 10, 70):
            got = top_n_by(same, users, num_items=60, n=n, **rule)
            wanted = top_n_by(lambda u: same(u), users, num_items=60, n=n, **rule)
            assert torch.equal(got.items, wanted.items)
            assert torch.equal(got.scores, wanted.scores)


def test_one_ranking_for_all_refuses_what_is_no_number():
    with pytest.raises(ValueError, match="not numbers"):
        top_n_by(SameForAll(torch.tensor([1.0, torch.nan])), torch.arange(3), num_items=2, n=1)


@pytest.mark.parametrize(("memory_mb", "at_once"), [(1, 26), (0.1, 2), (1e-6, 1), (10, 262)])
def test_the_scores_held_at_once_are_bounded(memory_mb: float, at_once: int):
    scores_UI = whole_numbers(300, 10_000, seed=14, high=5)
    asked: list[int] = []

    def scorer(user_idx_B: torch.Tensor) -> torch.Tensor:
        asked.append(len(user_idx_B))
        return scores_UI[user_idx_B].clone()

    got = top_n_by(scorer, torch.arange(300), num_items=10_000, n=5, memory_mb=memory_mb)
    assert max(asked) == at_once  # at_once * 10,000 * 4 bytes fit, one user more does not
    assert sum(asked) == 300
    assert torch.equal(got.items, top_n_by(scorer, torch.arange(300), num_items=10_000, n=5).items)


def test_a_bound_on_memory_does_not_change_the_lists():
    user_BD, item_ID = whole_numbers(50, 3, seed=15), whole_numbers(700, 3, seed=16)
    for precision in ("float32", "bfloat16"):
        got = top_n(user_BD, item_ID, n=20, memory_mb=0.01, precision=precision)
        assert torch.equal(got.items, top_n(user_BD, item_ID, n=20).items)


def test_gradients_and_autocast_do_not_reach_the_scores():
    user_BD = whole_numbers(5, 3, seed=17, high=1000).requires_grad_()
    item_ID = whole_numbers(40, 3, seed=18, high=1000)
    wanted = top_n(user_BD.detach(), item_ID, n=8)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        got = top_n(user_BD, item_ID, n=8)
    assert torch.equal(got.items, wanted.items) and torch.equal(got.scores, wanted.scores)


def test_search_leaves_the_vectors_alone():
    user_BD, item_ID = whole_numbers(3, 2, seed=0), whole_numbers(5, 2, seed=1)
    before = user_BD.clone(), item_ID.clone()
    top_n(user_BD, item_ID, n=2, exclude=random_lists(3, 5, 6, seed=2))
    assert torch.equal(user_BD, before[0]) and torch.equal(item_ID, before[1])


def test_without_candidates_every_list_is_empty():
    got = top_n(torch.ones(2, 1), torch.ones(3, 1), n=2, allowed=torch.zeros(3, dtype=torch.bool))
    assert got.items.tolist() == [[-1, -1], [-1, -1]]
    assert got.scores.tolist() == [[-np.inf] * 2] * 2


def test_no_users_give_no_lists():
    assert top_n(torch.ones(0, 2), torch.ones(3, 2), n=2).items.shape == (0, 2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 0}, "n, the length of a list, must be at least 1"),
        ({"n": 2, "chunk": 0}, "chunk must be at least 1"),
        ({"n": 2, "memory_mb": 0}, "memory_mb must be above 0"),
        ({"n": 2, "allowed": torch.ones(3)}, r"allowed must be bool \[4\]"),
        ({"n": 2, "exclude": UserItems.empty(num_users=9, num_items=4)}, "say whose they are with user_idx_B"),
        ({"n": 2, "exclude": UserItems.empty(num_users=2, num_items=5)}, "speak of 5 items"),
        ({"n": 2, "user_idx_B": torch.zeros(3, dtype=torch.int64)}, "user_idx_B has shape"),
    ],
)
def test_requests_that_make_no_sense_are_refused(change: dict, message: str):
    with pytest.raises(ValueError, match=message):
        top_n(torch.ones(2, 3), torch.ones(4, 3), **change)


def test_vectors_of_different_width_are_refused():
    with pytest.raises(ValueError, match="same width, got 3 and 2"):
        top_n(torch.ones(2, 3), torch.ones(4, 2), n=1)


def test_scores_that_are_not_numbers_are_refused():
    user_BD = torch.ones(3, 1)
    user_BD[1] = torch.nan
    with pytest.raises(ValueError, match="not numbers"):
        top_n(user_BD, torch.ones(4, 1), n=2)


def test_relevant_items_that_no_list_may_hold_are_taken_out_and_counted():
    relevant = UserItems.from_pairs(torch.tensor([0, 0, 0, 1]), torch.tensor([0, 1, 2, 2]), num_users=3, num_items=4)
    exclude = UserItems.from_pairs(torch.tensor([0, 2]), torch.tensor([1, 2]), num_users=3, num_items=4)
    left, dropped = only_candidates(relevant, exclude=exclude)
    assert (left.offsets.tolist(), left.items.tolist(), dropped) == ([0, 2, 3, 3], [0, 2, 2], 1)
    left, dropped = only_candidates(relevant, exclude=exclude, allowed=torch.tensor([False, True, True, True]))
    assert (left.offsets.tolist(), left.items.tolist(), dropped) == ([0, 1, 2, 2], [2, 2], 2)
    per_user = UserItems.from_pairs(torch.tensor([0, 1]), torch.tensor([0, 0]), num_users=3, num_items=4)
    left, dropped = only_candidates(relevant, allowed=per_user)
    assert (left.offsets.tolist(), left.items.tolist(), dropped) == ([0, 1, 1, 1], [0], 3)


def test_resized_lists_say_nothing_about_the_new_users():
    lists = UserItems.from_pairs(torch.tensor([0, 1]), torch.tensor([1, 0]), num_users=2, num_items=2)
    larger = lists.resized(num_users=4, num_items=3)
    assert larger.mask_of(torch.arange(4)).tolist() == [
        [False, True, False],
        [True, False, False],
        [False, False, False],
        [False, False, False],
    ]
