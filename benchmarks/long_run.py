"""Memory, open files and threads of one process over 50 epochs, and over the 20 jobs of a sweep.

    python benchmarks/long_run.py [--only NAME ...] [--json FILE]

Resident memory that is the process's own (pages of files do not count) after every epoch and every job. What comes
after a warm-up (the first epochs and jobs fill caches, compile, load) is laid a line through: the slope of Theil and
Sen, the median of those of all pairs, with its interval of 95 %, so that a moment at which the allocator holds more or
less does not decide. Flat is what grows by less than the limit of its kind at the upper end of the interval.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from conditions import conditions
from runs import ROOT
from scipy.stats import theilslopes

_EPOCHS = ("callbacks.early_stopping=null", "+callbacks.memory._target_=memory_watch.AfterEpochs")
_JOBS = ("+hydra.callbacks.memory._target_=memory_watch.AfterJobs",)


@dataclass(frozen=True)
class Scenario:
    """A command, and what of it counts.

    Attributes:
        unit: What a line of the watch stands for.
        words: The command line of train.py.
        warm_up: Lines that do not count.
        limit_kib: Growth per unit that still is flat.
    """

    unit: str
    words: tuple[str, ...]
    warm_up: int
    limit_kib: float


SCENARIOS = {
    "50 epochs, 30 users": Scenario(
        "epoch", ("data.demo.scale=tiny", "eval.ks=[10,20]", "trainer.max_epochs=50", *_EPOCHS), 10, 128
    ),
    "50 epochs, quickstart": Scenario("epoch", ("data.demo.scale=small", "trainer.max_epochs=50", *_EPOCHS), 10, 128),
    "20 jobs of 2 epochs": Scenario(
        "job", ("data.demo.scale=tiny", "eval.ks=[10,20]", "trainer.max_epochs=2", "seed=range(0,20)", *_JOBS), 8, 256
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=list(SCENARIOS), default=list(SCENARIOS))
    parser.add_argument("--json", type=Path, help="what is measured again takes the place of the old in it")
    asked = parser.parse_args()
    held: dict[str, Any] = {}
    if asked.json is not None and asked.json.is_file():
        held = json.loads(asked.json.read_text(encoding="utf-8"))["scenarios"]
    for name in asked.only:
        scenario = SCENARIOS[name]
        with tempfile.TemporaryDirectory() as work:
            moments = watched(scenario, Path(work))
        held[name] = {"unit": scenario.unit, "command": " ".join(("train.py", "data=demo", *scenario.words))}
        held[name] |= judged(moments, warm_up=scenario.warm_up, limit_kib=scenario.limit_kib)
        result = {"conditions": conditions(), "scenarios": held}
        print(json.dumps({name: held[name]}, indent=2), flush=True)
        if asked.json is not None:
            asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def watched(scenario: Scenario, work: Path, *, more: Sequence[str] = ()) -> list[dict[str, int]]:
    """Run a scenario in one process; returns what it held after every unit."""
    lines = work / "moments.jsonl"
    place = "hydra.callbacks" if scenario.unit == "job" else "callbacks"
    words = ["data=demo", *scenario.words, f"+{place}.memory.path={lines}", *more]
    words += ["--multirun"] if scenario.unit == "job" else []
    places = [f"paths.data_dir={work / 'data'}", f"paths.log_dir={work / 'logs'}"]
    path = os.pathsep.join([str(Path(__file__).parent), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *places, *words],
        cwd=work,
        env=os.environ | {"PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0 or not lines.is_file():
        raise SystemExit(f"train.py {' '.join(words)} ended with {done.returncode}:\n{done.stdout}\n{done.stderr}")
    return [json.loads(line) for line in lines.read_text(encoding="utf-8").splitlines()]


def judged(moments: Sequence[Mapping[str, int]], *, warm_up: int, limit_kib: float) -> dict[str, Any]:
    """Slope and growth after the warm-up, and whether that is flat."""
    kept = moments[warm_up:]
    memory = [moment["memory_kib"] for moment in kept]
    slope, _, low, high = (float(number) for number in theilslopes(memory))
    files, threads = ([moment[name] for moment in kept] for name in ("files", "threads"))
    return {
        "units": len(moments),
        "warm_up": warm_up,
        "slope_kib": round(slope, 1),
        "slope_interval_kib": [round(low, 1), round(high, 1)],
        "growth_kib": memory[-1] - memory[0],
        "memory_mib": round(memory[-1] / 1024, 1),
        "limit_kib": limit_kib,
        "files": [files[0], files[-1]],
        "threads": [threads[0], threads[-1]],
        "flat": high <= limit_kib and files[-1] <= files[0] and threads[-1] <= threads[0],
        "all_memory_kib": [moment["memory_kib"] for moment in moments],
    }


if __name__ == "__main__":
    main()
