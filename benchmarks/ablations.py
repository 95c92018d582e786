"""What every decision of the shipped experiments brings, on validation rows of the real data: prints tables and JSON.

    python benchmarks/ablations.py --tasks warm --json benchmarks/results/ablations.json
    python benchmarks/ablations.py --show --json benchmarks/results/ablations.json > benchmarks/ABLATIONS.md

Each row is a shipped experiment with one change: something taken away, or put in its place. No test figure is read,
and no experiment is refitted on its validation rows (`refit=false`).

Rows that the JSON file holds already are not run again (`--again` runs them) unless the experiment has changed since:
tasks can be done one by one.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import runs
from conditions import conditions


@dataclass(frozen=True)
class Ablation:
    """Changes to one shipped experiment.

    Attributes:
        base: Overrides of `train.py` that all rows share.
        figures: Validation figures that are shown.
        changes: Overrides by what they do, in words; the experiment as it is shipped comes first by itself.
        note: What to know about the validation rows.
        parts: Further overrides, one list per run; the figures of these runs are averaged.
    """

    base: list[str]
    figures: tuple[str, ...]
    changes: dict[str, list[str]]
    note: str
    parts: tuple[list[str], ...] = ([],)


FEW_ROWS = (
    "11,711 rows validate, and their tail is heavy: what moves the RMSE by less than .002 may be chance. A prototype "
    "outside of this repository had, on one of five folds inside the 80 %, 1.0649 with effects that add, 1.0630 with "
    "effects that multiply, 1.0621 with features and 1.0609 with taste."
)
INNER = ["split.train='fold < 480 and fold % 5 != 0'", "split.val='fold < 480 and fold % 5 = 0'"]

TASKS: dict[str, Ablation] = {
    "warm": Ablation(
        ["experiment=best_warm", "refit=false", *INNER],
        ("ndcg@20", "recall@100"),
        {
            "half the decay of the vectors": ["optimizer.embedding_decay=2.5e-6"],
            "twice the decay of the vectors": ["optimizer.embedding_decay=1e-5"],
            "width 8": ["model.embedding_dim=8"],
            "width 64": ["model.embedding_dim=64"],
            "4 members, scores averaged": ["model.members=4"],
            "constant learning rate": ["scheduler=constant"],
            "3 epochs": ["trainer.max_epochs=3"],
            "10 epochs": ["trainer.max_epochs=10"],
            "features beside ids, a hidden layer": ["features=auto", "model=two_tower", "model.embedding_dim=32"],
            "in-batch softmax, logQ": ["loss=in_batch_softmax"],
            "the recipe for catalogues: profiles, one softmax per user": [
                "loss=multinomial", "model=two_tower", "model.embedding_dim=128", "scheduler=constant",
                "optimizer=adam", "optimizer.lr=0.001", "optimizer.embedding_lr=0.01", "optimizer.embedding_decay=1e-4",
                "loader.batch_size=null", "trainer.max_epochs=null",
            ],
        },
        "A fifth of the training cells validates here; in the 20 of 1,000 folds meant for it a user has too few cells.",
    ),
    "watch_ratio": Ablation(
        ["experiment=best_watch_ratio", "refit=false"],
        ("rmse", "mae"),
        {
            "effects add instead of multiply": ["loss=mse"],
            "label not clipped": ["label.clip=null"],
            "ids alone": ["model.use_features=false"],
            "hardly any taste": ["model.embedding_dim=1", "optimizer.id_decay=0.01"],
            "a hidden layer": ["model.user_hidden=[64]", "model.item_hidden=[64]"],
            "ten times the decay of the biases": ["optimizer.bias_decay=3e-4"],
        },
        FEW_ROWS,
    ),
    "watch_ratio_order": Ablation(
        ["experiment=best_watch_ratio_order", "refit=false"],
        ("mae", "xauc"),
        {
            "squared error": ["loss=mse", "~loss.delta"],
            "log(1 + ratio)": ["label.shift=1"],
            "ids alone": ["model.use_features=false"],
            "delta 0.5": ["loss.delta=0.5"],
            "the median alone": ["loss=quantile", "~loss.delta"],
            "a hidden layer": ["model.user_hidden=[64]", "model.item_hidden=[64]"],
        },
        "11,711 rows validate. The two goals pull apart: a smaller `delta` is nearer to the median. A prototype "
        "outside of this repository had, on one of five folds inside the 80 %, .3607 / .7418 with the mean of "
        "log(1 + ratio), .3431 / .7485 with its median and .3408 / .7514 with Huber's loss on log(.3 + ratio).",
    ),
    "kuairand_signed": Ablation(
        ["experiment=best_kuairand_signed"],
        ("ndcg@20", "recall@20"),
        {
            "profile of positives alone": ["model.profile=positives"],
            "no profile, user ids": ["model.profile=none", "model.use_user_id=true"],
            "ids, in-batch softmax, logQ": ["loss=in_batch_softmax"],
            "ids, binary cross-entropy": ["loss=bce"],
            "what was shown in vain left out": ["loss=multinomial", "loss.shown_weight=0"],
            "what was shown in vain like a positive": ["loss=multinomial", "loss.shown_weight=1"],
            "30 % of the rows asked for": ["loader.target_share=0.3"],
            "70 % of the rows asked for": ["loader.target_share=0.7"],
            "scale 3.5": ["model.scale=3.5"],
            "scale 8": ["model.scale=8"],
            "user ids beside the profile": ["model.use_user_id=true"],
            "dot product": ["model.similarity=dot", "model.scale=1"],
            "width 32": ["model.embedding_dim=32"],
        },
        "`scale` is found by short fits on validation lists, so the fixed ones also show what that is worth.",
    ),
    "cold_items": Ablation(
        ["experiment=best_cold_items", "refit=false"],
        ("ndcg@20", "recall@100"),
        {
            "binary cross-entropy": ["loss=bce"],
            "one member": ["model.members=1"],
            "linear in the features": ["model.item_hidden=[]"],
            "categories of all levels": ["features.drop=[popularity,item_id,profile]"],
            "batches of 8,192": ["loader.batch_size=8192"],
            "width 32": ["model.embedding_dim=32"],
        },
        "The mean of the five folds; the validation videos, a fifth, are ranked. A prototype outside "
        "of this repository, kernel ridge of rates on the same content, had in the mean of all five .091 / .247 with a "
        "linear kernel, .112 / .267 with products of category and words, and .112 / .279 with two directions of taste.",
        tuple([f"split.test_remainder={j}", f"split.val_remainder={(j + 1) % 5}"] for j in range(5)),
    ),
    "cold_users": Ablation(
        ["experiment=best_cold_users", "refit=false"],
        ("ndcg@20", "recall@100"),
        {
            "ids alone: one list for everybody": ["features.use=[user_id,item_id]"],
            "all features of users and videos": ["features.use=all"],
            "a hidden layer": ["model.user_hidden=[64]"],
        },
        "Lists of the validation users, of whom no row is trained on.",
    ),
}  # fmt: skip


def main() -> None:
    arguments = _arguments()
    results: dict[str, Any] = {"tasks": {}}
    if arguments.json and arguments.json.is_file():
        results = json.loads(arguments.json.read_text(encoding="utf-8"))
    if arguments.show:
        print(as_markdown(results))
        return
    absent = runs.missing((runs.REAL, runs.SIGNED))
    if absent:
        sys.exit(absent)
    runs.write_small_labels(arguments.work)
    # By importance, which is the order within a task, so that all tasks have something where time is short.
    for place in range(1 + max(len(TASKS[task].changes) for task in arguments.tasks)):
        for task in arguments.tasks:
            measure(task, place, arguments, results)
    print(as_markdown(results))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tasks", nargs="+", choices=list(TASKS), default=list(TASKS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--work", type=Path, default=runs.ROOT / "data" / "real_rows")
    parser.add_argument("--json", type=Path, help="figures so far; written after every run")
    parser.add_argument("--again", action="store_true", help="run also what the file holds")
    parser.add_argument("--show", action="store_true", help="print the tables of the file, run nothing")
    return parser.parse_args()


def measure(task: str, place: int, arguments: argparse.Namespace, results: dict[str, Any]) -> None:
    """Run what is missing of one change (0: the experiment as it is shipped), and write the file after every run."""
    ablation = TASKS[task]
    changes = {"as shipped": [], **ablation.changes}
    if place >= len(changes):
        return
    name, change = list(changes.items())[place]
    held: dict[str, Any] = results["tasks"].setdefault(task, {"rows": {}})
    held |= {"experiment": " ".join(ablation.base), "note": ablation.note, "figures": list(ablation.figures)}
    shipped = (runs.ROOT / "conf" / f"{ablation.base[0].replace('=', '/')}.yaml").read_text(encoding="utf-8")
    if held.get("config") != shipped:  # rows of another experiment are no measure of this one
        held |= {"config": shipped, "rows": {}}
    held["conditions"] = conditions()
    row = held["rows"].setdefault(name, {})
    if row.get("change") != change or arguments.again:
        row.clear()
        row |= {"change": change, "by_seed": {}}
    for seed in (s for s in arguments.seeds if str(s) not in row["by_seed"]):
        # Baselines take time and say nothing here.
        words = [*ablation.base, "eval.baselines=[]", "eval.num_resamples=2", *change, f"seed={seed}"]
        parts = [runs.train([*words, *part], work=arguments.work) for part in ablation.parts]
        row["by_seed"][str(seed)] = runs.mean([validation_figures(run, ablation.figures) for run in parts])
        print(task, name, seed, row["by_seed"][str(seed)], flush=True)
        if arguments.json:
            arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def validation_figures(run: runs.Run, names: tuple[str, ...]) -> runs.Figures:
    """Figures of the validation rows, with the seconds and the epochs of the run."""
    facts = run.read("run.json")
    return run.figures("val", names) | {"seconds": run.seconds, "epochs": facts["epochs"]}


def as_markdown(results: dict[str, Any]) -> str:
    """One table a task, the difference to the shipped experiment beside every figure."""
    lines = ["# What the shipped experiments owe to what", "", __doc__.split("\n\n")[2]]
    for task, held in results["tasks"].items():
        figures = held["figures"]
        rows = {name: row for name, row in held["rows"].items() if row.get("by_seed")}
        lines += ["", f"## {task}", "", f"`python train.py {held['experiment']}`", "", held["note"], ""]
        lines += ["| change | overrides | " + " | ".join(f"val {f}" for f in figures) + " | seeds | seconds |"]
        lines += ["|---" * (len(figures) + 4) + "|"]
        shipped = runs.mean(list(rows["as shipped"]["by_seed"].values()))
        for name, row in rows.items():
            found = runs.mean(list(row["by_seed"].values()))
            cells = [_cell(found[f], None if name == "as shipped" else shipped[f]) for f in figures]
            change = f"`{' '.join(row['change'])}`" if row["change"] else ""
            seeds = " ".join(row["by_seed"])
            lines.append(f"| {name} | {change} | {' | '.join(cells)} | {seeds} | {found['seconds']:.0f} |")
    return "\n".join(lines)


def _cell(figure: float, shipped: float | None) -> str:
    return f"{figure:.4f}" if shipped is None else f"{figure:.4f} ({figure - shipped:+.4f})"


if __name__ == "__main__":
    main()
