"""The board of real rows as a page of Markdown, from what the benchmark left."""

from __future__ import annotations

from typing import Any

from leaderboard_measure import HINDSIGHT
from leaderboard_plan import DEFAULTS, TASKS, TUNED, Task

LEVEL = 0.05
TITLES = {"rmse": "RMSE", "mae": "MAE", "xauc": "XAUC"} | {
    f"{name}@{k}": f"{title}@{k}" for name, title in (("ndcg", "NDCG"), ("recall", "Recall")) for k in (20, 100)
}
LOWER = ("rmse", "mae")

HEAD = f"""# Models and baselines on real rows

Test figures of five tasks, printed by `python benchmarks/leaderboard.py --show` from
`benchmarks/results/leaderboard.json`.

- **{TUNED}**: settings chosen on validation rows ([ABLATIONS.md](ABLATIONS.md)). **{DEFAULTS}**: the task's rows, split
  and loss, and for the rest what towerrec ships, so these rows say what a model does untouched, not what it could do.
  Epochs are chosen on validation rows everywhere. Where a model was refitted on training and validation rows
  (`refit=true`), so were the baselines beside it. Tables are in the order of their first test figure; it chose nothing.
- Intervals hold 95 %: over users (of errors: users with all their rows), for models with several seeds over users and
  seeds.
- Every model is compared with the baseline that has the best test figure (so chosen in the baseline's favour), and with
  the best single list in hindsight, which reads the test rows: a bound for lists that are the same for everybody. The
  difference is the model's figure minus the other's, paired by user; p-values are of sign-flip permutation
  tests, corrected (Holm) for all comparisons of one figure of a task. Seeds are averaged first.
- Seconds, rows/s and memory are those of a run on one thread of a machine that others used at the same time.
"""


def page(tasks: dict[str, Any]) -> str:
    """The whole page, from what `leaderboard_measure.measure` found of every task."""
    shown = [name for name in TASKS if name in tasks]
    parts = [HEAD, "## In short", "", *_overview({name: tasks[name] for name in shown})]
    for name in shown:
        parts += ["", f"## {TASKS[name].title}", "", *_section(TASKS[name], tasks[name])]
    return "\n".join(parts) + "\n"


def _overview(tasks: dict[str, Any]) -> list[str]:
    lines = [
        "| task | figure | model | best baseline | difference | best list in hindsight | difference |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, entry in tasks.items():
        figure = TASKS[name].figures[0]
        systems = entry["systems"]
        best = best_by_validation(systems, figure)
        rival = entry["best_baseline"][figure]
        bound = HINDSIGHT in systems
        cells = [
            TASKS[name].title,
            TITLES[figure],
            f"{best} {digits(_mean(systems, best, figure))}",
            f"{rival} {digits(_mean(systems, rival, figure))}",
            difference(entry["paired"], best, rival, figure),
            digits(_mean(systems, HINDSIGHT, figure)) if bound else "",
            difference(entry["paired"], best, HINDSIGHT, figure) if bound else "",
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return [*lines, "", "The model of each task is the one with the best validation figure."]


def _section(task: Task, entry: dict[str, Any]) -> list[str]:
    systems = entry["systems"]
    bound = HINDSIGHT in systems
    first = task.figures[0]
    head = ["", "settings", "seeds", f"validation {TITLES[first]}", *(f"test {TITLES[f]}" for f in task.figures)]
    head += [f"{TITLES[f]} against {entry['best_baseline'][f].replace('_', ' ')}" for f in task.figures]
    head += [f"{TITLES[first]} against the best list in hindsight"] if bound else []
    head += ["seconds", "rows/s", "memory", "parameters"]
    lines = [f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    for name in ordered(systems, first):
        system = systems[name]
        cells = [_name(name, system), system.get("settings", ""), " ".join(map(str, system.get("seeds", [])))]
        cells.append(digits(system.get("validation", {}).get(first)))
        cells += [with_interval(system["figures"].get(figure)) for figure in task.figures]
        cells += [difference(entry["paired"], name, entry["best_baseline"][f], f) for f in task.figures]
        cells += [difference(entry["paired"], name, HINDSIGHT, first)] if bound else []
        cells += _cost(system)
        lines.append(f"| {' | '.join(cells)} |")
    lines += ["", *_notes(task, entry), "", "```bash"]
    lines += [f"{system['command']}   # {name}" for name, system in systems.items() if system["kind"] == "model"]
    return [*lines, "```"]


def _name(name: str, system: dict[str, Any]) -> str:
    words = name if system["kind"] == "model" else name.replace("_", " ")
    return f"**{words}**" if system["kind"] == "model" else f"{words} *" if system["kind"] == "bound" else words


def _cost(system: dict[str, Any]) -> list[str]:
    if system["kind"] != "model":
        return ["", "", "", ""]
    memory = f"{system['peak_memory_bytes'] / 2**30:.1f} GiB"
    return [
        f"{system['seconds']:.0f}",
        f"{system['rows_per_second'] / 1000:,.0f} k",
        memory,
        f"{system['parameters']:,}",
    ]


def _notes(task: Task, entry: dict[str, Any]) -> list[str]:
    notes = [f"- {remark}" for remark in task.remarks]
    not_run = [name for name in task.models if name not in entry["systems"]]
    notes += [f"- Not run: {', '.join(not_run)}."] if not_run else []
    notes += [f"- Left out: {name}: {why}." for name, why in _left_out(entry).items()]
    if HINDSIGHT in entry["systems"]:
        notes.insert(0, "- \\* reads the test rows.")
    if len(task.parts) > 1:
        first = task.figures[0]
        spread = "; ".join(
            f"{name} {' '.join(digits(v, 3) for v in system['folds'][first])}"
            for name, system in entry["systems"].items()
            if system["kind"] == "model"
        )
        notes.append(
            f"- The folds differ more than the models, and the intervals (over users) know nothing of that: test "
            f"{TITLES[first]} by fold: {spread}."
        )
    return [*notes, "- Every command took `seed=`, and in folds `split.test_remainder= split.val_remainder=`, besides:"]


def _left_out(entry: dict[str, Any]) -> dict[str, str]:
    """Names with the same reason together."""
    by_reason: dict[str, list[str]] = {}
    for name, why in entry["left_out"].items():
        by_reason.setdefault(why.rstrip("."), []).append(name)
    return {", ".join(names): why for why, names in by_reason.items()}


def ordered(systems: dict[str, Any], figure: str) -> list[str]:
    """Names from the best test figure to the worst, equal ones by name."""
    sign = 1 if figure in LOWER else -1
    return sorted(systems, key=lambda name: (sign * systems[name]["figures"][figure]["mean"], name))


def best_by_validation(systems: dict[str, Any], figure: str) -> str:
    """The model that one would choose."""
    sign = 1 if figure in LOWER else -1
    found = {name: sign * system["validation"][figure] for name, system in systems.items() if "validation" in system}
    return min(found, key=lambda name: found[name])


def difference(paired: list[dict[str, Any]], first: str, second: str, figure: str) -> str:
    """A paired difference, bold where it says more than chance that the model is better."""
    found = [row for row in paired if (row["first"], row["second"], row["metric"]) == (first, second, figure)]
    if not found:
        return ""
    row = found[0]
    low, high = (row.get(f"{end}_runs", row[end]) for end in ("low", "high"))
    better = high < 0 if figure in LOWER else low > 0
    text = f"{row['mean']:+.4f} ({low:+.4f} to {high:+.4f}), p {p_value(row['p_adjusted'])}"
    return f"**{text}**" if better and row["p_adjusted"] <= LEVEL else text


def p_value(value: float) -> str:
    return "< .001" if value < 0.001 else f"{value:.3f}".removeprefix("0")


def with_interval(figure: dict[str, Any] | None) -> str:
    """A figure with its widest interval."""
    if figure is None:
        return ""
    low, high = (figure.get(f"{end}_runs", figure.get(end)) for end in ("low", "high"))
    return digits(figure["mean"]) if low is None else f"{digits(figure['mean'])} ({digits(low)} to {digits(high)})"


def digits(value: float | None, number: int = 4) -> str:
    return "" if value is None else f"{value:.{number}f}".removeprefix("0")


def _mean(systems: dict[str, Any], name: str, figure: str) -> float:
    mean: float = systems[name]["figures"][figure]["mean"]
    return mean
