"""How the settings of a sweep stand: figures with intervals over users and over runs, and what orders them."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

import polars as pl

from towerrec.metrics.definitions import DEFINITIONS, definition
from towerrec.report.groups import Group, group_runs, jobs_of, overrides_of, read_tables, summarise_groups
from towerrec.report.jobs import FINISHED, Job, read_job
from towerrec.report.per_user import KEYS

PER_USER = {"val": "validation/per_user.parquet", "test": "evaluation/per_user.parquet"}
"""Where a run keeps the figures of every user."""

OF_USERS = {"rmse": "user_rmse", "mae": "user_mae"}
"""What settings are compared by, user by user, where the figure that decides is one of all rows."""

LOSS = "loss"
AS_GIVEN = "as given"


@dataclass(frozen=True)
class Setting:
    """What was tried, with its repeats.

    Attributes:
        name: The overrides that tell it from the other settings.
        overrides: All of them, without those of the repeats.
        repeats: What tells its jobs apart, one text per job: `seed=1`.
        jobs: Its jobs, by number.
    """

    name: str
    overrides: tuple[str, ...]
    repeats: tuple[str, ...]
    jobs: tuple[Job, ...]

    @property
    def finished(self) -> list[Job]:
        return [job for job in self.jobs if job.status == FINISHED]


@dataclass(frozen=True)
class Deciding:
    """The validation figure that orders the settings.

    Attributes:
        name: As files name it: `ndcg@20`, `rmse`, or `loss` itself.
        lower: Whether less is better.
        note: Why it is this one, where that needs words.
    """

    name: str
    lower: bool
    note: str = ""

    @property
    def title(self) -> str:
        return "loss" if self.name == LOSS else definition(self.name).title


@dataclass(frozen=True)
class Estimate:
    """A figure of a setting: the mean over its runs.

    Attributes:
        mean: Over users and runs.
        low, high: 95 % interval over users.
        low_runs, high_runs: The same over users and runs, where there are several.
        sd: Standard deviation of the runs' means.
    """

    mean: float
    low: float | None = None
    high: float | None = None
    low_runs: float | None = None
    high_runs: float | None = None
    sd: float | None = None


def settings_of(sweep: Path) -> list[Setting]:
    """The jobs of a sweep, grouped by setting, in the order of their first jobs."""
    jobs = {directory: read_job(directory, overrides_of(directory)) for directory in jobs_of(sweep)}
    groups = group_runs(list(jobs))
    names = [_name(group, alone=len(groups) == 1) for group in groups]
    return [
        Setting(name, group.overrides, group.repeats, tuple(jobs[run] for run in group.runs))
        for name, group in zip(names, groups, strict=True)
    ]


def _name(group: Group, *, alone: bool) -> str:
    """A name in words for a setting that nothing tells from the others: the only one, or what the others change."""
    if alone:
        return " ".join(group.overrides) or AS_GIVEN
    return AS_GIVEN if group.name == group.runs[0].name else group.name


def readable(words: str) -> str:
    """Overrides as people read them: numbers with four significant digits (`optimizer.lr=0.002742`)."""

    def shorter(number: re.Match[str]) -> str:
        digits = re.sub(r"[eE].*|\D", "", number[0]).lstrip("0")
        return f"{float(number[0]):.4g}" if len(digits) > 4 else number[0]

    return re.sub(r"(?<=[=,\[])-?\d+\.\d+(?:[eE][-+]?\d+)?(?=$|[,\] ])", shorter, words)


def deciding(jobs: Sequence[Job]) -> Deciding | None:
    """What orders the settings: the validation figure that all finished jobs watched in training.

    Where they watched different figures, or losses that are not the same, it is NDCG at the cut closest to 20, or else
    the first figure that all have; None where no job has validation figures.
    """
    validated = [job for job in jobs if job.metrics.get("val")]
    if not validated:
        return None
    watched = {str(job.facts.get("monitor") or "").removeprefix("val/") for job in validated}
    name = watched.pop() if len(watched) == 1 else None
    if name == LOSS and len({job.facts.get("loss") for job in validated}) == 1 and _all_have(validated, "monitored"):
        return Deciding(LOSS, lower=validated[0].facts.get("mode", "min") == "min")
    common = [n for n in validated[0].metrics["val"] if all(n in job.metrics["val"] for job in validated)]
    if name in common and name is not None:
        return Deciding(name, _is_lower(name))
    instead = _main(common)
    if instead is None:
        return None
    reasons = {None: "the jobs watched different figures in training", LOSS: "the jobs minimised different losses"}
    why = reasons.get(name, f"the watched {name} is not among the judged figures (eval.ks)")
    return Deciding(instead, _is_lower(instead), note=f"Ordered by {definition(instead).title}: {why}.")


def estimates(
    settings: Sequence[Setting], on: str, names: Sequence[str], *, num_resamples: int, seed: int
) -> dict[tuple[str, str], Estimate]:
    """Every figure of every setting that has it, by (setting, figure).

    Figures of users are averaged over the runs user by user and resampled; those that only a run's `metrics.json` has
    (errors of all rows, or a run without per-user tables) take its interval.
    """
    found = {}
    for setting in settings:
        for name in names:
            estimate = of_summaries(setting.finished, on, name)
            if estimate is not None:
                found[setting.name, name] = estimate
        found |= _of_users(setting, on, names, num_resamples=num_resamples, seed=seed)
    return found


def of_summaries(jobs: Sequence[Job], on: str, name: str) -> Estimate | None:
    """A figure from what the runs say of it: means of their means and of the ends of their intervals.

    All runs are judged on the same users, so averaging them makes the interval over users no smaller. The variance of
    the mean of S runs, sd² / S, is added for that over users and runs.
    """
    if name == LOSS:
        values = [float(job.facts["monitored"]) for job in jobs if on == "val" and "monitored" in job.facts]
        ends: list[Any] = []
    else:
        figures = [job.metrics[on][name] for job in jobs if name in job.metrics.get(on, {})]
        values = [float(figure["mean"]) for figure in figures]
        ends = [figure for figure in figures if figure.get("low") is not None]
    if not values:
        return None
    mean = fmean(values)
    sd = stdev(values) if len(values) > 1 else None
    if len(ends) < len(values):
        return Estimate(mean, sd=sd)
    low, high = fmean(end["low"] for end in ends), fmean(end["high"] for end in ends)
    if sd is None:
        return Estimate(mean, low, high)
    runs = 1.96 * sd / math.sqrt(len(values))
    return Estimate(mean, low, high, mean - math.hypot(mean - low, runs), mean + math.hypot(high - mean, runs), sd)


def user_tables(setting: Setting, on: str, names: Sequence[str]) -> list[pl.DataFrame]:
    """The per-user tables of a setting's runs with those of the figures that all have; none where one has no table."""
    runs = [job.directory for job in setting.finished]
    if not runs or not all((run / PER_USER[on]).is_file() for run in runs):
        return []
    tables = read_tables(runs, PER_USER[on])
    shared = [name for name in names if all(name in table.columns for table in tables)]
    if not shared:
        return []
    return [table.select(*(key for key in KEYS if key in table.columns), *shared) for table in tables]


def _of_users(
    setting: Setting, on: str, names: Sequence[str], *, num_resamples: int, seed: int
) -> dict[tuple[str, str], Estimate]:
    tables = user_tables(setting, on, names)
    if not tables:
        return {}
    finished = [repeat for job, repeat in zip(setting.jobs, setting.repeats, strict=True) if job.status == FINISHED]
    summary = summarise_groups(
        {setting.name: tables}, repeats={setting.name: finished}, num_resamples=num_resamples, seed=seed
    )
    fields = list(Estimate.__dataclass_fields__)
    return {
        (setting.name, row["metric"]): Estimate(**{field: row[field] for field in fields})
        for row in summary.iter_rows(named=True)
    }


def _main(names: Sequence[str]) -> str | None:
    """The figure to order by where none was agreed on."""
    cuts = [int(name.split("@")[1]) for name in names if name.startswith("ndcg@")]
    if cuts:
        return f"ndcg@{min(cuts, key=lambda k: (abs(k - 20), k))}"
    return next((n for n in names if _is_known(n) and definition(n).better is not None), None)


def _is_lower(name: str) -> bool:
    return _is_known(name) and definition(name).better == "lower"


def _is_known(name: str) -> bool:
    return name.partition("@")[0] in DEFINITIONS


def _all_have(jobs: Sequence[Job], fact: str) -> bool:
    return all(job.facts.get(fact) is not None for job in jobs)
