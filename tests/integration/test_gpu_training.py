"""The benchmark of one GPU runs without one, on a few rows: what it measures there is no claim."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parents[2]
FEW = [
    "--rows",
    "6000",
    "--users",
    "200",
    "--items",
    "300",
    "--batch",
    "512",
    "--softmax-batch",
    "256",
    "--epochs",
    "1",
]


def run(*words: str) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, "benchmarks/gpu_training.py", *FEW, *words]
    path = os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    return subprocess.run(
        line, cwd=ROOT, capture_output=True, text=True, check=False, env=os.environ | {"PYTHONPATH": path}
    )


def test_every_figure_is_there_and_those_of_a_device_are_left_out(tmp_path: Path):
    done = run("--device", "cpu", "--json", str(tmp_path / "figures.json"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "figures.json").read_text())
    for name in ("pointwise", "in_batch_softmax", "full_softmax"):
        assert found[name]["rows_per_s"] > 0 and found[name]["validation_seconds"] > 0
        assert found[name]["waits"] is None and found[name]["peak_device_memory_mib"] is None
    assert found["pointwise"]["rows_an_epoch"] == 6000 > found["full_softmax"]["rows_an_epoch"]


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA device")
def test_without_a_device_it_says_so():
    done = run()
    assert done.returncode == 2 and "no CUDA device is at hand" in done.stderr
