"""Judgements side by side, from directories as `evaluate.py` and sweeps leave them."""

import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from towerrec.comparing import compare, write_comparison
from towerrec.report.side_by_side_text import markdown, sentences, text

NUM_USERS = 120
RULES = {
    "split": "test",
    "ks": [10, 20],
    "candidates": "catalogue",
    "positive": "> 0",
    "users": NUM_USERS,
    "num_candidates": 500,
    "candidates_per_user": 480.5,
    "fingerprint": "00ff",
}
HARD = np.random.default_rng(0).random(NUM_USERS) * 0.5
HINDSIGHT = "best_list_in_hindsight"


def figures(gain: float, seed: int, users: range) -> pl.DataFrame:
    noise = np.random.default_rng(seed).normal(0, 0.02, len(users))
    values = HARD[: len(users)] + gain + noise
    return pl.DataFrame(
        {"user_id": users, "user_idx": users, "num_relevant": 3, "ndcg@20": values, "recall@20": values / 2}
    )


def judgement(directory: Path, gain: float, *, seed: int = 0, users: range = range(NUM_USERS), **rules) -> Path:
    """An evaluation directory; `gain` moves every user's figures up."""
    directory.mkdir(parents=True)
    figures(gain, seed, users).write_parquet(directory / "per_user.parquet")
    bound = figures(0.1, 99, users).select(pl.lit(HINDSIGHT).alias("system"), pl.all())
    bound.write_parquet(directory / "per_user_others.parquet")
    summary = {"ndcg@20": {"mean": bound["ndcg@20"].mean(), "low": 0.3, "high": 0.4, "users": len(users)}}
    about = {"protocol": {**RULES, "users": len(users), **rules}, "baselines": {HINDSIGHT: summary}}
    (directory / "comparison.json").write_text(json.dumps(about), encoding="utf-8")
    return directory


def job(directory: Path, gain: float, *overrides: str, seed: int = 0, **rules) -> Path:
    """A run directory of a sweep, validated as it is tested."""
    (directory / ".hydra").mkdir(parents=True)
    (directory / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in overrides))
    judgement(directory / "evaluation", gain, seed=seed, **rules)
    (directory / "validation").mkdir()
    figures(gain, seed + 50, range(NUM_USERS)).write_parquet(directory / "validation" / "per_user.parquet")
    return directory


def sweep(root: Path) -> Path:
    """Two settings with three seeds each, and a job that did not finish."""
    for number, (gain, dim) in enumerate([(0.0, 8), (0.2, 32)] * 3):
        seed = number // 2
        job(root / str(number), gain + 0.01 * seed, f"model.embedding_dim={dim}", f"seed={seed}", seed=number)
    (root / "6").mkdir()
    return root


def found(*places: Path, **options):
    return compare([str(place) for place in places], num_resamples=400, **options)


def test_two_judgements_are_compared_on_every_figure(tmp_path: Path):
    good, base = judgement(tmp_path / "good", 0.2), judgement(tmp_path / "base", 0.0, seed=1)
    comparison = found(good, base)
    assert comparison.metric == "ndcg@20"
    assert comparison.paired["metric"].to_list() == ["ndcg@20", "recall@20"]
    row = comparison.paired.row(0, named=True)
    assert (row["first"], row["second"], row["users"]) == ("good", "base", NUM_USERS)
    assert row["mean"] == pytest.approx(0.2, abs=0.02) and row["low"] > 0 and row["p_adjusted"] < 0.01
    assert row["low_runs"] is None
    assert comparison.places == {"good": (str(good),), "base": (str(base),)}


def test_the_first_stands_against_each_other_or_all_against_all(tmp_path: Path):
    places = [judgement(tmp_path / name, 0.1, seed=seed) for seed, name in enumerate("abc")]
    first = found(*places).paired.filter(pl.col("metric") == "ndcg@20")
    assert first.select("first", "second").rows() == [("a", "b"), ("a", "c")]
    every = found(*places, against="all").paired.filter(pl.col("metric") == "ndcg@20")
    assert every.select("first", "second").rows() == [("a", "b"), ("a", "c"), ("b", "c")]
    assert every["family"].unique().to_list() == [3]
    plain = found(*places, correction="none").paired
    assert plain["p_adjusted"].equals(plain["p_value"], check_names=False)


def test_a_sweep_stands_for_its_settings_with_their_seeds(tmp_path: Path):
    comparison = found(sweep(tmp_path / "sweep"))
    ours = comparison.systems.filter(pl.col("kind") == "compared", pl.col("metric") == "ndcg@20")
    assert ours["system"].to_list() == ["model.embedding_dim=8", "model.embedding_dim=32"]
    assert ours["runs"].to_list() == [3, 3]
    assert ours["sd"].to_list() == pytest.approx([0.01, 0.01], abs=0.004)
    gap = comparison.paired.row(0, named=True)
    assert gap["mean"] == pytest.approx(-0.2, abs=0.02)
    assert gap["low_runs"] < gap["high_runs"] < 0
    seeds = comparison.runs.filter(pl.col("metric") == "ndcg@20")
    assert seeds["repeat"].to_list() == ["seed=0", "seed=1", "seed=2"] * 2
    best = comparison.optimism.row(0, named=True)
    assert (best["chosen"], best["settings"]) == ("model.embedding_dim=32", 2)
    said = " ".join(sentences(comparison))
    assert "over users and runs, as another training would have it" in said and "still clear of 0" in said
    assert "3 runs, whose NDCG@20 has a standard deviation of 0.0" in said
    assert "validation chooses model.embedding_dim=32" in said


def test_grouping_is_for_sweeps_for_all_or_for_none(tmp_path: Path):
    root = sweep(tmp_path / "sweep")
    apart = found(root, grouped="none")
    assert list(apart.places)[:2] == ["model.embedding_dim=8 seed=0", "model.embedding_dim=8 seed=1"]
    runs = [root / str(number) for number in range(4)]
    assert list(found(*runs).places) == ["0", "1", "2", "3"]
    together = found(*runs, grouped="all")
    assert list(together.places) == ["model.embedding_dim=8", "model.embedding_dim=32"]
    assert together.places["model.embedding_dim=8"] == (str(root / "0/evaluation"), str(root / "2/evaluation"))
    with pytest.raises(ValueError, match=r"all 2 runs are repeats of one setting .*compare_grouped=none"):
        found(root / "0", root / "2", grouped="all")


def test_sweeps_and_runs_may_stand_together_and_equal_names_are_told_apart(tmp_path: Path):
    root, other = sweep(tmp_path / "sweep"), judgement(tmp_path / "lists", 0.3)
    comparison = found(other, root)
    assert list(comparison.places) == ["lists", "sweep: model.embedding_dim=8", "sweep: model.embedding_dim=32"]
    assert list(found(other, other).places) == ["lists", "lists (2)"]


def test_what_is_above_the_best_list_for_everybody_is_called_taste(tmp_path: Path):
    places = [
        judgement(tmp_path / name, gain, seed=seed) for seed, (name, gain) in enumerate([("up", 0.2), ("low", 0.0)])
    ]
    comparison = found(*places)
    said = " ".join(sentences(comparison))
    assert "up passes that list" in said and "it is taste" in said
    assert "low stays below that list" in said
    kinds = comparison.systems.filter(pl.col("metric") == "ndcg@20")["kind"].to_list()
    assert kinds == ["compared", "compared", "bound"]


def test_windows_join_their_users_and_say_how_many_are_in_all(tmp_path: Path):
    places = []
    for name, gain in (("plain", 0.0), ("better", 0.2)):
        for window, users in enumerate((range(0, 80), range(40, NUM_USERS))):
            run = tmp_path / f"{name}{window}"
            words = (f"model={name}", f"split.window={window}")
            places.append(job(run, gain, *words, users=users, seed=window, fingerprint=f"{window}"))
    comparison = found(*places, grouped="all")
    row = comparison.systems.filter(pl.col("system") == "model=plain").row(0, named=True)
    assert (row["users"], row["common_users"], row["runs"]) == (NUM_USERS, 40, 2)
    assert "judge different users: 120 in all, 40 of them in every run" in " ".join(sentences(comparison))
    assert comparison.taste is None  # a bound of one window says nothing of the other
    with pytest.raises(ValueError, match=r"judged on different rows.*same seeds or windows"):
        found(*places[:3], grouped="all")


@pytest.mark.parametrize(
    ("rules", "message"),
    [
        ({"split": "val"}, r"different rules \(split: test in first, val in second\)"),
        ({"candidates": "observed"}, r"different rules \(candidates: catalogue in first, observed in second\)"),
        ({"positive": ">= 2"}, r"different rules \(positive"),
        ({"num_candidates": 400}, r"different rules \(num_candidates: 500 in first, 400 in second\)"),
        ({"candidates_per_user": 490.0}, r"different rules \(candidates_per_user"),
        ({"fingerprint": "beef"}, r"judged on different rows.*first \(120 users\) and second \(120 users\)"),
    ],
)
def test_judgements_that_answer_other_questions_are_refused(rules, message, tmp_path: Path):
    first, second = judgement(tmp_path / "first", 0.1), judgement(tmp_path / "second", 0.1, **rules)
    with pytest.raises(ValueError, match=message):
        found(first, second)


def test_directories_without_a_judgement_or_of_an_older_version_say_what_to_do(tmp_path: Path):
    there = judgement(tmp_path / "there", 0.1)
    with pytest.raises(ValueError, match="at least two directories"):
        found(there)
    with pytest.raises(ValueError, match=r"holds no judgement .*recommendations=FILE output=DIR"):
        found(there, tmp_path / "none")
    old = judgement(tmp_path / "old", 0.1)
    about = json.loads((old / "comparison.json").read_text())
    del about["protocol"]["fingerprint"]
    (old / "comparison.json").write_text(json.dumps(about))
    with pytest.raises(ValueError, match="old was judged by an older towerrec: judge it again"):
        found(there, old)


def test_a_comparison_is_written_as_tables_and_text(tmp_path: Path):
    comparison = found(sweep(tmp_path / "sweep"))
    write_comparison(comparison, tmp_path / "out")
    assert pl.read_parquet(tmp_path / "out" / "comparison.parquet").equals(comparison.paired)
    assert pl.read_parquet(tmp_path / "out" / "systems.parquet").equals(comparison.systems)
    assert (tmp_path / "out" / "optimism.parquet").is_file()
    assert (tmp_path / "out" / "comparison.md").read_text() == markdown(comparison)
    assert "| model.embedding_dim=8 |" in markdown(comparison) and "sweep/0/evaluation" in markdown(comparison)
    assert "model.embedding_dim=8 against model.embedding_dim=32 (120 users)" in text(comparison)
    places = [judgement(tmp_path / name, 0.1) for name in "ab"]
    write_comparison(found(*places), tmp_path / "out")
    assert not (tmp_path / "out" / "optimism.parquet").exists()


def test_groups_of_the_first_judgement_are_compared_within_and_an_older_one_has_none(tmp_path: Path):
    good, base = judgement(tmp_path / "good", 0.2), judgement(tmp_path / "base", 0.0, seed=1)
    write_comparison(found(good, base), tmp_path / "out")
    assert not (tmp_path / "out" / "groups.parquet").exists()
    groups = {"slice": "activity", "group": ["few", "many"] * (NUM_USERS // 2), "order": [0, 1] * (NUM_USERS // 2)}
    pl.DataFrame({**groups, "user_id": range(NUM_USERS)}).write_parquet(good / "user_groups.parquet")
    write_comparison(found(good, base), tmp_path / "out")
    written = pl.read_parquet(tmp_path / "out" / "groups.parquet")
    assert written["users"].to_list() == [NUM_USERS // 2] * 2 and written["mean"].to_list() == pytest.approx(
        [0.2] * 2, abs=0.03
    )


def test_the_setting_of_a_sweep_that_says_nothing_of_its_own_is_called_as_given(tmp_path: Path):
    job(tmp_path / "sweep" / "0", 0.0, "data=demo")
    job(tmp_path / "sweep" / "1", 0.1, "data=demo", "features.drop=[tags]", seed=1)
    assert list(found(tmp_path / "sweep").places) == ["as given", "features.drop=[tags]"]


@pytest.mark.parametrize("words", ["- [", "5", "\x00", "!!python/name:os.system"], ids=range(4))
def test_a_job_whose_words_are_damaged_is_named(words: str, tmp_path: Path):
    root = sweep(tmp_path / "sweep")
    (root / "²").mkdir()  # a digit that is no number: not a job
    found(root)
    (root / "1" / ".hydra" / "overrides.yaml").write_text(words)
    with pytest.raises(ValueError, match=r"1/.hydra/overrides.yaml does not hold what this towerrec writes"):
        found(root)
