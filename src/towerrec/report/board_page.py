"""A leaderboard as a page: table, intervals, notes, commands."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape
from typing import Any

import polars as pl

from towerrec.metrics.definitions import RULES, definition
from towerrec.report.board import Board, further_figures, interval
from towerrec.report.board_text import ALIKE, Columns, commands, costs, figures, in_rows, names, title
from towerrec.report.charts_rows import Bar, Row, rows_chart
from towerrec.report.page import Section, page_of
from towerrec.report.standings import readable
from towerrec.report.table import Cell, table

MOST = 30
"""Settings that the charts show."""


def page(board: Board) -> str:
    """The whole page as text."""
    rows = [{**row, "setting": readable(row["setting"])} for row in board.table.to_dicts()]
    placed = [row for row in rows if row["place"] is not None]
    lead = f"{_count(rows)}; {placed[0]['setting']} is first by validation." if placed else f"{_count(rows)}; no order."
    sections = [
        Section("What to make of it", _list(board.notes)),
        Section("Settings", _table(board.table, figures(board.table))),
    ]
    if placed:
        sections.append(Section("Intervals", _charts(placed)))
    sections.append(Section("What a run costs", _table(board.table, costs(board.table))))
    unfinished = [f"{row['setting']}: {row['why']}" for row in rows if row["why"]]
    if unfinished:
        sections.append(Section("What did not finish", _list(unfinished)))
    lines = "\n".join(commands(board.table))
    sections.append(Section("Commands", f"<pre>{escape(lines)}</pre>", folded=True))
    sections.append(Section("What the figures are", _definitions(board.table)))
    return page_of(f"Leaderboard of {board.sweep.name}", sections, lead=lead)


def _table(rows: pl.DataFrame, columns: Columns) -> str:
    """A table, best first; place and setting are the column that does not scroll away, and the best one is bold."""
    head, *body = in_rows({**names(rows), **columns})
    return table(["setting", *head[2:]], [[_first(row), *(_split(cell) for cell in row[2:])] for row in body])


def _charts(rows: list[dict[str, Any]]) -> str:
    """What validation says of the first settings, with what the test says, and how far the others are behind."""
    shown = rows[:MOST]
    name, other = title(shown[0]["figure"]), title(shown[0]["test_figure"]) if shown[0]["test_figure"] else ""
    marks = [("validation", 0), ("test", 1)] if name == other else [("validation", 0)]
    levels = [
        Row(row["setting"], [_bar(row, on, series) for on, series in marks if row[on] is not None]) for row in shown
    ]
    charts = [rows_chart(levels, title=f"{name} of the settings", unit=name, legend=marks)]
    gaps = [row for row in shown if row["behind"] is not None]
    if gaps:
        behind = [Row(r["setting"], [Bar(r["behind"], r["behind_low"], r["behind_high"])]) for r in gaps]
        unit = f"{name} of validation behind the best"
        charts.append(rows_chart(behind, title="How far the settings are behind the best", unit=unit, signed=True))
    left_out = len(rows) - len(shown)
    note = f"<p class=note>The first {MOST}; {left_out} more stand in the table.</p>" if left_out else ""
    return f'<div class="charts">{"".join(f"<figure>{chart}</figure>" for chart in charts)}</div>{note}'


def _bar(row: Mapping[str, Any], on: str, series: int) -> Bar:
    low, high = interval(row, on)
    return Bar(row[on], low, high, series)


def _first(row: list[str]) -> Cell:
    return Cell(f"{row[0]}  {row[1]}" if row[0] else row[1], strong=row[0] == "1")


def _split(text: str) -> Cell:
    """A figure above its interval."""
    value, found, ends = text.partition(" (")
    return Cell(value, ends.replace(")", "", 1)) if found else Cell(text)


def _list(sentences: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(sentence)}</li>' for sentence in sentences)}</ul>"


def _count(rows: list[Mapping[str, Any]] | list[dict[str, Any]]) -> str:
    return "1 setting" if len(rows) == 1 else f"{len(rows)} settings"


def _definitions(rows: pl.DataFrame) -> str:
    shown = [rows[name].drop_nulls().to_list()[:1] for name in ("figure", "test_figure")]
    names = [name for found in shown for name in found if name != "loss"]
    names += [column.removeprefix("test/") for column in further_figures(rows)]
    parts = {definition(name).title: definition(name).text for name in names} | {"Intervals": RULES["intervals"]}
    parts[ALIKE] = "Not told apart from the best: the paired test or the interval of the difference allows for chance."
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in parts.items())}</dl>"
