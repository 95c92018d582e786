"""A log several times larger than memory: prepared and trained by `train.py` under a hard limit, as JSON.

    python benchmarks/larger_than_memory.py [--limit-mib 1024] [--rows 40000000] [--work DIR]

Three things are shown. (1) The log, in partitioned Parquet, is prepared, trained on, validated, judged and saved in a
control group of `--limit-mib` (see `bounded.py` for why that and no ulimit), imports included. Nothing is set for it:
`data.streaming=null` and `loader.buffer_rows=null` find that neither the log nor training on it fits. (2) The same
command told to hold everything in memory is killed by the kernel. (3) On a log that fits, the same model learns from
pools on disk what it learns in memory: losses and validation figures of every epoch side by side, and how far seeds are
apart. All files go in the end.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import sys
from pathlib import Path
from typing import Any

import bounded
import numpy as np
import polars as pl
from conditions import conditions
from runs import ROOT

from towerrec.data.sources.partitions import memory_needed

USERS, ITEMS = 60_000, 10_000
PARTITION_ROWS = 2_000_000
COMMON = [
    "data=interactions",
    "data.columns.timestamp=timestamp_ms",
    "label=liked",
    "split=time",
    "features=ids",
    "model=matrix_factorization",
    "loss=bce",
    "logger=csv",
    "callbacks.early_stopping=null",
]
LARGE = [*COMMON, "split.val=0.002", "split.test=0.002", "loader.batch_size=32768", "trainer.max_epochs=1"]
IN_MEMORY = ["data.streaming=false", "loader.resident=true"]
FIGURES = ("train/loss", "val/loss", "val/ndcg@20", "val/recall@20")


def write_log(folder: Path, *, rows: int, seed: int) -> int:
    """A log in partitions of two million rows in order of time; returns the bytes of its columns in memory."""
    rng = np.random.default_rng(seed)
    taste_UD, taste_ID = rng.normal(size=(USERS, 4)), rng.normal(size=(ITEMS, 4))
    quality_I = rng.normal(size=ITEMS)
    folder.mkdir(parents=True)
    size = 0
    for number, at in enumerate(range(0, rows, PARTITION_ROWS)):
        count = min(PARTITION_ROWS, rows - at)
        user = rng.integers(0, USERS, count)
        item = (ITEMS * rng.random(count) ** 1.7).astype(np.int64)
        liking = quality_I[item] + (taste_UD[user] * taste_ID[item]).sum(1)
        duration = rng.integers(5_000, 60_000, count)
        ratio = np.exp(0.6 * liking + 0.5 * rng.normal(size=count)).astype(np.float32)
        frame = pl.DataFrame(
            {
                "user_id": user,
                "item_id": item,
                "timestamp_ms": 1_600_000_000_000 + (at + np.arange(count)) * 50 + rng.integers(0, 50, count),
                "watch_ratio": ratio,
                "play_duration_ms": (ratio * duration).astype(np.int64),
                "duration_ms": duration,
            }
        )
        size += int(frame.estimated_size())
        frame.write_parquet(folder / f"part-{number:04}.parquet", row_group_size=250_000)
    return size


def forget_pages(folder: Path) -> None:
    """What was written or read before must not serve as free cache of a bounded command."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb") as file:
                os.fsync(file.fileno())
                os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def command(words: list[str], work: Path) -> list[str]:
    paths = [f"paths.data_dir={work / 'data'}", f"paths.log_dir={work / 'logs'}"]
    return [sys.executable, str(ROOT / "train.py"), *words, *paths]


def bounded_run(words: list[str], work: Path, limit: int) -> dict[str, Any]:
    """One `train.py` under the limit, from cold files."""
    shutil.rmtree(work / "data", ignore_errors=True)
    forget_pages(work / "log")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "MALLOC_ARENA_MAX": "2"}
    found = bounded.run(command(words, work), limit_bytes=limit, folder=work, environment=environment)
    outcome: dict[str, Any] = {
        "exit": found.code,
        "seconds": round(found.seconds, 1),
        "peak_own_memory_mib": found.peak_bytes >> 20,
        "killed_for_memory": found.killed,
        "times_at_the_limit": found.reclaims,
    }
    if found.code == 0:
        run = max((work / "logs" / "train").iterdir())
        facts = json.loads((run / "run.json").read_text())
        report = json.loads(next((work / "data" / "cache").glob("*/report.json")).read_text())
        store = next((work / "data" / "cache").glob("*/store"))
        outcome |= {
            "prepare_seconds": report["seconds"],
            "train_rows": report["train"]["rows"],
            "train_rows_per_s": facts["rows_per_second"],
            "packed_columns_mib": sum(path.stat().st_size for path in store.glob("*.npy")) >> 20,
            "test": {k: v["mean"] for k, v in json.loads((run / "metrics.json").read_text())["test"].items()},
            "said": [line for line in found.said.splitlines() if "GiB" in line],
        }
    else:
        outcome["last_words"] = found.said.strip().splitlines()[-3:]
    return outcome


def curves(work: Path, *, rows: int, epochs: int, seeds: int) -> dict[str, Any]:
    """Figures of every epoch in memory and from pools of a sixteenth of the rows, mean over seeds and their spread."""
    log = work / "small"
    write_log(log, rows=rows, seed=1)
    words = [*COMMON, f"data.interactions={log}", "loader.batch_size=2048", f"trainer.max_epochs={epochs}"]
    words += ["eval.baselines=[]", "eval.num_resamples=10"]
    kinds = {"in_memory": [], "pools_on_disk": [f"loader.buffer_rows={rows // 16}"]}
    found: dict[str, dict[str, list[list[float]]]] = {kind: {name: [] for name in FIGURES} for kind in kinds}
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
    for seed in range(seeds):
        for kind, more in kinds.items():
            line = command([*words, *more, f"seed={seed}"], work)
            done = bounded.subprocess.run(line, env=environment, capture_output=True, text=True, check=False)
            if done.returncode != 0:
                sys.exit(f"{line}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
            run = max((work / "logs" / "train").iterdir())
            table = pl.read_csv(run / "csv" / "metrics.csv", infer_schema_length=None)
            for name in FIGURES:
                found[kind][name].append(table[name].drop_nulls().to_list())
    return {
        name: {
            **{
                kind: [round(statistics.fmean(epoch), 5) for epoch in zip(*found[kind][name], strict=True)]
                for kind in kinds
            },
            "spread_of_seeds_in_memory": [
                round(max(epoch) - min(epoch), 5) for epoch in zip(*found["in_memory"][name], strict=True)
            ],
        }
        for name in FIGURES
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--limit-mib", type=int, default=1024, help="memory of the control group, imports included")
    parser.add_argument("--rows", type=int, default=56_000_000, help="rows of the large log")
    parser.add_argument("--small-rows", type=int, default=600_000, help="rows of the log whose curves are compared")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--work", type=Path, default=Path("larger-than-memory"), help="takes the files; removed")
    chosen = parser.parse_args()
    work: Path = chosen.work.resolve()
    work.mkdir(parents=True)
    limit = chosen.limit_mib << 20
    try:
        log_bytes = write_log(work / "log", rows=chosen.rows, seed=0)
        words = [*LARGE, f"data.interactions={work / 'log'}"]
        report: dict[str, Any] = {
            "conditions": conditions(),
            "rows": chosen.rows,
            "limit_mib": chosen.limit_mib,
            "log_in_memory_mib": log_bytes >> 20,
            "log_in_memory_over_limit": round(log_bytes / limit, 2),
            "in_memory_preparation_needs_mib": memory_needed(sorted((work / "log").iterdir())) >> 20,
            "files_mib": sum(path.stat().st_size for path in (work / "log").iterdir()) >> 20,
            "bounded": bounded_run(words, work, limit),
        }
        report["in_memory_under_the_same_limit"] = bounded_run([*words, *IN_MEMORY], work, limit)
        shutil.rmtree(work / "data", ignore_errors=True)
        if chosen.seeds:
            small = {"rows": chosen.small_rows, "epochs": chosen.epochs, "seeds": chosen.seeds}
            report["curves"] = small | curves(work, rows=chosen.small_rows, epochs=chosen.epochs, seeds=chosen.seeds)
        print(json.dumps(report, indent=1))
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
