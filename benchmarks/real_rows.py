"""What towerrec scores on the real KuaiRec rows, one command a task: prints a table and JSON.

    python benchmarks/real_rows.py --tasks warm cold_users --seeds 0 1 2 --json benchmarks/results/real_rows.json

The rows are those of `shared/data/kuairec-real` (set KUAIREC_REAL to their folder); `make_small_labels.py` there writes
the fully observed labels. Every figure is from the test side; epochs are chosen on the validation side.
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

ROOT = Path(__file__).resolve().parents[1]
REAL = Path(os.environ.get("KUAIREC_REAL", ROOT.parent / "shared" / "data" / "kuairec-real"))

# task -> (overrides of train.py, one list per run whose figures are averaged; figures; goals)
TASKS: dict[str, tuple[list[list[str]], tuple[str, ...], dict[str, str]]] = {
    "watch_ratio_notebook": ([["experiment=watch_ratio_notebook"]], ("rmse", "mae"), {"rmse": "1.74 +- .005"}),
    "watch_ratio": ([["experiment=watch_ratio_sample"]], ("rmse", "mae"), {"rmse": "<= 1.702", "mae": "<= .38"}),
    "warm": ([["experiment=small_warm"]], ("ndcg@20", "recall@100"), {"ndcg@20": ">= .535"}),
    "cold_users": ([["experiment=small_cold_users"]], ("ndcg@20", "recall@100"), {"ndcg@20": ">= .60"}),
    "cold_items": (
        [
            ["experiment=small_cold_items", f"split.test_remainder={j}", f"split.val_remainder={(j + 1) % 5}"]
            for j in range(5)
        ],
        ("ndcg@20", "recall@100"),
        {"ndcg@20": ">= .06", "recall@100": ">= .18"},
    ),
}


def main() -> None:
    arguments = _arguments()
    if not REAL.is_dir():
        sys.exit(f"the real rows are not at {REAL}: set KUAIREC_REAL to their folder")
    labels = _small_labels(arguments.work)
    results: dict[str, Any] = {"conditions": conditions(), "tasks": {}}
    for task in arguments.tasks:
        parts, figures, goals = TASKS[task]
        runs = {s: [_train(o, s, labels, arguments.work, figures) for o in parts] for s in arguments.seeds}
        means = [_mean(run) for run in runs.values()]
        results["tasks"][task] = {"goals": goals, "mean": _mean(means), "runs_by_seed": runs}
        print(task, results["tasks"][task]["mean"], "goal", goals, flush=True)
    print(json.dumps(results, indent=2))
    if arguments.json:
        arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "real_rows")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _small_labels(work: Path) -> Path:
    path = work / "small_labels.parquet"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, str(REAL / "make_small_labels.py"), str(path)], check=True)
    return path


def _train(overrides: list[str], seed: int, labels: Path, work: Path, figures: tuple[str, ...]) -> dict[str, float]:
    """Train once, judge once; returns the test figures and the seconds."""
    environment = os.environ | {"KUAIREC_REAL": str(REAL), "SMALL_LABELS": str(labels)}
    command = [sys.executable, "train.py", *overrides, f"seed={seed}", f"paths.log_dir={work / 'logs'}"]
    started = time.perf_counter()
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    run = next(line.split(":", 1)[1].strip() for line in reversed(done.stdout.splitlines()) if "run directory" in line)
    metrics = json.loads((ROOT / run / "metrics.json").read_text(encoding="utf-8"))["test"]
    return {f: metrics[f]["mean"] for f in figures} | {"seconds": time.perf_counter() - started}


def _mean(rows: list[dict[str, float]]) -> dict[str, float]:
    return {key: round(statistics.fmean(row[key] for row in rows), 4) for key in rows[0]}


if __name__ == "__main__":
    main()
