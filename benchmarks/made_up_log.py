"""Made-up logs of any size: rows as skewed as a log's, users and items with some features, a label that tastes explain.

Nothing here is fitted to a real log; `data=demo` is the simulator that is. This one is fast and has no size of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

CARDINALITIES = (5, 20, 100, 1000)
START_MS = 1_600_000_000_000
DAY_MS = 86_400_000


@dataclass(frozen=True)
class Files:
    """The log, and the side tables."""

    log: Path
    users: Path
    items: Path


def write(folder: Path, *, rows: int, users: int, items: int, seed: int = 0) -> Files:
    """Parquet files of a log; those that are there already are taken as they are."""
    place = folder / f"{rows}-{users}-{items}-{seed}"
    files = Files(place / "log.parquet", place / "users.parquet", place / "items.parquet")
    if files.items.is_file():
        return files
    place.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    user, item = _skewed(random, rows, users), _skewed(random, rows, items)
    # Every one of them occurs, however short the log.
    few = min(rows, users), min(rows, items)
    user[: few[0]], item[: few[1]] = np.arange(few[0]), np.arange(few[1])
    taste_U, taste_I = random.integers(8, size=users), random.integers(8, size=items)
    liked = random.random(rows) < np.where(taste_U[user] == taste_I[item], 0.6, 0.2)
    log = {
        "user_id": user,
        "item_id": item,
        "liked": liked.astype(np.int8),
        "timestamp": START_MS + random.integers(60 * DAY_MS, size=rows),
    }
    pl.DataFrame(log).write_parquet(files.log)
    _side(random, "user_id", taste_U).write_parquet(files.users)
    _side(random, "item_id", taste_I).write_parquet(files.items)
    return files


def _skewed(random: np.random.Generator, num: int, among: int) -> np.ndarray:
    return (random.random(num) ** 1.6 * among).astype(np.int64)


def _side(random: np.random.Generator, id_column: str, taste: np.ndarray) -> pl.DataFrame:
    columns = {f"feature_{c}": random.integers(c, size=len(taste)).astype(str) for c in CARDINALITIES}
    return pl.DataFrame({id_column: np.arange(len(taste)), "taste": taste.astype(str), **columns})
