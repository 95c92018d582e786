"""Five ranking metrics at four cut-offs for 1,411 users and 3,327 items: from a score matrix to averages.

Each user's seen items (a tenth) are left out. Precision, recall, NDCG, MAP and MRR at 10, 20, 50 and 100, beside ranx,
RePlay, RecTools and torchmetrics, which take turns in one run as processes of their own environments, and beside the
floor: mask, torch.topk and a gather. towerrec computes the hit rate too; with intervals it resamples the users 10,000
times for all of them. Prints JSON: median seconds, the ratio to the bare top-k, and the figures each program found.

    python benchmarks/environments.py --environments DIR --create --only ranx replay rectools
    python benchmarks/metrics_speed.py --environments DIR [--rounds 5] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import environments
from conditions import conditions
from contest import Contestant, contest

sys.path.append(str(environments.REFERENCES))
from metrics_case import Case

FLOOR = "bare torch mask + topk + gather"
PROGRAMS: dict[str, tuple[str, str, tuple[str, ...]]] = {
    "towerrec": ("metrics_towerrec.py", environments.OWN, ()),
    "towerrec with intervals": ("metrics_towerrec.py", environments.OWN, ("--resamples", "10000")),
    FLOOR: ("metrics_topk.py", environments.OWN, ()),
    "RecTools": ("metrics_rectools.py", "rectools", ()),
    "RePlay": ("metrics_replay.py", "replay", ()),
    "ranx": ("metrics_ranx.py", "ranx", ()),
    "torchmetrics": ("metrics_torchmetrics.py", environments.OWN, ()),
}
SHOWN = ("precision@10", "recall@20", "ndcg@20", "map@50", "mrr@100")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, metavar="DIR", help="where environments.py made the environments")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--users", type=int, default=1_411)
    parser.add_argument("--items", type=int, default=3_327)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        work = Path(name)
        Case.random(users=asked.users, items=asked.items).save(work / "case.npz")
        contestants = [_contestant(program, asked.environments, work / "case.npz") for program in PROGRAMS]
        found = contest(contestants, rounds=asked.rounds, work=work)
    facts = {"rounds": asked.rounds, "users": asked.users, "items": asked.items}
    result = {"conditions": conditions() | facts, "programs": {name: _shown(found, name) for name in found}}
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def _shown(found: dict[str, dict[str, Any]], name: str) -> dict[str, Any]:
    figures = found[name]
    if "not run" in figures:
        return figures
    return {
        "seconds": round(figures["rows_of_a_round"] / figures["rows_per_s"], 4),
        "times_the_bare_topk": round(found[FLOOR]["rows_per_s"] / figures["rows_per_s"], 2),
        "figures": {key: round(figures["quality"][key], 6) for key in SHOWN if key in figures["quality"]},
        "peak_memory_mib": figures["peak_memory_mib"],
        "facts": figures["facts"],
    }


def _contestant(name: str, directory: Path | None, case: Path) -> Contestant:
    file, environment, words = PROGRAMS[name]
    python = environments.python(environment, directory)
    if python is None:
        return Contestant(name, None, environments.why_not(environment, directory))
    return Contestant(name, (str(python), str(environments.REFERENCES / file), "--case", str(case), *words))


if __name__ == "__main__":
    main()
