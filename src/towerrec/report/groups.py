"""Runs grouped into settings: those that differ in their repeats only (seed, fold, window) are one setting.

Two intervals stand beside each other. The one over users alone says what these trained models would do for other users
like these: read it for a model that will be used as it was trained. The one over users and runs says what the setting
would do for other users when it is trained once more, with another seed: read it to choose between settings. With one
run there is only the first. With fewer than about five runs the second is still too narrow where the runs differ more
than the users: two or three draws tell little about a spread.

Shape letters: R resamples, S runs of a setting, U users, M figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from towerrec import parquet_pages
from towerrec.reading_back import as_written
from towerrec.report.bootstrap import ends_of, resampled_means, resampled_means_of_runs
from towerrec.report.per_user import Floats, common_figures, num_common_users, stacked
from towerrec.unreadable import UNREADABLE

REPEATS = ("seed", "split.seed", "split.window", "split.test_remainder", "split.val_remainder")
"""Overrides that repeat a setting: they draw other numbers, users or a window of time, and change nothing about it."""


@dataclass(frozen=True)
class Group:
    """A setting and its runs.

    Attributes:
        name: The overrides that tell it from the other settings; where there are none, that of the directory.
        overrides: All of them, without the repeats.
        runs: Run directories.
        repeats: What tells the runs apart, one text per run: `seed=1`; empty where nothing was said.
    """

    name: str
    overrides: tuple[str, ...]
    runs: tuple[Path, ...]
    repeats: tuple[str, ...]


def jobs_of(sweep: Path) -> list[Path]:
    """Directories of the jobs of a sweep, by number."""
    return sorted((p for p in sweep.iterdir() if p.is_dir() and p.name.isdecimal()), key=lambda job: int(job.name))


def overrides_of(run: Path) -> tuple[str, ...]:
    """What the command of a run said, as Hydra wrote it down; nothing where it did not.

    Raises:
        ValueError: The file is damaged.
    """
    import yaml  # comes with Hydra; not needed to start a command

    path = run / ".hydra" / "overrides.yaml"
    if not path.is_file():
        return ()
    with as_written(path, remedy="copy the run directory anew, or leave it out", also=(yaml.YAMLError,)):
        return tuple(str(word) for word in list(yaml.safe_load(path.read_text(encoding="utf-8")) or []))


def group_runs(runs: Sequence[Path]) -> list[Group]:
    """Runs of any directories as settings, in the order of their first runs; the runs of each by their repeats.

    Runs are of one setting if the same overrides, in any order and without those of `REPEATS`, made them.
    """
    found: dict[frozenset[str], list[tuple[tuple[str, ...], Path]]] = {}
    first: dict[frozenset[str], tuple[str, ...]] = {}
    for run in runs:
        words = overrides_of(run)
        kept = tuple(word for word in words if not _is_repeat(word))
        first.setdefault(frozenset(kept), kept)
        found.setdefault(frozenset(kept), []).append((tuple(filter(_is_repeat, words)), run))
    everywhere = frozenset.intersection(*first) if first else frozenset()
    groups = []
    for key, members in found.items():
        ordered = sorted(members, key=lambda member: [_sortable(word) for word in member[0]])
        name = " ".join(word for word in first[key] if word not in everywhere) or members[0][1].name
        repeats = tuple(" ".join(sorted(words)) for words, _ in ordered)
        groups.append(Group(name, first[key], tuple(run for _, run in ordered), repeats))
    return groups


def read_tables(runs: Sequence[Path], name: str = "evaluation/per_user.parquet") -> list[pl.DataFrame]:
    """One per-user table per run.

    Raises:
        ValueError: If a run has none.
    """
    for run in runs:
        if not (run / name).is_file():
            raise ValueError(f"{run} has no {name}: it was not finished, or by an older towerrec; train it again")
    return [_table(run / name) for run in runs]


def _table(path: Path) -> pl.DataFrame:
    with as_written(path, remedy="judge the run again", also=UNREADABLE):
        parquet_pages.check(path)
        return pl.read_parquet(path, glob=False)


def averaged(tables: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """One per-user table of a setting: every user's mean over the runs that judged the user, counted in `runs`.

    Where all runs judge the same users (seeds) that is the mean over the seeds. Where they judge different ones (folds,
    windows, cold users by another seed) all users are joined, and each counts once.
    """
    key = "user_id" if all("user_id" in table.columns for table in tables) else "user_idx"
    names = common_figures(tables)
    parts = [table.select(key, *(pl.col(name).cast(pl.Float64).fill_nan(None) for name in names)) for table in tables]
    return (
        pl.concat(parts)
        .group_by(key, maintain_order=True)
        .agg(pl.len().alias("runs"), *(pl.col(name).mean() for name in names))
    )


def summarise_groups(
    settings: Mapping[str, Sequence[pl.DataFrame]],
    *,
    repeats: Mapping[str, Sequence[str]] | None = None,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> pl.DataFrame:
    """A row per setting and figure, for the figures that all its runs have.

    Columns: `system`, `metric`, `mean` (over users, of each user's mean over the runs), `low` and `high` (95 % interval
    over users), `low_runs` and `high_runs` (over users and runs, `bootstrap.resampled_means_of_runs`; null with one
    run), `sd` (of the runs' own means, with S - 1; null with one run), `runs`, `users` (with the figure in any run) and
    `common_users` (judged in every run).

    Args:
        settings: Per-user tables of the runs of every setting.
        repeats: What tells its runs apart, as in `Group`; settings with the same repeats draw the same runs.
        num_resamples: Bootstrap resamples.
        seed: Of the resamples.
    """
    parts = []
    for name, tables in settings.items():
        metrics = common_figures(tables)
        values_SUM = stacked(tables, metrics, users="all").transpose(1, 0, 2)
        mean_UM = _mean_over_runs(values_SUM)
        kept_M = (~np.isnan(mean_UM)).sum(0) > 0
        metrics = [metric for metric, kept in zip(metrics, kept_M, strict=True) if kept]
        values_SUM, mean_UM = values_SUM[..., kept_M], mean_UM[:, kept_M]
        low, high = ends_of(resampled_means(mean_UM, num_resamples=num_resamples, seed=seed))
        columns: dict[str, Any] = {"mean": np.nanmean(mean_UM, axis=0), "low": low, "high": high}
        labels = list(repeats[name]) if repeats is not None else []
        columns |= _over_runs(values_SUM, labels, num_resamples=num_resamples, seed=seed)
        parts.append(
            pl.DataFrame({"metric": metrics, **columns, "users": (~np.isnan(mean_UM)).sum(0)}).select(
                pl.lit(name).alias("system"),
                pl.exclude("users"),
                pl.lit(len(tables), pl.Int64).alias("runs"),
                "users",
                pl.lit(num_common_users(tables), pl.Int64).alias("common_users"),
            )
        )
    return pl.concat(parts)


def _over_runs(values_SUM: Floats, labels: Sequence[str], *, num_resamples: int, seed: int) -> dict[str, Any]:
    """Interval over users and runs, and spread of the runs' means, [M] each; nulls where there is one run."""
    num_runs, _, num_figures = values_SUM.shape
    if num_runs == 1:
        none = pl.Series([None] * num_figures, dtype=pl.Float64)
        return {"low_runs": none, "high_runs": none, "sd": none}
    means = resampled_means_of_runs(values_SUM, num_resamples=num_resamples, seed=seed, repeats=labels)
    low, high = ends_of(means)
    counts_SM = (~np.isnan(values_SUM)).sum(1)
    mean_SM = np.where(counts_SM, np.nansum(values_SUM, axis=1) / np.maximum(counts_SM, 1), np.nan)
    return {"low_runs": low, "high_runs": high, "sd": np.nanstd(mean_SM, axis=0, ddof=1)}


def _mean_over_runs(values_SUM: Floats) -> Floats:
    counts_UM = (~np.isnan(values_SUM)).sum(0)
    return np.where(counts_UM, np.nansum(values_SUM, axis=0) / np.maximum(counts_UM, 1), np.nan)


def _is_repeat(word: str) -> bool:
    return word.partition("=")[0].lstrip("+~") in REPEATS


def _sortable(word: str) -> tuple[str, int, str]:
    """`seed=2` before `seed=10`."""
    key, _, value = word.partition("=")
    return key, int(value) if value.isdigit() else -1, value
