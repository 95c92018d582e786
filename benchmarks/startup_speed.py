"""What a start costs: `--help` of the three scripts, and `train.py` from nothing to its first optimiser step.

The reference is a process that does `import torch, lightning, polars, hydra`. The log is the built-in one,
prepared beforehand, so that the second start is measured; `--data` names another. All take turns in one run. Prints
JSON: median seconds, each as a multiple of the bare import or as seconds above it.

    python benchmarks/startup_speed.py [--work DIR] [--data data=demo data.demo.scale=small] [--rounds 3] [--json FILE]

The floor is the bare import: Lightning and torch need it before the first step, whatever towerrec does. `--help` is
below it, for Hydra alone answers.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from conditions import conditions
from runs import ROOT

_IMPORT = "import torch, lightning, polars, hydra"
_FIRST_STEP = """
import os, runpy, sys
from torch.optim.optimizer import register_optimizer_step_post_hook
# What is left of the run is of no interest.
register_optimizer_step_post_hook(lambda *_: os._exit(0))
sys.path.insert(0, os.getcwd())
runpy.run_path("train.py", run_name="__main__")
sys.exit("no optimiser made a step")
"""
_DATA = ["data=demo", "data.demo.scale=small"]
IMPORT, STEP = _IMPORT, "train.py to the first optimiser step"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "startup_speed", help="for data and runs")
    parser.add_argument("--data", nargs="+", default=_DATA, metavar="KEY=VALUE", help="what to train on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    work = asked.work.resolve()
    words = [*asked.data, f"paths.data_dir={work / 'data'}", f"paths.log_dir={work / 'logs'}"]
    commands = {
        IMPORT: ["-c", f"{_IMPORT}, os; os._exit(0)"],  # as the first step: taking things down is not measured
        STEP: ["-c", _FIRST_STEP, *words],
        **{f"{script} --help": [script, "--help"] for script in ("train.py", "recommend.py", "evaluate.py")},
    }
    for command in commands.values():  # fills the caches: of the log, of the file system, of compiled modules
        _seconds(command)
    rounds = [{name: _seconds(command) for name, command in commands.items()} for _ in range(asked.rounds)]
    result = {"conditions": conditions() | {"rounds": asked.rounds, "data": asked.data}, **summary(rounds)}
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def summary(rounds: list[dict[str, float]]) -> dict[str, Any]:
    """Medians of the rounds, and what they are beside the bare import."""
    seconds = {name: round(statistics.median(found[name] for found in rounds), 2) for name in rounds[0]}
    bare = seconds[IMPORT]
    return {
        "seconds": seconds,
        "times_the_import": {name: round(s / bare, 2) for name, s in seconds.items() if name.endswith("--help")},
        "first_step_above_the_import_seconds": round(seconds[STEP] - bare, 2),
    }


def _seconds(command: list[str]) -> float:
    """Wall seconds of a Python process; one that fails ends the benchmark with what it said."""
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    seconds = time.perf_counter() - started
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return seconds


if __name__ == "__main__":
    main()
