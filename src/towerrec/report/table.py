"""Tables of a page: the first column stays in sight while the others scroll inside their box."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from typing import Any


@dataclass(frozen=True)
class Cell:
    """A cell: plain text, and a smaller line under it such as an interval; `strong` marks the best of its column."""

    text: str
    note: str = ""
    strong: bool = False

    def html(self, tag: str = "td") -> str:
        text = f"<b>{escape(self.text)}</b>" if self.strong else escape(self.text)
        note = f"<small>{escape(self.note)}</small>" if self.note else ""
        return f"<{tag}>{text}{note}</{tag.split()[0]}>"


def table(head: Sequence[str | Cell], rows: Sequence[Sequence[str | Cell]]) -> str:
    """A table with a line of headings; the first cell of every row names it. Texts are escaped here."""
    top = "".join(_cell(cell).html("th scope=col") for cell in head)
    body = "".join(
        f"<tr>{_cell(row[0]).html('th scope=row')}{''.join(_cell(cell).html() for cell in row[1:])}</tr>"
        for row in rows
    )
    return f'<div class="wide"><table><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table></div>'


def figure_cell(figure: Mapping[str, Any], *, strong: bool = False, signed: bool = False) -> Cell:
    """A figure (`mean`, and `low` and `high` where there is an interval) with its interval under it."""
    sign = "+" if signed else ""
    note = ""
    if figure.get("low") is not None:
        note = f"{figure['low']:{sign}.4f} to {figure['high']:{sign}.4f}"
    return Cell(f"{figure['mean']:{sign}.4f}", note, strong)


def _cell(cell: str | Cell) -> Cell:
    return cell if isinstance(cell, Cell) else Cell(cell)
