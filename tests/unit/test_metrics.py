"""Every metric against a slow reference written from its definition."""

import math

import numpy as np
import pytest
import torch

from towerrec.metrics.functional import (
    RANKING_METRICS,
    coverage_at_k,
    hits_of,
    mae,
    map_at_k,
    mrr_at_k,
    ndcg_at_k,
    ordered_pairs,
    precision_at_k,
    ranking_metrics,
    recall_at_k,
    rmse,
    xauc,
)
from towerrec.metrics.topk import RankingMetrics
from towerrec.metrics.watch_time import ErrorMetrics
from towerrec.ragged import UserItems


def slow(name: str, hits: list[bool], relevant: int, k: int) -> float:
    """One user, one metric, as the textbook says it."""
    if relevant == 0:
        return math.nan
    first = hits[:k]
    found = sum(first)
    match name:
        case "precision":
            return found / k
        case "recall":
            return found / relevant
        case "hit_rate":
            return 1.0 if found else 0.0
        case "mrr":
            return next((1 / rank for rank, hit in enumerate(first, 1) if hit), 0.0)
        case "ndcg":
            gained = sum(1 / math.log2(rank + 1) for rank, hit in enumerate(first, 1) if hit)
            return gained / sum(1 / math.log2(rank + 1) for rank in range(1, min(relevant, k) + 1))
        case "map":
            return sum(sum(first[:rank]) / rank for rank, hit in enumerate(first, 1) if hit) / min(relevant, k)
    raise AssertionError(name)


@pytest.mark.parametrize("name", RANKING_METRICS)
@pytest.mark.parametrize("k", [1, 3, 7, 12])  # 12 is longer than the lists
def test_ranking_metric_is_what_its_definition_says(name: str, k: int):
    generator = np.random.default_rng(k)
    hits = generator.random((200, 7)) < generator.random((200, 1))
    relevant = hits.sum(1) + generator.integers(0, 5, 200)
    got = RANKING_METRICS[name](torch.from_numpy(hits), torch.from_numpy(relevant), k)
    expected = [slow(name, list(row), int(r), k) for row, r in zip(hits, relevant, strict=True)]
    assert any(math.isnan(value) for value in expected)  # some users have nothing
    np.testing.assert_allclose(got.numpy(), expected, rtol=0, atol=1e-12)


def test_recall_counts_only_the_first_k():
    hits_BK = torch.tensor([[True, False, True], [False, False, False]])
    got_B = recall_at_k(hits_BK, torch.tensor([2, 0]), 2)
    torch.testing.assert_close(got_B, torch.tensor([0.5, torch.nan], dtype=torch.float64), equal_nan=True)


def test_a_perfect_list_scores_one_however_many_are_relevant():
    hits_BK = torch.ones(1, 3, dtype=torch.bool)
    for metric in (ndcg_at_k, map_at_k, mrr_at_k, precision_at_k):
        assert metric(hits_BK, torch.tensor([50]), 3).item() == pytest.approx(1.0)
    assert recall_at_k(hits_BK, torch.tensor([50]), 3).item() == pytest.approx(3 / 50)


def test_empty_lists_find_nothing():
    got = ranking_metrics(torch.zeros(2, 0, dtype=torch.bool), torch.tensor([1, 0]), [5])
    assert all(value[0] == 0 and value[1].isnan() for value in got.values())


@pytest.mark.parametrize("k", [0, -3])
def test_a_cut_below_one_is_refused(k: int):
    with pytest.raises(ValueError, match="k must be at least 1"):
        recall_at_k(torch.ones(1, 3, dtype=torch.bool), torch.tensor([1]), k)


def test_hits_are_the_listed_relevant_items_and_empty_places_never_hit():
    relevant = UserItems.from_pairs(torch.tensor([0, 0, 2]), torch.tensor([4, 0, 3]), num_users=4, num_items=5)
    items_BK = torch.tensor([[3, 4, -1], [0, 4, 1], [3, 4, -1], [4, -1, -1]])
    hits_BK = hits_of(items_BK, relevant, torch.tensor([2, 0, 2, 1]))
    assert hits_BK.tolist() == [
        [True, False, False],
        [True, True, False],
        [True, False, False],
        [False, False, False],
    ]


def test_hits_equal_membership_in_sets():
    generator = np.random.default_rng(0)
    pairs = generator.integers(0, [30, 40], (300, 2))
    relevant = UserItems.from_pairs(*torch.from_numpy(pairs).T, num_users=30, num_items=40)
    users = generator.integers(0, 30, 50)
    items = generator.integers(-1, 40, (50, 20))
    known = {tuple(pair) for pair in pairs.tolist()}
    expected = [[(u, i) in known for i in row] for u, row in zip(users.tolist(), items.tolist(), strict=True)]
    assert hits_of(torch.from_numpy(items), relevant, torch.from_numpy(users)).tolist() == expected


def test_hits_without_any_relevant_item_are_all_false():
    nothing = UserItems.empty(num_users=3, num_items=4)
    assert not hits_of(torch.tensor([[0, 1]]), nothing, torch.tensor([1])).any()


def test_coverage_counts_distinct_items_of_the_first_k():
    items_BK = torch.tensor([[0, 1, 2], [0, 3, -1]])
    assert coverage_at_k(items_BK, 10, 1).item() == 0.1
    assert coverage_at_k(items_BK, 10, 2).item() == pytest.approx(0.3)
    assert coverage_at_k(items_BK, 10, 9).item() == pytest.approx(0.4)


def test_errors_by_hand():
    predicted, actual = torch.tensor([1.0, 2.0, 3.0]), torch.tensor([1.0, 4.0, 0.0])
    assert rmse(predicted, actual).item() == pytest.approx(math.sqrt((0 + 4 + 9) / 3))
    assert mae(predicted, actual).item() == pytest.approx(5 / 3)


@pytest.mark.parametrize("num_values", [2, 5, 1000])
@pytest.mark.parametrize("num_rows", [2, 3, 64, 101])
def test_xauc_equals_the_count_over_all_pairs(num_rows: int, num_values: int):
    generator = np.random.default_rng(num_rows + num_values)
    predicted, actual = generator.integers(-num_values, num_values, (2, num_rows)).astype(np.float32)
    actual[0], actual[1] = 0, 1  # at least one pair to order
    pairs = [(i, j) for i in range(num_rows) for j in range(i) if actual[i] != actual[j]]
    right = [
        0.5 if predicted[i] == predicted[j] else float((predicted[i] > predicted[j]) == (actual[i] > actual[j]))
        for i, j in pairs
    ]
    assert xauc(torch.from_numpy(predicted), torch.from_numpy(actual)).item() == pytest.approx(np.mean(right))


def test_ordered_pairs_of_every_row_are_counted_against_all_others():
    generator = torch.Generator().manual_seed(0)
    predicted, actual = torch.randint(0, 7, (2, 40), generator=generator).float()
    right, judged = ordered_pairs(predicted, actual)
    for i in range(40):
        others = [j for j in range(40) if actual[j] != actual[i]]
        same_way = [float((predicted[i] - predicted[j]) * (actual[i] - actual[j])) for j in others]
        assert right[i].item() == sum(1.0 if way > 0 else 0.5 if way == 0 else 0.0 for way in same_way)
        assert judged[i].item() == len(others)


def test_xauc_is_one_for_the_right_order_and_nan_without_any_order():
    rising = torch.arange(1000.0)
    assert xauc(rising * 3 - 7, rising).item() == 1
    assert xauc(-rising, rising).item() == 0
    assert xauc(rising, torch.ones(1000)).isnan()


def test_metric_state_does_not_depend_on_the_batches():
    generator = torch.Generator().manual_seed(0)
    items = torch.stack([torch.randperm(30, generator=generator)[:8] for _ in range(40)])
    items[3, 5:] = -1
    hits = (torch.rand(40, 8, generator=generator) < 0.3) & (items >= 0)
    relevant = hits.sum(1) + torch.arange(40) % 3
    whole, parts = RankingMetrics([2, 5], 30), RankingMetrics([2, 5], 30)
    whole.update(items, hits, relevant)
    for part in torch.arange(40).split(7):
        parts.update(items[part], hits[part], relevant[part])
    got = whole.compute()
    assert got.keys() == parts.compute().keys()
    for name, value in parts.compute().items():
        torch.testing.assert_close(got[name], value)
    per_user = ranking_metrics(hits, relevant, [2, 5])
    for name, value in per_user.items():
        torch.testing.assert_close(got[name], value.nanmean())
    torch.testing.assert_close(got["coverage@5"], coverage_at_k(items, 30, 5))


def test_metric_state_starts_anew_after_reset():
    metric = RankingMetrics([1], 4)
    metric.update(torch.tensor([[0]]), torch.tensor([[True]]), torch.tensor([1]))
    metric.reset()
    metric.update(torch.tensor([[1]]), torch.tensor([[False]]), torch.tensor([1]))
    assert {name: value.item() for name, value in metric.compute().items()} == {
        "precision@1": 0,
        "recall@1": 0,
        "ndcg@1": 0,
        "map@1": 0,
        "mrr@1": 0,
        "hit_rate@1": 0,
        "coverage@1": 0.25,
    }


def test_error_state_equals_the_functions_and_explains_variance():
    generator = torch.Generator().manual_seed(1)
    actual = torch.randn(500, generator=generator) * 3 + 2
    predicted = actual + torch.randn(500, generator=generator)
    metric = ErrorMetrics()
    for part in torch.arange(500).split(64):
        metric.update(predicted[part], actual[part])
    got = metric.compute()
    torch.testing.assert_close(got["rmse"], rmse(predicted, actual))
    torch.testing.assert_close(got["mae"], mae(predicted, actual))
    residual = (predicted - actual).double().square().mean()
    torch.testing.assert_close(got["explained"], 1 - residual / actual.double().var(correction=0))
