"""An ablation as files: a table for programs, Markdown, a page, a picture, and lines for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towerrec.files import whole_file
from towerrec.metrics.definitions import definition
from towerrec.report.ablation import Ablation, main_rows, verdict
from towerrec.report.charts import standalone
from towerrec.report.charts_rows import Bar, Row, rows_chart
from towerrec.report.page import Section, bullets, figure, page_of
from towerrec.report.table import Cell, table
from towerrec.report.text import aligned
from towerrec.wording import in_markdown, one_line

MOST = 40
"""Parts that the chart shows."""


def write(found: Ablation, sweep: Path, *, of: str) -> None:
    """Write `ablation.parquet`, `.md`, `.html` and, where a run finished to compare with, `.svg` beside the jobs.

    Args:
        found: What came of it.
        sweep: Directory of the jobs.
        of: What was left out in turn: `features`, say.
    """
    with whole_file(sweep / "ablation.parquet") as path:
        found.table.write_parquet(path)
    files = {"md": markdown(found, of=of), "html": page(found, of=of)}
    if found.main:
        files["svg"] = standalone(forest(found))
    for ending, text in files.items():
        with whole_file(sweep / f"ablation.{ending}") as path:
            path.write_text(text, encoding="utf-8")


def terminal(found: Ablation) -> str:
    """The table as aligned lines, and the sentences."""
    head, *rows = cells(found)
    lines = aligned([[*head[:1], *head[2:]], *([*row[:1], *row[2:]] for row in rows)])
    return "\n".join([*lines, "", *(f"- {one_line(sentence)}" for sentence in found.notes)])


def markdown(found: Ablation, *, of: str) -> str:
    """Sentences and table in Markdown."""
    head, *rows = [[in_markdown(cell) for cell in row] for row in cells(found)]
    lines = [f"| {' | '.join(row)} |" for row in (head, ["---"] * len(head), *rows)]
    notes = [f"- {in_markdown(sentence)}" for sentence in found.notes]
    return "\n".join([f"# What each is worth: {in_markdown(of)}", "", *notes, "", *lines, ""])


def page(found: Ablation, *, of: str) -> str:
    """The whole page as text."""
    head, *rows = cells(found)
    body = [[Cell(row[0], row[1]), *(_split(cell) for cell in row[2:])] for row in rows]
    sections = [Section("What to make of it", bullets(found.notes[1:]))] if found.notes[1:] else []
    if found.main:
        words = "Right of 0: better with it. A bar that crosses 0 cannot be told from nothing."
        sections.append(Section("What each is worth", figure(_caption(found), forest(found), words=words)))
    sections.append(Section("Figures", table([head[0], *head[2:]], body)))
    whys = {row["part"]: row["why"] for row in found.table.to_dicts() if row["why"]}
    if whys:
        sections.append(Section("What did not finish", bullets([f"{part}: {why}" for part, why in whys.items()])))
    names = dict.fromkeys(found.main.values())
    if names:
        defined = [f"{definition(name).title}: {definition(name).text}" for name in names]
        sections.append(Section("What the figures are", bullets(defined)))
    return page_of(f"What each is worth: {of}", sections, lead=found.notes[0])


def forest(found: Ablation) -> str:
    """A row per part: what it is worth on validation and on test rows, with intervals around 0."""
    marks = list(found.main)
    by = {on: {row["part"]: row for row in main_rows(found.table, on, found.main)} for on in marks}
    shown = [part for part in found.order if any(part in by[on] for on in marks)][:MOST]
    rows = [
        Row(part, [_bar(by[on][part], series) for series, on in enumerate(marks) if part in by[on]]) for part in shown
    ]
    legend = [(on, series) for series, on in enumerate(marks)] if len(marks) > 1 else []
    return rows_chart(rows, title=_caption(found), unit=_caption(found), signed=True, legend=legend)


def cells(found: Ablation) -> list[list[str]]:
    """Head and rows as texts: part, what it is made of, its worth by kind of rows, share of users, p, verdict."""
    rows: dict[str, dict[str, Any]] = {}
    for row in found.table.to_dicts():
        rows.setdefault(row["part"], {"about": row["about"], "status": row["status"], "why": row["why"]})
    for on in found.main:
        for row in main_rows(found.table, on, found.main):
            rows[row["part"]][on] = row
    head = ["without", "made of"]
    for on, name in found.main.items():
        head += [f"{on} {definition(name).title}", "worth", "better / worse for", "p"]
    body = []
    for part in found.order:
        row = rows[part]
        line = [part, row["about"]]
        for on in found.main:
            line += _figures(row[on]) if on in row else ["", "", "", ""]
        judged = next((row[on] for on in found.main if on in row), None)
        body.append([*line, verdict(judged) if judged is not None else f"{row['status']}: {row['why']}"])
    return [[*head, "verdict"], *body]


def _figures(row: Mapping[str, Any]) -> list[str]:
    return [
        f"{row['without']:.4f} of {row['full']:.4f}",
        f"{row['worth']:+.4f} ({row['low']:+.4f} to {row['high']:+.4f})",
        f"{row['wins']:.0%} / {row['losses']:.0%}",
        f"{row['p_adjusted']:.2g}",
    ]


def _caption(found: Ablation) -> str:
    names = list(dict.fromkeys(definition(name).title for name in found.main.values()))
    return f"{' and '.join(names)} with it minus without it"


def _bar(row: Mapping[str, Any], series: int) -> Bar:
    return Bar(row["worth"], row["low"], row["high"], series)


def _split(text: str) -> Cell:
    """A figure above its interval."""
    value, bracket, ends = text.partition(" (")
    return Cell(value, ends.rstrip(")")) if bracket and text.endswith(")") else Cell(text, prose=":" in text)
