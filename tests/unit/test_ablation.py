"""What is left out in turn, and what each part turns out to be worth."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from towerrec.ablation import feature_parts, setting_parts, words_of
from towerrec.report import ablation_page
from towerrec.report.ablation import FULL, Ablation, Variant, ablation, main_rows
from towerrec.schema import FeatureSchema, FeatureSpec

FEATURES = (
    FeatureSpec("user_id", "user", "categorical", 9, group="id"),
    FeatureSpec("age", "user", "numeric", group="profile"),
    FeatureSpec("item_id", "item", "categorical", 9, group="id"),
    FeatureSpec("odd, name", "item", "numeric"),
)
SCHEMA = FeatureSchema(FEATURES, num_users=7, num_items=7)


def test_the_groups_that_the_model_reads_are_left_out_on_both_sides_and_what_was_dropped_stays_dropped():
    parts = feature_parts(SCHEMA, dropped=["popularity"], each=False)
    assert [(part.name, part.about, dict(part.settings)) for part in parts] == [
        ("id", "user: user_id; item: item_id", {"features.drop": "[popularity,id]"}),
        ("profile", "user: age", {"features.drop": "[popularity,profile]"}),
        ("odd, name", "item: odd, name", {"features.drop": "[popularity,'odd, name']"}),
    ]


def test_features_are_left_out_one_by_one_where_asked():
    parts = feature_parts(SCHEMA, dropped=[], each=True)
    assert [part.name for part in parts] == ["user_id", "age", "item_id", "odd, name"]
    assert words_of("popularity") == ["popularity"] and words_of(["a", "b"]) == ["a", "b"]


@pytest.mark.parametrize("each", [True, False])
def test_a_number_with_gaps_goes_with_the_feature_that_says_where_they_are(each: bool):
    gaps = FeatureSpec("age_missing", "user", "numeric")
    schema = FeatureSchema((FeatureSpec("age", "user", "numeric"), gaps), num_users=7, num_items=7)
    declared = {"age": "age", "age_missing": "age"}
    (part,) = feature_parts(schema, dropped=[], each=each, declared=declared)
    assert (part.name, part.about, part.settings) == ("age", "user: age, age_missing", {"features.drop": "[age]"})


def test_other_parts_are_the_settings_that_leave_them_out():
    (part,) = setting_parts({"bias of users": {"model.user_bias": "false"}})
    assert (part.name, part.about) == ("bias of users", "model.user_bias=false")


def job(sweep: Path, number: int, ndcg_U: Sequence[float], rmse_U: Sequence[float], *, fails: str = "") -> Path:
    """A job that finished, with the same per-user figures on validation and test, or one that failed."""
    directory = sweep / str(number)
    directory.mkdir(parents=True)
    if fails:
        (directory / "failed.txt").write_text(fails + "\n", encoding="utf-8")
        return directory
    (directory / "run.json").write_text(json.dumps({"monitor": "val/ndcg@20"}), encoding="utf-8")
    (directory / "metrics.json").write_text('{"test": {}}', encoding="utf-8")
    table = pl.DataFrame({"user_id": range(len(ndcg_U)), "ndcg@20": ndcg_U, "rmse": rmse_U})
    for place in ("validation", "evaluation"):
        (directory / place).mkdir()
        table.write_parquet(directory / place / "per_user.parquet")
    return directory


def run(variants: Mapping[str, Mapping[str, Path]], **settings: int) -> Ablation:
    found = [Variant(name, f"all of {name}", runs) for name, runs in variants.items()]
    return ablation(found, correction="holm", **{"num_resamples": 500, "seed": 0, **settings})


@pytest.fixture
def planted(tmp_path: Path) -> Ablation:
    """Of 40 users all lose 0.1 without `tags`, gain 0.05 without `noise`, and nothing is known of `lost`."""
    base_U = np.linspace(0.3, 0.7, 40)
    wobble_U = np.tile([0.02, -0.02], 20)
    jobs: dict[str, dict[str, Path]] = {}
    for seed in (0, 1):
        level_U = base_U + 0.01 * seed
        made = {
            FULL: (level_U, 1 - level_U), "noise": (level_U + 0.05 + wobble_U, 1 - level_U),
            "tags": (level_U - 0.1 + wobble_U, 1.2 - level_U), "empty": (level_U + wobble_U, 1 - level_U),
        }  # fmt: skip
        for place, (name, (ndcg_U, rmse_U)) in enumerate(made.items()):
            jobs.setdefault(name, {})[f"seed={seed}"] = job(tmp_path, 10 * seed + place, ndcg_U, rmse_U)
    jobs["lost"] = {"seed=0": job(tmp_path, 5, [], [], fails="no user feature is left"), "seed=1": tmp_path / "6"}
    return run(jobs)


def test_a_part_is_worth_what_the_users_lose_without_it(planted: Ablation):
    rows = {row["part"]: row for row in main_rows(planted.table, "validation", planted.main)}
    assert planted.order == ("tags", "empty", "noise", "lost") and planted.main["validation"] == "ndcg@20"
    assert rows["tags"]["worth"] == pytest.approx(0.1) and rows["noise"]["worth"] == pytest.approx(-0.05)
    assert rows["tags"]["full"] == pytest.approx(0.505) and rows["tags"]["without"] == pytest.approx(0.405)
    assert 0.09 < rows["tags"]["low"] < 0.1 < rows["tags"]["high"] < 0.11
    assert (rows["tags"]["wins"], rows["noise"]["losses"], rows["tags"]["runs"]) == (1.0, 1.0, 2)
    assert ablation_page.verdict(rows["tags"]) == "helps" and ablation_page.verdict(rows["noise"]) == "hurts"
    assert ablation_page.verdict(rows["empty"]) == "cannot be told from nothing"


def test_an_error_that_rises_without_a_part_is_what_the_part_is_worth(planted: Ablation):
    row = planted.table.row(
        by_predicate=(pl.col("part") == "tags") & (pl.col("metric") == "rmse") & (pl.col("on") == "test"), named=True
    )
    assert row["worth"] == pytest.approx(0.2) and row["low"] <= row["worth"] <= row["high"] and row["wins"] == 1.0


def test_p_values_are_corrected_for_the_number_of_parts(planted: Ablation):
    rows = {row["part"]: row for row in main_rows(planted.table, "validation", planted.main)}
    assert rows["tags"]["p_adjusted"] == pytest.approx(min(3 * rows["tags"]["p_value"], 1), rel=0.01)


def test_a_part_without_a_finished_run_is_a_row_that_says_why(planted: Ablation):
    (row,) = planted.table.filter(pl.col("part") == "lost").to_dicts()
    assert row["status"] == "failed" and row["why"].startswith("no user feature is left") and row["worth"] is None
    assert "failed: no user feature is left" in ablation_page.markdown(planted, of="features")


def test_files_for_programs_and_for_people_are_written(planted: Ablation, tmp_path: Path):
    ablation_page.write(planted, tmp_path, of="groups of <features>")
    assert pl.read_parquet(tmp_path / "ablation.parquet").equals(planted.table)
    page = (tmp_path / "ablation.html").read_text(encoding="utf-8")
    assert "What each is worth: groups of &lt;features&gt;" in page and "<svg" in page and "no user feature" in page
    text = (tmp_path / "ablation.md").read_text(encoding="utf-8")
    assert "| tags | all of tags | 0.4050 of 0.5050 | +0.1000 (" in text
    assert (tmp_path / "ablation.svg").read_text(encoding="utf-8").startswith("<svg")
    assert "Interval and p-value say that each of these helps: tags." in ablation_page.terminal(planted)


def test_without_a_finished_full_model_nothing_can_be_compared(tmp_path: Path):
    jobs = {FULL: {"": job(tmp_path, 0, [], [], fails="out of memory")}, "a": {"": job(tmp_path, 1, [0.1], [0.2])}}
    with pytest.raises(ValueError, match=r"the full model did not finish.*out of memory"):
        run(jobs)


def test_one_run_has_intervals_over_users_and_says_what_they_lack(tmp_path: Path):
    ndcg_U = np.linspace(0.2, 0.6, 20)
    jobs = {FULL: {"": job(tmp_path, 0, ndcg_U, ndcg_U)}, "a": {"": job(tmp_path, 1, ndcg_U - 0.1, ndcg_U)}}
    found = run(jobs)
    assert any("what another seed would do is not in it" in note for note in found.notes)
    one, few = (run(jobs, num_resamples=number).table for number in (500, 3))
    assert not one.equals(few) and one.equals(run(jobs).table)


def test_names_of_parts_are_text_in_markdown_and_the_first_sentence_stands_once_on_the_page(planted: Ablation):
    odd = replace(planted, notes=("First.", "Helps: <b>`x`</b>."))
    assert "- Helps: &lt;b>\\`x\\`&lt;/b>." in ablation_page.markdown(odd, of="features")
    assert ablation_page.page(odd, of="features").count("First.") == 1
