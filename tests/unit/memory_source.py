"""A small log whose tables are held in memory, for the tests of what is built on top of a source."""

import datetime
from pathlib import Path

import numpy as np
import polars as pl

from towerrec.data.labels import Liked
from towerrec.data.prepare import prepare
from towerrec.data.splits import Given
from towerrec.data.tables import Tables

DAY_MS = 86_400_000
START_MS = 1_593_561_600_000  # 2020-07-01 00:00 UTC
FEATURES = {
    "declared": {
        "user_id": {"side": "user", "kind": "id", "group": "id"},
        "city": {"side": "user", "kind": "categorical"},
        "age": {"side": "user", "kind": "numeric"},
        "user_activity": {"side": "user", "kind": "statistic", "of": "views", "group": "popularity"},
        "item_id": {"side": "item", "kind": "id", "group": "id"},
        "tags": {"side": "item", "kind": "multi", "group": "content"},
        "caption": {"side": "item", "kind": "text", "columns": ["caption"], "group": "content"},
        "length": {"side": "item", "kind": "bucket", "buckets": 4, "group": "content"},
        "item_rate": {"side": "item", "kind": "statistic", "of": "positive_rate", "group": "popularity"},
        "plays": {"kind": "daily", "column": "play_cnt", "group": "daily"},
        "hour": {"kind": "hour", "group": "time"},
        "age_days": {"kind": "age_days", "column": "born", "buckets": 4, "group": "time"},
    }
}


class Memory:
    """A source whose tables are held in memory; its file only carries the time of change."""

    name = "memory"

    def __init__(self, folder: Path, *, log: pl.DataFrame, seed: int = 0) -> None:
        self.path = folder / "log.bin"
        if not self.path.exists():
            self.path.write_text("rows")
        self.log, self.seed = log, seed
        self.reads = 0

    def files(self) -> list[Path]:
        return [self.path]

    def settings(self) -> dict[str, int]:
        return {"seed": self.seed}

    def read(self) -> Tables:
        self.reads += 1
        rng = np.random.default_rng(self.seed)
        users = pl.DataFrame(
            {"user_id": range(30), "city": rng.choice(["a", "b", "c"], 30), "age": rng.integers(10, 60, 30)}
        )
        items = pl.DataFrame(
            {
                "item_id": range(100, 140),
                "tags": [[int(t)] for t in rng.integers(0, 5, 40)],
                "caption": [f"word{i % 7} other" for i in range(40)],
                "length": rng.random(40),
                "born": [datetime.date(2020, 6, 1 + i % 20) for i in range(40)],
            }
        )
        daily = pl.DataFrame(
            {
                "item_id": [100 + i for i in range(40) for _ in range(9)],
                "date": [datetime.date(2020, 6, 28) + datetime.timedelta(days=d) for _ in range(40) for d in range(9)],
                "play_cnt": rng.integers(0, 99, 360),
            }
        )
        return Tables("memory", self.log.lazy(), users.lazy(), items.lazy(), "UTC", daily.lazy())


def log(num_rows=600, seed=1):
    """Train rows of users 0..24 and items 100..134 in the first days, others only in the held-out rows after."""
    rng = np.random.default_rng(seed)
    split = rng.choice([1, 2, 3], num_rows, p=[0.7, 0.1, 0.2]).astype(np.uint8)
    held_out = split > 1
    return pl.DataFrame(
        {
            "user_id": rng.integers(0, np.where(held_out, 30, 25)),
            "item_id": rng.integers(100, np.where(held_out, 140, 135)),
            "timestamp_ms": START_MS + np.where(held_out, 4 * DAY_MS, 0) + rng.integers(0, 4 * DAY_MS, num_rows),
            "watch_ratio": (rng.random(num_rows) * 4).astype(np.float32),
            "split": split,
        }
    )


def run(folder, *, source=None, features=FEATURES, **more):
    source = source or Memory(folder, log=log())
    settings = {"split": Given(), "label": Liked(min_watch_ratio=2.0), "cache_dir": folder / "cache", **more}
    return prepare(source=source, features=features, **settings)
