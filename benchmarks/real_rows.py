"""What the shipped experiments score on real rows, one command a task: prints a table and JSON.

    python benchmarks/real_rows.py --tasks warm cold_users --json benchmarks/results/real_rows.json
    python benchmarks/real_rows.py --show --json benchmarks/results/real_rows.json --readme README.md

The rows are those of `shared/data` (set KUAIREC_REAL and KUAIRAND_SIGNED to the two folders); `make_small_labels.py`
there writes the fully observed labels. Every figure is from the test side; epochs and settings are chosen on
validation rows (benchmarks/ABLATIONS.md). The file keeps the tasks that are not run now, and is written after each run,
so tasks can be run one by one.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import runs
from conditions import conditions


@dataclass(frozen=True)
class Task:
    """One row of the table.

    Attributes:
        title: The task in words.
        parts: Overrides of `train.py`, one list per run; their figures are averaged.
        goals: What was to be reached, by figure: `<= x`, `>= x` or `x to y`.
        published: Figures that were published or measured elsewhere, in the order of `goals`.
        shown: Systems of the same runs that stand beside them in the table.
        baselines: What is judged beside the model (None: what the experiment says).
    """

    title: str
    parts: list[list[str]]
    goals: dict[str, str]
    published: dict[str, str] = field(default_factory=dict)
    shown: tuple[str, ...] = ()
    baselines: str | None = None

    @property
    def command(self) -> list[list[str]]:
        judged = [] if self.baselines is None else [f"eval.baselines=[{self.baselines}]"]
        return [[*part, *judged] for part in self.parts]


HINDSIGHT = "best_list_in_hindsight"

TASKS = {
    "watch_ratio_notebook": Task(
        "watch ratio, the notebook's model",
        [["experiment=watch_ratio_notebook"]],
        {"rmse": "1.735 to 1.745"},
        {"Keras notebook": "1.740"},
        ("train mean",),
    ),
    "watch_ratio": Task(
        "watch ratio, its mean",
        [["experiment=best_watch_ratio"]],
        {"rmse": "<= 1.695"},
        {"user and item bias": "1.697", "boosted trees": "1.700"},
        ("train mean",),
    ),
    "watch_ratio_order": Task(
        "watch ratio, its median and order",
        [["experiment=best_watch_ratio_order"]],
        {"mae": "<= .355", "xauc": ">= .752"},
        {"user and item bias": ".369 / .743", "boosted trees": ".3605 / .746"},
        ("train median",),
    ),
    "warm": Task(
        "liked, warm",
        [["experiment=best_warm"]],
        {"ndcg@20": ">= .550", "recall@100": ">= .435"},
        {"BCE MF": ".541 / .428", "RePlay": ".530 / .421", "RecBole BPR": ".529 / .424"},
        ("item_rate", "ease", HINDSIGHT),
        "random,item_rate,ease",
    ),
    "cold_users": Task(
        "liked, cold users",
        [["experiment=best_cold_users"]],
        {"ndcg@20": ">= .620"},
        {},
        ("item_rate", HINDSIGHT),
    ),
    "cold_items": Task(
        "liked, cold items, mean of five folds",
        [
            ["experiment=best_cold_items", f"split.test_remainder={j}", f"split.val_remainder={(j + 1) % 5}"]
            for j in range(5)
        ],
        {"ndcg@20": ">= .100", "recall@100": ">= .250"},
        {"second-level category": ".082 / .200", "ridge on text": ".082 / .217"},
        ("random", HINDSIGHT),
    ),
    "kuairand_signed": Task(
        "KuaiRand, likes and skips",
        [["experiment=best_kuairand_signed"]],
        {"ndcg@20": ">= .075", "recall@20": ">= .155"},
        {"LightFM WARP": ".050 / .103", "best published baseline": ".070 / .129", "SIGformer": ".072 / .149"},
        ("most_positive", "ease"),
    ),
}


def main() -> None:
    arguments = _arguments()
    for other in arguments.merge:
        for name, entry in _held(other).items():
            _write(arguments.json, name, entry)
    if not (arguments.show or arguments.merge):
        absent = runs.missing((runs.REAL, runs.SIGNED))
        if absent:
            sys.exit(absent)
        runs.write_small_labels(arguments.work)
        for name in arguments.tasks:
            measure(name, arguments)
    table = as_markdown(_held(arguments.json))
    print(table)
    if arguments.readme:
        runs.write_between(arguments.readme, MARKS, table)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--work", type=Path, default=runs.ROOT / "data" / "real_rows", help="labels and runs")
    parser.add_argument("--json", type=Path, default=runs.ROOT / "data" / "real_rows" / "real_rows.json")
    parser.add_argument("--show", action="store_true", help="print the table of the file, run nothing")
    parser.add_argument(
        "--merge", type=Path, nargs="+", default=[], help="take over the tasks of other files, run nothing"
    )
    parser.add_argument("--readme", type=Path, help="put the table between the marks of this file")
    return parser.parse_args()


def measure(name: str, arguments: argparse.Namespace) -> None:
    """Run one task with every seed; its place in the file is written anew after each run."""
    task = TASKS[name]
    entry: dict[str, Any] = {
        "conditions": conditions(),
        "commands": [f"python train.py {' '.join(part)}" for part in task.command],
        "goals": task.goals,
        "runs_by_seed": {str(seed): [] for seed in arguments.seeds},
    }
    figures = ("rmse", "mae", "xauc") if name.startswith("watch_ratio") else tuple(task.goals)
    for seed in arguments.seeds:
        for part in task.command:
            run = runs.train([*part, f"seed={seed}"], work=arguments.work)
            facts = run.read("run.json")
            entry["runs_by_seed"][str(seed)].append(
                run.figures("test", figures)
                | {"seconds": run.seconds, "epochs": facts["epochs"], "others": run.others(figures)}
            )
            entry["commit"] = facts["git_commit"]
            entry |= summary(entry["runs_by_seed"], whole=len(task.parts))
            _write(arguments.json, name, entry)
    print(name, entry["mean"], "goals", task.goals, flush=True)


def summary(by_seed: dict[str, list[dict[str, Any]]], *, whole: int) -> dict[str, Any]:
    """Means over seeds that have all their `whole` runs (before there is one: over the runs there are): each figure of
    the model, and of what was judged beside it."""
    done = [runs_ for runs_ in by_seed.values() if len(runs_) == whole] or [r for r in by_seed.values() if r]
    every = [run for seed in done for run in seed]
    own = [{k: v for k, v in run.items() if k != "others"} for run in every]
    names = [name for name in every[0]["others"] if all(name in run["others"] for run in every)]
    return {"mean": runs.mean(own), "others": {n: runs.mean([run["others"][n] for run in every]) for n in names}}


def _held(path: Path) -> dict[str, Any]:
    """The tasks of the file."""
    if not path.is_file():
        return {}
    tasks: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["tasks"]
    return tasks


def _write(path: Path, name: str, entry: dict[str, Any]) -> None:
    """Read again before writing: another process may have finished another task since."""
    tasks = _held(path) | {name: entry}
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(f".{name}.part")
    part.write_text(
        json.dumps({"tasks": {n: tasks[n] for n in TASKS if n in tasks}}, indent=2) + "\n", encoding="utf-8"
    )
    part.replace(path)


def reached(goal: str, figure: float) -> bool:
    """Whether a figure keeps `<= x`, `>= x` or `x to y`."""
    if " to " in goal:
        low, high = (float(end) for end in goal.split(" to "))
        return low <= figure <= high
    sign, bound = goal.split()
    return figure <= float(bound) if sign == "<=" else figure >= float(bound)


def as_markdown(tasks: dict[str, Any]) -> str:
    """The table of the README: bold figures reach their goal."""
    lines = ["| task | figure | goal | towerrec | published | in the same runs |", "|---|---|---|---|---|---|"]
    for name, task in TASKS.items():
        entry = tasks.get(name)
        if entry is None:
            continue
        goals = task.goals
        own = " / ".join(_figure(entry["mean"][f], goals[f]) for f in goals)
        beside = [(n, entry["others"][n]) for n in task.shown if n in entry.get("others", {})]
        cells = [
            task.title + _fewer_seeds(entry["runs_by_seed"], whole=len(task.parts)),
            " / ".join(_NAMES[f] for f in goals),
            " / ".join(goal.replace("<=", "≤").replace(">=", "≥") for goal in goals.values()),
            own,
            "; ".join(f"{n} {figures}" for n, figures in task.published.items()),
            "; ".join(f"{n.replace('_', ' ')} {' / '.join(_short(found[f]) for f in goals)}" for n, found in beside),
        ]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


_NAMES = {"rmse": "RMSE", "mae": "MAE", "xauc": "XAUC", "ndcg@20": "NDCG@20"} | {
    f"recall@{k}": f"Recall@{k}" for k in (20, 100)
}


def _fewer_seeds(by_seed: dict[str, list[Any]], *, whole: int) -> str:
    """What to say where not all of the three seeds were run."""
    done = [seed for seed, parts in by_seed.items() if len(parts) == whole]
    return "" if len(done) >= 3 else f" (seed {' and '.join(done)})" if done else " (not all folds)"


def _short(figure: float, digits: int = 3) -> str:
    return f"{figure:.{digits}f}".removeprefix("0")


def _figure(figure: float, goal: str) -> str:
    """Four digits: the third decides some goals."""
    return f"**{_short(figure, 4)}**" if reached(goal, figure) else _short(figure, 4)


MARKS = ("<!-- printed by benchmarks/real_rows.py -->", "<!-- end -->")


if __name__ == "__main__":
    main()
