"""What may change the weights of a training and what may not: one training a line, each compared with the first.

    python benchmarks/determinism.py [--work DIR] [--epochs 2] [--json benchmarks/results/determinism.json]

Compared are all bytes of the weights (SHA-256 over names and values of `checkpoints/best.ckpt`), the judged figures
(`metrics.json`) and, where the log was prepared anew, the checksums of the prepared files. The log is the built-in one
at its smallest; the machine may be busy meanwhile, which is one of the lines.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from runs import Run, command, train

# What a report says of its own making; the rest of a prepared log is data.
_ABOUT_ITSELF = "report.json"


@dataclass(frozen=True)
class Case:
    """A training that differs from the first one in something.

    Attributes:
        about: What differs.
        words: Overrides.
        env: Variables of the environment.
        prepared_anew: Whether it has a cache of its own.
        busy: Processes that keep the machine busy meanwhile.
        same: Whether its weights must be those of the first.
        like: The case to be compared with.
    """

    about: str
    words: list[str] = field(default_factory=list)
    env: dict[str, str] = field(default_factory=dict)
    prepared_anew: bool = False
    busy: int = 0
    same: bool = True
    like: str = "first"


TWO, SHARDED = ["trainer=ddp"], ["loader.buffer_rows=20000"]
CASES = [
    Case("first", env={"OMP_NUM_THREADS": "2"}),
    Case("again, from the cache", env={"OMP_NUM_THREADS": "2"}),
    Case("again, prepared anew", env={"OMP_NUM_THREADS": "2"}, prepared_anew=True),
    Case("another seed", ["seed=1"], same=False),
    Case("1 thread of torch", env={"OMP_NUM_THREADS": "1"}),
    Case("1 thread of Polars, prepared anew", env={"POLARS_MAX_THREADS": "1"}, prepared_anew=True),
    Case("2 threads of Polars, prepared anew", env={"POLARS_MAX_THREADS": "2"}, prepared_anew=True),
    Case("PYTHONHASHSEED=1, prepared anew", env={"PYTHONHASHSEED": "1"}, prepared_anew=True),
    Case("PYTHONHASHSEED=2, prepared anew", env={"PYTHONHASHSEED": "2"}, prepared_anew=True),
    Case("4 busy processes beside it", busy=4),
    Case("rows on disk, a thread that makes pools", SHARDED, same=False),
    Case("rows on disk, again, 4 busy processes", SHARDED, busy=4, like="rows on disk, a thread that makes pools"),
    Case("2 processes (DDP)", TWO, same=False),
    Case("2 processes (DDP), again, 2 busy processes", TWO, busy=2, like="2 processes (DDP)"),
    Case("2 processes (DDP), another seed", [*TWO, "seed=1"], same=False, like="2 processes (DDP)"),
]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=None, help="for data and runs; a temporary folder by default")
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = (asked.work or Path(folder)).resolve()
        common = [
            "data=demo",
            "data.demo.scale=tiny",
            "eval.ks=[10,20]",
            f"trainer.max_epochs={asked.epochs}",
            f"paths.data_dir={work}",
        ]
        common += ["loader.batch_size=4096", "trainer.accelerator=cpu"]  # batches that two threads would share
        rows = [*_trainings(work, common), *_sweeps(work, common)]
    result = {
        "conditions": conditions() | {"epochs": asked.epochs, "data": "demo, tiny, batches of 4096"},
        "cases": rows,
    }
    result["as_expected"] = all(row["same_weights"] == row["expected"] for row in rows)
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if not result["as_expected"]:
        sys.exit("some weights are not what they should be")


def _trainings(work: Path, common: list[str]) -> Iterator[dict[str, Any]]:
    done: dict[str, Run] = {}
    for number, case in enumerate(CASES):
        cache = work / (f"cache-{number}" if case.prepared_anew else "cache")
        with _environment(case.env), _busy(case.busy):
            done[case.about] = train([*common, *case.words, f"paths.cache_dir={cache}"], work=work)
        if case.about == case.like:
            continue
        other, run = done[case.like], done[case.about]
        yield {
            "what": case.about,
            "beside": case.like,
            "same_weights": weights(run.directory) == weights(other.directory),
            "same_figures": run.read("metrics.json") == other.read("metrics.json"),
            "same_cache": prepared(cache) == prepared(work / "cache") if case.prepared_anew else None,
            "expected": case.same,
        }


def _sweeps(work: Path, common: list[str]) -> Iterator[dict[str, Any]]:
    """The jobs of a sweep in one process after another, and two side by side."""
    places = []
    for jobs in (1, 2):
        places.append(work / f"sweep-{jobs}")
        launcher = ["hydra/launcher=joblib", f"hydra.launcher.n_jobs={jobs}", f"hydra.sweep.dir={places[-1]}"]
        command("train.py", ["-m", "seed=0,1", *common, *launcher], work=work)
    for seed in (0, 1):
        yield {
            "what": f"seed={seed} of a sweep with two jobs at once",
            "beside": "one job at a time",
            "same_weights": weights(places[0] / str(seed)) == weights(places[1] / str(seed)),
            "same_figures": _figures(places[0] / str(seed)) == _figures(places[1] / str(seed)),
            "same_cache": None,
            "expected": True,
        }


def weights(run: Path) -> str:
    """SHA-256 over the names and bytes of all weights of the best checkpoint."""
    state = torch.load(run / "checkpoints" / "best.ckpt", weights_only=True)["state_dict"]
    digest = hashlib.sha256()
    for name, tensor in sorted(state.items()):
        digest.update(name.encode() + tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()


def prepared(cache: Path) -> dict[str, Any]:
    """Sizes and checksums of all files of the one prepared log in a cache."""
    (manifest,) = cache.glob("*/complete.json")
    files = json.loads(manifest.read_text(encoding="utf-8"))["files"]
    return {name: stamp for name, stamp in files.items() if name != _ABOUT_ITSELF}


def _figures(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "metrics.json").read_text(encoding="utf-8"))
    return content


@contextmanager
def _environment(variables: dict[str, str]) -> Iterator[None]:
    before = dict(os.environ)
    for name in ("OMP_NUM_THREADS", "POLARS_MAX_THREADS", "PYTHONHASHSEED"):
        os.environ.pop(name, None)
    os.environ.update(variables)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@contextmanager
def _busy(number: int) -> Iterator[None]:
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


if __name__ == "__main__":
    main()
