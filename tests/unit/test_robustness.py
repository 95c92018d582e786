"""The table of what may go wrong: what it counts as lost, and that the README holds it."""

from __future__ import annotations

import importlib
import json
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


def script(name: str) -> ModuleType:
    sys.path.insert(0, str(BENCHMARKS))
    try:
        return importlib.import_module(name)
    finally:
        sys.path.remove(str(BENCHMARKS))


robustness = script("robustness")

LATENCY = {of: {"one_query": {"median_ms": 0.5, "p95_ms": 0.9}} for of in ("exact", "approximate")}
FLAT = {
    "unit": "epoch",
    "units": 50,
    "warm_up": 10,
    "slope_kib": 1.2,
    "slope_interval_kib": [-3.0, 4.0],
    "growth_kib": 512,
    "memory_mib": 300.0,
    "files": [9, 9],
    "threads": [4, 4],
    "flat": True,
}
CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "resume": (
        {
            "runs": 9,
            "equal": 9,
            "kills": 20,
            "by_kind": {"SIGKILL: step": 9, "SIGKILL: report": 3, "full disk: step": 8},
            "by_config": {"a": 5, "b": 4},
        },
        {"equal": 8},
        "9 runs of 2 settings stopped 20 times, then `train.py run=DIR` | 9 ended bit-equal to the run that was left "
        "alone; stopped by SIGKILL 12, full disk 8; where: step 17, report 3 | 0 |",
    ),
    "faults_disk": (
        {"faults": [{"fault": "full", "kind": "disk", "tried": 1200, "survived": 1200, "lost": 0}]},
        {"faults": [{"fault": "full", "kind": "disk", "tried": 3, "survived": 2, "lost": 1}]},
        "faults injected: disk | 1,200 of 1,200 survived: full 1,200/1,200 | 0 |",
    ),
    "fuzz": (
        {"readers": {"csv": {"inputs": 30000, "uncaught": 0, "hangs": 0}, "config": {"inputs": 25000, "uncaught": 0}}},
        {"readers": {"csv": {"inputs": 30000, "uncaught": 0, "hangs": 1}}},
        "55,000: csv 30,000; config 25,000; uncaught exceptions, hangs and damage 0 | 0 |",
    ),
    "determinism": (
        {"cases": [{"same_weights": True, "expected": True}, {"same_weights": False, "expected": False}]},
        {"cases": [{"same_weights": False, "expected": True}]},
        "the same weights (1) or others (1) | 1 bit-equal (threads, caches, busy machine, jobs side by side); 1 differ",
    ),
    "long_run": (
        {"scenarios": {"50 epochs": FLAT}},
        {"scenarios": {"50 epochs": FLAT | {"flat": False}}},
        "+1 KiB a epoch (-3 to +4), +0.5 MiB in the 40 after warm-up, of 300 MiB; open files 9 → 9, threads 4 → 4 |",
    ),
    "continue": (
        {
            "seeds": [{}, {}],
            "less_old_model": {"continued": {"old users": {"mean": 0.01, "low": 0.005, "high": 0.02, "users": 900}}},
        },
        {"less_old_model": {"continued": {"old users": {"mean": -0.01, "low": -0.02, "high": -0.001, "users": 900}}}},
        "old users | NDCG@20 +0.0100 (+0.0050 to +0.0200) against the old model, 900 users of 2 logs | 0 |",
    ),
    "export_parity": (
        {"rows": 10000, "furthest": {"onnx": 2e-6, "pt2": 0.0}, "models": {"two_tower": {"onnx": 2e-6, "pt2": 0.0}}},
        {"models": {"two_tower": {"onnx": 2e-5, "pt2": 0.0}}},
        "towers of 1 models exported, 10,000 random rows each | largest difference to the model itself: onnx 2.0e-06",
    ),
    "index_recall": (
        {
            "sizes": {
                "10 items": {
                    "auto": "flat",
                    "kinds": {
                        "flat": {
                            "recall": {"recall@10": 1.0, "recall@100": 0.9512},
                            "n": 100,
                            "users": 500,
                            "latency": LATENCY,
                            "bytes": 2**20,
                            "build_seconds": 2.4,
                            "goal_reached": True,
                        }
                    },
                }
            }
        },
        {},
        "index flat, 10 items, the one `auto` takes | recall@10 / @100 1.000 / 0.951 of 500 users by whom nothing was "
        "chosen; a query 0.50 ms (95 %: 0.90), exact 0.50 ms; 1.0 MiB, built in 2 s | 0 |",
    ),
}


@pytest.mark.parametrize("name", list(CASES))
def test_a_file_becomes_a_line_and_what_did_not_hold_is_lost(name: str):
    good, worse, line = CASES[name]
    table = robustness.as_markdown({name: good})
    assert line in table and table.endswith("| all of it |  | 0 |")
    if worse:
        bad = robustness.as_markdown({name: good | worse})
        assert bad.endswith("| **1** |") and "| **1** |\n" in bad


def test_an_index_below_its_goal_is_lost():
    made = json.loads(json.dumps(CASES["index_recall"][0]))
    made["sizes"]["10 items"]["kinds"]["flat"]["goal_reached"] = False
    assert robustness.as_markdown({"index_recall": made}).endswith("| **1** |")


def test_what_is_not_measured_is_said_and_what_is_lost_ends_badly(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setattr(sys, "argv", ["robustness.py", "--results", str(tmp_path)])
    assert robustness.main() == 0
    said = capsys.readouterr().out
    assert all(f"`{name}.json`" in said for name in ("resume", "faults", "fuzz", "index_recall", "long_run"))
    good, worse, _ = CASES["resume"]
    (tmp_path / "resume.json").write_text(json.dumps(good | worse))
    assert robustness.main() == 1
    shown = capsys.readouterr()
    assert "`resume.json`" not in shown.out and "1 lost" in shown.err


def test_every_file_of_the_results_is_a_line_of_the_table_and_nothing_was_lost():
    found = robustness.held(robustness.RESULTS)
    assert sum(row.lost for row in robustness.rows(found)) == 0


def test_the_readme_holds_what_the_table_says():
    table = robustness.as_markdown(robustness.held(robustness.RESULTS))
    text = (BENCHMARKS.parent / "README.md").read_text(encoding="utf-8")
    assert table in text, "python benchmarks/robustness.py --readme README.md"
