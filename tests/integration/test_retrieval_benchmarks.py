"""The benchmarks of search, metrics, the GPU and the start run at a small size and say what they are asked for."""

from __future__ import annotations

import argparse
import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import REPOSITORY

BENCHMARKS = REPOSITORY / "benchmarks"
sys.path.insert(0, str(BENCHMARKS))
gpu_retrieval, startup_speed = importlib.import_module("gpu_retrieval"), importlib.import_module("startup_speed")
sys.path.remove(str(BENCHMARKS))


def printed(script: str, *words: str) -> dict[str, Any]:
    command = [sys.executable, str(BENCHMARKS / script), *words]
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=True)
    return json.loads(done.stdout)


def test_the_retrieval_of_a_gpu_is_tried_out_on_the_cpu():
    asked = argparse.Namespace(users=300, items=4000, width=16, n=20, memory_mb=1.0, checked=100, square=64)
    found = gpu_retrieval.measured(asked, torch.device("cpu"))
    assert found["same_items_as_float32"] == 1.0
    assert found["largest_relative_score_difference"] < 1e-5
    assert found["unproven_share"] < 0.1
    assert found["share_of_the_matrix_rate"] > 0


def test_a_start_is_shown_beside_the_bare_import():
    one, other = {startup_speed.IMPORT: 4.0, startup_speed.STEP: 5.5, "train.py --help": 1.0}, {}
    other = {name: seconds + 1 for name, seconds in one.items()}
    found = startup_speed.summary([one, other, one])
    assert found["seconds"] == one
    assert found["times_the_import"] == {"train.py --help": 0.25}
    assert found["first_step_above_the_import_seconds"] == 1.5


@pytest.mark.slow
def test_the_search_is_compared_on_a_small_case():
    found = printed("search_speed.py", "--sizes", "tiny", "--rounds", "1")["sizes"]["tiny"]["programs"]
    assert found["torch matmul + mask + topk"]["same_items"] > 0.99
    assert "not run" in found["implicit"]  # its environment was not named
    assert found["towerrec"]["times_towerrec"] == 1


@pytest.mark.slow
def test_the_statistics_are_timed_on_a_small_case():
    found = printed("statistics_speed.py", "--users", "30", "--figures", "2", "--resamples", "50", "--rounds", "1")
    assert found["conditions"]["users"] == 30
    assert all(seconds > 0 for seconds in found["seconds"].values()) and len(found["seconds"]) == 6


def test_the_metrics_are_compared_on_a_small_case():
    found = printed("metrics_speed.py", "--users", "100", "--items", "300", "--rounds", "1")["programs"]
    assert found["towerrec"]["figures"] == found["towerrec with intervals"]["figures"]
    same = ("precision@10", "mrr@100")  # see references/metrics_torchmetrics.py for the others
    ours, theirs = ([found[name]["figures"][key] for key in same] for name in ("towerrec", "torchmetrics"))
    assert ours == pytest.approx(theirs, abs=1e-6)
    assert "not run" in found["ranx"]


@pytest.mark.slow
def test_a_start_is_measured(tmp_path: Path):
    data = ["data=demo", "data.demo.scale=tiny", "eval.ks=[10]"]
    found = printed("startup_speed.py", "--work", str(tmp_path), "--rounds", "1", "--data", *data)
    assert max(found["times_the_import"].values()) < 1.3
    assert set(found["times_the_import"]) == {"train.py --help", "recommend.py --help", "evaluate.py --help"}
