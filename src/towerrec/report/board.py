"""The board of a sweep: one row per setting, in the order of validation, with intervals, tests, costs and commands.

What is chosen is chosen by validation figures: those of the test stand beside them and order nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import polars as pl

from towerrec.report.board_notes import NO_USERS, notes, status, why
from towerrec.report.correction import TITLES
from towerrec.report.groups import averaged
from towerrec.report.jobs import Job
from towerrec.report.optimism import Optimism, optimism
from towerrec.report.paired import LEVEL, paired_table
from towerrec.report.standings import (
    OF_USERS,
    Deciding,
    Estimate,
    Setting,
    deciding,
    estimates,
    settings_of,
    user_tables,
)

FLOATS = pl.Float64()
ENDS = ("", "_low", "_high", "_low_runs", "_high_runs", "_sd")
"""What a figure has beside its mean: 95 % intervals over users, and over users and runs, and the spread of its runs."""

COLUMNS: dict[str, pl.DataType] = {
    "place": pl.Int64(),
    "setting": pl.String(),
    "status": pl.String(),
    "why": pl.String(),
    "jobs": pl.List(pl.Int64()),
    "runs": pl.Int64(),
    "figure": pl.String(),
    **{f"validation{end}": FLOATS for end in ENDS},
    **dict.fromkeys(("behind", "behind_low", "behind_high", "p_value", "p_adjusted"), FLOATS),
    "clearly_behind": pl.Boolean(),
    "test_figure": pl.String(),
    **{f"test{end}": FLOATS for end in ENDS},
    "seconds": FLOATS,
    "rows_per_second": FLOATS,
    "epochs": FLOATS,
    "parameters": pl.Int64(),
    "peak_memory_bytes": pl.Int64(),
    "peak_device_memory_bytes": pl.Int64(),
    "commands": pl.List(pl.String()),
    "directories": pl.List(pl.String()),
}
"""Columns of every board, also of one whose jobs all failed; behind them stand further test figures, `test/mae`
with the same ends."""


@dataclass(frozen=True)
class Board:
    """A leaderboard.

    Attributes:
        sweep: Directory of the sweep.
        table: A row per setting, best first: `COLUMNS`.
            `place` counts from 1, equal figures share one; settings without a validation figure have none and stand
            last. `behind` is the best setting's validation figure minus this one's (turned where less is better) with
            interval and p-values of the paired test over users; null where runs keep no figures per user. An error of
            all rows is no mean over users: there it is that of each user's own rows.
        notes: What is to be known before anybody believes the order, in sentences.
    """

    sweep: Path
    table: pl.DataFrame
    notes: list[str]


def board(sweep: Path, *, num_resamples: int = 10_000, correction: str = "holm", seed: int = 0) -> Board:
    """Read what the jobs of a sweep left.

    Args:
        sweep: A directory with a numbered directory per job.
        num_resamples: Bootstrap resamples, and flips of the paired tests.
        correction: Of the p-values for the number of settings: `holm`, `benjamini_hochberg` or `none`.
        seed: Of the resamples and flips.
    """
    settings = settings_of(sweep)
    finished = [job for setting in settings for job in setting.finished]
    by = deciding(finished)
    resampling = {"num_resamples": num_resamples, "seed": seed}
    validation = _validation(settings, by, **resampling)
    shown = test_figures(finished, by)
    test = estimates(settings, "test", shown, **resampling)
    ordered = in_order(settings, validation, by)
    gaps, flattery = _gaps(ordered, validation, by, correction=correction, **resampling)
    places = places_of([validation.get(setting.name) for setting in ordered])
    rows = [
        {
            "place": place,
            **_about(setting),
            "figure": None if by is None else by.name,
            **_ends("validation", validation.get(setting.name)),
            **gaps.get(setting.name, {}),
            "test_figure": shown[0] if shown else None,
            **_ends("test", test.get((setting.name, shown[0])) if shown else None),
            **_cost(setting.finished),
        }
        | {
            column: value
            for name in shown[1:]
            for column, value in _ends(f"test/{name}", test.get((setting.name, name))).items()
        }
        for place, setting in zip(places, ordered, strict=True)
    ]
    further = {f"test/{name}{end}": FLOATS for name in shown[1:] for end in ENDS}
    table = pl.DataFrame(rows, schema={**COLUMNS, **further})
    return Board(sweep, table, notes(table, ordered, by, flattery, correction=TITLES[correction]))


def further_figures(table: pl.DataFrame) -> list[str]:
    """Columns of the test figures behind the first: `test/recall@100`."""
    return [name for name in table.columns if name.startswith("test/") and f"{name}_low" in table.columns]


def interval(row: Mapping[str, Any], on: str) -> tuple[float, float] | tuple[None, None]:
    """Ends of the 95 % interval on `validation` or `test`: over users and runs where the row has several."""
    for end in ("_runs", ""):
        if row[f"{on}_low{end}"] is not None:
            return row[f"{on}_low{end}"], row[f"{on}_high{end}"]
    return None, None


def _validation(
    settings: Sequence[Setting], by: Deciding | None, *, num_resamples: int, seed: int
) -> dict[str, Estimate]:
    if by is None:
        return {}
    found = estimates(settings, "val", [by.name], num_resamples=num_resamples, seed=seed)
    return {setting: estimate for (setting, _), estimate in found.items()}


def test_figures(finished: Sequence[Job], by: Deciding | None) -> list[str]:
    """Test figures that are shown: what decides first, NDCG at the cut closest to 20, recall at the largest, and what
    predicted values are judged by where that decides."""
    if not finished:
        return []
    common = [n for n in finished[0].metrics.get("test", {}) if all(n in j.metrics.get("test", {}) for j in finished)]
    cuts = sorted({int(name.split("@")[1]) for name in common if name.startswith("ndcg@")})
    lists = [f"ndcg@{min(cuts, key=lambda k: (abs(k - 20), k))}", f"recall@{cuts[-1]}"] if cuts else []
    values = ["rmse", "mae", "xauc"]
    first = [by.name] if by is not None else []
    wanted = [*first, *values, *lists] if by is not None and by.name in values else [*first, *lists]
    return [name for name in dict.fromkeys(wanted) if name in common]


def in_order(settings: Sequence[Setting], found: Mapping[str, Estimate], by: Deciding | None) -> list[Setting]:
    """Best validation first, equal ones by job; then what finished without a validation figure, then what did not."""

    def key(setting: Setting) -> tuple[int, float, int]:
        first = min(job.number for job in setting.jobs)
        if setting.name in found:
            assert by is not None
            return (0, found[setting.name].mean * (1 if by.lower else -1), first)
        return (1 if setting.finished else 2, 0.0, first)

    return sorted(settings, key=key)


def places_of(found: Sequence[Estimate | None]) -> list[int | None]:
    """Places from 1 of settings in their order; equal figures share one, and what has none gets none."""
    places: list[int | None] = []
    for number, estimate in enumerate(found):
        before = found[number - 1] if number else None
        if estimate is None:
            places.append(None)
        elif before is not None and before.mean == estimate.mean:
            places.append(places[-1])
        else:
            places.append(number + 1)
    return places


def _gaps(
    ordered: Sequence[Setting],
    found: Mapping[str, Estimate],
    by: Deciding | None,
    *,
    correction: str,
    num_resamples: int,
    seed: int,
) -> tuple[dict[str, dict[str, Any]], Optimism | str]:
    """How far each setting is behind the first, by users of validation, and how much the first is flattered.

    Instead of the flattery there is a sentence where it cannot be told.
    """
    placed = [setting for setting in ordered if setting.name in found]
    if by is None or len(placed) < 2:
        return {}, ""
    tested = OF_USERS.get(by.name, by.name)
    tables = {setting.name: user_tables(setting, "val", [tested]) for setting in placed}
    if not all(tables.values()):
        return {}, NO_USERS
    means = {name: averaged(part) for name, part in tables.items()}
    best, *others = [setting.name for setting in placed]
    try:
        pairs = [(best, other) for other in others]
        table = paired_table(means, pairs, [tested], correction=correction, num_resamples=num_resamples, seed=seed)
        flattery = optimism(means, tested, num_resamples=num_resamples, seed=seed)
    except ValueError as error:  # judged on different users: there is no pair
        return {}, f"No paired tests: {error}."
    return {row["second"]: _gap(row, lower=by.lower) for row in table.iter_rows(named=True)}, flattery


def _gap(row: Mapping[str, Any], *, lower: bool) -> dict[str, Any]:
    mean, low, high = (row[end] for end in ("mean", "low", "high"))
    if lower:
        mean, low, high = -mean, -high, -low
    return {
        "behind": mean,
        "behind_low": low,
        "behind_high": high,
        "p_value": row["p_value"],
        "p_adjusted": row["p_adjusted"],
        "clearly_behind": low > 0 and row["p_adjusted"] <= LEVEL,
    }


def _about(setting: Setting) -> dict[str, Any]:
    return {
        "setting": setting.name,
        "status": status(setting),
        "why": why(setting),
        "jobs": [job.number for job in setting.jobs],
        "runs": len(setting.finished),
        "commands": [job.command for job in setting.jobs],
        "directories": [job.directory.name for job in setting.jobs],
    }


def _ends(name: str, estimate: Estimate | None) -> dict[str, float | None]:
    if estimate is None:
        return {}
    fields = {"": estimate.mean, "_low": estimate.low, "_high": estimate.high, "_sd": estimate.sd}
    fields |= {"_low_runs": estimate.low_runs, "_high_runs": estimate.high_runs}
    return {f"{name}{end}": value for end, value in fields.items()}


def _cost(finished: Sequence[Job]) -> dict[str, Any]:
    """Means of time over the runs, and the largest memory of any."""
    facts = [job.facts for job in finished]

    def known(name: str) -> list[Any]:
        return [fact[name] for fact in facts if fact.get(name) is not None]

    return {
        "seconds": _over(fmean, [s for job in finished if (s := job.seconds) is not None]),
        "rows_per_second": _over(fmean, known("rows_per_second")),
        "epochs": _over(fmean, known("epochs")),
        "parameters": _over(max, known("parameters")),
        "peak_memory_bytes": _over(max, known("peak_memory_bytes")),
        "peak_device_memory_bytes": _over(max, known("peak_device_memory_bytes")),
    }


def _over(summary: Any, values: Iterable[Any]) -> Any:
    found = list(values)
    return summary(found) if found else None
