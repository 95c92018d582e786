"""Sentences and tables of an evaluation: computed from the figures."""

from dataclasses import replace

import polars as pl
import pytest
from report_parts import NUM_ITEMS, systems

from towerrec.report.interpret import interpret, main_metric
from towerrec.report.paired import against_the_first, paired_table
from towerrec.report.text import comparison


def words(model: str, **more) -> str:
    judged = systems(model)
    tables = {system.name: system.per_user for system in judged}
    paired = paired_table(tables, against_the_first(list(tables)), num_resamples=100)
    return " ".join(interpret(judged, num_candidates=NUM_ITEMS, paired=paired, **more))


def test_a_model_with_taste_is_said_to_pass_the_best_single_list():
    text = words("taste")
    assert "better than item_rate" in text and "more than chance" in text
    assert "so it knows something about users" in text
    assert "40 of 40 candidates (100%)" in text


def test_one_draw_of_a_random_order_is_no_yardstick_where_chance_tells_them_apart():
    own, *others = systems("taste")
    alike = [replace(own, name="ours"), replace(own, name="random"), *(s for s in others if s.name != "random")]
    tables = {system.name: system.per_user for system in alike}
    paired = paired_table(tables, against_the_first(list(tables)), num_resamples=100)
    text = " ".join(interpret(alike, num_candidates=NUM_ITEMS, paired=paired))
    assert "A random order scores 1.0000: ours cannot be told from it (difference +0.0000" in text


def test_users_with_few_and_many_relevant_items_are_counted():
    own = systems("taste")[0]
    few = own.per_user.height // 2
    numbers = pl.Series("num_relevant", [1] * few + [5] * (own.per_user.height - few))
    text = " ".join(interpret([replace(own, per_user=own.per_user.with_columns(numbers))], num_candidates=NUM_ITEMS))
    assert "Users with one relevant item (50% of them) get NDCG@10 1.0000, those with 5 or more (50%) 1.0000." in text


def test_the_popular_list_is_said_to_be_one_list_and_no_better_than_itself():
    text = words("popular")
    assert "could be chance" in text
    assert "cannot be told from it" in text
    assert "nearly the same list for everybody" in text


def test_a_poor_model_is_said_to_be_worse_and_without_proof_of_taste():
    text = words("poor")
    assert "worse than item_rate" in text and "more than chance" in text
    assert "no proof of personal taste" in text
    assert "100% of them find nothing" in text


def test_figures_of_sentences_are_those_of_the_summary():
    judged = systems("taste")
    assert f"{judged[1].summary['ndcg@10']['mean']:.4f}" in words("taste")
    assert "1.0000" in words("taste")


def test_predicted_values_are_set_beside_the_constants():
    constants = {"train mean": {"rmse": 2.0, "mae": 0.6}, "train median": {"rmse": 2.2, "mae": 0.5}}
    text = words("taste", values={"rmse": {"mean": 1.6}, "mae": {"mean": 0.4}}, constant_values=constants)
    assert "explains 36% of the variance" in text  # 1 - (1.6 / 2)²
    assert "20.0% below that of the train median" in text
    worse = words("taste", values={"rmse": {"mean": 2.5}, "mae": {"mean": 0.6}}, constant_values=constants)
    assert "explains none of the variance" in worse and "20.0% above" in worse


def test_the_share_of_pairs_in_the_right_order_is_told_with_its_interval():
    text = words("taste", values={"xauc": {"mean": 0.7512, "low": 0.7455, "high": 0.7571}})
    assert "puts 75% in the right order (XAUC 0.7512, 0.7455 to 0.7571)" in text


def test_dropped_relevant_items_are_told_only_where_there_are_any():
    assert "1,234 relevant items could not be listed" in words("taste", dropped=1234)
    assert "could not be listed" not in words("taste")


def test_the_main_metric_is_ndcg_at_the_cut_closest_to_20():
    assert main_metric({"recall@20": {}, "ndcg@5": {}, "ndcg@50": {}}) == "ndcg@5"
    assert main_metric({"ndcg@10": {}, "ndcg@20": {}}) == "ndcg@20"
    with pytest.raises(ValueError, match=r"no ndcg@k; it has recall@20"):
        main_metric({"recall@20": {}})


def test_the_table_aligns_and_marks_the_bound():
    text = comparison(systems("taste"))
    lines = text.splitlines()
    assert [line.split()[0] for line in lines[2:6]] == ["taste", "item_rate", "random", "best_list_in_hindsight"]
    assert "*" in lines[5] and lines[-1].startswith("* reads the judged rows")
    assert len({len(line) for line in lines[:6]}) == 1
    assert "1.0000 [1.0000, 1.0000]" in lines[2]
    with pytest.raises(ValueError, match="no figure is called 'auc@3'"):
        comparison(systems("taste"), ["auc@3"])
