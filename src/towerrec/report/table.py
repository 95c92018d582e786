"""Tables of a page: the first column stays in sight while the others scroll inside their box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from html import escape
from typing import Any

from towerrec.report.charts import mark


@dataclass(frozen=True)
class Cell:
    """A cell.

    Attributes:
        text: What it says, plain text.
        note: A smaller line under it, such as an interval.
        strong: Whether it is the best of its column.
        series: Number of a series whose mark stands before the text; None: no mark.
        prose: Whether the text is a sentence: to the left, on several lines.
    """

    text: str
    note: str = ""
    strong: bool = False
    series: int | None = None
    prose: bool = False

    def html(self, tag: str = "td") -> str:
        words = escape(self.text)
        if tag.startswith("th"):  # names are long words: where there is too little room they break at their joints
            words = words.replace("=", "=<wbr>").replace("_", "_<wbr>")
        text = f"<b>{words}</b>" if self.strong else words
        sign = "" if self.series is None else f"{key(self.series)}&nbsp;"
        note = f"<small>{escape(self.note)}</small>" if self.note else ""
        kind = ' class="text"' if self.prose else ""
        return f"<{tag}{kind}>{sign}{text}{note}</{tag.split()[0]}>"


def table(head: Sequence[str | Cell], rows: Sequence[Sequence[str | Cell]], *, highlighted: int | None = None) -> str:
    """A table with a line of headings; the first cell of every row names it. Texts are escaped here.

    Args:
        head: Headings of all columns.
        rows: Cells; texts stand for plain cells.
        highlighted: Place of the row that the page is about.
    """
    prose = [any(_cell(row[column]).prose for row in rows) for column in range(len(head))]
    columns = [replace(_cell(cell), prose=is_prose) for cell, is_prose in zip(head, prose, strict=True)]
    top = "".join(cell.html("th scope=col") for cell in columns)
    body = "".join(_row(row, first=place == highlighted) for place, row in enumerate(rows))
    # Rows that are read rather than compared stand below each other where the page is narrow.
    kind = "wide told" if rows and all(prose[1:]) else "wide"
    return f'<div class="{kind}" tabindex=0><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def figure_cell(figure: Mapping[str, Any], *, strong: bool = False, signed: bool = False) -> Cell:
    """A figure (`mean`, and `low` and `high` where there is an interval) with its interval under it.

    A figure that is not there (None) is a dash.
    """
    if figure.get("mean") is None:
        return Cell("–")
    sign = "+" if signed else ""
    note = ""
    if figure.get("low") is not None:
        note = f"{figure['low']:{sign}.4f} to {figure['high']:{sign}.4f}"
    return Cell(f"{figure['mean']:{sign}.4f}", note, strong)


def key(series: int) -> str:
    """The mark of a series between words."""
    return f'<svg class="sign" viewBox="0 0 14 14" aria-hidden="true">{mark(series, 7, 7)}</svg>'


def _row(row: Sequence[str | Cell], *, first: bool) -> str:
    cells = "".join(_cell(cell).html() for cell in row[1:])
    return f"<tr{' class=first' if first else ''}>{_cell(row[0]).html('th scope=row')}{cells}</tr>"


def _cell(cell: str | Cell) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)
