"""What the comparisons compute themselves: turns, quality, slopes, floors (no other library is run)."""

from __future__ import annotations

import json
import math
import sys
import xml.etree.ElementTree as ElementTree
from importlib import import_module
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
sys.path[:0] = [str(BENCHMARKS), str(BENCHMARKS / "references")]
contest, environments, floor, growth, growth_plot, rows, peers = (
    import_module(name)
    for name in ("contest", "environments", "floor", "growth", "growth_plot", "rows", "training_vs_peers")
)
del sys.path[:2]

PROGRAM = """
import argparse, sys, time
sys.path.insert(0, {references!r})
import turns
parser = argparse.ArgumentParser()
parser.add_argument("--rounds", type=int)
print("noise on standard output is no line of the contest")
turns.ready(size=3)
for turn in range(parser.parse_args().rounds):
    since = turns.wait()
    {work}
    turns.report(since, rows=100)
turns.finish(rmse=1.5)
"""


def program(path: Path, work: str) -> contest.Contestant:
    path.write_text(PROGRAM.format(references=str(BENCHMARKS / "references"), work=work), encoding="utf-8")
    return contest.Contestant(path.stem, (sys.executable, str(path)))


def test_programs_work_in_turn_and_one_that_fails_leaves_the_others_alone(tmp_path: Path):
    trace = tmp_path / "trace"
    line = f"open({str(trace)!r}, 'a').write('{{}}')"
    contestants = [
        program(tmp_path / "first.py", line.format("a")),
        program(tmp_path / "broken.py", "raise OSError('no disk') if turn == 1 else None"),
        contest.Contestant("absent", None, "not installed"),
        program(tmp_path / "second.py", line.format("b")),
    ]
    found = contest.contest(contestants, rounds=3, work=tmp_path)
    assert trace.read_text() == "ababab"
    assert list(found) == ["first", "broken", "absent", "second"]
    assert "no disk" in found["broken"]["not run"]
    assert found["absent"] == {"not run": "not installed"}
    assert found["first"]["quality"] == {"rmse": 1.5}
    assert found["first"]["rows_of_a_round"] == 100
    assert len(found["first"]["rows_per_s_of_rounds"]) == 3


def test_a_reference_without_its_environment_says_how_to_make_it(tmp_path: Path):
    rival = peers.Rival("keras", "keras_notebook.py", (), "tensorflow")
    found = peers._contestant(rival, tmp_path / "rows.npz", 32, tmp_path)
    assert found.command is None
    assert "--create --only tensorflow" in found.why_not


def test_an_unknown_environment_is_refused():
    with pytest.raises(ValueError, match="no environment is called 'tensor'"):
        environments.python("tensor", None)


@pytest.mark.parametrize(
    ("rate", "bce", "goal", "expected"),
    [
        (400, 0.140, 4.0, {"ratio": 4.0, "quality kept": True, "goal": 4.0, "reached": True}),
        (399, 0.144, 4.0, {"ratio": 3.99, "quality kept": False, "goal": 4.0, "reached": False}),
        (80, 0.141, None, {"ratio": 0.8, "quality kept": True}),
    ],
)
def test_a_goal_asks_for_speed_and_the_guard_for_quality(rate: int, bce: float, goal: float | None, expected: dict):
    theirs = {"rows_per_s": 100, "quality": {"bce": 0.140}}
    ours = {"rows_per_s": rate, "quality": {"bce": bce}}
    found = peers._beside(ours, theirs, peers.Rival("r", "r.py", (), goal=goal), ("bce", 0.002))
    assert found == expected | theirs


def test_the_ndcg_of_the_references_is_that_of_the_definition():
    random = np.random.default_rng(0)
    user, score = random.integers(5, size=300), random.normal(size=300)
    relevant = (random.random(300) < 0.2) & (user != 4)  # one user without any
    slow = []
    for u in range(4):
        own = sorted(zip(score[user == u], relevant[user == u], strict=True), reverse=True)
        gain = sum(1 / math.log2(place + 2) for place, (_, hit) in enumerate(own[:20]) if hit)
        best = sum(1 / math.log2(place + 2) for place in range(min(20, sum(hit for _, hit in own))))
        slow.append(gain / best)
    assert rows.ndcg_at_20(user, relevant, score) == pytest.approx(np.mean(slow))


def test_the_slope_reads_the_upper_half_of_the_sizes():
    sizes = [2**i for i in range(8)]
    # Flat at first, the square of the size later.
    assert growth.slope(sizes, [max(1.0, (s / 8) ** 2) for s in sizes]) == pytest.approx(2.0)


def test_a_step_that_grows_faster_than_its_arithmetic_is_flagged():
    sizes = [1024, 2048, 4096, 8192]
    assert growth._judged("prepare", "rows", sizes, [s**1.1 for s in sizes])["flag"] is False
    assert growth._judged("prepare", "rows", sizes, [s**1.3 for s in sizes])["flag"] is True


def test_the_plot_has_a_line_for_every_step_of_every_axis():
    step = {"sizes": [1024, 2048], "seconds": [0.5, 1.0], "slope": 1.0, "arithmetic": 1.0, "flag": False}
    svg = growth_plot.draw({"rows": {"prepare": step, "train": step | {"flag": True}}, "users": {"prepare": step}})
    root = ElementTree.fromstring(svg)
    texts = [text.text for text in root.iter("{http://www.w3.org/2000/svg}text")]
    assert texts.count("1.00 (1)") == 2
    assert texts.count("1.00 (1!)") == 1
    lines = list(root.iter("{http://www.w3.org/2000/svg}polyline"))
    assert len(lines) == 3 + 2  # and one of each step in the key


def test_the_floor_counts_distinct_rows_and_every_parameter():
    tower = floor.two_tower([100, 5, 7])
    assert tower.gathered == 64 + 2 * 8
    assert tower.weights == 80 * 128 + 128 * 64
    assert tower.parameters == tower.weights + 100 * 64 + 12 * 8
    idle = floor.Tower(0, 0, 0)
    found = floor.floor(
        np.array([0, 0, 1, 1]),
        np.array([2, 3, 4, 5]),
        batch=4,
        towers=(tower, idle),
        width=64,
        softmax=False,
        vectors_a_row=2,
        on=floor.Machine(operations_per_s=6 * tower.weights * 1e6, bytes_per_s=28 * tower.parameters * 1e6),
    )
    assert (found["distinct_users"], found["distinct_items"]) == (2, 4)
    assert found["microseconds_a_step"]["towers"] == 2
    assert found["microseconds_a_step"]["adam"] == 1


def test_what_is_written_for_the_references_is_read_again(tmp_path: Path):
    held = {f.name: np.arange(3) for f in rows.fields(rows.Data)}
    rows.Data(**held).save(tmp_path / "rows.npz")
    read = rows.Data.load(tmp_path / "rows.npz")
    assert json.dumps(read.user.tolist()) == "[0, 1, 2]"
