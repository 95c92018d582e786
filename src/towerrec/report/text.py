"""The figures of several systems as a table for a terminal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from unicodedata import combining, east_asian_width

from towerrec.report.judge import Judged
from towerrec.wording import one_line


def comparison(
    systems: Sequence[Judged], metrics: Sequence[str] | None = None, *, interval_of: str | None = None
) -> str:
    """One line per system, one column per metric, aligned; bounds stand last and are marked.

    Args:
        systems: The judged system first.
        metrics: Which figures to show; None shows NDCG, recall, MAP, coverage and, where there are such,
            graded NDCG and GAUC at the cut closest to 20, and recall at the largest one.
        interval_of: The metric whose 95 % interval is shown too; None shows that of the first.
    """
    names = list(metrics) if metrics is not None else default_metrics(systems[0])
    unknown = [n for n in names if n not in systems[0].summary]
    if unknown:
        raise ValueError(f"no figure is called {unknown[0]!r}; there are {', '.join(systems[0].summary)}")
    wide = names[0] if interval_of is None else interval_of
    ordered = [s for s in systems if not s.bound] + [s for s in systems if s.bound]
    head = ["", *(f"{n} [95 %]" if n == wide else n for n in names)]
    body = [[_name(s), *(_cell(s.summary[n], with_interval=n == wide) for n in names)] for s in ordered]
    lines = aligned([head, *body])
    if any(s.bound for s in systems):
        lines.append("* reads the judged rows: a bound for lists that are the same for everybody, not a system")
    return "\n".join(lines)


def default_metrics(judged: Judged) -> list[str]:
    """The few figures that fit on a line."""
    cuts = sorted({int(n.split("@")[1]) for n in judged.summary if "@" in n})
    k = min(cuts, key=lambda cut: (abs(cut - 20), cut))
    names = [f"{name}@{k}" for name in ("ndcg", "recall", "map")]
    if cuts[-1] != k:
        names.append(f"recall@{cuts[-1]}")
    return [*names, *(n for n in (f"graded_ndcg@{k}", "gauc") if n in judged.summary), f"coverage@{k}"]


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Columns of equal width, the first to the left and the others to the right, with a rule under the head.

    Cells are shown on one line and obey none of their control characters; Chinese letters take two places.
    """
    shown = [[one_line(cell) for cell in row] for row in rows]
    widths = [max(_places(row[i]) for row in shown) for i in range(len(rows[0]))]
    lines = []
    for row in shown:
        (first, room), *others = ((cell, " " * (w - _places(cell))) for cell, w in zip(row, widths, strict=True))
        lines.append("  ".join([first + room, *(room + cell for cell, room in others)]))
    return [lines[0].rstrip(), "-" * (sum(widths) + 2 * (len(widths) - 1)), *(line.rstrip() for line in lines[1:])]


def _places(text: str) -> int:
    """Columns of a terminal that a text takes (Unicode Standard Annex 11)."""
    if text.isascii():
        return len(text)
    return sum(0 if combining(letter) else 1 + (east_asian_width(letter) in "WF") for letter in text)


def _name(judged: Judged) -> str:
    return f"{judged.name} *" if judged.bound else judged.name


def _cell(figure: dict[str, Any], *, with_interval: bool) -> str:
    text = f"{figure['mean']:.4f}"
    if with_interval and figure["low"] is not None:
        text += f" [{figure['low']:.4f}, {figure['high']:.4f}]"
    return text
