"""Spoil numbers, features, ids, whole logs and losses, and count what comes of it.

    python benchmarks/faults_data.py --json benchmarks/results/faults_data.json

Survived is: left out and counted, taken as missing, or refused in words that name the thing, as each fault says itself;
of a training: ended in words, with no checkpoint that holds anything but finite weights. Lost is everything else.
The faults are those of the tests.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / path) for path in ("src", "tests", "tests/unit", "tests/integration", "benchmarks")]

import data_faults  # noqa: E402
import test_degenerate_logs as degenerate  # noqa: E402
import torch  # noqa: E402
from commands import command  # noqa: E402
from conditions import conditions  # noqa: E402

KINDS = {
    "numbers": "a number of the log that is missing, not finite, huge or tiny, in Parquet and CSV",
    "features": "a feature that is constant, missing, empty, not finite or of another type",
    "ids": "ids of every type and form",
    "side ids": "ids of another type in the side table than in the log",
}
# Overrides of a training on the tiny demo log, and words of the error it must end with.
TRAININGS = {
    "weights beyond float32 in the first step": (("optimizer.lr=1e30",), "the loss is nan"),
    "the same under bfloat16": (("optimizer.lr=1e30", "trainer.precision=bf16-mixed"), "the loss is nan"),
    "the same in an ensemble": (("optimizer.lr=1e30", "model.members=2"), "the loss is nan"),
    "the same before a refit": (("optimizer.lr=1e30", "refit=true"), "the loss is nan"),
    "the same without a configured guard": (("optimizer.lr=1e30", "callbacks.stability=null"), "the loss is nan"),
    "squares beyond float32": (("optimizer=sgd", "optimizer.lr=1e20", "loss=mse", "label=watch_ratio"), "the loss is"),
    "a loss that runs away": (("optimizer.lr=30",), "training diverges"),
}
TINY = ["data=demo", "data.demo.scale=tiny", "eval.ks=[10]", "eval.num_resamples=20", "trainer.max_epochs=2"]
TINY += ["trainer.accelerator=cpu", "trainer.devices=1", "logger=none"]


def prepared() -> Iterator[tuple[str, str, Callable[[Path], str | None]]]:
    """Faults that preparing meets."""
    for fault in data_faults.all_faults():
        yield KINDS[fault.kind], fault.id, lambda folder, fault=fault: data_faults.trouble(fault, folder)


def logs() -> Iterator[tuple[str, str, Callable[[Path], str | None]]]:
    """Logs that a whole `train.py` meets."""
    for name in degenerate.CASES:
        yield "a log with hardly anything in it", name, lambda folder, name=name: degenerate.trouble(folder, name)


def trainings() -> Iterator[tuple[str, str, Callable[[Path], str | None]]]:
    """Losses that are no numbers."""
    for name in TRAININGS:
        yield "a loss that is not finite or runs away", name, lambda folder, name=name: ended(folder, name)


def ended(folder: Path, name: str) -> str | None:
    """What is wrong with the end of a training that must fail, None where nothing is."""
    overrides, words = TRAININGS[name]
    run = folder / "run"
    outcome = command("train.py", *TINY, f"paths.data_dir={folder}", f"hydra.run.dir={run}", *overrides)
    if outcome.code != 1 or "Traceback" in outcome.err or words not in outcome.message:
        return f"exit code {outcome.code}: {outcome.err[-300:]}"
    if (run / "run.json").exists():
        return "it looks finished"
    weights = (torch.load(path, weights_only=True)["state_dict"] for path in run.rglob("*.ckpt"))
    if any(not tensor.isfinite().all() for state in weights for tensor in state.values()):
        return "a checkpoint holds what is not finite"
    return None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where to write the figures")
    options = parser.parse_args()
    counted: dict[str, dict[str, Any]] = {}
    for kind, name, trouble in (*prepared(), *logs(), *trainings()):
        row = counted.setdefault(kind, {"fault": kind, "kind": "data", "tried": 0, "survived": 0, "lost": 0})
        with tempfile.TemporaryDirectory() as folder:
            try:
                found = trouble(Path(folder))
            except Exception as error:
                found = f"{type(error).__name__}: {error}"
        row["tried"] += 1
        row["survived" if found is None else "lost"] += 1
        if found is not None:
            print(f"lost: {kind}: {name}: {found}", flush=True)
    faults = list(counted.values())
    for row in faults:
        print(f"{row['survived']:4d} of {row['tried']:4d}  {row['fault']}")
    if options.json is not None:
        text = json.dumps({"conditions": conditions(), "faults": faults}, indent=1, ensure_ascii=False)
        options.json.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
