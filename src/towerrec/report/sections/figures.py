"""The figures: main ones in a table and a chart, differences user by user, all of them folded, and what each means."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

import polars as pl

from towerrec.metrics.definitions import RULES, definition, definitions
from towerrec.report.cast import BOUND_NOTE, Cast
from towerrec.report.charts_rows import Bar, Row, rows_chart
from towerrec.report.correction import TITLES
from towerrec.report.judge import Judged, Summary
from towerrec.report.page import Section, charts, figure, folded, note
from towerrec.report.paired import LEVEL
from towerrec.report.table import Cell, figure_cell, table

_MAIN = ("ndcg", "recall", "map", "graded_ndcg", "coverage", "popularity_percentile")
"""Shown first, at the cut closest to 20; `gauc` has none."""


def figures_section(cast: Cast, paired: pl.DataFrame | None) -> Section:
    """Main figures of all systems, how far each is from the judged one, and everything else on demand."""
    body = main_table(cast)
    if cast.has_bound:
        body += note(BOUND_NOTE)
    drawn = [figure(f"{definition(cast.metric).title} of every system", levels_chart(cast), words="95 % interval")]
    if paired is not None and not paired.is_empty():
        words = f"Paired by user; more than chance where the interval leaves out 0 and p is at most {LEVEL}"
        drawn.append(figure(f"{cast.judged.name} minus each", gaps_chart(cast, paired), words=words))
    body += charts(drawn)
    if paired is not None and not paired.is_empty():
        title = f"Differences of {definition(cast.metric).title} in numbers"
        body += folded(title, gaps_table(cast, paired))
    body += folded(f"All {len(_names(cast.systems))} figures", all_table(cast))
    return Section("The figures", body + folded("What each figure means", meanings(_names(cast.systems))))


def main_table(cast: Cast) -> str:
    """One row per system, the few figures that say most."""
    names = [f"{name}@{cast.k}" for name in _MAIN] + ["gauc"]
    names = [name for name in names if name in cast.judged.summary]
    systems = sorted(cast.ordered, key=lambda s: s.bound)
    best = {name: _best(systems, name) for name in names}
    rows: list[list[str | Cell]] = []
    for system in systems:
        name = Cell(cast.label(system), series=cast.series(system.name))
        cells = [figure_cell(system.summary.get(n, {}), strong=system.name in best[n]) for n in names]
        rows.append([name, *cells])
    return table(["", *(definition(name).title for name in names)], rows, highlighted=0)


def levels_chart(cast: Cast) -> str:
    """The main figure of every system with its interval, best first."""
    ordered = sorted(cast.systems, key=lambda s: s.summary[cast.metric]["mean"], reverse=True)
    rows = [Row(cast.label(s), [_bar(s.summary[cast.metric], cast.series(s.name))]) for s in ordered]
    title = definition(cast.metric).title
    return rows_chart(rows, title=f"{title} of every system with its 95 % interval", unit=title)


def gaps_chart(cast: Cast, paired: pl.DataFrame) -> str:
    """The judged system minus each of the others, with the interval of the difference."""
    rows = [
        Row(_starred(cast, gap["second"]), [_bar(gap, cast.series(gap["second"]))], remark=f"p {_p(gap['p_adjusted'])}")
        for gap in _gaps(cast, paired)
    ]
    title = definition(cast.metric).title
    return rows_chart(
        rows,
        title=f"{title} of {cast.judged.name} minus that of each other system, with 95 % intervals",
        unit=f"difference of {title}",
        signed=True,
    )


def gaps_table(cast: Cast, paired: pl.DataFrame) -> str:
    """The same in numbers: difference, interval, who is better off, p-values."""
    gaps = _gaps(cast, paired)
    rows: list[list[str | Cell]] = [
        [
            Cell(_starred(cast, gap["second"]), series=cast.series(gap["second"])),
            figure_cell(gap, signed=True),
            f"{gap['wins']:.0%}",
            f"{gap['losses']:.0%}",
            f"{gap['ties']:.0%}",
            _p(gap["p_value"]),
            _p(gap["p_adjusted"]),
            f"{gap['users']:,}",
        ]
        for gap in gaps
    ]
    head = [f"{cast.judged.name} minus", "difference", "better for", "worse for", "equal", "p", "p adjusted", "users"]
    return table(head, rows) + note(test_words(gaps[0]))


def test_words(gap: Mapping[str, Any]) -> str:
    """How the p-values of a paired table came about."""
    how = "p of a permutation test that flips the signs of the users' differences"
    if gap["correction"] == "none" or gap["family"] == 1:
        return f"{how}; a single comparison, or one that is left uncorrected."
    return f"{how}; «p adjusted» is corrected for {gap['family']} comparisons ({TITLES[gap['correction']]})."


def all_table(cast: Cast) -> str:
    """Every figure of every system."""
    head: list[str | Cell] = ["", *(Cell(cast.label(s), series=cast.series(s.name)) for s in cast.systems)]
    rows: list[list[str | Cell]] = [
        [definition(n).title, *(figure_cell(s.summary.get(n, {})) for s in cast.systems)] for n in _names(cast.systems)
    ]
    return table(head, rows)


def meanings(names: Sequence[str]) -> str:
    """What each figure is, once whatever its cuts, and the rules that all share."""
    parts = []
    for title, found in definitions(names).items():
        better = {"higher": " Higher is better.", "lower": " Lower is better.", None: ""}[found.better]
        source = f" <span class=soft>({escape(found.source)})</span>" if found.source else ""
        parts.append(f"<dt>{escape(title)}</dt><dd>{escape(found.text)}{better}{source}</dd>")
    parts += [f"<dt>rule: {escape(name)}</dt><dd>{escape(rule)}</dd>" for name, rule in RULES.items()]
    return f"<dl>{''.join(parts)}</dl>"


def predicted_section(name: str, values: Summary, constants: Mapping[str, Mapping[str, float]]) -> Section:
    """Errors of predicted values beside those of constants and simple predictions."""
    names = list(values)
    rows: list[list[str | Cell]] = [[Cell(name), *(figure_cell(values[n]) for n in names)]]
    for constant, figures in constants.items():
        rows.append([constant, *(figure_cell({"mean": figures.get(n)}) for n in names)])
    body = table(["", *(definition(n).title for n in names)], rows, highlighted=0)
    return Section("Predicted values", body + folded("What these figures mean", meanings(names)))


def _names(systems: Sequence[Judged]) -> list[str]:
    """Figures of any system, in the order of the first."""
    return list(dict.fromkeys(name for system in systems for name in system.summary))


def _best(systems: Sequence[Judged], name: str) -> set[str]:
    """Names of the systems that have the best value of a figure; none where neither way is better."""
    better = definition(name).better
    known = {s.name: s.summary[name]["mean"] for s in systems if not s.bound and name in s.summary}
    if better is None or len(known) < 2:
        return set()
    top = max(known.values()) if better == "higher" else min(known.values())
    return {system for system, value in known.items() if value == top}


def _gaps(cast: Cast, paired: pl.DataFrame) -> list[dict[str, Any]]:
    """Of the main figure, from the strongest of the others down."""
    wanted = paired.filter(pl.col("metric") == cast.metric, pl.col("first") == cast.judged.name)
    return wanted.sort("mean").to_dicts()


def _starred(cast: Cast, name: str) -> str:
    return next(cast.label(s) for s in cast.systems if s.name == name)


def _bar(found: Mapping[str, Any], series: int) -> Bar:
    return Bar(found["mean"], found["low"], found["high"], series)


def _p(value: float) -> str:
    return "< 0.001" if value < 0.001 else f"{value:.3f}"
