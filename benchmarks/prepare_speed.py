"""The full log (12.5 M rows, 1.1 GB csv) to a store ready to train, beside a bare polars scan + unique + sink.

    python benchmarks/prepare_speed.py --log data/demo-full-0 [--rounds 3] [--json FILE]

Each round runs in turn, every one a process of its own: the notebook's pandas load and clean (only where pandas is
installed), the bare scan of the six event columns, `prepare` with an empty cache, and `prepare` up to the first batch
with that cache. Seconds are of the work alone and of the whole process, imports included; peaks are the system's.

The floor is the scan: parsing the csv takes 1.8 of the 4.6 s that the bare reference takes on two cores.
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
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from conditions import conditions

ROOT = Path(__file__).resolve().parents[1]

_PANDAS = """
import pandas as pd
log = pd.read_csv(csv)
log = log.dropna().drop_duplicates()
log = log[log.watch_ratio >= 0]
"""
_POLARS = """
import polars as pl
event = ["user_id", "video_id", "timestamp", "play_duration", "video_duration", "watch_ratio"]
pl.scan_csv(csv).select(event).unique(keep="first", maintain_order=True).sink_parquet(work + "/bare.parquet")
"""
_PREPARED = """
from hydra import compose, initialize_config_dir
from towerrec import config, tasks
with initialize_config_dir(config_dir=os.path.abspath("conf"), version_base="1.3"):
    words = ["baseline=random", "data=kuairec", "data.matrices=[big]", "split=time"]
    words += [f"data.root={os.path.dirname(csv)}", f"paths.cache_dir={work}/cache"]
    cfg = config.evaluate_config(compose("evaluate", words))
started = time.perf_counter()
data = tasks.prepared_data(cfg)
assert data.prepared.from_cache == cached
"""
_TASKS = {
    "pandas, load and clean": _PANDAS,
    "polars, scan + unique + sink": _POLARS,
    "towerrec, first start": "cached = False\n" + _PREPARED,
    "towerrec, second start to the first batch": "cached = True\n"
    + _PREPARED
    + "next(iter(data.train_dataloader()))\n",
}
_FRAME = """
import json, os, resource, sys, time
csv, work = sys.argv[1:]
begun = started = time.perf_counter()
{task}
ended = time.perf_counter()
peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
print(json.dumps({{"seconds": ended - started, "peak_mib": peak}}))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--log", type=Path, required=True, help="folder of the simulated or official release")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    csv = next(asked.log.resolve().rglob("big_matrix.csv"))
    tasks = {name: task for name, task in _TASKS.items() if "pandas" not in name or find_spec("pandas")}
    runs: dict[str, list[dict[str, float]]] = {name: [] for name in tasks}
    for _ in range(asked.rounds):
        with tempfile.TemporaryDirectory() as work:
            for name, task in tasks.items():
                runs[name].append(_measured(task, csv, work))
    result = {"conditions": conditions() | {"csv_bytes": csv.stat().st_size, "rounds": asked.rounds}} | summary(runs)
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def summary(runs: dict[str, list[dict[str, float]]]) -> dict[str, Any]:
    """Medians of every task, and each over the bare scan."""
    medians = {
        name: {key: round(statistics.median(run[key] for run in of_task), 2) for key in of_task[0]}
        for name, of_task in runs.items()
    }
    bare = medians["polars, scan + unique + sink"]["process_seconds"]
    ratios = {
        name: {key: round(found[key] / bare, 2) for key in ("seconds", "process_seconds")}
        for name, found in medians.items()
    }
    return {"medians": medians, "over_the_bare_scan": ratios}


def _measured(task: str, csv: Path, work: str) -> dict[str, float]:
    started = time.perf_counter()
    line = [sys.executable, "-c", _FRAME.format(task=task), str(csv), work]
    environment = os.environ | {"PYTHONPATH": str(ROOT / "src")}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(done.stderr[-3000:])
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found | {"process_seconds": time.perf_counter() - started}


if __name__ == "__main__":
    main()
