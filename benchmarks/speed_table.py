"""The README's table of speed, from what the other scripts left in benchmarks/results.

    python benchmarks/speed_table.py                        # prints it
    python benchmarks/speed_table.py --readme README.md     # and puts it between its marks

Bold ratios reach the goal that was set before. A script that has left nothing is left out.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from runs import ROOT, write_between

RESULTS = ROOT / "benchmarks" / "results"
MARKS = ("<!-- printed by benchmarks/speed_table.py -->", "<!-- end of speed -->")
BARE_TOPK = "bare torch mask + topk + gather"
TRAINING = {
    "bce": "`two_tower`, ids + 24 features, BCE",
    "softmax": "the same, in-batch softmax",
    "bpr": "`matrix_factorization`, BPR",
    "notebook": "the notebook's model, MSE",
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", type=Path, help="file that holds the marks")
    asked = parser.parse_args()
    table = as_markdown(held(RESULTS))
    print(table)
    if asked.readme is not None:
        write_between(asked.readme, MARKS, table)


def held(folder: Path) -> dict[str, Any]:
    """What each script left, by its name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("*.json"))}


def as_markdown(found: dict[str, Any]) -> str:
    """One line a comparison: what, at which batch, towerrec, and the others of the same run."""
    lines = ["| work | towerrec | beside it, in the same run | goal |", "|---|---|---|---|"]
    for name, rows in _ROWS.items():
        if name in found:
            lines += ["| " + " | ".join(row) + " |" for row in rows(found[name])]
    return "\n".join(lines)


def _prepare(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    bare, first, second = (
        found["medians"][name]
        for name in (
            "polars, scan + unique + sink",
            "towerrec, first start",
            "towerrec, second start to the first batch",
        )
    )
    pandas = found["medians"].get("pandas, load and clean")
    beside = f"bare Polars scan + unique + sink {bare['seconds']:.1f} s, {bare['peak_mib']:.0f} MiB"
    if pandas is not None:
        beside += f"; pandas, load and clean only {pandas['seconds']:.1f} s, {pandas['peak_mib']:.0f} MiB"
    ratio, memory = first["seconds"] / bare["seconds"], first["peak_mib"]
    with_imports = first["process_seconds"] / bare["process_seconds"]
    yield (
        "full log (12.5 M rows, 1.1 GB csv) to a store ready to train, after the imports",
        f"{first['seconds']:.1f} s, {memory:.0f} MiB",
        beside,
        f"≤ 2 × Polars: {_bold(ratio, ratio <= 2)} ({with_imports:.2f} with the imports of both); "
        + _bold_word("≤ 1.6 GiB", memory <= 1.6 * 1024),
    )
    yield (
        "second start to the first batch, after the imports",
        f"{second['seconds']:.2f} s",
        f"with them {second['process_seconds']:.1f} s",
        _bold_word("≤ 1.5 s", second["seconds"] <= 1.5),
    )


def _training(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for name, title in TRAINING.items():
        for batch, figures in found["rows"].get(name, {}).get("batches", {}).items():
            others, goals = [], []
            for rival, beside in figures["references"].items():
                if "not run" in beside:
                    others.append(f"{rival}: not run")
                    continue
                others.append(f"{rival} {_thousands(beside['rows_per_s'])}")
                if "goal" in beside:
                    goals.append(f"{_bold(beside['ratio'], beside['reached'])} ({beside['goal']:g})")
                else:
                    goals.append(f"{beside['ratio']:g}")
            yield (
                f"{title}, batch {int(batch):,}",
                f"{_thousands(figures['towerrec']['rows_per_s'])} rows/s",
                "; ".join(others),
                ", ".join(goals),
            )


def _epoch(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    own, hand = (sorted(run["seconds"] for run in found[of]) for of in ("towerrec", "by_hand"))
    yield (
        f"`train.py`, one epoch of 11.6 M rows, whole process (batch {found['conditions']['batch']:,})",
        f"{own[len(own) // 2]:.0f} s, {found['peak_memory_mib'] / 1024:.1f} GiB",
        f"hand-written loop over the same tensors {hand[len(hand) // 2]:.0f} s",
        f"≤ 1.3 ×: {_bold(found['ratio'], found['ratio'] <= 1.3)}; ≤ 2.5 GiB",
    )


def _metrics(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    programs = found["programs"]
    own = programs["towerrec"]
    yield (
        "five ranking metrics at 4 cut-offs, 1,411 users × 3,327 items",
        f"{own['seconds']:.3f} s",
        _seconds_of(programs),
        f"≤ 1.5 × the bare top-k: {_bold(own['times_the_bare_topk'], own['times_the_bare_topk'] <= 1.5)}",
    )
    intervals = next((p for name, p in programs.items() if "interval" in name), None)
    if intervals is not None:
        yield (
            "the same with bootstrap intervals",
            f"{intervals['seconds']:.3f} s",
            "",
            _bold_word("≤ 1 s", intervals["seconds"] <= 1),
        )


def _search(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for size, of_size in found["sizes"].items():
        programs = of_size["programs"]
        others = [
            p["times_towerrec"] for n, p in programs.items() if "same_items" in p and not n.startswith("towerrec")
        ]
        yield (
            f"exact top 100, {size.replace(' x ', ' × ')} × 128, seen items left out",
            f"{programs['towerrec']['seconds']:.2f} s, {programs['towerrec']['peak_memory_mib'] / 1024:.1f} GiB",
            _seconds_of(programs),
            f"faster than all: {', '.join(_bold(times, times > 1) for times in others)}",
        )


def _startup(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    bare = next(s for name, s in found["seconds"].items() if name.startswith("import"))
    help_seconds, times = found["seconds"]["train.py --help"], found["times_the_import"]["train.py --help"]
    yield (
        "`python train.py --help`",
        f"{help_seconds:.1f} s",
        f"import torch, lightning, polars, hydra {bare:.1f} s",
        f"≤ 1.3 ×: {_bold(times, times <= 1.3)}",
    )
    above = found["first_step_above_the_import_seconds"]
    yield (
        "`python train.py` on cached data to the first optimiser step",
        f"{bare + above:.1f} s",
        f"the same import {bare:.1f} s",
        f"≤ 3 s more: {_bold(above, above <= 3)}",
    )


def _distributed(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    for loss in found["measured"]:
        rates = [f"{way} {_thousands(rate)}" for way, rate in loss["rows_per_s"].items()]
        yield (
            f"DDP over two cores, {loss['loss']}",
            f"{rates[2]} rows/s",
            "; ".join(rates[:2]),
            f"{loss['two_processes_to_one']:.2f} × one; losses apart by {loss['largest_differences']['losses']:.0e}",
        )


def _sweep(found: dict[str, Any]) -> Iterator[tuple[str, ...]]:
    yield (
        "a sweep of four tiny jobs, two at once",
        f"{found['two_at_once_seconds']:.0f} s",
        f"one after another {found['serial_seconds']:.0f} s",
        f"{found['ratio']:g} ×",
    )


_ROWS = {
    "prepare_speed": _prepare,
    "training_vs_peers": _training,
    "epoch_speed": _epoch,
    "metrics_speed": _metrics,
    "search_speed": _search,
    "startup_speed": _startup,
    "distributed": _distributed,
    "sweep_speed": _sweep,
}


def _seconds_of(programs: dict[str, Any]) -> str:
    others = {name: p for name, p in programs.items() if not name.startswith("towerrec")}
    return "; ".join(f"{n} not run" if "not run" in p else f"{n} {p['seconds']:.2f} s" for n, p in others.items())


def _thousands(rate: float) -> str:
    return f"{rate / 1e6:.2f} M" if rate >= 1e6 else f"{rate / 1e3:.0f} k"


def _bold(figure: float, reached: bool) -> str:
    return _bold_word(f"{figure:.2f}", reached)


def _bold_word(word: str, reached: bool) -> str:
    return f"**{word}**" if reached else word


if __name__ == "__main__":
    main()
