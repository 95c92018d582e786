"""Scores and grades of the held-out rows: AUC within users, graded NDCG, what unobserved cells may say (nothing)."""

from __future__ import annotations

import math

import numpy as np
import polars as pl
import pytest
import torch
from memory_source import Memory, log, run
from torch import Tensor

from towerrec.data.labels import Column, Implicit, Liked, WatchRatio
from towerrec.evaluation import Evaluation, ListsOfScorer, evaluate_lists
from towerrec.judged_calibration import calibration
from towerrec.judged_rows import JudgedRows, grading
from towerrec.judged_values import baseline_figures, judge_values, value_baselines
from towerrec.metrics.functional import mae, rmse, xauc
from towerrec.nn.peers import Peers
from towerrec.protocol import CUTS, Protocol, cuts_within, protocol
from towerrec.ragged import TopN

KS = [2, 5]


def rules_of(prepared, candidates: str = "observed", **more) -> Protocol:
    return protocol(prepared, on="test", ks=KS, candidates=candidates, positive=None, **more)


def dense(prepared, seed: int = 0) -> Tensor:
    """A score for every user and item, whole numbers so that there are ties."""
    draw = torch.Generator().manual_seed(seed)
    shape = (prepared.store.num_users, prepared.store.num_items)
    return torch.randint(-5, 5, shape, generator=draw).float()


def judged(
    prepared, rules: Protocol, scores_UI: Tensor, *, gain: str = "linear", clip: float | None = None
) -> Evaluation:
    lists = ListsOfScorer(lambda users: scores_UI[users], rules, JudgedRows.of(prepared, rules))
    return evaluate_lists(
        prepared,
        rules,
        {"ours": lists},
        baselines=["most_viewed"],
        correction="none",
        num_resamples=50,
        seed=0,
        grading=grading(prepared, rules, gain=gain, clip=clip),
    )


def slow_auc(score: np.ndarray, positive: np.ndarray) -> float:
    """Every pair of a positive and another row, by its definition."""
    above, below = score[positive], score[~positive]
    right = (above[:, None] > below).sum() + 0.5 * (above[:, None] == below).sum()
    return right / (len(above) * len(below)) if len(above) and len(below) else math.nan


@pytest.mark.parametrize(("num_candidates", "cuts"), [(1, [1]), (9, [9]), (10, [10]), (60, [10, 20, 50]), (9999, CUTS)])
def test_cut_offs_that_nobody_asked_for_are_those_that_there_are_candidates_for(num_candidates: int, cuts: list[int]):
    assert cuts_within(num_candidates) == list(cuts)


@pytest.mark.parametrize("candidates", ["observed", "catalogue"])
def test_gauc_is_the_auc_of_the_users_own_rows_and_its_weighted_mean_counts_rows(tmp_path, candidates):
    prepared = run(tmp_path)
    rules, scores = rules_of(prepared, candidates), dense(prepared)
    found, rows = judged(prepared, rules, scores), prepared.store.rows("test")
    aucs, numbers = [], []
    for user, auc, number in found.judged.per_user.select("user_idx", "gauc", "num_rows").iter_rows():
        mine = (rows.user_idx == user).numpy()
        expected = slow_auc(scores[user, rows.item_idx[mine].long()].numpy(), rows.label[mine].numpy() > 0)
        assert number == mine.sum()
        assert (auc is None and math.isnan(expected)) or auc == pytest.approx(expected)
        aucs.append(expected), numbers.append(number)
    kept = ~np.isnan(aucs)
    assert 0 < kept.sum() < len(kept)  # some users have rows of one class only: left out, and counted by `users`
    summary = found.judged.summary
    assert summary["gauc"]["mean"] == pytest.approx(np.nanmean(aucs))
    assert summary["gauc"]["users"] == summary["gauc_weighted"]["users"] == kept.sum()
    weighted = np.average(np.array(aucs)[kept], weights=np.array(numbers)[kept])
    assert summary["gauc_weighted"]["mean"] == pytest.approx(weighted)
    assert summary["gauc_weighted"]["low"] < weighted < summary["gauc_weighted"]["high"]


def test_a_ranking_for_all_scores_rows_as_the_lists_it_makes(tmp_path):
    prepared = run(tmp_path)
    found = judged(prepared, rules_of(prepared), dense(prepared))
    most_viewed = next(system for system in found.systems if system.name == "most_viewed")
    views, rows = prepared.store.item_counts("train"), prepared.store.rows("test")
    user, auc = most_viewed.per_user.drop_nulls("gauc").select("user_idx", "gauc").row(0)
    mine = rows.user_idx == user
    assert auc == pytest.approx(slow_auc(views[rows.item_idx[mine].long()].numpy(), rows.label[mine].numpy() > 0))


@pytest.mark.parametrize("absurd", [-1e9, 1e9, math.inf, math.nan])
def test_scores_of_unobserved_cells_move_no_figure(tmp_path, absurd):
    prepared = run(tmp_path, label=WatchRatio())
    rules, scores, rows = rules_of(prepared), dense(prepared), prepared.store.rows("test")
    observed = prepared.store.seen("test").mask_of(torch.arange(prepared.store.num_users))
    assert 0 < int(observed.sum()) < observed.numel() / 2
    moved = scores.masked_fill(~observed, absurd)
    plain, other = judged(prepared, rules, scores).judged, judged(prepared, rules, moved).judged
    names = [name.split("@")[0] for name in plain.per_user.columns]
    assert {"precision", "recall", "ndcg", "map", "mrr", "hit_rate", "graded_ndcg", "gauc"} <= set(names)
    assert plain.per_user.equals(other.per_user)
    assert plain.summary == other.summary
    actual = prepared.store.values("test").clone()
    for first, second in zip(
        *(_of_rows(s[rows.user_idx, rows.item_idx], actual, rows) for s in (scores, moved)), strict=True
    ):
        assert first == second


def _of_rows(predicted: Tensor, actual: Tensor, rows) -> list[object]:
    table, figures = calibration(predicted, actual, rows.user_idx, num_bins=5, unit="watch ratio", probabilities=False)
    return [judge_values(predicted, actual, rows.user_idx, num_resamples=20, seed=0), figures, table.to_dicts()]


def test_a_cell_without_a_row_is_no_candidate_of_the_ideal_list(tmp_path):
    prepared = run(tmp_path, label=WatchRatio())
    perfect = torch.full((prepared.store.num_users, prepared.store.num_items), 1e9)
    rows = prepared.store.rows("test")
    best = prepared.store.grades("test")
    perfect[rows.user_idx.long(), rows.item_idx.long()] = -1.0
    grade = torch.full_like(perfect, -2.0)
    grade = grade.index_put((rows.user_idx.long(), rows.item_idx.long()), best)
    seen = grade > -2
    perfect[seen] = grade[seen]  # of a pair with several rows the last; those are left out below
    found = judged(prepared, rules_of(prepared), perfect, clip=math.inf).judged.per_user
    pairs = pl.DataFrame({"user_idx": rows.user_idx.numpy(), "item_idx": rows.item_idx.numpy()})
    twice = pairs.filter(pairs.is_duplicated())["user_idx"].unique()
    once = found.filter(~pl.col("user_idx").cast(pl.Int32).is_in(twice.implode()))
    assert once.height > 5
    assert once["graded_ndcg@5"].to_list() == pytest.approx([1.0] * once.height)


def slow_graded(prepared, rules: Protocol, items: list[int], user: int, k: int, gain) -> float:
    """Graded NDCG of one list by its definition, from the log."""
    rows, grades = prepared.store.rows("test"), prepared.store.grades("test")
    worth: dict[int, float] = {}
    for u, item, grade in zip(rows.user_idx.tolist(), rows.item_idx.tolist(), grades.tolist(), strict=True):
        if u == user:
            worth[item] = max(worth.get(item, 0.0), gain(grade))
    if rules.exclude is not None:
        begin, end = rules.exclude.offsets[user], rules.exclude.offsets[user + 1]
        for item in rules.exclude.items[begin:end].tolist():
            worth.pop(item, None)
    gained = sum(worth.get(item, 0.0) / math.log2(rank + 1) for rank, item in enumerate(items[:k], 1))
    ideal = sum(g / math.log2(rank + 1) for rank, g in enumerate(sorted(worth.values(), reverse=True)[:k], 1))
    return gained / ideal if ideal > 0 else math.nan


GAINS = {
    "as it is": ("linear", math.inf, lambda v: max(v, 0)),
    "clipped": ("linear", 1.5, lambda v: min(max(v, 0), 1.5)),
    "2 to its power": ("exponential", 3.0, lambda v: 2 ** min(max(v, 0), 3) - 1),
}


@pytest.mark.parametrize("gain", GAINS)
@pytest.mark.parametrize("candidates", ["observed", "catalogue"])
def test_graded_ndcg_is_what_its_definition_says_and_every_option_shows(tmp_path, candidates, gain):
    prepared = run(tmp_path, label=Liked(min_watch_ratio=2.0))
    rules, (kind, clip, worth) = rules_of(prepared, candidates), GAINS[gain]
    found = judged(prepared, rules, dense(prepared), gain=kind, clip=clip)
    lists = found.lists["ours"].tolist()
    for place, (user, value) in enumerate(found.judged.per_user.select("user_idx", "graded_ndcg@5").iter_rows()):
        assert value == pytest.approx(slow_graded(prepared, rules, lists[place], user, 5, worth), rel=1e-5)
    assert found.grading.to_dict() == {"of": "watch_ratio", "gain": kind, "clip": clip, "why_not": None}


def test_a_watch_ratio_is_clipped_at_5_unless_told_and_another_grade_is_not(tmp_path):
    rows = log().with_columns(watch_ratio=pl.col("watch_ratio") * 10, stars=pl.int_range(pl.len()) % 9 + 1)
    source = Memory(tmp_path, log=rows)
    prepared = run(tmp_path, source=source, label=Liked())
    assert float(grading(prepared, rules_of(prepared), gain="linear", clip=None).items.values.max()) == 5
    assert float(grading(prepared, rules_of(prepared), gain="linear", clip=math.inf).items.values.max()) > 30
    stars = run(tmp_path, source=source, label=Column(column="stars", positive=">= 8"))
    found = grading(stars, rules_of(stars), gain="linear", clip=None)
    assert (float(found.items.values.max()), found.of) == (9, "stars")


def test_where_the_log_has_no_grades_the_judgement_says_so(tmp_path):
    prepared = run(tmp_path, label=Implicit())
    found = judged(prepared, rules_of(prepared), dense(prepared))
    assert not any(name.startswith("graded_ndcg") for name in found.judged.summary)
    assert any(
        "graded_ndcg: the judged rows have no grades, only 0 and 1 (label=implicit)" in r for r in found.left_out
    )


def test_gains_that_cannot_be_summed_are_refused_with_the_way_out(tmp_path):
    prepared = run(
        tmp_path, source=Memory(tmp_path, log=log().with_columns(pl.col("watch_ratio") * 100)), label=Liked()
    )
    with pytest.raises(ValueError, match=r"eval\.gain=exponential of a value of .* set eval\.gain_clip to 50 or less"):
        grading(prepared, rules_of(prepared), gain="exponential", clip=math.inf)


def test_a_list_without_scores_has_no_gauc(tmp_path):
    prepared = run(tmp_path)
    rules = rules_of(prepared)
    lists = TopN(rules.allowed.items.new_full((len(rules.users), 5), -1), torch.empty(0))
    found = evaluate_lists(
        prepared, rules, {"file": lambda: lists}, baselines=[], correction="none", num_resamples=20, seed=0
    )
    assert "gauc" not in found.judged.per_user.columns
    assert found.left_out == ["gauc: file has lists alone, no scores of the rows they leave out"]


class Part(Peers):
    """One of two processes, which sees its own part alone."""

    def collect(self, part_N: Tensor) -> Tensor:
        return part_N


def test_two_processes_score_the_rows_of_their_own_users(tmp_path):
    prepared = run(tmp_path)
    rules, scores = rules_of(prepared), dense(prepared)
    rows = JudgedRows.of(prepared, rules)
    parts = []
    for rank in (0, 1):
        mine = Protocol(**{**rules.__dict__, "peers": Part(rank, 2)})
        lists = ListsOfScorer(lambda users: scores[users], mine, rows)
        lists()
        parts.append(lists.row_scores())
    assert all(len(part) for part in parts)
    assert torch.equal(torch.cat(parts), scores[rules.users[rows.place_R], rows.item_R])


def test_the_biases_of_users_and_items_are_shrunken_means_of_what_is_left(tmp_path):
    prepared = run(tmp_path, label=WatchRatio())
    rows, value = prepared.store.rows("train"), prepared.store.values("train").double()
    mean = value.mean()
    item = {i: float((value[rows.item_idx == i] - mean).sum() / ((rows.item_idx == i).sum() + 10)) for i in range(40)}
    left = value - mean - torch.tensor([item[i] for i in rows.item_idx.tolist()])
    user = {u: float(left[rows.user_idx == u].sum() / ((rows.user_idx == u).sum() + 10)) for u in range(30)}
    test = prepared.store.rows("test")
    expected = [
        float(mean) + user[u] + item[i] for u, i in zip(test.user_idx.tolist(), test.item_idx.tolist(), strict=True)
    ]
    predictions = value_baselines(prepared, "test")
    assert predictions["user and item bias"].tolist() == pytest.approx(expected)
    actual = prepared.store.values("test").clone()
    figures = baseline_figures(predictions, actual)["user and item bias"]
    for name, metric in (("rmse", rmse), ("mae", mae), ("xauc", xauc)):
        assert figures[name] == pytest.approx(float(metric(predictions["user and item bias"], actual)))


@pytest.mark.parametrize(("num_bins", "expected"), [(1, 1), (4, 4), (1000, 3)])
def test_bins_of_calibration_hold_equal_predictions_together(num_bins, expected):
    predicted = torch.tensor([0.1] * 5 + [0.3] * 5 + [0.9] * 2) if expected == 3 else torch.linspace(0, 1, 12)
    table, figures = calibration(
        predicted, predicted * 0.5, torch.arange(12), num_bins=num_bins, unit="watch ratio", probabilities=False
    )
    assert table.columns == ["bin", "rows", "predicted", "actual", "low", "high", "unit"]
    assert (table["bin"].to_list(), table["rows"].sum()) == (list(range(1, expected + 1)), 12)
    assert figures["calibration_slope"]["mean"] == pytest.approx(0.5)
    assert figures["calibration_error"]["mean"] == pytest.approx(float(predicted.double().mean() * 0.5))


def test_a_bin_of_one_user_has_no_interval_and_probabilities_stay_between_0_and_1():
    predicted, actual = torch.tensor([0.1, 0.2, 0.8, 0.9]), torch.tensor([0.0, 0.0, 1.0, 0.0])
    table, _ = calibration(predicted, actual, torch.tensor([0, 0, 1, 2]), num_bins=2, unit="p", probabilities=True)
    assert table["low"].to_list() == [None, 0.0] and table["high"].to_list() == [None, 1.0]
