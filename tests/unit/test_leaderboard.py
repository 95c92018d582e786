"""The board of a sweep, on made-up sweeps: figures, order, tests and costs that can be worked by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest

from towerrec import cost, sweep_jobs, sweeping
from towerrec.report import jobs, leaderboard
from towerrec.report.board import COLUMNS, Board, board, places_of
from towerrec.report.board_page import page
from towerrec.report.board_text import markdown, terminal
from towerrec.report.standings import Estimate, readable

USERS = 40


def job(
    sweep: Path,
    number: int,
    *overrides: str,
    val: Sequence[float] | None = None,
    test: Sequence[float] | None = None,
    seconds: float = 10.0,
    **facts: Any,
) -> Path:
    """A finished job whose users have these figures of NDCG@20; without `val` nothing was validated."""
    place = sweep / str(number)
    (place / ".hydra").mkdir(parents=True)
    (place / ".hydra" / "overrides.yaml").write_text(json.dumps(list(overrides)), encoding="utf-8")
    metrics = {}
    for on, values, name in (("val", val, "validation"), ("test", test or [0.5] * USERS, "evaluation")):
        if values is not None:
            mean = sum(values) / len(values)
            metrics[on] = {"ndcg@20": {"mean": mean, "low": mean - 0.1, "high": mean + 0.1, "users": len(values)}}
            table = {"user_id": range(len(values)), "user_idx": range(len(values)), "ndcg@20": values}
            (place / name).mkdir()
            pl.DataFrame(table).write_parquet(place / name / "per_user.parquet")
    known = {"monitor": "val/ndcg@20" if val else None, "mode": "max", "loss": "bce", "epochs": 3, "parameters": 1000}
    cost = {"seconds": seconds, "rows_per_second": 2000.0, "peak_memory_bytes": 2**30 + number}
    (place / "metrics.json").write_text(json.dumps(metrics), encoding="utf-8")
    (place / "run.json").write_text(json.dumps(known | cost | facts), encoding="utf-8")
    return place


def unfinished(sweep: Path, number: int, *overrides: str, said: str = "", file: str = "") -> None:
    """A job without figures, perhaps with word of why."""
    place = sweep / str(number)
    (place / ".hydra").mkdir(parents=True)
    (place / ".hydra" / "overrides.yaml").write_text(json.dumps(list(overrides)), encoding="utf-8")
    if file:
        (place / file).write_text(said, encoding="utf-8")


def users(mean: float, tilt: float = 0.0) -> list[float]:
    """Figures of all users with this mean, half of them above it and half below."""
    return [mean + (tilt if user % 2 else -tilt) for user in range(USERS)]


def read(sweep: Path) -> Board:
    return board(sweep, num_resamples=500)


def column(found: Board, name: str) -> list[Any]:
    return found.table[name].to_list()


def test_the_best_by_validation_is_first_whatever_the_test_says(tmp_path: Path):
    job(tmp_path, 0, "model=a", val=users(0.2), test=users(0.9))
    job(tmp_path, 1, "model=b", val=users(0.4), test=users(0.1))
    found = read(tmp_path)
    assert column(found, "setting") == ["model=b", "model=a"]
    assert column(found, "place") == [1, 2]
    assert column(found, "validation") == pytest.approx([0.4, 0.2])
    assert column(found, "test") == pytest.approx([0.1, 0.9])
    assert "Test figures had no part in the order." in found.notes[0]


def test_less_is_better_where_an_error_decides(tmp_path: Path):
    for number, rmse in ((0, 1.5), (1, 1.2)):
        place = job(tmp_path, number, f"model.embedding_dim={number}", val=users(0.5), monitor="val/rmse", mode="min")
        metrics = json.loads((place / "metrics.json").read_text())
        for on in ("val", "test"):
            metrics[on]["rmse"] = {"mean": rmse, "low": rmse - 0.1, "high": rmse + 0.2, "rows": 50}
        (place / "metrics.json").write_text(json.dumps(metrics))
    found = read(tmp_path)
    assert column(found, "validation") == [1.2, 1.5]
    assert found.table.select("validation_low", "validation_high").row(0) == pytest.approx((1.1, 1.4))
    assert column(found, "p_value") == [None, None]
    assert any("not kept per user" in note for note in found.notes)
    for number, error in ((0, 1.4), (1, 1.1)):
        path = tmp_path / str(number) / "validation" / "per_user.parquet"
        pl.read_parquet(path).with_columns(user_rmse=error + pl.col("user_id") / 1000).write_parquet(path)
    found = read(tmp_path)
    assert column(found, "behind") == [None, pytest.approx(0.3)]
    assert column(found, "clearly_behind") == [None, True]
    assert any("is one of all rows" in note for note in found.notes)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        ("optimizer.lr=0.0027418263540982 seed=12345", "optimizer.lr=0.002742 seed=12345"),
        ("optimizer.lr=0.003 eval.ks=[10,20]", "optimizer.lr=0.003 eval.ks=[10,20]"),
        ("a=[1.23456789e-05,2.0] data.root=/v/1.234567", "a=[1.235e-05,2.0] data.root=/v/1.234567"),
    ],
)
def test_long_numbers_are_shortened_where_people_read_them(words: str, shown: str):
    assert readable(words) == shown


def test_commands_keep_every_digit(tmp_path: Path):
    for number, rate in enumerate(("0.0027418263540982", "0.0312345678901234")):
        job(tmp_path, number, f"optimizer.lr={rate}", val=users(0.3))
    text = markdown(read(tmp_path))
    assert "| optimizer.lr=0.002742 |" in text
    assert "python train.py optimizer.lr=0.0027418263540982 " in text


def test_seeds_are_one_row_with_their_spread_and_the_wider_interval_over_runs(tmp_path: Path):
    for number, (seed, mean) in enumerate(((1, 0.3), (2, 0.5))):
        job(tmp_path, number, "model=a", f"seed={seed}", val=users(mean, 0.1), test=users(mean, 0.1), seconds=10 + seed)
    job(tmp_path, 2, "model=b", "seed=1", val=users(0.1), test=users(0.1))
    first = read(tmp_path).table.row(0, named=True)
    assert (first["setting"], first["runs"], first["jobs"]) == ("model=a", 2, [0, 1])
    assert first["validation"] == pytest.approx(0.4)
    assert first["test_sd"] == pytest.approx(0.2 / 2**0.5)
    assert first["seconds"] == pytest.approx(11.5)
    assert first["test_low_runs"] < first["test_low"] < 0.4 < first["test_high"] < first["test_high_runs"]
    assert first["commands"] == ["python train.py model=a seed=1", "python train.py model=a seed=2"]


def test_windows_are_repeats_of_one_setting(tmp_path: Path):
    for number, window in enumerate((0, 1, 2)):
        job(tmp_path, number, "split=rolling", f"split.window={window}", val=users(0.3), test=users(0.1 * window))
    found = read(tmp_path)
    assert column(found, "runs") == [3]
    assert column(found, "test") == pytest.approx([0.1])


def test_jobs_that_did_not_finish_are_rows_that_say_why(tmp_path: Path):
    job(tmp_path, 0, "model=a", val=users(0.3))
    unfinished(tmp_path, 1, "model=b", file="failed.txt", said="model.embedding_dim must be at least 1, got 0\nmore\n")
    unfinished(tmp_path, 2, "model=c", file="pruned.txt", said="pruned after epoch 3 of 10: val/ndcg@20 0.1000\n")
    unfinished(tmp_path, 3, "model=d")
    found = read(tmp_path)
    assert column(found, "status") == ["finished", "failed", "pruned", "stopped"]
    assert found.table["why"][1] == "job 1 failed: model.embedding_dim must be at least 1, got 0"
    assert "epoch 3 of 10" in found.table["why"][2]
    assert "interrupted before its end" in found.table["why"][3]
    assert column(found, "place") == [1, None, None, None]
    assert "3 of 4 jobs did not finish" in found.notes[-1]
    assert all(command.startswith("python train.py model=") for (command,) in column(found, "commands"))


def test_a_setting_of_which_one_run_failed_keeps_the_others(tmp_path: Path):
    job(tmp_path, 0, "seed=1", val=users(0.3))
    unfinished(tmp_path, 1, "seed=2", file="failed.txt", said="no room")
    row = read(tmp_path).table.row(0, named=True)
    assert (row["status"], row["runs"], row["why"]) == ("1 of 2 finished", 1, "job 1 failed: no room")
    assert row["validation"] == pytest.approx(0.3)
    assert len(row["commands"]) == 2
    unfinished(tmp_path, 2, "seed=3", file="failed.txt", said="no room")
    assert read(tmp_path).table["why"][0] == "jobs 1, 2 failed: no room"


def test_the_table_keeps_its_columns_when_all_jobs_failed_or_there_is_none(tmp_path: Path):
    (tmp_path / "empty").mkdir()
    unfinished(tmp_path / "failed", 0, "model=a", file="failed.txt", said="no such model")
    for name, height in (("empty", 0), ("failed", 1)):
        found = leaderboard.write(tmp_path / name)
        written = pl.read_parquet(tmp_path / name / "leaderboard.parquet")
        assert dict(written.schema) == COLUMNS
        assert written.height == height
        assert "no job finished" in found.notes[0]
        assert "no job finished" in (tmp_path / name / "leaderboard.html").read_text(encoding="utf-8")


def test_what_is_clearly_behind_is_told_from_what_could_be_chance(tmp_path: Path):
    job(tmp_path, 0, "lr=1", val=users(0.5), seconds=30)
    job(tmp_path, 1, "lr=2", val=users(0.499, 0.2), seconds=5)
    job(tmp_path, 2, "lr=3", val=users(0.3))
    found = read(tmp_path)
    assert column(found, "clearly_behind") == [None, False, True]
    assert column(found, "behind")[1:] == pytest.approx([0.001, 0.2])
    assert (found.table["p_adjusted"] >= found.table["p_value"]).drop_nulls().all()
    told = next(note for note in found.notes if "told apart" in note)
    assert told.startswith("1 setting of 2 cannot be told apart from the best")
    assert told.endswith("of them, lr=2 trained fastest (5 s beside 30 s).")
    assert any("the best of 3 settings" in note for note in found.notes)


@pytest.mark.parametrize(("noise", "said"), [(0.1, "Selection flatters: the best of 6 "), (0.0, "flatters by nothing")])
def test_the_flattery_of_the_choice_is_said_where_there_is_some(tmp_path: Path, noise: float, said: str):
    rng = np.random.default_rng(0)
    for number in range(6):
        mean = 0.5 if noise or number == 0 else 0.3  # without noise the first is the best of all users
        job(tmp_path, number, f"lr={number}", val=(mean + rng.normal(0, noise, USERS)).tolist())
    assert any(said in note for note in read(tmp_path).notes)


def test_the_fastest_is_named_only_where_it_is_much_faster(tmp_path: Path):
    job(tmp_path, 0, "lr=1", val=users(0.5), seconds=2.0)
    job(tmp_path, 1, "lr=2", val=users(0.499, 0.2), seconds=1.9)
    told = next(note for note in read(tmp_path).notes if "told apart" in note)
    assert told.endswith("none of them trained much faster than it.")


def test_every_test_figure_has_its_interval(tmp_path: Path):
    for number in (0, 1):
        place = job(tmp_path, number, f"lr={number}", val=users(0.5))
        metrics = json.loads((place / "metrics.json").read_text())
        metrics["test"]["recall@20"] = {"mean": 0.4, "low": 0.35, "high": 0.45, "users": USERS}
        (place / "metrics.json").write_text(json.dumps(metrics))
        table = pl.read_parquet(place / "evaluation" / "per_user.parquet")
        recall = pl.Series("recall@20", users(0.4, 0.1))
        table.with_columns(recall).write_parquet(place / "evaluation" / "per_user.parquet")
    found = read(tmp_path)
    (low, *_), (high, *_) = column(found, "test/recall@20_low"), column(found, "test/recall@20_high")
    assert column(found, "test/recall@20") == pytest.approx([0.4, 0.4]) and low < 0.4 < high
    for text in (markdown(found), page(found)):
        assert f"{low:.4f} to {high:.4f}" in text and "Recall@20_low" not in text


def test_equal_figures_share_a_place_and_missing_ones_have_none(tmp_path: Path):
    assert places_of([Estimate(0.5), Estimate(0.5), Estimate(0.4), None]) == [1, 1, 3, None]
    job(tmp_path, 0, "a=1", val=None, test=users(0.9))
    job(tmp_path, 1, "a=2", val=users(0.5))
    job(tmp_path, 2, "a=3", val=users(0.5))
    found = read(tmp_path)
    assert column(found, "setting") == ["a=2", "a=3", "a=1"]
    assert column(found, "place") == [1, 1, None]
    assert any("share a place" in note for note in found.notes)
    assert any(note.startswith("1 setting finished without a validation figure") for note in found.notes)


def test_a_watched_loss_decides_where_all_minimise_the_same_one(tmp_path: Path):
    about = {"monitor": "val/loss", "mode": "min"}
    job(tmp_path, 0, "a=1", val=users(0.6), monitored=0.3, **about)
    job(tmp_path, 1, "a=2", val=users(0.5), monitored=0.2, **about)
    assert column(read(tmp_path), "setting") == ["a=2", "a=1"]
    job(tmp_path, 2, "loss=mse", val=users(0.1), monitored=0.01, loss="mse", **about)
    found = read(tmp_path)
    assert column(found, "setting") == ["a=1", "a=2", "loss=mse"]
    assert column(found, "figure") == ["ndcg@20"] * 3
    assert found.notes[1] == "Ordered by NDCG@20: the jobs minimised different losses."


def test_a_watched_figure_that_was_not_judged_gives_way_to_the_nearest_and_that_is_said(tmp_path: Path):
    for number in (0, 1):
        job(tmp_path, number, f"a={number}", val=users(0.5 + 0.1 * number), monitor="val/ndcg@7", monitored=0.9)
    found = read(tmp_path)
    assert column(found, "figure") == ["ndcg@20"] * 2
    assert found.notes[1] == "Ordered by NDCG@20: the watched ndcg@7 is not among the judged figures (eval.ks)."


def test_figures_by_different_rules_are_called_not_comparable(tmp_path: Path):
    for number, candidates in enumerate(("observed", "catalogue")):
        place = job(tmp_path, number, f"eval.candidates={candidates}", val=users(0.3))
        rules = {"protocol": {"candidates": candidates, "positive": "> 0", "split": "test"}}
        (place / "evaluation" / "comparison.json").write_text(json.dumps(rules), encoding="utf-8")
    assert any("differ in candidates (catalogue, observed)" in note for note in read(tmp_path).notes)


def test_costs_are_means_of_time_and_the_largest_memory_a_first_fit_included(tmp_path: Path):
    job(tmp_path, 0, "seed=1", val=users(0.3), seconds=10, first_fit={"seconds": 20.0})
    job(tmp_path, 1, "seed=2", val=users(0.3), seconds=40, peak_device_memory_bytes=2**31)
    row = read(tmp_path).table.row(0, named=True)
    assert (row["seconds"], row["rows_per_second"], row["parameters"]) == (35.0, 2000.0, 1000)
    assert (row["peak_memory_bytes"], row["peak_device_memory_bytes"]) == (2**30 + 1, 2**31)


def test_commands_are_quoted_for_a_shell_and_texts_escaped(tmp_path: Path):
    job(tmp_path, 0, "split.train=fold < 480", "a='<b>|'", val=users(0.3))
    job(tmp_path, 1, "split.train=fold < 240", "a='<b>|'", val=users(0.2))
    leaderboard.write(tmp_path)
    text = (tmp_path / "leaderboard.md").read_text(encoding="utf-8")
    assert "python train.py 'split.train=fold < 480'" in text
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    assert "<b>|" not in page
    assert "split.train=fold &lt; 480" in page


def test_three_files_are_written_whole_and_say_the_same(tmp_path: Path):
    job(tmp_path, 0, "a=1", val=users(0.25, 0.1), test=users(0.125))
    job(tmp_path, 1, "a=2", val=users(0.75, 0.1), test=users(0.625))
    found = leaderboard.write(tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_file()) == [
        "leaderboard.html", "leaderboard.md", "leaderboard.parquet",
    ]  # fmt: skip
    assert pl.read_parquet(tmp_path / "leaderboard.parquet").equals(found.table)
    page = (tmp_path / "leaderboard.html").read_text(encoding="utf-8")
    for text in (markdown(found), terminal(found), page):
        assert text.index("a=2") < text.index("a=1")
        assert "0.7500" in text
        assert "0.6250" in text
    assert "<svg" in page
    assert "<script" not in page


def test_jobs_name_their_files_as_sweeps_do():
    assert (jobs.FAILED_FILE, jobs.PRUNED_FILE) == (sweeping.FAILED, sweep_jobs.PRUNED)


@pytest.mark.skipif(not Path("/proc/self/clear_refs").exists(), reason="peaks of memory begin anew on Linux only")
def test_jobs_that_share_a_process_have_a_peak_of_memory_each():
    held = bytearray(b"x") * 300_000_000
    peak = cost.peak_memory_bytes()
    del held
    sweeping.let_go()
    assert cost.peak_memory_bytes() < peak - 200_000_000


def test_the_correction_of_p_values_is_the_one_that_was_asked_for(tmp_path: Path):
    rng = np.random.default_rng(0)
    for number in range(4):
        job(tmp_path, number, f"lr={number}", val=(0.5 - 0.02 * number + rng.normal(0, 0.1, USERS)).tolist())
    adjusted = {}
    for correction in ("holm", "benjamini_hochberg", "none"):
        found = board(tmp_path, num_resamples=500, correction=correction)
        adjusted[correction] = column(found, "p_adjusted")[1:]
    assert adjusted["none"] == column(found, "p_value")[1:]
    for holm, hochberg, none in zip(*(sorted(values) for values in adjusted.values()), strict=True):
        assert holm >= hochberg >= none
    assert sum(adjusted["holm"]) > sum(adjusted["benjamini_hochberg"]) > sum(adjusted["none"])
    assert any("no correction" in note for note in found.notes)
