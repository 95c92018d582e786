"""All figures of what may go wrong, in one table, from what the other scripts left in benchmarks/results.

    python benchmarks/robustness.py                        # prints it; ends with 1 if anything was lost
    python benchmarks/robustness.py --readme README.md     # and puts it between its marks

`lost` counts what did not hold: a run that did not end as the one that was left alone, a fault that took something with
it, an input that ended in a traceback, a hang or damage, towers that differ, an index below its goal, old users who
fare worse, weights that are not what the seed says, memory that grows. What has not been measured is said.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from runs import write_between
from speed_table import RESULTS, held

MARKS = ("<!-- printed by benchmarks/robustness.py -->", "<!-- end of robustness -->")
PARITY = 1e-5


class Row(NamedTuple):
    """A line: what was done, what was found, and how much of it did not hold."""

    what: str
    found: str
    lost: int


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--readme", type=Path, help="file that holds the marks")
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the JSON files")
    asked = parser.parse_args()
    found = held(asked.results)
    table = as_markdown(found)
    print(table)
    if asked.readme is not None:
        write_between(asked.readme, MARKS, table)
    lost = sum(row.lost for row in rows(found))
    if lost:
        print(f"\n{lost} lost", file=sys.stderr)
    return int(lost > 0)


def as_markdown(found: dict[str, Any]) -> str:
    """One line a figure, in the order of the sections below; the last one sums up."""
    lines = ["| what was done | what was found | lost |", "|---|---|---|"]
    every = list(rows(found))
    lines += [f"| {row.what} | {row.found} | {_lost(row.lost)} |" for row in every]
    missing = [f"`{name}.json`" for name, _ in _SECTIONS if not _files(found, name)]
    if missing:
        lines.append(f"| not measured yet | {', '.join(missing)} under benchmarks/results is missing |  |")
    lines.append(f"| all of it |  | {_lost(sum(row.lost for row in every))} |")
    return "\n".join(lines)


def rows(found: dict[str, Any]) -> Iterator[Row]:
    """The lines of all files that are there."""
    for name, section in _SECTIONS:
        files = _files(found, name)
        if files:
            yield from section(files)


def _files(found: dict[str, Any], name: str) -> list[dict[str, Any]]:
    """The file of a name; `faults` are several, `faults_<topic>`."""
    several = name == "faults"
    return [held for key, held in found.items() if key == name or (several and key.startswith("faults_"))]


def _resume(files: list[dict[str, Any]]) -> Iterator[Row]:
    (made,) = files
    by_means: dict[str, int] = defaultdict(int)
    by_place: dict[str, int] = defaultdict(int)
    for kind, count in made["by_kind"].items():
        means, _, place = kind.partition(": ")
        by_means[means] += count
        by_place[place.replace(",", "")] += count
    yield Row(
        f"{made['runs']:,} runs of {len(made['by_config'])} settings stopped {made['kills']:,} times, "
        "then `train.py run=DIR`",
        f"{made['equal']:,} ended bit-equal to the run that was left alone; stopped by {_most_first(by_means)}; "
        f"where: {_most_first(by_place)}",
        made["runs"] - made["equal"],
    )


def _faults(files: list[dict[str, Any]]) -> Iterator[Row]:
    by_kind: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for file in files:
        for fault in file["faults"]:
            by_kind[fault["kind"]].append(fault)
    for kind, faults in sorted(by_kind.items()):
        tried, survived, lost = (sum(int(fault[key]) for fault in faults) for key in ("tried", "survived", "lost"))
        named = "; ".join(f"{fault['fault']} {fault['survived']:,}/{fault['tried']:,}" for fault in faults)
        yield Row(
            f"faults injected: {kind}", f"{survived:,} of {tried:,} survived: {named}", max(lost, tried - survived)
        )


def _fuzz(files: list[dict[str, Any]]) -> Iterator[Row]:
    (made,) = files
    bad = ("uncaught", "hangs", "damage")
    inputs = sum(reader["inputs"] for reader in made["readers"].values())
    lost = sum(int(reader.get(key, 0)) for reader in made["readers"].values() for key in bad)
    named = "; ".join(f"{name} {reader['inputs']:,}" for name, reader in made["readers"].items())
    yield Row(
        "inputs generated (property-based and fuzzed)",
        f"{inputs:,}: {named}; uncaught exceptions, hangs and damage {lost}",
        lost,
    )


def _parity(files: list[dict[str, Any]]) -> Iterator[Row]:
    (made,) = files
    apart = [made["models"][name][kind] for name in made["models"] for kind in made["furthest"]]
    furthest = ", ".join(f"{kind} {value:.1e}" for kind, value in made["furthest"].items())
    yield Row(
        f"towers of {len(made['models'])} models exported, {made['rows']:,} random rows each",
        f"largest difference to the model itself: {furthest} (goal {PARITY:.0e})",
        sum(value > PARITY for value in apart),
    )


def _index(files: list[dict[str, Any]]) -> Iterator[Row]:
    (made,) = files
    for title, size in made["sizes"].items():
        for kind, index in size["kinds"].items():
            recall = " / ".join(f"{value:.3f}" for value in index["recall"].values())
            exact, own = (index["latency"][of]["one_query"] for of in ("exact", "approximate"))
            auto = ", the one `auto` takes" if kind == size["auto"] else ""
            yield Row(
                f"index {kind}, {title}{auto}",
                f"recall@10 / @{index['n']} {recall} of {index['users']} users by whom nothing was chosen; a query "
                f"{own['median_ms']:.2f} ms (95 %: {own['p95_ms']:.2f}), exact {exact['median_ms']:.2f} ms; "
                f"{index['bytes'] / 2**20:.1f} MiB, built in {index['build_seconds']:.0f} s",
                int(not index["goal_reached"]),
            )


def _continued(files: list[dict[str, Any]]) -> Iterator[Row]:
    (made,) = files
    gains = made["less_old_model"]["continued"]
    for who, gain in gains.items():
        yield Row(
            f"training continued on new days, {who}",
            f"NDCG@20 {gain['mean']:+.4f} ({gain['low']:+.4f} to {gain['high']:+.4f}) against the old model, "
            f"{gain['users']:,} users of {len(made['seeds'])} logs",
            int(gain["high"] < 0),
        )


def _determinism(files: list[dict[str, Any]]) -> Iterator[Row]:
    (made,) = files
    same = [case for case in made["cases"] if case["expected"]]
    other = [case for case in made["cases"] if not case["expected"]]
    yield Row(
        f"trainings that must have the same weights ({len(same)}) or others ({len(other)})",
        f"{sum(case['same_weights'] for case in same)} bit-equal (threads, caches, busy machine, jobs side by side); "
        f"{sum(not case['same_weights'] for case in other)} differ (seed, order of rows, processes)",
        sum(case["same_weights"] != case["expected"] for case in made["cases"]),
    )


def _long_run(files: list[dict[str, Any]]) -> Iterator[Row]:
    (made,) = files
    for name, run in made["scenarios"].items():
        low, high = run["slope_interval_kib"]
        kept, growth = run["units"] - run["warm_up"], run["growth_kib"] / 1024
        yield Row(
            f"memory over {name}, one process",
            f"{run['slope_kib']:+.0f} KiB a {run['unit']} ({low:+.0f} to {high:+.0f}), {growth:+.1f} MiB in the {kept} "
            f"after warm-up, of {run['memory_mib']:.0f} MiB; open files "
            f"{run['files'][0]} → {run['files'][1]}, threads {run['threads'][0]} → {run['threads'][1]}",
            int(not run["flat"]),
        )


_SECTIONS: list[tuple[str, Callable[[list[dict[str, Any]]], Iterator[Row]]]] = [
    ("resume", _resume),
    ("faults", _faults),
    ("fuzz", _fuzz),
    ("determinism", _determinism),
    ("long_run", _long_run),
    ("continue", _continued),
    ("export_parity", _parity),
    ("index_recall", _index),
]


def _most_first(counts: dict[str, int]) -> str:
    return ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items(), key=lambda kc: (-kc[1], kc[0])))


def _lost(count: int) -> str:
    return f"**{count}**" if count else "0"


if __name__ == "__main__":
    sys.exit(main())
