"""Every figure against an independent implementation, on random and on adversarial cases (see `agreement.py`).

Shape letters: B users, I items, N rows.
"""

from __future__ import annotations

from pathlib import Path

import agreement
import numpy as np
import pytest
import torch
from torch import Tensor

from towerrec.judged_calibration import calibration
from towerrec.judged_values import baseline_figures, judge_values, user_errors
from towerrec.metrics.auc import user_auc
from towerrec.metrics.calibration import bins_of, calibration_error, linear_slope, logistic_slope
from towerrec.metrics.definitions import DEFINITIONS
from towerrec.metrics.functional import coverage_at_k, mae, rmse, xauc
from towerrec.metrics.graded import gain_of, gains_of, graded_ndcg_at_k, ideal_gains
from towerrec.metrics.watch_time import ErrorMetrics
from towerrec.ragged import TopN, UserItems
from towerrec.report.judge import judge
from towerrec.retrieval.search import top_n_by

pytrec_eval = pytest.importorskip("pytrec_eval", reason="pytrec_eval-terrier is not installed (pip install .[dev])")
sklearn_metrics = pytest.importorskip("sklearn.metrics", reason="scikit-learn is not installed (pip install .[dev])")
stats = pytest.importorskip("scipy.stats", reason="scipy is not installed (pip install .[dev])")

KS = [1, 3, 7, 12]
NUM_USERS, NUM_ITEMS = 12, 15


def drawn(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


SCORES = {
    "random": lambda: drawn(1).random((NUM_USERS, NUM_ITEMS)),
    "negative": lambda: -drawn(2).random((NUM_USERS, NUM_ITEMS)) - 1,
    "ties": lambda: drawn(3).integers(-1, 2, (NUM_USERS, NUM_ITEMS)).astype(float),
    "all equal": lambda: np.zeros((NUM_USERS, NUM_ITEMS)),
}
RELEVANT = {
    "some": lambda: drawn(4).random((NUM_USERS, NUM_ITEMS)) < drawn(5).random((NUM_USERS, 1)),
    "all": lambda: np.ones((NUM_USERS, NUM_ITEMS), dtype=bool),
    "one, the last": lambda: np.arange(NUM_ITEMS)[None] == np.full((NUM_USERS, 1), NUM_ITEMS - 1),
    "users with nothing": lambda: (
        (drawn(6).random((NUM_USERS, NUM_ITEMS)) < 0.3) & (np.arange(NUM_USERS) % 3 > 0)[:, None]
    ),
}
CANDIDATES = {"all items": NUM_ITEMS, "fewer than k": 5}


def lists_of(score_BI: np.ndarray, candidates: int, n: int) -> tuple[TopN, UserItems]:
    """Lists as an evaluation makes them; users may be given the last `candidates` items alone."""
    user, item = np.nonzero(np.broadcast_to(np.arange(NUM_ITEMS) >= NUM_ITEMS - candidates, score_BI.shape))
    allowed = packed(user, item)
    scores = torch.from_numpy(score_BI).float()
    return top_n_by(lambda u: scores[u], torch.arange(NUM_USERS), num_items=NUM_ITEMS, n=n, allowed=allowed), allowed


def packed(user: np.ndarray, item: np.ndarray, values: Tensor | None = None) -> UserItems:
    pairs = (torch.from_numpy(user), torch.from_numpy(item))
    return UserItems.from_pairs(*pairs, num_users=NUM_USERS, num_items=NUM_ITEMS, values=values)


def trec_eval(lists: TopN, relevant_BI: np.ndarray, candidates: int, k: int) -> list[dict[str, float]]:
    """What trec_eval says of the lists, user by user. It reads ranks, so that its own rule for ties has no say."""
    names = {"P": "precision", "recall": "recall", "ndcg_cut": "ndcg", "map_cut": "map", "success": "hit_rate"}
    first = NUM_ITEMS - candidates
    judged = {str(u): {str(i): int(row[i]) for i in range(first, NUM_ITEMS)} for u, row in enumerate(relevant_BI)}
    runs = {
        str(u): {str(i): -float(rank) for rank, i in enumerate(row[:k]) if i >= 0}
        for u, row in enumerate(lists.items.tolist())
    }
    evaluator = pytrec_eval.RelevanceEvaluator(judged, {*(f"{name}.{k}" for name in names), "recip_rank"})
    found = evaluator.evaluate(runs)
    return [
        {ours: found[str(u)][f"{theirs}_{k}"] for theirs, ours in names.items()} | {"mrr": found[str(u)]["recip_rank"]}
        for u in range(NUM_USERS)
    ]


@pytest.mark.parametrize("candidates", CANDIDATES)
@pytest.mark.parametrize("relevant", RELEVANT)
@pytest.mark.parametrize("scores", SCORES)
def test_a_figure_of_a_list_is_that_of_trec_eval(scores: str, relevant: str, candidates: str):
    number, relevant_BI = CANDIDATES[candidates], RELEVANT[relevant]()
    lists, allowed = lists_of(SCORES[scores](), number, n=max(KS))
    relevant_BI = relevant_BI & allowed.mask_of(torch.arange(NUM_USERS)).numpy()
    table = judge(lists, packed(*np.nonzero(relevant_BI)), torch.arange(NUM_USERS), KS)
    with_something = np.flatnonzero(relevant_BI.any(1))
    assert table["user_idx"].to_list() == with_something.tolist()  # users with nothing are left out; there they are 0
    for k in KS:
        theirs = trec_eval(lists, relevant_BI, number, k)
        for row, user in enumerate(with_something):
            num_relevant = relevant_BI[user].sum()
            expected = theirs[user] | {"map": theirs[user]["map"] * num_relevant / min(num_relevant, k)}
            for name, value in expected.items():
                assert table[f"{name}@{k}"][row] == pytest.approx(value, abs=1e-9), (name, k, user)


def test_equal_scores_are_ordered_by_item_as_ordinal_ranks_of_scipy():
    score_BI = SCORES["ties"]()
    lists, _ = lists_of(score_BI, NUM_ITEMS, n=NUM_ITEMS)
    order = np.argsort(stats.rankdata(-score_BI, method="ordinal", axis=1), axis=1)
    assert np.array_equal(lists.items.numpy(), order)


def test_torchmetrics_forgets_hits_whose_score_is_not_above_0_and_averages_precision_over_hits():
    retrieval = pytest.importorskip("torchmetrics.functional.retrieval")
    target, above = torch.tensor([1, 0, 1, 0]), torch.tensor([0.9, 0.8, 0.7, 0.6])
    ours = judge(
        TopN(torch.arange(4)[None], above[None]), packed(np.array([0, 0]), np.array([0, 2])), torch.zeros(1).long(), [2]
    )
    assert retrieval.retrieval_recall(above, target, top_k=2) == ours["recall@2"][0] == 0.5
    assert retrieval.retrieval_recall(above - 1, target, top_k=2) == 0  # the same order
    assert retrieval.retrieval_reciprocal_rank(above - 1, target, top_k=2) == 0 != ours["mrr@2"][0]
    # One of two relevant items, found at the first place: by hits found 1, by min(relevant, k) one half.
    assert retrieval.retrieval_average_precision(above, target, top_k=2) == 1
    assert ours["map@2"][0] == 0.5


@pytest.mark.parametrize("candidates", CANDIDATES)
@pytest.mark.parametrize("gain", ["linear", "exponential"])
@pytest.mark.parametrize("scores", SCORES)
def test_graded_ndcg_is_that_of_scikit_learn(scores: str, gain: str, candidates: str):
    rng, number = drawn(7), CANDIDATES[candidates]
    lists, allowed = lists_of(SCORES[scores](), number, n=max(KS))
    value_BI = rng.exponential(1.5, (NUM_USERS, NUM_ITEMS)) - 0.5  # some below 0, some beyond the clip
    value_BI[::4] = -1.0  # users whose candidates are worth nothing
    value_BI[1] = 2.5  # all equal
    user, item, _ = (t.numpy() for t in allowed.pairs_of(torch.arange(NUM_USERS)))
    gains = gain_of(torch.from_numpy(value_BI[user, item]), kind=gain, clip=3.0)
    graded = packed(user, item, gains)
    found_BK = gains_of(lists.items, graded, torch.arange(NUM_USERS))
    ideal_BK = ideal_gains(graded, torch.arange(NUM_USERS), max(KS))
    true_BI = np.zeros((NUM_USERS, NUM_ITEMS))
    capped = np.clip(value_BI[user, item], 0, 3)
    true_BI[user, item] = capped if gain == "linear" else 2**capped - 1
    score_BI = np.full((NUM_USERS, NUM_ITEMS), -100.0)
    for u, listed in enumerate(lists.items.tolist()):
        for rank, i in enumerate(i for i in listed if i >= 0):
            score_BI[u, i] = -rank
    for k in KS:
        ours = graded_ndcg_at_k(found_BK, ideal_BK, k)
        for u in range(NUM_USERS):
            theirs = sklearn_metrics.ndcg_score(true_BI[u : u + 1], score_BI[u : u + 1], k=k, ignore_ties=True)
            if true_BI[u].max() == 0:
                assert ours[u].isnan() and theirs == 0
            else:
                assert float(ours[u]) == pytest.approx(theirs, abs=1e-6)


def test_scikit_learn_averages_graded_ndcg_over_the_orders_of_equal_scores_and_we_take_that_of_the_items():
    true, equal = np.array([[3.0, 0.0]]), np.zeros((1, 2))
    assert sklearn_metrics.ndcg_score(true, equal, k=1) == pytest.approx(0.5)
    graded = packed(np.array([0, 0]), np.array([0, 1]), torch.tensor([3.0, 0.0]))
    first = torch.tensor([[0, 1]])  # the order of equal scores
    assert (
        float(
            graded_ndcg_at_k(gains_of(first, graded, torch.tensor([0])), ideal_gains(graded, torch.tensor([0]), 1), 1)
        )
        == 1
    )


@pytest.mark.parametrize("scores", SCORES)
def test_gauc_is_the_roc_auc_of_every_users_rows(scores: str):
    rng = drawn(8)
    score_BI, positive_BI = SCORES[scores](), rng.random((NUM_USERS, NUM_ITEMS)) < 0.4
    positive_BI[0], positive_BI[1] = True, False
    kept = rng.random((NUM_USERS, NUM_ITEMS)) < 0.7  # users have different numbers of rows
    kept[2] = False
    user, item = np.nonzero(kept)
    order = rng.permutation(len(user))
    user, item = user[order], item[order]
    arrays = (score_BI[user, item], positive_BI[user, item], user)
    ours = user_auc(*(torch.from_numpy(a) for a in arrays), NUM_USERS).numpy()
    for u in range(NUM_USERS):
        mine = user == u
        if len(np.unique(positive_BI[user, item][mine])) < 2:
            assert np.isnan(ours[u])
        else:
            theirs = sklearn_metrics.roc_auc_score(positive_BI[user, item][mine], score_BI[user, item][mine])
            assert ours[u] == pytest.approx(theirs)


def predictions(kind: str, number: int = 400) -> tuple[Tensor, Tensor]:
    rng = drawn(9)
    actual = rng.exponential(1.0, number)
    predicted = {
        "random": actual * 0.5 + rng.normal(0, 0.5, number),
        "ties": np.round(actual + rng.normal(0, 0.5, number)),
        "negative": -actual - 3,
        "all equal": np.full(number, 0.7),
    }[kind]
    actual = np.round(actual, 1)  # equal actual values too
    return torch.from_numpy(predicted), torch.from_numpy(actual)


KINDS = ["random", "ties", "negative", "all equal"]


@pytest.mark.parametrize("kind", KINDS)
def test_errors_are_those_of_scikit_learn(kind: str):
    predicted, actual = predictions(kind)
    assert float(rmse(predicted, actual)) == pytest.approx(sklearn_metrics.root_mean_squared_error(actual, predicted))
    assert float(mae(predicted, actual)) == pytest.approx(sklearn_metrics.mean_absolute_error(actual, predicted))
    metric = ErrorMetrics()
    metric.update(predicted, actual)
    assert float(metric.compute()["explained"]) == pytest.approx(sklearn_metrics.r2_score(actual, predicted))


@pytest.mark.parametrize("kind", KINDS)
def test_xauc_is_the_concordance_of_somers(kind: str):
    predicted, actual = predictions(kind)
    theirs = (stats.somersd(actual.numpy(), predicted.numpy()).statistic + 1) / 2
    if kind == "all equal":
        assert np.isnan(theirs)  # where we count every pair one half
        theirs = 0.5
    assert float(xauc(predicted, actual)) == pytest.approx(theirs)


@pytest.mark.parametrize("kind", KINDS)
def test_seconds_are_errors_of_watch_time(kind: str):
    predicted, actual = predictions(kind, 120)
    seconds = torch.from_numpy(drawn(10).integers(5, 60, len(actual)).astype(float))
    seconds[::7] = torch.nan  # videos of unknown length
    found = judge_values(predicted, actual, torch.arange(len(actual)), seconds_R=seconds, num_resamples=10, seed=0)
    beside = baseline_figures({"other": predicted}, actual, seconds_R=seconds)["other"]
    known = ~seconds.isnan().numpy()
    theirs, watched = ((v * seconds).numpy()[known] for v in (predicted, actual))
    expected = {
        "rmse_seconds": sklearn_metrics.root_mean_squared_error(watched, theirs),
        "mae_seconds": sklearn_metrics.mean_absolute_error(watched, theirs),
        "xauc_seconds": (stats.somersd(watched, theirs).statistic + 1) / 2,
    }
    for name, value in expected.items():
        assert found[name]["mean"] == pytest.approx(value)
        assert found[name]["rows"] == known.sum()
        assert beside[name] == pytest.approx(value)


@pytest.mark.parametrize("kind", KINDS)
def test_errors_within_users_are_those_of_scikit_learn(kind: str):
    predicted, actual = predictions(kind, 120)
    users = torch.from_numpy(drawn(12).integers(0, 9, len(actual)))
    found = user_errors(predicted, actual, users, torch.arange(9))
    for user in range(9):
        own = (users == user).numpy()
        theirs, watched = predicted.numpy()[own], actual.numpy()[own]
        assert float(found["user_rmse"][user]) == pytest.approx(
            sklearn_metrics.root_mean_squared_error(watched, theirs)
        )
        assert float(found["user_mae"][user]) == pytest.approx(sklearn_metrics.mean_absolute_error(watched, theirs))


@pytest.mark.parametrize("kind", ["probabilities", "values"])
def test_the_calibration_curve_is_that_of_scikit_learn(kind: str):
    curve_of = pytest.importorskip("sklearn.calibration").calibration_curve
    rng = drawn(11)
    predicted = rng.random(1000)
    actual = (rng.random(1000) < predicted**2).astype(float)
    true, shown = curve_of(actual, predicted, n_bins=10, strategy="quantile")
    # It takes probabilities alone; bins by quantiles are the same on any scale.
    scale = 7.0 if kind == "values" else 1.0
    bins = bins_of(
        torch.from_numpy(predicted * scale - scale + 1), torch.from_numpy(actual), torch.arange(1000), num_bins=10
    )
    np.testing.assert_allclose(bins.predicted, shown * scale - scale + 1)
    np.testing.assert_allclose(bins.actual, true)
    expected = np.abs(true - shown * scale + scale - 1).mean()  # bins of equal size
    assert calibration_error(bins) == pytest.approx(expected)


def test_slopes_are_those_of_regressions():
    linear_model = pytest.importorskip("sklearn.linear_model")
    rng = drawn(12)
    odds = rng.normal(-2, 2, 3000)
    probability, actual = 1 / (1 + np.exp(-odds)), (rng.random(3000) < 1 / (1 + np.exp(-0.6 * odds - 1))).astype(float)
    fitted = linear_model.LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000).fit(odds[:, None], actual)
    ours = logistic_slope(torch.from_numpy(probability), torch.from_numpy(actual))
    assert ours is not None
    assert ours.value == pytest.approx(float(fitted.coef_[0, 0]), rel=1e-4)
    assert ours.value == pytest.approx(0.6, abs=0.05)
    for kind in ("random", "ties", "negative"):
        predicted, values = predictions(kind)
        slope = linear_slope(predicted, values)
        assert slope is not None
        assert slope.value == pytest.approx(stats.linregress(predicted, values).slope)


def test_a_constant_has_no_slope_and_separated_classes_have_none():
    assert linear_slope(torch.ones(5), torch.arange(5.0)) is None
    assert logistic_slope(torch.full((5,), 0.3), torch.tensor([0.0, 1, 0, 1, 0])) is None
    assert logistic_slope(torch.tensor([0.1, 0.2, 0.8]), torch.tensor([0.0, 0, 1])) is None
    assert logistic_slope(torch.tensor([0.1, 0.2, 0.8]), torch.ones(3)) is None


def test_intervals_of_the_curve_hold_what_drawing_users_anew_would_give():
    rng = drawn(13)
    user = np.sort(rng.integers(0, 80, 4000))
    generous = rng.normal(0, 1.0, 80)  # rows of a user are alike
    predicted, actual = rng.random(4000), generous[user] + rng.normal(0, 1, 4000)
    arrays = [torch.from_numpy(a) for a in (predicted, actual, user)]
    table, _ = calibration(*arrays, num_bins=2, unit="watch ratio", probabilities=False)
    upper = predicted >= np.sort(predicted)[2000]
    means = []
    for _ in range(1000):
        weight = np.bincount(rng.integers(0, 80, 80), minlength=80)[user] * upper
        means.append((weight * actual).sum() / weight.sum())
    width = table["high"][1] - table["low"][1]
    assert width == pytest.approx(2 * 1.96 * np.std(means), rel=0.1)
    assert width > 3 * 2 * 1.96 * actual[upper].std() / np.sqrt(upper.sum())  # as if rows were independent


def test_coverage_is_the_distinct_items_of_numpy():
    lists, _ = lists_of(SCORES["ties"](), 9, n=max(KS))
    for k in KS:
        first = lists.items[:, :k].numpy()
        expected = len(np.unique(first[first >= 0])) / NUM_ITEMS
        assert float(coverage_at_k(lists.items, NUM_ITEMS, k)) == pytest.approx(expected)


def test_every_figure_with_a_definition_is_tested_against_somebody_elses():
    assert set(agreement.AGREEMENT) == set(DEFINITIONS)
    tests = "".join(path.read_text(encoding="utf-8") for path in Path(__file__).parent.glob("test_*.py"))
    for name, one in agreement.AGREEMENT.items():
        assert f"def {one.test}(" in tests, name
        assert f"| {name} | {one.library}: `{one.function}` |" in agreement.table()
