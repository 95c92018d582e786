"""Runs as settings, their seeds together, and what choosing the best setting flatters."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest

from towerrec.report.groups import averaged, group_runs, jobs_of, overrides_of, read_tables, summarise_groups
from towerrec.report.optimism import optimism

NUM_USERS = 200


def run_of(directory: Path, *overrides: str) -> Path:
    (directory / ".hydra").mkdir(parents=True)
    lines = "".join(f"- '{word}'\n" for word in overrides)
    (directory / ".hydra" / "overrides.yaml").write_text(lines or "[]\n", encoding="utf-8")
    return directory


def judged(values: np.ndarray, users: range | None = None) -> pl.DataFrame:
    users = range(len(values)) if users is None else users
    return pl.DataFrame({"user_id": list(users), "user_idx": list(users), "num_relevant": 1, "ndcg@20": values})


def test_runs_that_differ_in_seed_fold_or_window_only_are_one_setting(tmp_path: Path):
    runs = [
        run_of(tmp_path / "0", "loss=bpr", "data=demo", "seed=10"),
        run_of(tmp_path / "1", "data=demo", "loss=bce", "split.seed=1", "seed=2"),
        run_of(tmp_path / "2", "data=demo", "seed=2", "loss=bpr"),
        run_of(tmp_path / "3", "data=demo", "loss=bce", "++split.window=1"),
    ]
    groups = group_runs(runs)
    assert [group.name for group in groups] == ["loss=bpr", "loss=bce"]
    assert groups[0].runs == (runs[2], runs[0])  # seed 2 before seed 10
    assert groups[0].repeats == ("seed=2", "seed=10")
    assert groups[1].repeats == ("++split.window=1", "seed=2 split.seed=1")
    assert groups[0].overrides == ("loss=bpr", "data=demo")


def test_overrides_longer_than_a_line_are_read_whole(tmp_path: Path):
    run = run_of(tmp_path / "run")
    text = '- split.train="fold < 480"\n- data.interactions=/a/very/long/place\n  continued on the next line\n'
    (run / ".hydra" / "overrides.yaml").write_text(text, encoding="utf-8")
    assert overrides_of(run) == (
        'split.train="fold < 480"',
        "data.interactions=/a/very/long/place continued on the next line",
    )
    assert overrides_of(tmp_path) == ()


def test_a_setting_without_words_of_its_own_has_the_name_of_its_directory(tmp_path: Path):
    runs = [run_of(tmp_path / str(number), f"seed={number}") for number in (0, 1)]
    assert [group.name for group in group_runs(runs)] == ["0"]
    assert group_runs([]) == []


def test_jobs_are_ordered_by_number(tmp_path: Path):
    for name in ("10", "2", "notes", "0"):
        (tmp_path / name).mkdir()
    assert [job.name for job in jobs_of(tmp_path)] == ["0", "2", "10"]
    with pytest.raises(ValueError, match=r"0 has no evaluation/per_user\.parquet"):
        read_tables([tmp_path / "0"])


def test_every_user_counts_once_whether_judged_in_one_run_or_in_all():
    first, second = judged(np.array([0.2, 0.4]), range(0, 2)), judged(np.array([0.8, 0.6]), range(1, 3))
    table = averaged([first, second]).sort("user_id")
    assert table["ndcg@20"].to_list() == pytest.approx([0.2, 0.6, 0.6])
    assert table["runs"].to_list() == [1, 2, 1]
    row = summarise_groups({"windows": [first, second]}, num_resamples=100).row(0, named=True)
    assert row["mean"] == pytest.approx((0.2 + 0.6 + 0.6) / 3)
    assert (row["users"], row["common_users"], row["runs"]) == (3, 1, 2)
    assert row["sd"] == pytest.approx(np.std([0.3, 0.7], ddof=1))


def seeds(sd: float, *, num_runs: int = 5) -> list[pl.DataFrame]:
    generator = np.random.default_rng(3)
    users = generator.random(NUM_USERS)
    return [judged(users + shift) for shift in generator.normal(0, sd, num_runs)]


def test_the_interval_over_users_and_runs_is_wider_where_seeds_differ_and_the_same_where_they_do_not():
    settings = {"steady": seeds(0.0), "shaky": seeds(0.1)}
    table = summarise_groups(settings, num_resamples=2000)
    width = {r["system"]: (r["high"] - r["low"], r["high_runs"] - r["low_runs"]) for r in table.iter_rows(named=True)}
    assert width["steady"][1] == pytest.approx(width["steady"][0])
    assert width["shaky"][1] > 1.5 * width["shaky"][0]
    spread = dict(table.select("system", "sd").iter_rows())
    assert spread["steady"] == pytest.approx(0, abs=1e-12)
    means = [table["ndcg@20"].mean() for table in settings["shaky"]]
    assert spread["shaky"] == pytest.approx(np.std(means, ddof=1))


def test_a_single_run_has_no_spread():
    row = summarise_groups({"alone": seeds(0.1, num_runs=1)}, num_resamples=100).row(0, named=True)
    assert row["sd"] is row["low_runs"] is row["high_runs"] is None
    assert row["low"] < row["mean"] < row["high"]


def alike(num_settings: int, seed: int = 0) -> dict[str, pl.DataFrame]:
    generator = np.random.default_rng(seed)
    return {f"lr={number}": judged(generator.normal(0.5, 0.2, 60)) for number in range(num_settings)}


def test_the_best_of_settings_that_are_alike_is_corrected_back_to_what_they_are():
    found = [optimism(alike(20, seed), "ndcg@20", num_resamples=400) for seed in range(40)]
    observed, corrected = (np.mean([getattr(one, name) for one in found]) for name in ("observed", "corrected"))
    # Of twenty means with a standard error of .026 the best is 1.87 of them too high (order statistics of the normal).
    assert observed == pytest.approx(0.5 + 1.87 * 0.2 / np.sqrt(60), abs=0.01)
    assert corrected == pytest.approx(0.5, abs=0.012)
    assert np.mean([one.optimism for one in found]) == pytest.approx(observed - corrected)
    assert np.mean([one.low <= 0.5 <= one.high for one in found]) >= 0.9


def test_a_setting_that_is_clearly_best_is_hardly_corrected_and_always_chosen():
    tables = alike(5) | {"good": judged(np.random.default_rng(9).normal(0.9, 0.05, 60))}
    found = optimism(tables, "ndcg@20", num_resamples=500)
    assert found.chosen == "good" and found.settings == 6 and found.users == 60
    assert abs(found.optimism) < 0.002
    assert found.chosen_share["good"] == 1.0
    assert found.row()["corrected"] == found.corrected and "chosen_share" not in found.row()


def test_optimism_is_that_of_a_loop_over_drawn_users():
    tables = alike(4)
    values = np.stack([table["ndcg@20"].to_numpy() for table in tables.values()], 1)
    generator, slow = np.random.default_rng(1), []
    for _ in range(4000):
        drawn = generator.integers(0, 60, 60)
        left = np.setdiff1d(np.arange(60), drawn)
        slow.append(values[left, values[drawn].mean(0).argmax()].mean())
    found = optimism(tables, "ndcg@20", num_resamples=4000)
    assert found.corrected == pytest.approx(np.mean(slow), abs=0.003)
    assert (found.low, found.high) == pytest.approx(tuple(np.percentile(slow, [2.5, 97.5])), abs=0.01)


def test_the_best_error_is_the_lowest_and_its_optimism_positive():
    tables = {name: table.rename({"ndcg@20": "rmse"}) for name, table in alike(6).items()}
    found = optimism(tables, "rmse", num_resamples=500)
    assert found.observed == pytest.approx(min(table["rmse"].mean() for table in tables.values()))
    assert found.optimism == pytest.approx(found.corrected - found.observed) and found.optimism > 0
    assert found.low < found.corrected < found.high


@pytest.mark.parametrize(
    ("tables", "metric", "message"),
    [
        (alike(1), "ndcg@20", "two settings or more"),
        ({n: t.rename({"ndcg@20": "novelty@20"}) for n, t in alike(2).items()}, "novelty@20", "chooses nothing"),
        (alike(2), "recall@20", r"has no 'recall@20'"),
        ({"a": judged(np.ones(2)), "b": judged(np.ones(2), range(5, 7))}, "ndcg@20", "different users"),
        ({"a": judged(np.ones(1)), "b": judged(np.ones(1))}, "ndcg@20", "fewer than two users"),
    ],
)
def test_a_choice_that_cannot_be_judged_is_refused(tables, metric, message):
    with pytest.raises(ValueError, match=message):
        optimism(tables, metric, num_resamples=50)
