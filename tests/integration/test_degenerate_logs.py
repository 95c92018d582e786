"""Logs with hardly anything in them, or too much of one thing: refused in words, or a run of finite figures."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from commands import Outcome, command

ROWS = 240


def rows(num_rows: int = ROWS, seed: int = 0) -> pl.DataFrame:
    draw = np.random.default_rng(seed)
    return pl.DataFrame(
        {
            "user_id": draw.integers(0, 20, num_rows),
            "item_id": draw.integers(0, 15, num_rows),
            "liked": draw.integers(0, 2, num_rows).astype(float),
            "t": 1_600_000_000 + np.arange(num_rows) * 60,
        }
    )


def one(user: int, item: int, liked: float) -> pl.DataFrame:
    return pl.DataFrame({"user_id": [user], "item_id": [item], "liked": [liked], "t": [1_600_000_000]})


def strangers(side: str) -> pl.DataFrame:
    return rows(60, seed=1).with_columns(pl.col(f"{side}_id") + 1000)


LOG, HELD_OUT, LATER = rows(), rows(60, seed=2), rows(60, seed=3).with_columns(pl.col("t") + 1_000_000)
DISLIKED = HELD_OUT.with_columns(liked=pl.lit(0.0))
Logs = pl.DataFrame | dict[str, pl.DataFrame]


def three(train: pl.DataFrame = LOG, val: pl.DataFrame | None = HELD_OUT, test: pl.DataFrame = LATER) -> Logs:
    return {word: frame for word, frame in (("train", train), ("val", val), ("test", test)) if frame is not None}


# Name: the log, overrides, and words of the error; none where the run must end well.
CASES: dict[str, tuple[Logs, tuple[str, ...], tuple[str, ...]]] = {
    "one row": (LOG.head(1), (), ("leaves no train rows",)),
    "three rows": (LOG.head(3), (), ("no test row has a positive label",)),
    "one user": (LOG.with_columns(user_id=pl.lit(5)), (), ("no user has a positive",)),
    "one item": (LOG.with_columns(item_id=pl.lit(5)), (), ("no user has a positive",)),
    "duplicates only": (pl.concat([LOG.head(1)] * 50), (), ("leaves no train rows",)),
    "k larger than the catalogue": (LOG, ("eval.ks=[50]",), ("50 is larger than the 15 candidates",)),
    "fifteen items, no cut-offs asked for": (LOG, ("eval.ks=null",), ()),
    "five items, no cut-offs asked for": (LOG.with_columns(pl.col("item_id") % 5), ("eval.ks=null",), ()),
    "all labels 1": (LOG.with_columns(liked=pl.lit(1.0)), (), ()),
    "all labels 1, pointwise": (LOG.with_columns(liked=pl.lit(1.0)), ("loss=bce", "negatives=uniform"), ()),
    "all labels 0": (LOG.with_columns(liked=pl.lit(0.0)), (), ("no train row has a positive label",)),
    "all labels -1": (LOG.with_columns(liked=pl.lit(-1.0)), (), ("no train row has a positive label",)),
    "no positive in training": (three(train=DISLIKED), (), ("no train row has a positive label",)),
    "no positive in validation": (three(val=DISLIKED), (), ("no user has a positive", "of the val rows")),
    "no positive in test": (
        three(test=LATER.with_columns(liked=pl.lit(0.0))),
        (),
        ("no test row has a positive label",),
    ),
    "no validation": (three(val=None), ("split.val=0",), ()),
    "only new items in test": (three(test=strangers("item")), (), ()),
    "only new users in test": (three(test=strangers("user")), (), ()),
    "only new users in validation": (three(val=strangers("user")), (), ()),
    "one row of training": (three(train=one(1, 2, 1.0)), (), ()),
    "one row of validation and test": (three(val=one(1, 99, 1.0), test=one(2, 98, 1.0)), (), ()),
    "a last batch of one row": (three(LOG.head(129)), ("loader.batch_size=64", "loader.unit=rows"), ()),
    "a last batch of one row, softmax over the batch": (
        three(LOG.head(129)),
        ("loader.batch_size=64", "loss=in_batch_softmax", "label=implicit"),
        (),
    ),
    "batches of one row": (three(LOG.head(20)), ("loader.batch_size=1",), ()),
    "batches of one row, several objectives": (three(LOG.head(20)), ("loader.batch_size=1", "loss=multi"), ()),
    "a batch larger than the log": (LOG, ("loader.batch_size=100000",), ()),
    "no times": (LOG.with_columns(t=pl.lit(None, dtype=pl.Int64)), ("split=time",), ("needs times",)),
    "equal times": (LOG.with_columns(t=pl.lit(1_600_000_000)), ("split=time",), ("leaves no train rows",)),
    "negative times": (LOG.with_columns(t=pl.int_range(-ROWS, 0)), ("split=time",), ()),
    "times of the year 8300": (LOG.with_columns(t=pl.col("t") + 198_000_000_000), ("split=time",), ()),
    "microseconds": (LOG.with_columns(t=pl.col("t") * 1_000_000), ("split=time",), ()),
    "nanoseconds at the end of 64 bits": (LOG.with_columns(t=pl.lit(2**63 - 1)), (), ()),
    "times that no calendar has": (LOG.with_columns(t=pl.lit(1e30)), (), ("no row of the log is left",)),
    "infinite times": (LOG.with_columns(t=pl.lit(math.inf)), (), ()),
    "labels of 1e20": (LOG.with_columns(pl.col("liked") * 1e20), ("label.binary=false",), ("labels up to 1e+20",)),
    "labels of 1e-20": (LOG.with_columns(pl.col("liked") * 1e-20), ("label.binary=false",), ()),
}


def not_finite(content: Any, place: str) -> list[str]:
    if isinstance(content, Mapping):
        return [bad for name, value in content.items() for bad in not_finite(value, f"{place}.{name}")]
    if isinstance(content, list):
        return [bad for number, value in enumerate(content) for bad in not_finite(value, f"{place}.{number}")]
    return [place] if isinstance(content, float) and not math.isfinite(content) else []


def trained(folder: Path, logs: Logs, *overrides: str) -> Outcome:
    """`python train.py` on these logs."""
    told = ["data.columns.label=liked", "data.columns.timestamp=t", "logger=none", "trainer.accelerator=cpu"]
    told += ["trainer.devices=1", "trainer.max_epochs=2", "eval.ks=[3]", "eval.num_resamples=20"]
    frames = logs if isinstance(logs, dict) else {"interactions": logs}
    if "interactions" in frames and not any(word.startswith("split=") for word in overrides):
        told.append("split=random")
    for word, frame in frames.items():
        frame.write_parquet(folder / f"{word}.parquet")
        told.append(f"data.{word}={folder / word}.parquet")
    place = [f"paths.data_dir={folder}", f"hydra.run.dir={folder / 'run'}"]
    return command("train.py", "data=interactions", *told, *place, *overrides)


def trouble(folder: Path, name: str) -> str | None:
    """What differs from what a case must lead to, None where nothing does."""
    logs, overrides, refused = CASES[name]
    outcome = trained(folder, logs, *overrides)
    if "Traceback" in outcome.err:
        return outcome.err[-600:]
    if refused:
        missing = [word for word in refused if word not in outcome.message]
        return f"{missing} are not in: {outcome.message or 'no error'}" if missing or outcome.code != 1 else None
    if outcome.code != 0:
        return outcome.message
    files = sorted((folder / "run").rglob("*.json"))
    bad = [b for file in files for b in not_finite(json.loads(file.read_text(encoding="utf-8")), file.name)]
    return f"not finite: {bad[:5]}" if bad or not (folder / "run" / "metrics.json").is_file() else None


FAST = ("only new items in test", "all labels 0", "a last batch of one row")


@pytest.mark.parametrize("name", [n if n in FAST else pytest.param(n, marks=pytest.mark.slow) for n in CASES])
def test_a_degenerate_log_is_refused_in_words_or_ends_with_finite_figures(tmp_path: Path, name: str):
    assert trouble(tmp_path, name) is None


@pytest.mark.slow
def test_a_user_with_ten_thousand_items_is_one_user_among_others(tmp_path: Path):
    many = 10_000
    heavy = pl.DataFrame(
        {"user_id": [7] * many, "item_id": range(many)}, schema={"user_id": pl.Int64, "item_id": pl.Int64}
    )
    others = rows(600).select("user_id", "item_id").unique(maintain_order=True)
    log = pl.concat([heavy, others.filter(pl.col("user_id") != 7)])
    log = log.with_columns(liked=pl.lit(1.0), t=1_600_000_000 + pl.int_range(pl.len()))
    told = (
        "loss=multinomial",
        "model.profile=rows",
        "loader.batch_size=4",
        "loader.eval_users=8",
        "trainer.max_epochs=1",
    )
    outcome = trained(tmp_path, log, *told, "eval.baselines=[item_knn,most_positive]")
    assert outcome.code == 0, outcome.err[-800:]
    lists = tmp_path / "lists.parquet"
    asked = command("recommend.py", f"run={tmp_path / 'run'}", "n=20000", f"output={lists}")
    assert asked.code == 0, asked.err[-800:]
    lengths = dict(pl.read_parquet(lists).group_by("user_id").len().iter_rows())
    # Test rows alone are left for him; everyone else is offered all that he has not seen.
    assert 0 < lengths[7] < many / 2
    assert all(length > many - 100 for user, length in lengths.items() if user != 7)
