"""Settings, runs and other judgements beside each other: summaries, paired differences, seeds.

Shape letters: R resamples, U users, S runs of one contender, M figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import numpy as np
import polars as pl

from towerrec.report.bootstrap import ends_of, resampled_means_of_runs
from towerrec.report.by_group import by_group
from towerrec.report.groups import averaged, summarise_groups
from towerrec.report.interpret import main_metric
from towerrec.report.judge import Summary
from towerrec.report.paired import Pair, against_the_first, all_pairs, paired_table
from towerrec.report.per_user import Floats, stacked, values_of

AGAINST = {"first": against_the_first, "all": all_pairs}
"""Which pairs are compared."""


@dataclass(frozen=True)
class Contender:
    """What is compared: a setting with its runs, a single run, or a judgement of anything else.

    Attributes:
        name: Its name in all tables.
        places: Directories of its runs.
        repeats: What tells the runs apart, as in `groups.Group`.
        tables: Per-user table of every run.
    """

    name: str
    places: tuple[str, ...]
    repeats: tuple[str, ...]
    tables: tuple[pl.DataFrame, ...]


@dataclass(frozen=True)
class Comparison:
    """What a comparison found, in plain frames.

    Attributes:
        metric: The main figure, `ndcg@20`.
        systems: A row per system and figure: `kind` (`compared`; `baseline` and `bound` are judgements that stood
            beside the first one) and the columns of `groups.summarise_groups`.
        paired: A row per pair and figure: the columns of `paired.paired_table`, and `low_runs` and `high_runs`, the
            interval of the difference over users and runs, null where one of the two has a single run.
        runs: A row per run and figure: `system`, `run`, `repeat`, `metric`, `mean`.
        taste: Each of the compared beside the bounds on the main figure, columns of `paired.paired_table`: what is
            above the best list for everybody is taste, what is below it popularity. None without a bound.
        groups: The differences of the main figure within groups of users (`by_group.by_group`); None without groups.
        optimism: A row per sweep: `sweep` and the fields of `optimism.Optimism` without the shares; None without one.
        rules: How all of them were judged.
        places: Directories of every system that was compared.
        against: `first` or `all`.
    """

    metric: str
    systems: pl.DataFrame
    paired: pl.DataFrame
    runs: pl.DataFrame
    taste: pl.DataFrame | None = None
    groups: pl.DataFrame | None = None
    optimism: pl.DataFrame | None = None
    rules: Mapping[str, Any] = field(default_factory=dict)
    places: Mapping[str, Sequence[str]] = field(default_factory=dict)
    against: str = "first"


def compare(
    contenders: Sequence[Contender],
    *,
    against: str = "first",
    correction: str = "holm",
    num_resamples: int = 10_000,
    seed: int = 0,
    beside: Mapping[str, Summary] | None = None,
    bounds: Mapping[str, pl.DataFrame] | None = None,
    members: pl.DataFrame | None = None,
    optimism: pl.DataFrame | None = None,
    rules: Mapping[str, Any] | None = None,
) -> Comparison:
    """Compare two contenders or more, user by user; each is the mean over its runs.

    Args:
        contenders: Judged by the same rules, with names of their own.
        against: `first` compares the first with each of the others, `all` each with each.
        correction: Of p-values (`correction.adjusted`); a family are all pairs on one figure.
        num_resamples: Bootstrap resamples and random flips.
        seed: Of both.
        beside: Summaries of systems that stand beside them without being compared.
        bounds: Per-user tables of those of them that read the judged rows.
        members: Groups of the users (`by_group.members`), to compare within.
        optimism: For `Comparison`.
        rules: For `Comparison`.

    Raises:
        ValueError: If the contenders share no figure or no user.
    """
    bounds = bounds or {}
    names = [contender.name for contender in contenders]
    pairs = AGAINST[against](names)
    tables = {contender.name: averaged(contender.tables) for contender in contenders}
    tested = partial(paired_table, correction=correction, num_resamples=num_resamples, seed=seed)
    paired = tested(tables, pairs)
    metrics = paired["metric"].unique(maintain_order=True).to_list()
    over_runs = _over_runs(contenders, pairs, metrics, num_resamples=num_resamples, seed=seed)
    paired = paired.join(over_runs, on=["first", "second", "metric"], how="left", maintain_order="left")
    summary = summarise_groups(
        {contender.name: contender.tables for contender in contenders},
        repeats={contender.name: contender.repeats for contender in contenders},
        num_resamples=num_resamples,
        seed=seed,
    ).filter(pl.col("metric").is_in(metrics))
    others = [_as_rows(name, figures, name in bounds, metrics) for name, figures in (beside or {}).items()]
    main, taste = main_metric(metrics), None
    if bounds:
        beside_bound = [(name, bound) for name in names for bound in bounds]
        taste = tested({**tables, **bounds}, beside_bound, [main])
    ours = summary.select("system", pl.lit("compared").alias("kind"), pl.exclude("system"))
    return Comparison(
        metric=main,
        systems=pl.concat([ours, *others], how="diagonal_relaxed"),
        paired=paired.select(*_FIRST, pl.exclude(_FIRST)),
        runs=_runs(contenders, metrics),
        taste=taste,
        groups=None
        if members is None
        else by_group(tables, pairs, members, main, correction=correction, num_resamples=num_resamples, seed=seed),
        optimism=optimism,
        rules=rules or {},
        places={contender.name: contender.places for contender in contenders},
        against=against,
    )


_FIRST = ("first", "second", "metric", "mean", "low", "high", "low_runs", "high_runs")


def _over_runs(
    contenders: Sequence[Contender], pairs: Sequence[Pair], metrics: Sequence[str], *, num_resamples: int, seed: int
) -> pl.DataFrame:
    """Intervals of the differences over users and runs, for pairs that both have several runs."""
    values = _values(contenders, metrics)
    means: dict[str, Floats] = {
        contender.name: resampled_means_of_runs(
            values[contender.name], num_resamples=num_resamples, seed=seed, repeats=contender.repeats
        )
        for contender in contenders
        if len(contender.tables) > 1
    }
    parts = []
    for first, second in pairs:
        if first in means and second in means:
            low, high = ends_of(means[first] - means[second])
            columns = {"metric": list(metrics), "low_runs": low, "high_runs": high}
            parts.append(pl.DataFrame(columns).with_columns(first=pl.lit(first), second=pl.lit(second)))
    text, number = pl.String(), pl.Float64()
    empty = pl.DataFrame(
        schema={"metric": text, "low_runs": number, "high_runs": number, "first": text, "second": text}
    )
    return pl.concat([empty, *parts])


def _values(contenders: Sequence[Contender], metrics: Sequence[str]) -> dict[str, Floats]:
    """Figures [S, U, M] of every contender, of the same users in the same order; NaN for users that one of them lacks,
    so that all draw the same users and count the same ones."""
    values_USM = stacked([table for contender in contenders for table in contender.tables], metrics, users="all")
    ends = np.cumsum([len(contender.tables) for contender in contenders])
    parts = np.split(values_USM, ends[:-1], axis=1)
    lacking_UM = np.any([np.isnan(part).all(axis=1) for part in parts], axis=0)
    return {
        contender.name: np.where(lacking_UM[:, None], np.nan, part).transpose(1, 0, 2)
        for contender, part in zip(contenders, parts, strict=True)
    }


def _runs(contenders: Sequence[Contender], metrics: Sequence[str]) -> pl.DataFrame:
    """Mean of every run on every figure."""
    return pl.concat(
        pl.DataFrame({"metric": list(metrics), "mean": np.nanmean(values_of(table, metrics), axis=0)}).select(
            pl.lit(contender.name).alias("system"),
            pl.lit(place).alias("run"),
            pl.lit(repeat).alias("repeat"),
            "metric",
            "mean",
        )
        for contender in contenders
        for place, repeat, table in zip(contender.places, contender.repeats, contender.tables, strict=True)
    )


def _as_rows(name: str, summary: Summary, is_bound: bool, metrics: Sequence[str]) -> pl.DataFrame:
    figures = {metric: summary[metric] for metric in metrics if metric in summary}
    return pl.DataFrame(
        {
            "system": [name] * len(figures),
            "kind": ["bound" if is_bound else "baseline"] * len(figures),
            "metric": list(figures),
            **{key: [float(figure[key]) for figure in figures.values()] for key in ("mean", "low", "high")},
            "runs": [1] * len(figures),
            "users": [figure["users"] for figure in figures.values()],
        }
    )
