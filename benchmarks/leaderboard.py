"""Models and baselines on the five tasks of real rows, with intervals and paired tests: JSON and a readable page.

    python benchmarks/leaderboard.py --tasks warm cold_users --seeds 0 1 2
    python benchmarks/leaderboard.py --show

A run that is there (`--work`) is not run again. Epochs, and the settings of what is called tuned, were chosen on
validation rows; nothing is chosen by what stands in the table. The rows are those of `shared/data` (set KUAIREC_REAL
and KUAIRAND_SIGNED to the two folders); per-user tables of real users stay under `--work`, the JSON has means alone.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import leaderboard_text
import runs
from conditions import conditions
from leaderboard_measure import measure, seeds_of
from leaderboard_plan import TASKS, Model, Task, run_name

from towerrec.baselines.registry import NAMES

PAGE = runs.ROOT / "benchmarks" / "LEADERBOARD.md"


def main() -> None:
    arguments = _arguments()
    if not arguments.show:
        absent = runs.missing((runs.REAL, runs.SIGNED))
        if absent:
            sys.exit(absent)
        runs.write_small_labels(arguments.work)
        for seed in arguments.seeds:
            for name in arguments.tasks:
                train_all(name, seed, arguments.work, models=arguments.models)
        for name in arguments.tasks:
            judge_baselines(name, arguments.work)
            write(arguments.json, name, measure(TASKS[name], arguments.work / name))
    PAGE.write_text(leaderboard_text.page(held(arguments.json)), encoding="utf-8")


def _arguments() -> argparse.Namespace:
    results = runs.ROOT / "benchmarks" / "results" / "leaderboard.json"
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", nargs="*", type=int, default=[0, 1, 2], help="none: judge the runs that are there")
    parser.add_argument("--models", nargs="+", help="train these alone (default: all of a task)")
    parser.add_argument("--work", type=Path, default=runs.ROOT / "data" / "leaderboard", help="labels and runs")
    parser.add_argument("--json", type=Path, default=results)
    parser.add_argument("--show", action="store_true", help="write the page from the file, run nothing")
    return parser.parse_args()


def train_all(name: str, seed: int, work: Path, *, models: list[str] | None = None) -> None:
    """Every run of a task with one seed that is not there yet."""
    task = TASKS[name]
    if seed not in task.seeds:
        return
    for model, entry in task.models.items():
        if models is not None and model not in models:
            continue
        for part in range(len(task.parts)):
            directory = work / name / run_name(model, seed, part, len(task.parts))
            if not (directory / "metrics.json").is_file():
                print(name, model, f"seed {seed}", *task.parts[part], flush=True)
                train(task, entry, seed, part, directory, work)


def train(task: Task, entry: Model, seed: int, part: int, directory: Path, work: Path) -> None:
    said = (f"seed={seed}", "eval.baselines=[]", f"hydra.run.dir={directory.resolve()}")
    runs.command("train.py", [*entry.overrides, *task.parts[part], *said], work=work)


def judge_baselines(name: str, work: Path) -> None:
    """All baselines by the rules of the task, from the rows that a model of it learnt from."""
    task = TASKS[name]
    seed = seeds_of(task, work / name, task.beside)[0]
    wanted = "" if task.of_rows else ",".join(NAMES)  # of values there are constants and biases, always judged
    for part in range(len(task.parts)):
        directory = work / name / "baselines" / str(part)
        if not (directory / "comparison.json").is_file():
            run = work / name / run_name(task.beside, seed, part, len(task.parts))
            said = [f"run={run.resolve()}", f"eval.baselines=[{wanted}]", f"output={directory.resolve()}"]
            print(name, "baselines", *task.parts[part], flush=True)
            runs.command("evaluate.py", said, work=work)


def held(path: Path) -> dict[str, Any]:
    """The tasks of the file."""
    if not path.is_file():
        return {}
    tasks: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    return tasks


def write(path: Path, name: str, entry: dict[str, Any]) -> None:
    """Put a task into the file; the others stay."""
    tasks = held(path) | {name: {"conditions": conditions(), **entry}}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    text = json.dumps({"tasks": {n: tasks[n] for n in TASKS if n in tasks}}, indent=1)
    part.write_text(text + "\n", encoding="utf-8")
    part.replace(path)


if __name__ == "__main__":
    main()
