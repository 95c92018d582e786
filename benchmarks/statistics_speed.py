"""10,000 resamples of all figures: intervals, paired tests and selection optimism, for users and figures at random.

One judgement has five systems (a model, three baselines, the best list in hindsight); the sweep has twenty settings.
Prints JSON: median seconds of every part over the rounds, the draws of users included each time.

    python benchmarks/statistics_speed.py [--users 1411] [--figures 80] [--resamples 10000] [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from conditions import conditions

from towerrec.report import bootstrap
from towerrec.report.groups import summarise_groups
from towerrec.report.judge import summarise
from towerrec.report.optimism import optimism
from towerrec.report.paired import against_the_first, all_pairs, paired_table

SYSTEMS, SETTINGS, SEEDS = 5, 20, 3


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--users", type=int, default=1_411)
    parser.add_argument("--figures", type=int, default=80)
    parser.add_argument("--resamples", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    tables = {str(number): _table(asked.users, asked.figures, number) for number in range(SETTINGS)}
    parts = _parts(tables, asked.resamples)
    found = {
        name: round(statistics.median(_seconds(part) for _ in range(asked.rounds)), 4) for name, part in parts.items()
    }
    facts = {key: value for key, value in vars(asked).items() if key != "json"}
    text = json.dumps({"conditions": conditions() | facts, "seconds": found}, indent=2)
    print(text)
    if asked.json:
        asked.json.write_text(text + "\n", encoding="utf-8")


def _parts(tables: dict[str, pl.DataFrame], num_resamples: int) -> dict[str, Callable[[], object]]:
    """What a judgement and a sweep compute, by name."""
    names = list(tables)
    drawn = {"num_resamples": num_resamples}
    few = {name: tables[name] for name in names[:SYSTEMS]}
    seeds = {"setting": [tables[name] for name in names[:SEEDS]]}
    return {
        "intervals of one system": lambda: summarise(tables[names[0]], **drawn),
        f"intervals of {SYSTEMS} systems": lambda: [summarise(table, **drawn) for table in few.values()],
        f"paired, one against {SYSTEMS - 1}": lambda: paired_table(few, against_the_first(list(few)), **drawn),
        f"one setting of {SEEDS} seeds, over users and runs": lambda: summarise_groups(seeds, **drawn),
        f"paired, all pairs of {SETTINGS} settings, one figure": lambda: paired_table(
            tables, all_pairs(names), ["ndcg@0"], **drawn
        ),
        f"optimism of the best of {SETTINGS} settings": lambda: optimism(tables, "ndcg@0", **drawn),
    }


def _seconds(part: Callable[[], object]) -> float:
    bootstrap._kept.cache_clear()
    started = time.perf_counter()
    part()
    return time.perf_counter() - started


def _table(num_users: int, num_figures: int, seed: int) -> pl.DataFrame:
    values = np.random.default_rng(seed).random((num_users, num_figures))
    columns = {f"ndcg@{number}": values[:, number] for number in range(num_figures)}
    return pl.DataFrame({"user_idx": np.arange(num_users), "num_relevant": 1, **columns})


if __name__ == "__main__":
    main()
