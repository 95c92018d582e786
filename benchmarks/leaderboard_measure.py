"""From run directories to figures: intervals over users and seeds, and paired tests against what needs no training.

Shape letters: U users, R rows, S seeds.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import polars as pl
import torch
from leaderboard_plan import Task, run_name

from towerrec.baselines.registry import NAMES
from towerrec.judged_values import pair_values
from towerrec.report.bootstrap import ends_of, resampled_means_of_runs
from towerrec.report.groups import averaged, summarise_groups
from towerrec.report.paired import paired_table
from towerrec.report.per_user import stacked

HINDSIGHT = "best_list_in_hindsight"
BIAS = "user and item bias"
RESAMPLES = 10_000

Tables = dict[str, list[pl.DataFrame]]
"""Per system a table per seed: a row per user, `user_id` and the figures."""


def measure(task: Task, place: Path) -> dict[str, Any]:
    """What the board says of a task: systems with figures, and their tests.

    Args:
        task: The task.
        place: Directory of its runs.
    """
    models = {name: seeds_of(task, place, name) for name in task.models}
    models = {name: seeds for name, seeds in models.items() if seeds}
    tables: Tables = {name: [_table(task, place, name, seed) for seed in seeds] for name, seeds in models.items()}
    beside = _others(task, place)
    summary = _summary(task, tables | beside)
    systems = {name: _costs(task, place, name, seeds) | {"figures": summary[name]} for name, seeds in models.items()}
    for name in beside:
        kind = "bound" if name == HINDSIGHT else "baseline"
        systems[name] = {"kind": kind, "figures": summary[name]}
    systems |= _constants(task, place)
    best = {figure: best_baseline(systems, figure) for figure in task.figures}
    return {
        "systems": systems,
        "best_baseline": best,
        "paired": paired(task, tables, beside, best),
        "left_out": _left_out(task, place) | task.left_out,
    }


def seeds_of(task: Task, place: Path, model: str) -> list[int]:
    """Seeds whose runs, one per fold, are all there."""
    num_parts = len(task.parts)

    def there(seed: int) -> bool:
        return all((place / run_name(model, seed, p, num_parts) / "metrics.json").is_file() for p in range(num_parts))

    return [seed for seed in task.seeds if there(seed)]


def over_folds(parts: Sequence[pl.DataFrame], figures: Sequence[str]) -> pl.DataFrame:
    """One table of several folds whose means are the means of the folds' means.

    A user of U stands in some of J folds, fold j with U_j users: he gets the sum of his figures, each times
    U / (J U_j). Users are what is drawn at random: how much the folds differ is not in the intervals.
    """
    if len(parts) == 1:
        return parts[0].select("user_id", *figures)
    num_users = pl.concat([part.select("user_id") for part in parts])["user_id"].n_unique()
    weighted = [
        part.select("user_id", *(pl.col(f) * num_users / (len(parts) * part.height) for f in figures)) for part in parts
    ]
    return pl.concat(weighted).group_by("user_id").sum().sort("user_id")


def value_figures(predictions: pl.DataFrame) -> pl.DataFrame:
    """Per user what RMSE (squared), MAE and XAUC are means of: squared and absolute errors, and parts in the pairs.

    Rows of a user are alike, so users are drawn and compared, with all their rows: each has the sum over his rows,
    times users / rows.
    """
    predicted_R, actual_R = (torch.from_numpy(predictions[name].to_numpy().copy()) for name in ("predicted", "actual"))
    error_R = (predicted_R.double() - actual_R.double()).numpy()
    parts = {"rmse": error_R**2, "mae": np.abs(error_R), "xauc": pair_values(predicted_R, actual_R).numpy()}
    users = predictions["user_id"].n_unique()
    return (
        pl.DataFrame({"user_id": predictions["user_id"], **parts})
        .group_by("user_id")
        .agg(pl.col(*parts).sum() * users / predictions.height)
        .sort("user_id")
    )


def _table(task: Task, place: Path, model: str, seed: int) -> pl.DataFrame:
    runs = [place / run_name(model, seed, part, len(task.parts)) for part in range(len(task.parts))]
    if task.of_rows:
        return value_figures(pl.read_parquet(runs[0] / "evaluation" / "predictions.parquet"))
    return over_folds([pl.read_parquet(run / "evaluation" / "per_user.parquet") for run in runs], task.figures)


def _others(task: Task, place: Path) -> Tables:
    """Tables of the baselines and bounds."""
    judged = [place / "baselines" / str(part) for part in range(len(task.parts))]
    if task.of_rows:
        rows = pl.read_parquet(judged[0] / "predictions.parquet")
        return {BIAS: [value_figures(rows.with_columns(predicted="bias_predicted"))]}
    parts = [pl.read_parquet(directory / "per_user_others.parquet") for directory in judged]
    names = [n for n in parts[0]["system"].unique(maintain_order=True) if all(n in p["system"] for p in parts)]
    return {
        name: [over_folds([part.filter(pl.col("system") == name) for part in parts], task.figures)] for name in names
    }


def _constants(task: Task, place: Path) -> dict[str, Any]:
    """The constants that every model must beat; one and the same value for every row has no interval of its own."""
    if not task.of_rows:
        return {}
    found = json.loads((place / "baselines" / "0" / "comparison.json").read_text(encoding="utf-8"))["baseline_values"]
    return {
        name: {"kind": "baseline", "figures": {figure: {"mean": figures[figure]} for figure in task.figures}}
        for name, figures in found.items()
        if name != BIAS
    }


def _summary(task: Task, tables: Tables) -> dict[str, dict[str, dict[str, Any]]]:
    found: dict[str, dict[str, dict[str, Any]]] = {name: {} for name in tables}
    for name, of_seeds in tables.items():
        summary = summarise_groups({name: of_seeds}, num_resamples=RESAMPLES, seed=0)
        for row in summary.filter(pl.col("metric").is_in(list(task.figures))).iter_rows(named=True):
            found[name][row["metric"]] = _rooted(row) if row["metric"] == "rmse" else _kept(row)
    return found


def _kept(row: dict[str, Any]) -> dict[str, Any]:
    fields = ("mean", "low", "high", "low_runs", "high_runs", "sd", "users")
    return {field: row[field] for field in fields if row[field] is not None}


def _rooted(row: dict[str, Any]) -> dict[str, Any]:
    """Of mean squares their roots; the spread to first order."""
    kept = _kept(row)
    root = math.sqrt(kept["mean"])
    sd = {"sd": kept["sd"] / (2 * root)} if "sd" in kept else {}
    ends = {end: math.sqrt(max(kept[end], 0.0)) for end in ("low", "high", "low_runs", "high_runs") if end in kept}
    return {"mean": root, **ends, **sd, "users": kept["users"]}


def best_baseline(systems: dict[str, Any], figure: str) -> str:
    """The baseline with the best test figure: chosen in its own favour, so that what beats it beats all."""
    rivals = {n: s["figures"][figure]["mean"] for n, s in systems.items() if s["kind"] == "baseline"}
    return min(rivals, key=lambda n: rivals[n]) if figure in ("rmse", "mae") else max(rivals, key=lambda n: rivals[n])


def paired(task: Task, models: Tables, others: Tables, best: dict[str, str]) -> list[dict[str, Any]]:
    """Every model against the best baseline, and against the best list in hindsight where lists are judged.

    The p-values of one figure are corrected together (Holm).
    """
    found = []
    for figure in task.figures:
        rivals = [best[figure], *([HINDSIGHT] if HINDSIGHT in others else [])]
        tables = {name: averaged(models[name]) for name in models} | {name: others[name][0] for name in rivals}
        pairs = [(name, rival) for rival in rivals for name in models]
        rows = paired_table(tables, pairs, [figure], correction="holm", num_resamples=RESAMPLES, seed=0)
        for row in rows.iter_rows(named=True):
            row |= _over_seeds(models[row["first"]], others[row["second"]][0], figure)
            found.append(_of_roots(row, tables) if figure == "rmse" else row)
    return found


def _over_seeds(of_seeds: list[pl.DataFrame], rival: pl.DataFrame, figure: str) -> dict[str, float]:
    """The interval of a difference where users and seeds are drawn."""
    if len(of_seeds) < 2:
        return {}
    values_US1 = stacked([*of_seeds, rival], [figure])
    gap_SU1 = (values_US1[:, :-1] - values_US1[:, -1:]).transpose(1, 0, 2)
    low, high = ends_of(resampled_means_of_runs(gap_SU1, num_resamples=RESAMPLES, seed=0))[:, 0]
    return {"low_runs": float(low), "high_runs": float(high)}


def _of_roots(row: dict[str, Any], tables: dict[str, pl.DataFrame]) -> dict[str, Any]:
    """A difference of mean squares as one of roots: a² - b² = (a - b) (a + b)."""
    both = sum(math.sqrt(float(fmean(tables[row[side]]["rmse"]))) for side in ("first", "second"))
    ends = ("mean", "low", "high", "low_runs", "high_runs")
    return {name: value / both if name in ends else value for name, value in row.items()}


def _costs(task: Task, place: Path, model: str, seeds: list[int]) -> dict[str, Any]:
    """What the runs of a model say of themselves: means over them."""
    parts = range(len(task.parts))
    runs = [place / run_name(model, seed, part, len(task.parts)) for seed in seeds for part in parts]
    facts = [json.loads((run / "run.json").read_text(encoding="utf-8")) for run in runs]
    metrics = [json.loads((run / "metrics.json").read_text(encoding="utf-8")) for run in runs]
    entry = task.models[model]
    return {
        "kind": "model",
        "settings": entry.settings,
        "command": " ".join(["python train.py", *entry.overrides]),
        "seeds": seeds,
        "validation": {f: fmean(m["val"][f]["mean"] for m in metrics) for f in task.figures if f in metrics[0]["val"]},
        "folds": {f: [m["test"][f]["mean"] for m in metrics] for f in task.figures} if len(task.parts) > 1 else {},
        "seconds": fmean(f["seconds"] + f.get("first_fit", {}).get("seconds", 0.0) for f in facts),
        "total_seconds": fmean(f["total_seconds"] for f in facts),
        "rows_per_second": fmean(f["rows_per_second"] for f in facts),
        "epochs": fmean(f["epochs"] for f in facts),
        "parameters": facts[0]["parameters"],
        "peak_memory_bytes": max(f["peak_memory_bytes"] for f in facts),
        "commits": sorted({str(f["git_commit"]) for f in facts}),
    }


def _left_out(task: Task, place: Path) -> dict[str, str]:
    """Baselines that have nothing to say, and why: the first word of the judge's sentence is the name."""
    if task.of_rows:
        return {}
    found = json.loads((place / "baselines" / "0" / "comparison.json").read_text(encoding="utf-8"))["left_out"]
    return {name: why for name, _, why in (sentence.partition(" ") for sentence in found) if name in NAMES}
