"""What each part of a model is worth: how much worse a model is without it, user by user.

Shape letters: U users, X runs of both settings, S runs of one, M figures.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.bootstrap import ends_of, resampled_means_of_runs
from towerrec.report.correction import TITLES, adjusted
from towerrec.report.groups import averaged, overrides_of, read_tables
from towerrec.report.jobs import FINISHED, Job, read_job
from towerrec.report.paired import LEVEL, paired_table
from towerrec.report.per_user import stacked

FULL = "full model"
TABLES = {"validation": "validation/per_user.parquet", "test": "evaluation/per_user.parquet"}


@dataclass(frozen=True)
class Variant:
    """A model without a part, or the full one.

    Attributes:
        name: Of the part; `FULL`.
        about: What the part is made of.
        runs: Job directories by what tells the repeats apart (`seed=1`; empty where there is one).
    """

    name: str
    about: str
    runs: Mapping[str, Path]


@dataclass(frozen=True)
class Ablation:
    """What came of an ablation.

    Attributes:
        table: A row per part, kind of rows (`on`: validation, test) and figure: `full` and `without` (means), `worth`
            with `low` and `high` (how much better the full model is, 95 % interval over users and, where there are
            several, runs), `wins`, `losses`, `p_value`, `p_adjusted`, `users`, `runs`; parts without a finished run
            have one row, with `status` and `why`.
        order: Parts from the most to the least worth, by the main figure on validation rows; then those without one.
        main: The main figure by kind of rows: what was watched where users have it, else the first NDCG.
        runs: Repeats of the full model.
        notes: What to make of it, sentences.
    """

    table: pl.DataFrame
    order: tuple[str, ...]
    main: Mapping[str, str]
    runs: int
    notes: tuple[str, ...]


def ablation(variants: Sequence[Variant], *, correction: str, num_resamples: int, seed: int) -> Ablation:
    """Compare the full model, the first of `variants`, with each of the others, run by run of the same repeat.

    Args:
        variants: The full model and those without a part.
        correction: Of the p-values, for the number of parts (`correction.CORRECTIONS`).
        num_resamples: Bootstrap resamples of users (and runs) behind each interval, and random flips of the tests.
        seed: Of both.

    Raises:
        ValueError: If no run of the full model finished.
    """
    full, *parts = [(variant, _finished(variant)) for variant in variants]
    if not full[1]:
        raise ValueError(f"the full model did not finish, so there is nothing to compare with: {_why(full[0])}")
    rows: list[pl.DataFrame] = []
    main: dict[str, str] = {}
    for on, name in TABLES.items():
        judged = {repeat: job for repeat, job in full[1].items() if (job.directory / name).is_file()}
        if not judged:  # a log without validation rows
            continue
        shared = [(variant, jobs) for variant, jobs in (full, *parts) if jobs.keys() & judged.keys()]
        tables = {variant.name: _tables(jobs, judged, name) for variant, jobs in shared}
        if len(tables) > 1:
            compared = _compared(tables, num_resamples=num_resamples, seed=seed)
            main[on] = _main(compared, next(iter(judged.values())))
            rows.append(_adjusted(compared, correction).with_columns(on=pl.lit(on)))
    lost = [{"part": v.name, "status": _status(v), "why": _why(v)} for v, jobs in parts if not jobs]
    about = pl.DataFrame({"part": [v.name for v, _ in parts], "about": [v.about for v, _ in parts]})
    done = pl.concat(rows) if rows else pl.DataFrame({"part": []}, schema={"part": pl.String})
    done = done.with_columns(pl.lit(FINISHED).alias("status"), pl.lit("").alias("why"))
    table = pl.concat([done, pl.DataFrame(lost, schema=["part", "status", "why"])], how="diagonal_relaxed")
    table = about.join(table, on="part", how="inner", maintain_order="right")
    order = _order(table, main)
    return Ablation(table, order, main, len(full[1]), _notes(table, order, main, len(full[1]), correction))


def _finished(variant: Variant) -> dict[str, Job]:
    jobs = {repeat: read_job(place, overrides_of(place)) for repeat, place in variant.runs.items()}
    return {repeat: job for repeat, job in jobs.items() if job.status == FINISHED}


def _tables(jobs: Mapping[str, Job], judged: Mapping[str, Job], name: str) -> dict[str, pl.DataFrame]:
    repeats = [repeat for repeat in judged if repeat in jobs]
    return dict(zip(repeats, read_tables([jobs[repeat].directory for repeat in repeats], name), strict=True))


def _compared(tables: Mapping[str, Mapping[str, pl.DataFrame]], *, num_resamples: int, seed: int) -> pl.DataFrame:
    """The full model against each part, over the repeats that both have."""
    full = tables[FULL]
    found = []
    for part, own in tables.items():
        if part == FULL:
            continue
        repeats = list(own)
        both = {FULL: averaged([full[r] for r in repeats]), part: averaged([own[r] for r in repeats])}
        pairs = paired_table(both, [(FULL, part)], correction="none", num_resamples=num_resamples, seed=seed)
        metrics = pairs["metric"].to_list()
        values_UXM = stacked([*(full[r] for r in repeats), *(own[r] for r in repeats)], metrics)
        if len(repeats) > 1:
            # Of every run with the one of the same seed, so that what the seed does to both falls out.
            gap_SUM = (values_UXM[:, : len(repeats)] - values_UXM[:, len(repeats) :]).transpose(1, 0, 2)
            means_RM = resampled_means_of_runs(gap_SUM, num_resamples=num_resamples, seed=seed, repeats=repeats)
            low_M, high_M = ends_of(means_RM)
            pairs = pairs.with_columns(low=pl.Series(low_M), high=pl.Series(high_M))
        level_XM = np.nanmean(values_UXM, axis=0)
        found.append(
            pairs.select(
                pl.lit(part).alias("part"), "metric",
                pl.Series("full", level_XM[: len(repeats)].mean(0)),
                pl.Series("without", level_XM[len(repeats) :].mean(0)),
                pl.col("mean").alias("worth"), "low", "high", "wins", "losses", "p_value", "users",
                pl.lit(len(repeats)).alias("runs"),
            )
        )  # fmt: skip
    return _as_worth(pl.concat(found))


def _as_worth(table: pl.DataFrame) -> pl.DataFrame:
    """Of errors the full model should have less: a part is worth what they rise without it."""
    lower = [name for name in table["metric"].unique() if definition(name).better == "lower"]
    turned = pl.col("metric").is_in(lower)
    return table.with_columns(
        worth=pl.when(turned).then(-pl.col("worth")).otherwise("worth"),
        low=pl.when(turned).then(-pl.col("high")).otherwise("low"),
        high=pl.when(turned).then(-pl.col("low")).otherwise("high"),
    )


def _adjusted(table: pl.DataFrame, correction: str) -> pl.DataFrame:
    """p-values corrected for the number of parts, figure by figure."""
    families = [
        family.with_columns(p_adjusted=pl.Series(adjusted(family["p_value"].to_numpy()[:, None], correction)[:, 0]))
        for _, family in table.group_by("metric", maintain_order=True)
    ]
    return pl.concat(families)


def _main(table: pl.DataFrame, job: Job) -> str:
    known = table["metric"].unique(maintain_order=True).to_list()
    watched = str(job.facts.get("monitor") or "").removeprefix("val/")
    if watched in known:
        return watched
    return next((name for name in known if name.startswith("ndcg@")), str(known[0]))


def _order(table: pl.DataFrame, main: Mapping[str, str]) -> tuple[str, ...]:
    """By validation, which chooses; by the test rows only where nothing was validated."""
    on = "validation" if "validation" in main else "test"
    parts = table["part"].unique(maintain_order=True).to_list()
    worth = {row["part"]: row["worth"] for row in main_rows(table, on, main)} if main else {}
    return tuple(sorted(parts, key=lambda part: -worth.get(part, -np.inf)))


def main_rows(table: pl.DataFrame, on: str, main: Mapping[str, str]) -> list[dict[str, Any]]:
    """The rows of one kind that show the main figure."""
    if on not in main:
        return []
    return table.filter(pl.col("on") == on, pl.col("metric") == main[on]).to_dicts()


def verdict(row: Mapping[str, Any]) -> str:
    """What interval and corrected p-value say of a part, in a word or two."""
    if row["p_adjusted"] > LEVEL or row["low"] <= 0 <= row["high"]:
        return "cannot be told from nothing"
    return "helps" if row["low"] > 0 else "hurts"


def _notes(
    table: pl.DataFrame, order: Sequence[str], main: Mapping[str, str], runs: int, correction: str
) -> tuple[str, ...]:
    on = "validation" if "validation" in main else "test"
    rows = {row["part"]: row for row in main_rows(table, on, main)}
    if not rows:
        return ("No part has a finished run to compare with the full model.",)
    title = definition(main[on]).title
    said = [
        f"What each is worth: by how much {title} on {on} rows is better with it than without it, everything else "
        "as it is. Above 0 it helps, below 0 the model is better off without it."
    ]
    by = {word: [p for p in order if p in rows and verdict(rows[p]) == word] for word in ("helps", "hurts")}
    for word, parts in by.items():
        if parts:
            said.append(f"Interval and p-value say that each of these {word}: {', '.join(parts)}.")
    rest = [part for part in rows if part not in by["helps"] + by["hurts"]]
    if rest:
        said.append(f"Cannot be told from nothing: {', '.join(rest)}.")
    over = f"users and {runs} runs" if runs > 1 else "users; with one run, what another seed would do is not in it"
    said.append(f"Intervals: 95 %, over {over}. p-values are corrected for {len(rows)} parts ({TITLES[correction]}).")
    said.append("Parts are left out one at a time: two that say the same are each worth little beside the other.")
    if on == "validation" and "test" in main:
        said.append("The order is that of the validation rows; the test rows stand beside it and choose nothing.")
    return tuple(said)


def _status(variant: Variant) -> str:
    return next(iter(read_job(place, ()).status for place in variant.runs.values()))


def _why(variant: Variant) -> str:
    reasons = {read_job(place, ()).why: None for place in variant.runs.values()}
    return "; ".join(reasons)
