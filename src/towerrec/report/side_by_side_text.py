"""A comparison in words and tables: for the terminal, for Markdown, for the page."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.correction import TITLES
from towerrec.report.paired import Difference, difference
from towerrec.report.side_by_side import Comparison
from towerrec.report.text import aligned
from towerrec.wording import in_markdown, one_line

_FORMS = ("ndcg", "recall", "map")


def sentences(comparison: Comparison) -> list[str]:
    """What the figures say, the main one first."""
    metric, title = comparison.metric, definition(comparison.metric).title
    rows = comparison.systems.filter(pl.col("metric") == metric)
    ours = rows.filter(pl.col("kind") == "compared").sort("mean", descending=True, maintain_order=True)
    best = ours.row(0, named=True)
    said = [
        f"{best['system']} has the highest {title} of the {ours.height} compared: {best['mean']:.4f} "
        f"({best['low']:.4f} to {best['high']:.4f} over {best['users']:,} users)."
    ]
    said += [_pair(comparison, pair, title) for pair in _pairs_of(comparison, best["system"])]
    said += [_seeds(row, title) for row in ours.filter(pl.col("runs") > 1).iter_rows(named=True)]
    joined = ours.filter(pl.col("common_users") < pl.col("users"))
    for (users, common), rows_alike in joined.group_by("users", "common_users", maintain_order=True):
        names = ", ".join(rows_alike["system"])
        said.append(
            f"The runs of {names} judge different users: {users:,} in all, {common:,} of them in every run; each user "
            "counts once, by the mean over the runs that judged them."
        )
    for bound in rows.filter(pl.col("kind") == "bound").iter_rows(named=True):
        said.append(f"The best single list for everybody, known only in hindsight, reaches {bound['mean']:.4f}.")
        said += [_taste(comparison, name, bound["system"]) for name in ours["system"]]
    if comparison.optimism is not None:
        said += [_optimism(row) for row in comparison.optimism.iter_rows(named=True)]
    return said


def text(comparison: Comparison) -> str:
    """Tables and sentences for a terminal."""
    parts = [*aligned(_systems(comparison)), ""]
    for first, second in _pairs(comparison):
        users = difference(comparison.paired, first, second, comparison.metric).users
        title = one_line(f"{first} against {second} ({users:,} users)")
        parts += [title, *aligned(_differences(comparison, first, second)), ""]
    return "\n".join([*parts, *(f"- {one_line(sentence)}" for sentence in sentences(comparison))])


def markdown(comparison: Comparison) -> str:
    """The same as Markdown."""
    parts = [
        "# Comparison",
        "",
        *(f"- {in_markdown(sentence)}" for sentence in sentences(comparison)),
        "",
        "## Figures",
        "",
    ]
    parts += _markdown_table(_systems(comparison))
    for first, second in _pairs(comparison):
        parts += [
            "",
            f"## {in_markdown(first)} against {in_markdown(second)}",
            "",
            *_markdown_table(_differences(comparison, first, second)),
        ]
    parts += ["", "## Directories", ""]
    parts += [f"- {in_markdown(name)}: {in_markdown(', '.join(places))}" for name, places in comparison.places.items()]
    return "\n".join(parts) + "\n"


def _pair(comparison: Comparison, pair: tuple[str, str], title: str) -> str:
    gap = difference(comparison.paired, *pair, comparison.metric)
    first, second = pair
    if not gap.is_clear:
        return f"{first} cannot be told from {second} on {title} ({gap.words}){_with_runs(comparison, pair)}."
    verdict = "better" if gap.mean > 0 else "worse"
    return (
        f"{first} is {verdict} than {second} by {abs(gap.mean):.4f} in {title}, which is more than chance for these "
        f"runs ({gap.words}), with {gap.wins:.0%} of the users better off and {gap.losses:.0%} worse"
        f"{_with_runs(comparison, pair)}."
    )


def _with_runs(comparison: Comparison, pair: tuple[str, str]) -> str:
    row = _row(comparison, pair)
    if row["low_runs"] is None:
        return ""
    clear = row["low_runs"] > 0 or row["high_runs"] < 0
    return (
        f"; over users and runs, as another training would have it, the difference lies between "
        f"{row['low_runs']:+.4f} and {row['high_runs']:+.4f}, {'still clear of 0' if clear else 'which holds 0'}"
    )


def _taste(comparison: Comparison, name: str, bound: str) -> str:
    assert comparison.taste is not None, "a bound is shown with its paired test"
    gap = difference(comparison.taste, name, bound, comparison.metric)
    if not gap.is_clear:
        return f"{name} cannot be told from that list ({gap.words}): taste is neither shown nor ruled out."
    if gap.mean > 0:
        return f"{name} passes that list ({gap.words}): what it has above it is taste."
    return f"{name} stays below that list ({gap.words}): knowing what is popular alone would explain its figure."


def _seeds(row: dict[str, Any], title: str) -> str:
    few = " (few runs: read it as a lower bound of the doubt)" if row["runs"] < 5 else ""
    return (
        f"{row['system']}: {row['runs']} runs, whose {title} has a standard deviation of {row['sd']:.4f}; its interval "
        f"over users is {row['low']:.4f} to {row['high']:.4f}, over users and runs {row['low_runs']:.4f} to "
        f"{row['high_runs']:.4f}{few}."
    )


def _optimism(row: dict[str, Any]) -> str:
    title = definition(row["metric"]).title
    looks = (
        "The best of several looks better than it is: on" if row["optimism"] > 0 else "The choice was not flattered: on"
    )
    return (
        f"Of the {row['settings']} settings of {row['sweep']} validation chooses {row['chosen']} ({title} "
        f"{row['observed']:.4f} there). {looks} users that did not choose, "
        f"such a choice reaches {row['corrected']:.4f} ({row['low']:.4f} to {row['high']:.4f}), an optimism of "
        f"{row['optimism']:.4f}."
    )


def _systems(comparison: Comparison) -> list[list[str]]:
    """A row per system, the compared ones first, a column per shown figure."""
    shown = _shown(comparison)
    head = ["", *(f"{name} [95 %]" if name == comparison.metric else name for name in shown), "runs"]
    body = []
    for name, kind in comparison.systems.select("system", "kind").unique(maintain_order=True).iter_rows():
        rows = comparison.systems.filter(pl.col("system") == name, pl.col("kind") == kind)
        by_metric = {row["metric"]: row for row in rows.iter_rows(named=True)}
        cells = [_cell(by_metric.get(metric), metric == comparison.metric) for metric in shown]
        runs = rows["runs"].max() if kind == "compared" else ""
        body.append([f"{name} *" if kind == "bound" else name, *cells, str(runs)])
    return [head, *body]


def _differences(comparison: Comparison, first: str, second: str) -> list[list[str]]:
    """The shown figures of one pair."""
    correction = comparison.paired["correction"][0]
    rows = [["metric", "first - second", "95 % interval", "better for", "worse for", "p", TITLES[correction]]]
    for metric in _shown(comparison):
        gap: Difference = difference(comparison.paired, first, second, metric)
        rows.append(
            [
                metric,
                f"{gap.mean:+.4f}",
                f"{gap.low:+.4f} to {gap.high:+.4f}",
                f"{gap.wins:.0%}",
                f"{gap.losses:.0%}",
                f"{gap.p_value:.2g}",
                f"{gap.p_adjusted:.2g}",
            ]
        )
    return rows


def _shown(comparison: Comparison) -> list[str]:
    """The main figure and a few more: the file has all."""
    there = set(comparison.paired["metric"])
    cut = comparison.metric.rpartition("@")[2]
    names = [comparison.metric, *(f"{name}@{cut}" for name in _FORMS), "gauc"]
    return [name for name in dict.fromkeys(names) if name in there]


def _pairs(comparison: Comparison) -> list[tuple[str, str]]:
    return list(comparison.paired.select("first", "second").unique(maintain_order=True).iter_rows())


def _pairs_of(comparison: Comparison, best: str) -> list[tuple[str, str]]:
    """All pairs with the first; of all pairs those of the best one, which is what one asks."""
    if comparison.against == "first":
        return _pairs(comparison)
    return [pair for pair in _pairs(comparison) if best in pair]


def _row(comparison: Comparison, pair: tuple[str, str]) -> dict[str, Any]:
    first, second = pair
    return comparison.paired.row(
        by_predicate=(pl.col("first") == first)
        & (pl.col("second") == second)
        & (pl.col("metric") == comparison.metric),
        named=True,
    )


def _cell(row: dict[str, Any] | None, with_interval: bool) -> str:
    if row is None:
        return ""
    interval = f" [{row['low']:.4f}, {row['high']:.4f}]" if with_interval else ""
    return f"{row['mean']:.4f}{interval}"


def _markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [f"| {' | '.join(map(in_markdown, row))} |" for row in rows]
    return [lines[0], f"|{'---|' * len(rows[0])}", *lines[1:]]
