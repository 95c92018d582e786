"""The page of a comparison: systems side by side, their differences user by user, and what seeds alone do."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.cast import BOUND_NOTE
from towerrec.report.charts_rows import Bar, Row, rows_chart
from towerrec.report.page import Section, bullets, charts, figure, folded, note, page_of
from towerrec.report.paired import LEVEL
from towerrec.report.sections.background import rules_section, tree
from towerrec.report.sections.by_group import by_group_section
from towerrec.report.sections.figures import meanings, test_words
from towerrec.report.side_by_side import Comparison
from towerrec.report.side_by_side_text import sentences
from towerrec.report.style import NUM_COLOURS
from towerrec.report.table import Cell, figure_cell, table

_MAIN = ("ndcg", "recall", "map", "graded_ndcg", "popularity_percentile")
_BESIDE = "Grey: judged beside the first of them and not compared."


def compare_page(comparison: Comparison) -> str:
    """The whole page as text."""
    said = sentences(comparison)
    compared = comparison.systems.filter(pl.col("kind") == "compared")["system"].unique(maintain_order=True).to_list()
    sections = [
        Section("What the figures say", bullets(said)),
        _systems_section(comparison),
        _differences_section(comparison),
    ]
    if comparison.groups is not None:
        sections.append(by_group_section(comparison.groups))
    if comparison.runs.group_by("system").len()["len"].max() != comparison.runs["metric"].n_unique():
        sections.append(_runs_section(comparison))
    if comparison.optimism is not None and not comparison.optimism.is_empty():
        sections.append(_optimism_section(comparison.optimism))
    sections.append(rules_section(comparison.rules, ()))
    sections.append(Section("Where the runs lie", tree(comparison.places)))
    return page_of(
        " against ".join(compared[:3]) + (" and others" if len(compared) > 3 else ""), sections, lead=said[0]
    )


def differences_chart(paired: pl.DataFrame, metric: str) -> str:
    """The differences of a figure by pair, each with its interval over users and, where there are seeds, over both."""
    rows = []
    for gap in paired.filter(pl.col("metric") == metric).sort("mean", descending=True).to_dicts():
        bars = [_bar(gap, 0)]
        if gap["low_runs"] is not None:
            bars.append(Bar(gap["mean"], gap["low_runs"], gap["high_runs"], 1))
        rows.append(Row(f"{gap['first']} − {gap['second']}", bars, remark=f"p {_p(gap['p_adjusted'])}"))
    title = definition(metric).title
    with_runs = any(len(row.bars) > 1 for row in rows)
    legend = [("interval over users", 0), ("over users and runs", 1)] if with_runs else []
    return rows_chart(
        rows,
        title=f"Differences of {title} with 95 % intervals",
        unit=f"difference of {title}",
        signed=True,
        legend=legend,
    )


def _systems_section(comparison: Comparison) -> Section:
    systems = comparison.systems
    names = [n for n in _main_names(comparison) if n in systems["metric"].unique().to_list()]
    rows: list[list[str | Cell]] = []
    bars = []
    for place, (name, kind) in enumerate(systems.select("system", "kind").unique(maintain_order=True).iter_rows()):
        found = {str(row["metric"]): row for row in systems.filter(pl.col("system") == name).to_dicts()}
        label, series = f"{name} *" if kind == "bound" else str(name), _series(place, kind)
        main = found[comparison.metric]
        seeds = f"sd {main['sd']:.4f}" if main["sd"] is not None else ""
        runs = Cell("–" if main["runs"] is None else f"{main['runs']}", note=seeds)
        rows.append([Cell(label, series=series), *(figure_cell(found.get(n, {})) for n in names), runs])
        bars.append(Row(label, [_bar(main, series)]))
    body = table(["", *(definition(n).title for n in names), "runs"], rows)
    if "bound" in systems["kind"].to_list():
        body += note(BOUND_NOTE)
    if systems["kind"].n_unique() > 1:
        body += note(_BESIDE)
    title = definition(comparison.metric).title
    chart = rows_chart(bars, title=f"{title} of every system with its 95 % interval", unit=title)
    body += charts([figure(f"{title} of every system", chart, words="95 % interval over users")])
    return Section("The systems", body + folded("What each figure means", meanings(_figures(comparison))))


def _differences_section(comparison: Comparison) -> Section:
    """Forest plots of the main figures, and everything in numbers."""
    names = [n for n in _main_names(comparison) if n in _figures(comparison)][:4]
    words = f"Paired by user; more than chance where the interval leaves out 0 and p is at most {LEVEL}"
    drawn = [figure(definition(n).title, differences_chart(comparison.paired, n), words=words) for n in names]
    main = comparison.paired.filter(pl.col("metric") == comparison.metric)
    body = charts(drawn) + _numbers(main, by="pair")
    for (first, second), part in comparison.paired.group_by("first", "second", maintain_order=True):
        body += folded(f"All figures: {first} − {second}", _numbers(part, by="figure"))
    return Section("Differences user by user", body + note(test_words(main.row(0, named=True))))


def _numbers(paired: pl.DataFrame, *, by: str) -> str:
    """Differences with intervals, who is better off, p-values."""
    head = ["", "difference", "better for", "worse for", "equal", "p", "p adjusted", "users"]
    rows: list[list[str | Cell]] = [
        [
            f"{gap['first']} − {gap['second']}" if by == "pair" else definition(gap["metric"]).title,
            figure_cell(gap, signed=True),
            *(f"{gap[share]:.0%}" for share in ("wins", "losses", "ties")),
            _p(gap["p_value"]),
            _p(gap["p_adjusted"]),
            f"{gap['users']:,}",
        ]
        for gap in paired.to_dicts()
    ]
    return table(head, rows)


def _runs_section(comparison: Comparison) -> Section:
    """Every run of every setting: how far apart seeds alone put them."""
    runs = comparison.runs.filter(pl.col("metric") == comparison.metric)
    rows = [
        Row(
            f"{run['system']}: {run['repeat']}" if run["repeat"] else str(run["system"]),
            [Bar(run["mean"], series=place)],
        )
        for place, (_, part) in enumerate(runs.group_by("system", maintain_order=True))
        for run in part.sort("mean", descending=True).to_dicts()
    ]
    title = definition(comparison.metric).title
    chart = rows_chart(rows, title=f"{title} of every run", unit=title)
    spread = comparison.systems.filter(pl.col("metric") == comparison.metric, pl.col("sd").is_not_null())
    words = [
        f"{row['system']}: standard deviation {row['sd']:.4f} over {row['runs']} runs." for row in spread.to_dicts()
    ]
    return Section("Runs and seeds", bullets(words) + charts([figure(f"{title} of every run", chart)]))


def _optimism_section(optimism: pl.DataFrame) -> Section:
    """What the best of many figures flatters, sweep by sweep."""
    head = ["sweep", "settings", "chosen", "observed", "corrected", "optimism"]
    rows: list[list[str | Cell]] = [
        [
            Cell(str(row["sweep"])),
            f"{row['settings']:,}",
            Cell(str(row["chosen"]), prose=True),
            f"{row['observed']:.4f}",
            f"{row['corrected']:.4f}",
            figure_cell({"mean": row["optimism"], "low": row["low"], "high": row["high"]}, signed=True),
        ]
        for row in optimism.to_dicts()
    ]
    words = "The best of several figures is partly luck: «corrected» is what the chosen setting is worth without it."
    return Section("Optimism of the choice", note(words) + table(head, rows))


def _run_name(run: Mapping[str, Any]) -> str:
    return f"{run['system']}: {run['repeat']}" if run["repeat"] else str(run["system"])


def _main_names(comparison: Comparison) -> list[str]:
    """The main figure first, then the others at its cut."""
    k = comparison.metric.split("@")[1]
    return list(dict.fromkeys([comparison.metric, *(f"{name}@{k}" for name in _MAIN), "gauc"]))


def _figures(comparison: Comparison) -> Sequence[str]:
    return [str(name) for name in comparison.paired["metric"].unique(maintain_order=True)]


def _series(place: int, kind: str) -> int:
    """Compared systems have the colours in their order; what stands beside them is grey."""
    return place if kind == "compared" else NUM_COLOURS


def _bar(found: Mapping[str, Any], series: int) -> Bar:
    return Bar(found["mean"], found["low"], found["high"], series)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
