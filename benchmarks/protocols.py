"""KuaiRec's published protocols, one named experiment each: our figures, simple lists, and the published rows.

    python benchmarks/protocols.py --root /data/KuaiRec --seeds 0 1 2 --json protocols.json
    python benchmarks/protocols.py --demo small --set trainer.max_epochs=2

`--root` takes the official release in any layout; `--demo` the simulated log, whose figures prove that protocols run
and say nothing about the published ones. What each protocol is, and what is not known of it, is said at the top of its
file in `conf/experiment/`.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from conditions import conditions

ROOT = Path(__file__).resolve().parents[1]
Figures = dict[str, float]


@dataclass(frozen=True)
class Published:
    """A protocol as it was published.

    Attributes:
        experiment: The file in `conf/experiment/`.
        source: Where it was published.
        figures: What is shown.
        rows: Published figures by system, in the order of `figures`; None where none was given.
        counts: Published sizes, to be compared with those of the run.
        new_split: Whether a seed draws another split too.
    """

    experiment: str
    source: str
    figures: tuple[str, ...]
    rows: dict[str, tuple[float | None, ...]]
    counts: dict[str, float]
    new_split: bool = False


PROTOCOLS = {
    "debiased": Published(
        "kuairec_debiased",
        "njbabani/kuairec-recsys, test users",
        ("ndcg@10", "recall@10", "recall@50", "ndcg@50", "map@10", "coverage@10"),
        {
            "random": (0.1490, 0.0027, 0.0150, 0.1520, 0.0733, 0.968),
            "popularity by engagement": (0.2078, 0.0070, 0.0263, 0.2014, 0.1078, 0.004),
            "ALS": (0.2708, 0.0116, 0.0362, 0.2437, 0.1604, 0.348),
            "two-tower, 3 seeds averaged": (0.2881, 0.0132, 0.0430, 0.2715, 0.1731, 0.164),
            "two stages": (0.3055, 0.0127, 0.0419, 0.2796, 0.1868, 0.128),
        },
        {"train rows": 9_722_996, "val users": 299, "test users": 1_112, "test rows": 3_685_662},
    ),
    "big_validation": Published(
        "kuairec_big_validation",
        "Rockyeast/short-video-two-tower-recommender (a)",
        ("recall@20", "recall@50", "recall@100", "ndcg@20", "coverage@100"),
        {
            "random": (None, None, 0.0129, 0.0027, 1.0),
            "global popularity": (None, None, 0.0366, 0.0106, 0.080),
            "BPR": (0.0139, 0.0303, 0.0484, 0.0128, 0.333),
            "two-tower, 1 epoch": (0.0149, 0.0360, 0.0721, 0.0121, 0.569),
            "SASRec": (0.0307, 0.0526, 0.0776, 0.0375, 0.253),
            "the three fused": (0.0318, 0.0531, 0.0846, 0.0371, 0.468),
        },
        {"judged users": 6_816, "relevant": 118_539, "candidates": 9_365},
    ),
    "sealed_small": Published(
        "kuairec_sealed_small",
        "Rockyeast/short-video-two-tower-recommender (b)",
        ("recall@20", "recall@50", "recall@100", "ndcg@20", "coverage@100"),
        {
            "random": (0.0058, 0.0150, 0.0306, 0.0457, 1.0),
            "global popularity (most_positive)": (0.1406, 0.2126, 0.2684, 0.5149, 0.032),
            "BPR": (0.1733, 0.2520, 0.3199, 0.5695, 0.403),
            "two-tower, 1 epoch": (0.0341, 0.0587, 0.0897, 0.1592, 0.176),
            "two-tower and BPR fused": (0.0395, 0.0680, 0.1040, 0.2062, 0.179),
        },
        {"judged users": 1_411, "relevant": 217_175, "candidates": 3_327},
    ),
    "unseen": Published(
        "kuairec_unseen",
        "vinhqdang/causal_learning_graph_recommendation",
        ("ndcg@10", "ndcg@20", "ndcg@50", "recall@10", "recall@20", "recall@50"),
        {
            "random": (None, 0.046, None, None, None, None),
            "popularity": (0.633, 0.5766, 0.461, None, 0.166, None),
            "EASE": (None, 0.5213, None, None, 0.154, None),
            "MF, BPR": (None, 0.5913, None, None, 0.178, None),
            "MF, pointwise": (0.663, 0.6227, 0.490, 0.110, 0.189, 0.256),
            "LightGCN, pointwise": (None, 0.6277, None, None, 0.193, None),
            "best of the family": (None, 0.6378, None, None, 0.194, None),
        },
        {"candidates per user": 3_314, "relevant per user": 154},
        new_split=True,
    ),
    "notebook": Published(
        "notebook",
        "the KuaiRec notebook's model and split, RMSE of the watch ratio",
        ("rmse", "mae"),
        {},
        {"train rows": 800_000, "test rows": 200_000},
    ),
}


def main() -> None:
    arguments = _arguments()
    data = [f"data.root={arguments.root}"] if arguments.root else ["data=demo", f"data.demo.scale={arguments.demo}"]
    name = str(arguments.root) if arguments.root else f"simulated log, scale {arguments.demo}"
    results: dict[str, Any] = {"conditions": conditions(), "data": name, "set": arguments.set, "protocols": {}}
    for key in arguments.protocols:
        published = PROTOCOLS[key]
        runs = [_run(published, seed, [*data, *arguments.set], arguments.work) for seed in arguments.seeds]
        systems = {system: _mean([run["systems"][system] for run in runs]) for system in runs[0]["systems"]}
        results["protocols"][key] = {"published": asdict(published), "systems": systems, "runs": runs}
        print(_table(published, systems, runs, name), flush=True)
        if arguments.json:
            arguments.json.parent.mkdir(parents=True, exist_ok=True)
            arguments.json.write_text(json.dumps(results, indent=2) + "\n", encoding="utf-8")


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    where = parser.add_mutually_exclusive_group(required=True)
    where.add_argument("--root", type=Path, help="the official release")
    where.add_argument("--demo", choices=["tiny", "small", "full"], help="the simulated log")
    parser.add_argument("--protocols", nargs="+", choices=list(PROTOCOLS), default=list(PROTOCOLS))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "protocols", help="prepared logs and runs")
    parser.add_argument("--set", nargs="+", default=[], metavar="KEY=VALUE", help="further settings of train.py")
    parser.add_argument("--json", type=Path)
    return parser.parse_args()


def _run(published: Published, seed: int, settings: list[str], work: Path) -> dict[str, Any]:
    """Train and judge once; figures of the model and the baselines, sizes, seconds and memory."""
    split_seed = [f"split.seed={seed}"] if published.new_split else []
    command = ["train.py", f"experiment={published.experiment}", f"seed={seed}", *split_seed, *settings]
    paths = [f"paths.data_dir={work.resolve() / 'data'}", f"paths.log_dir={work.resolve() / 'logs'}"]
    started = time.perf_counter()
    done = subprocess.run(
        [sys.executable, *command, *paths], cwd=ROOT, env=os.environ, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        sys.exit(f"{' '.join(command)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    run = next(line.split(":", 1)[1].strip() for line in reversed(done.stdout.splitlines()) if "run directory" in line)
    facts, metrics, others = (
        json.loads((ROOT / run / name).read_text(encoding="utf-8"))
        for name in ("run.json", "metrics.json", "evaluation/comparison.json")
    )
    systems = {others["system"]: _shown(metrics["test"], published.figures)}
    systems |= {name: _shown(figures, published.figures) for name, figures in others["baselines"].items()}
    systems |= {name: {f: v[f] for f in published.figures if f in v} for name, v in others["baseline_values"].items()}
    return {
        "command": f"python {' '.join(command)}",
        "sizes": _sizes(facts, others["protocol"]),
        "systems": {name: figures for name, figures in systems.items() if figures},
        "by_duration": {
            split: facts["report"][split].get("by_duration") for split in facts["rows"] if facts["rows"][split]
        },
        "label": facts["report"]["label"],
        "cleaning": facts["report"]["cleaning"],
        "epochs": facts["epochs"],
        "seconds": round(time.perf_counter() - started, 1),
        "peak_memory_mib": round(facts["peak_memory_bytes"] / 2**20),
    }


def _shown(summary: dict[str, Any], figures: tuple[str, ...]) -> Figures:
    return {name: summary[name]["mean"] for name in figures if name in summary}


def _sizes(facts: dict[str, Any], rules: dict[str, Any]) -> Figures:
    """The sizes that papers give, under the names of `Published.counts`."""
    report = facts["report"]
    sizes = {f"{split} rows": facts["rows"][split] for split in ("train", "val", "test")}
    sizes |= {f"{split} users": report[split]["users"] for split in ("train", "val", "test") if split in report}
    return sizes | {
        "judged users": rules["users"],
        "relevant": rules["relevant"],
        "relevant per user": round(rules["relevant"] / rules["users"], 1),
        "candidates": rules["num_candidates"],
        "candidates per user": rules["candidates_per_user"],
    }


def _mean(rows: list[Figures]) -> Figures:
    return {name: statistics.fmean(row[name] for row in rows) for name in rows[0]}


def _table(published: Published, systems: dict[str, Figures], runs: list[dict[str, Any]], data: str) -> str:
    """Sizes and figures of the runs, then the published ones."""
    lines = [f"\n{published.experiment} on {data} ({len(runs)} seed(s)); published: {published.source}"]
    for name, count in published.counts.items():
        lines.append(f"  {name}: {runs[0]['sizes'].get(name, 0):,} (published {count:,})")
    width = max(len(name) for name in (*systems, *(f"published {name}" for name in published.rows))) + 2
    lines.append(" " * width + "".join(f"{figure:>14}" for figure in published.figures))
    for name, figures in systems.items():
        lines.append(f"{name:<{width}}" + "".join(_cell(figures.get(figure)) for figure in published.figures))
    for name, row in published.rows.items():
        lines.append(f"{'published ' + name:<{width}}" + "".join(_cell(figure) for figure in row))
    return "\n".join(lines)


def _cell(figure: float | None) -> str:
    return f"{'-':>14}" if figure is None else f"{figure:>14.4f}"


if __name__ == "__main__":
    main()
