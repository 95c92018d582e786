"""Exact top 100 on the CPU, each user's seen items left out, beside plain torch, faiss and implicit.

Two sizes: 7,176 users and 10,728 items (KuaiRec) with 400 seen items each, 10,000 and 100,000 with 500; vectors of 128.
All of them take turns in one run, as processes of their own environments. Prints JSON: median seconds, by how much
towerrec is faster, the share of places with the same item as towerrec's, and the floor: the matrix product alone.

    python benchmarks/environments.py --environments DIR --create --only search
    python benchmarks/search_speed.py --environments DIR [--rounds 3] [--json FILE]
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from pathlib import Path
from typing import Any

import environments
import numpy as np
from conditions import conditions
from contest import Contestant, contest

sys.path.append(str(environments.REFERENCES))
from search_case import Case

SIZES = {
    "7,176 users x 10,728 items": {"users": 7_176, "items": 10_728, "width": 128, "seen": 400, "n": 100},
    "10,000 users x 100,000 items": {"users": 10_000, "items": 100_000, "width": 128, "seen": 500, "n": 100},
    "tiny": {"users": 300, "items": 2_000, "width": 16, "seen": 30, "n": 20},
}
OURS, FLOOR = "towerrec", "the matrix product alone"
PROGRAMS = {
    OURS: ("search_towerrec.py", environments.OWN),
    "torch matmul + mask + topk": ("search_torch.py", environments.OWN),
    "faiss IndexFlatIP with over-fetch": ("search_faiss.py", "search"),
    "implicit": ("search_implicit.py", "search"),
    FLOOR: ("search_product.py", environments.OWN),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--environments", type=Path, metavar="DIR", help="where environments.py made env-search")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--sizes", nargs="+", choices=list(SIZES), default=list(SIZES)[:2])
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    result = {"conditions": conditions() | {"rounds": asked.rounds}, "sizes": {}}
    for name in asked.sizes:
        with tempfile.TemporaryDirectory() as work:
            result["sizes"][name] = compared(SIZES[name], asked.environments, rounds=asked.rounds, work=Path(work))
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def compared(size: dict[str, int], directory: Path | None, *, rounds: int, work: Path) -> dict[str, Any]:
    """All programs on one case, in turn."""
    case = work / "case.npz"
    Case.random(**size).save(case)
    contestants = [
        _contestant(name, file, environment, directory, case) for name, (file, environment) in PROGRAMS.items()
    ]
    found = contest(contestants, rounds=rounds, work=work)
    ours = np.load(work / "search_towerrec.npy")
    shown: dict[str, Any] = {}
    for name, figures in found.items():
        if "not run" in figures:
            shown[name] = figures
            continue
        seconds = figures["rows_of_a_round"] / figures["rows_per_s"]
        shown[name] = {"seconds": round(seconds, 3), "peak_memory_mib": figures["peak_memory_mib"]}
        shown[name]["times_towerrec"] = round(found[OURS]["rows_per_s"] / figures["rows_per_s"], 2)
        if name != FLOOR:
            lists = np.load((work / PROGRAMS[name][0]).with_suffix(".npy"))
            shown[name]["same_items"] = float((lists == ours).mean())
        shown[name]["facts"] = figures["facts"]
    return {"case": size, "programs": shown}


def _contestant(name: str, file: str, environment: str, directory: Path | None, case: Path) -> Contestant:
    python = environments.python(environment, directory)
    if python is None:
        return Contestant(name, None, environments.why_not(environment, directory))
    lists = (case.parent / file).with_suffix(".npy")
    script = environments.REFERENCES / file
    return Contestant(name, (str(python), str(script), "--case", str(case), "--lists", str(lists)))


if __name__ == "__main__":
    main()
