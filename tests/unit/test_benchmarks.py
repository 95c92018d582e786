"""What the benchmarks compute and print themselves; what they run is tested elsewhere."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


real_rows, ablations, ceilings = script("real_rows"), script("ablations"), script("ceilings")
speed_table = script("speed_table")


@pytest.mark.parametrize(
    ("goal", "figure", "kept"),
    [
        ("<= 1.695", 1.695, True),
        ("<= 1.695", 1.6951, False),
        (">= .550", 0.5499, False),
        ("1.735 to 1.745", 1.74, True),
    ],
)
def test_a_goal_is_reached_or_not(goal: str, figure: float, kept: bool):
    assert real_rows.reached(goal, figure) is kept


def run(ndcg: float, **others: float) -> dict[str, object]:
    return {"ndcg@20": ndcg, "recall@100": 0.4, "others": {name: {"ndcg@20": f} for name, f in others.items()}}


def test_a_seed_without_all_its_folds_is_left_out_of_the_mean():
    found = real_rows.summary({"0": [run(0.1, random=0.5), run(0.3, random=0.7)], "1": [run(0.9)], "2": []}, whole=2)
    assert found["mean"] == {"ndcg@20": 0.2, "recall@100": 0.4}
    assert found["others"] == {"random": {"ndcg@20": 0.6}}


def test_a_task_that_is_measured_again_leaves_the_others_in_the_file(tmp_path: Path):
    path = tmp_path / "new" / "figures.json"
    for name, entry in (("cold_users", 1), ("warm", 2), ("cold_users", 3)):
        real_rows._write(path, name, {"figure": entry})
    assert real_rows._held(path) == {"warm": {"figure": 2}, "cold_users": {"figure": 3}}


def test_files_of_runs_side_by_side_become_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    runs_by_seed = {seed: [run(0.1)] for seed in ("0", "1", "2")}
    for name, figure in (("warm", 0.54), ("cold_users", 0.62)):
        entry = {"mean": {"ndcg@20": figure, "recall@100": 0.43}, "runs_by_seed": runs_by_seed}
        real_rows._write(tmp_path / f"{name}.json", name, entry)
    one, other = (str(tmp_path / f"{name}.json") for name in ("warm", "cold_users"))
    monkeypatch.setattr(sys, "argv", ["real_rows.py", "--json", one, "--merge", other])
    real_rows.main()
    assert ["liked, warm" in line for line in capsys.readouterr().out.splitlines()] == [False, False, True, False]
    assert set(real_rows._held(Path(one))) == {"warm", "cold_users"}


def test_the_table_marks_what_reaches_its_goal_and_shows_what_stands_beside_it(tmp_path: Path):
    others = {"item_rate": {"ndcg@20": 0.538, "recall@100": 0.4239}, "random": {"ndcg@20": 0.1, "recall@100": 0.1}}
    runs_by_seed = {"0": [run(0.5)], "2": [run(0.6)]}
    warm = {"mean": {"ndcg@20": 0.5432, "recall@100": 0.436}, "others": others, "runs_by_seed": runs_by_seed}
    row = real_rows.as_markdown({"warm": warm}).splitlines()[2]
    assert row.startswith("| liked, warm (seed 0 and 2) |")
    assert ".5432 / **.4360**" in row
    assert "item rate .538 / .424 |" in row
    file = tmp_path / "README.md"
    file.write_text("\n".join(["before", real_rows.MARKS[0], "old", real_rows.MARKS[1], "after"]), encoding="utf-8")
    real_rows.runs.write_between(file, real_rows.MARKS, "new")
    assert file.read_text(encoding="utf-8").split("\n")[::4] == ["before", "after"]
    assert "old" not in file.read_text(encoding="utf-8")
    file.write_text("no marks", encoding="utf-8")
    with pytest.raises(ValueError, match="put the two lines where the table belongs"):
        real_rows.runs.write_between(file, real_rows.MARKS, "new")


def test_the_readme_holds_the_table_that_the_benchmark_prints():
    held = real_rows._held(BENCHMARKS / "results" / "real_rows.json")
    text = (BENCHMARKS.parent / "README.md").read_text(encoding="utf-8")
    assert real_rows.as_markdown(held) in text, (
        "python benchmarks/real_rows.py --show --json benchmarks/results/real_rows.json --readme README.md"
    )


def test_the_ablations_are_what_their_script_prints():
    held = json.loads((BENCHMARKS / "results" / "ablations.json").read_text(encoding="utf-8"))
    shown = (BENCHMARKS / "ABLATIONS.md").read_text(encoding="utf-8")
    assert shown.strip() == ablations.as_markdown(held).strip(), (
        "python benchmarks/ablations.py --show --json benchmarks/results/ablations.json > benchmarks/ABLATIONS.md"
    )


def test_an_ablation_stands_beside_its_difference_to_the_shipped_experiment():
    rows = {
        "as shipped": {"change": [], "by_seed": {"0": {"mae": 0.3, "seconds": 5}, "1": {"mae": 0.5, "seconds": 7}}},
        "wider": {"change": ["model.embedding_dim=64"], "by_seed": {"0": {"mae": 0.45, "seconds": 8}}},
        "not run": {"change": ["seed=1"], "by_seed": {}},
    }
    held = {"rows": rows, "figures": ["mae"], "experiment": "experiment=x", "note": "Few rows."}
    lines = ablations.as_markdown({"tasks": {"x": held}}).splitlines()
    assert lines[-2:] == [
        "| as shipped |  | 0.4000 | 0 1 | 6 |",
        "| wider | `model.embedding_dim=64` | 0.4500 (+0.0500) | 0 | 8 |",
    ]


def planted(strength: float) -> tuple[np.ndarray, np.ndarray]:
    """Likes of 150 users and 120 items by effects and one taste of two kinds of users and items; half is seen."""
    rng = np.random.default_rng(0)
    effect_UI = rng.normal(0, 0.7, 150)[:, None] + rng.normal(0, 0.7, 120) - 1.0
    taste_UI = np.outer(rng.choice([-1.0, 1.0], 150), rng.choice([-1.0, 1.0], 120))
    liked_UI = rng.random((150, 120)) < 1.0 / (1.0 + np.exp(-effect_UI - strength * taste_UI))
    return liked_UI.astype(np.int8), rng.random((150, 120)) < 0.5


def test_effects_make_the_expected_likes_of_users_and_items_those_there_are():
    liked_UI, seen_UI = planted(0.0)
    expected_UI = ceilings.effects(liked_UI, seen_UI, strength=1e-3)
    for axis in (0, 1):
        got, want = ((x * seen_UI).sum(axis) for x in (expected_UI, liked_UI))
        np.testing.assert_allclose(got, want, atol=0.05)


@pytest.mark.parametrize(("strength", "above"), [(0.0, 0), (1.5, 1)])
def test_only_taste_stands_above_the_noise(strength: float, above: int):
    found = ceilings.warm(*planted(strength), np.random.default_rng(1))
    assert found["above_the_noise"] == above


def test_features_explain_what_they_cause_and_nothing_else():
    rng = np.random.default_rng(0)
    input_UF, fold_U = rng.normal(size=(200, 3)), np.arange(200) % 5
    noise_UI = rng.normal(size=(200, 4))
    assert ceilings.explained(input_UF, input_UF @ rng.normal(size=(3, 4)), fold_U) > 0.95
    assert ceilings.explained(input_UF, noise_UI, fold_U) < 0.02


def test_ndcg_of_one_list_by_hand():
    liked_UI = np.array([[1.0, 0.0, 1.0], [0.0, 0.0, 0.0], [0.0, 1.0, 0.0]])
    half = 1.0 / np.log2(3.0)
    want = ((1.0 + 0.0) / (1.0 + half) + half / 1.0) / 2  # the second user likes nothing
    assert ceilings.ndcg(np.array([0.9, 0.5, 0.1]), liked_UI, k=2) == pytest.approx(want)


def test_the_readme_holds_the_speeds_that_were_measured():
    table = speed_table.as_markdown(speed_table.held(speed_table.RESULTS))
    text = (BENCHMARKS.parent / "README.md").read_text(encoding="utf-8")
    assert table in text, "python benchmarks/speed_table.py --readme README.md"


def test_a_ratio_is_bold_where_it_reaches_its_goal_and_what_was_not_run_is_said():
    beside = {
        "fast": {"rows_per_s": 50_000, "ratio": 2.0, "goal": 3.0, "reached": False},
        "slow": {"rows_per_s": 10_000, "ratio": 10.0, "goal": 3.0, "reached": True},
        "absent": {"not run": "no environment"},
    }
    batches = {"4096": {"towerrec": {"rows_per_s": 1_250_000}, "references": beside}}
    row = speed_table.as_markdown({"training_vs_peers": {"rows": {"bce": {"batches": batches}}}}).splitlines()[2]
    assert row.endswith(
        "batch 4,096 | 1.25 M rows/s | fast 50 k; slow 10 k; absent: not run | 2.00 (3), **10.00** (3) |"
    )


def test_two_processes_stand_beside_one_as_their_benchmark_says_it():
    ways = {"one process, one thread": 1_000, "one process, two threads": 2_000, "two processes": 1_500}
    loss = {"loss": "bce", "rows_per_s": ways, "two_processes_to_one": 1.5, "largest_differences": {"losses": 6e-8}}
    row = speed_table.as_markdown({"distributed": {"measured": [loss]}}).splitlines()[2]
    beside = "one process, one thread 1 k; one process, two threads 2 k"
    assert (
        row == f"| DDP over two cores, bce | two processes 2 k rows/s | {beside} | 1.50 × one; losses apart by 6e-08 |"
    )
