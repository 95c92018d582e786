"""What is to be known before anybody believes the order of a leaderboard, in computed sentences."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import Any

import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.jobs import FINISHED, Job
from towerrec.report.optimism import Optimism
from towerrec.report.standings import OF_USERS, Deciding, Setting, readable

NO_USERS = (
    "No paired tests: the figure that decides is not kept per user, so only the intervals tell settings apart, and "
    "they are wider than those of differences would be."
)
RULES = {"candidates": "candidates", "positive": "positives", "split": "judged rows"}

_AS_FAST = 0.8
"""Seconds of the fastest by those of the best: above it a clock says nothing."""


def status(setting: Setting) -> str:
    """How the jobs of a setting ended, in few words."""
    ends = Counter(job.status for job in setting.jobs)
    if len(ends) == 1:
        return next(iter(ends))
    if ends[FINISHED]:
        return f"{ends[FINISHED]} of {len(setting.jobs)} finished"
    return ", ".join(f"{number} {end}" for end, number in sorted(ends.items()))


def why(setting: Setting) -> str:
    """Why its jobs did not finish, each reason once; empty where all did."""
    reasons: dict[str, list[str]] = {}
    for job in setting.jobs:
        if job.status != FINISHED:
            reasons.setdefault(f"{job.status}: {job.why}", []).append(str(job.number))
    return "; ".join(f"job{'s' * (len(n) > 1)} {', '.join(n)} {reason}" for reason, n in reasons.items())


def notes(
    table: pl.DataFrame, settings: Sequence[Setting], by: Deciding | None, flattery: Optimism | str, *, correction: str
) -> list[str]:
    """The sentences below a board.

    Args:
        table: Its rows.
        settings: The settings, in the same order.
        by: What orders them.
        flattery: How much the choice flatters the best, or why that cannot be told (empty: nothing was chosen).
        correction: Of the p-values, as people write it.
    """
    finished = [job for setting in settings for job in setting.finished]
    said = [*_order(table, by), *_shared(settings), *_rules(finished)]
    if isinstance(flattery, Optimism):
        said += [_told_apart(table, correction), _flattery(flattery)]
    elif flattery:
        said.append(flattery)
    return [*said, *_intervals(table), *_unfinished(settings)]


def _order(table: pl.DataFrame, by: Deciding | None) -> list[str]:
    if by is None:
        some = "no job finished" if table["runs"].sum() == 0 else "no run has validation rows"
        return [f"In the order of the jobs: {some}, so nothing can be chosen. Test figures choose nothing."]
    better = "less is better" if by.lower else "more is better"
    said = [f"Ordered by the validation figure {by.title} ({better}). Test figures had no part in the order."]
    if by.name in OF_USERS and table["p_value"].is_not_null().any():
        said.append(f"Compared user by user in {definition(OF_USERS[by.name]).title}: {by.title} is one of all rows.")
    if by.note:
        said.append(by.note)
    if table["place"].drop_nulls().is_duplicated().any():
        said.append("Settings with the same figure share a place and stand in the order of their jobs.")
    without = table.filter(pl.col("place").is_null(), pl.col("runs") > 0).height
    if without:
        said.append(
            f"{_settings(without)} finished without a validation figure: no place, whatever the test figures say."
        )
    return said


def _shared(settings: Sequence[Setting]) -> list[str]:
    """What the names of the settings leave out."""
    if len(settings) < 2:
        return []
    first, *others = (setting.overrides for setting in settings)
    shared = [word for word in first if all(word in words for words in others)]
    return [f"Every job also said {readable(' '.join(shared))}."] if shared else []


def _rules(finished: Sequence[Job]) -> list[str]:
    """A warning where figures of different rows or rules stand in one column."""
    found: list[dict[str, Any]] = []
    for job in finished:
        path = job.directory / "evaluation" / "comparison.json"
        if path.is_file():
            found.append(json.loads(path.read_text(encoding="utf-8")).get("protocol", {}))
    said = []
    for key, words in RULES.items():
        values = sorted({str(rules[key]) for rules in found if key in rules})
        if len(values) > 1:
            said.append(f"Not comparable from row to row: the jobs differ in {words} ({', '.join(values)}).")
    return said


def _told_apart(table: pl.DataFrame, correction: str) -> str:
    others = table.filter(pl.col("clearly_behind").is_not_null())
    same = others.filter(~pl.col("clearly_behind"))
    test = f"paired sign flips over validation users, {_comparisons(others.height)}, {correction}"
    if same.is_empty():
        return f"The best is better than every other setting by more than chance ({test})."
    best = table.row(0, named=True)
    alike = pl.concat([table.head(1), same])
    start = f"{_settings(same.height)} of {others.height} cannot be told apart from the best (marked ≈; {test})"
    cheapest = alike.filter(pl.col("seconds").is_not_null()).sort("seconds", maintain_order=True).head(1)
    if cheapest.is_empty() or cheapest["setting"][0] == best["setting"]:
        return f"{start}; the best is also the one of them that trained fastest."
    name, seconds = readable(cheapest["setting"][0]), cheapest["seconds"][0]
    if best["seconds"] is not None and seconds > _AS_FAST * best["seconds"]:
        return f"{start}; none of them trained much faster than it."
    return f"{start}; of them, {name} trained fastest ({seconds:,.0f} s beside {best['seconds']:,.0f} s)."


def _flattery(found: Optimism) -> str:
    share = found.chosen_share.get(found.chosen, 0.0)
    title = definition(found.metric).title
    elsewhere = f"{title} {found.corrected:.4f} ({found.low:.4f} to {found.high:.4f})"
    sure = f"other users would have chosen it {share:.0%} of the time"
    if found.optimism <= 0:
        return (
            f"Choosing the best of {found.settings} settings flatters by nothing that the {found.users} users of "
            f"validation show: chosen and judged by different users it has about {elsewhere}; {sure}."
        )
    return (
        f"Selection flatters: the best of {found.settings} settings was chosen by the {found.users} users whose figure "
        f"it shows. Chosen and judged by different users it would have about {elsewhere} instead of "
        f"{found.observed:.4f}; {sure}. Its test figure is free of that."
    )


def _intervals(table: pl.DataFrame) -> list[str]:
    if table["validation_low"].is_null().all() and table["test_low"].is_null().all():
        return []
    several = table["test_low_runs"].is_not_null().any() or table["validation_low_runs"].is_not_null().any()
    over = "over users and runs where a setting has several, else over users" if several else "over users"
    return [f"Intervals hold 95 %, {over}."]


def _unfinished(settings: Sequence[Setting]) -> list[str]:
    jobs = [job for setting in settings for job in setting.jobs]
    missing = sum(job.status != FINISHED for job in jobs)
    if not missing:
        return []
    said = f"{missing} of {len(jobs)} jobs did not finish"
    return [f"{said}; means and intervals are those of the runs that did." if missing < len(jobs) else f"{said}."]


def _settings(number: int) -> str:
    return "1 setting" if number == 1 else f"{number} settings"


def _comparisons(number: int) -> str:
    return "1 comparison" if number == 1 else f"{number} comparisons"
