"""A sweep of four tiny jobs, one after another and two side by side: seconds from start to leaderboard.

    python benchmarks/sweep_speed.py --rounds 2 --json benchmarks/results/sweep_speed.json

The floor of two at once is half the seconds of one after another, plus what is done once. What eats the rest: each of
the two processes imports torch and lightning anew (the four jobs of the first sweep share one process), a job has half
the cores, and jobs of unequal length leave one process waiting at the end.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from conditions import conditions

ROOT = Path(__file__).resolve().parents[1]
JOBS = ["seed=0,1,2,3"]
SIDE_BY_SIDE = ["hydra/launcher=joblib", "hydra.launcher.n_jobs=2"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--scale", default="tiny", help="of the simulated log: tiny or small")
    parser.add_argument("--json", type=Path)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        common = [
            f"data.demo.scale={arguments.scale}", "data=demo", "eval.ks=[10,20]", "trainer.accelerator=cpu",
            "trainer.devices=1", f"trainer.max_epochs={arguments.epochs}", "callbacks.early_stopping=null",
            f"paths.data_dir={folder}/data", f"paths.cache_dir={folder}/cache", f"paths.log_dir={folder}/logs",
        ]  # fmt: skip
        seconds("seed=9", common)  # the log is simulated and prepared before the clock runs
        rounds = [(seconds(*JOBS, common), seconds(*JOBS, [*SIDE_BY_SIDE, *common])) for _ in range(arguments.rounds)]
    serial, parallel = (statistics.median(times) for times in zip(*rounds, strict=True))
    result = {
        "jobs": 4,
        "log": f"demo, {arguments.scale}, {arguments.epochs} epochs",
        "serial_seconds": round(serial, 1),
        "two_at_once_seconds": round(parallel, 1),
        "ratio": round(serial / parallel, 2),
        "rounds": arguments.rounds,
        "conditions": conditions(),
    }
    print(json.dumps(result, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def seconds(sweep: str, more: list[str]) -> float:
    """Of one sweep, from start to leaderboard."""
    started = time.perf_counter()
    command = [sys.executable, "train.py", "-m", sweep, *more]
    done = subprocess.run(command, cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False)
    if done.returncode != 0 or "leaderboard:" not in done.stdout:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return time.perf_counter() - started


if __name__ == "__main__":
    main()
