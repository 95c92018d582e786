"""The constants behind `sizing.py`: what a row, a weight and a score cost on this machine."""

from __future__ import annotations

import logging
import statistics
import tempfile
import time
import warnings
from argparse import Namespace
from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_up_log
import torch
import training_speed
from conditions import conditions

from towerrec.data.labels import Column
from towerrec.data.prepare import prepare
from towerrec.data.sources.interactions import Interactions
from towerrec.data.splits import RandomRows
from towerrec.retrieval.search import top_n

ROWS = 2_000_000
WEIGHTS = 20_000_000
ROUNDS = 3


def measured() -> dict[str, Any]:
    """All constants and the conditions they were measured under."""
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    return {
        **_preparing(),
        "train_rows_per_s": _training(),
        "adam_s_per_weight": _adam(),
        "seconds_per_1e9_scores": _scores(),
        "conditions": conditions() | {"threads": torch.get_num_threads(), "rounds": ROUNDS},
    }


def _seconds(work: Callable[[], object]) -> float:
    """The median of some rounds, after one that does not count."""
    work()
    times = []
    for _ in range(ROUNDS):
        start = time.perf_counter()
        work()
        times.append(time.perf_counter() - start)
    return statistics.median(times)


def _preparing() -> dict[str, float]:
    """A Parquet log to the store, side tables of five features each."""
    with tempfile.TemporaryDirectory() as folder:
        files = made_up_log.write(Path(folder), rows=ROWS, users=100_000, items=20_000)
        source = Interactions(
            interactions=str(files.log),
            users=[str(files.users)],
            items=[str(files.items)],
            columns={"label": "liked", "timestamp": "timestamp"},
        )
        start = time.perf_counter()
        prepared = prepare(
            source=source,
            split=RandomRows(),
            label=Column(),
            features={
                "auto": True,
                "use": "all",
                "drop": ["popularity", "freshness"],
                "missing": "error",
                "declared": {},
            },
            cache_dir=Path(folder) / "cache",
        )
        seconds = time.perf_counter() - start
        store = prepared.directory / "store"
        rows = sum(prepared.store.num_rows(split) for split in ("train", "val", "test"))
        size = sum(path.stat().st_size for path in store.iterdir())
        return {"prepare_rows_per_s": round(rows / seconds), "store_bytes_per_row": round(size / rows, 2)}


def _training() -> float:
    """Rows a second: ids and 24 categorical features, BCE, a batch of 8,192, tables small enough not to count."""
    arguments = Namespace(rows=1_000_000, users=7176, items=10728, feature_dim=8, epochs=3, device="cpu")
    found = training_speed.measure("bce", 8192, arguments)
    return float(str(found["rows_per_s"]))


def _adam() -> float:
    """Seconds a weight costs in every step: its gradient made, its moments and itself read and written."""
    table = torch.nn.Parameter(torch.randn(WEIGHTS // 64, 64))
    optimizer = torch.optim.Adam([table], fused=True)
    rows = torch.randint(len(table), (8192,))

    def step() -> None:
        optimizer.zero_grad()
        table.index_select(0, rows).sum().backward()
        optimizer.step()

    return _seconds(step) / WEIGHTS


def _scores() -> float:
    """Seconds of 1e9 scores: exact top 100 among 100,000 items of width 64."""
    user_BV, item_IV = torch.randn(1000, 64), torch.randn(100_000, 64)
    return round(10 * _seconds(lambda: top_n(user_BV, item_IV, n=100)), 2)
