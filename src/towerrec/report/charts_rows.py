"""Figures with their intervals in rows, one under the other: names have all the width of a phone."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towerrec.report.charts import (
    LETTER,
    LINE,
    WIDTH,
    Axis,
    around,
    colour,
    figure_text,
    line,
    mark,
    shortened,
    svg,
    text,
    x_axis,
)


@dataclass(frozen=True)
class Bar:
    """A figure; `low` and `high` where it has an interval, `series` its colour and shape."""

    mean: float
    low: float | None = None
    high: float | None = None
    series: int = 0


@dataclass(frozen=True)
class Row:
    """One line of the chart: its name, a remark at the right edge (how many users, say), and its figures."""

    name: str
    bars: Sequence[Bar]
    remark: str = ""


def rows_chart(
    rows: Sequence[Row],
    *,
    title: str,
    unit: str,
    signed: bool = False,
    reference: float | None = None,
    legend: Sequence[tuple[str, int]] = (),
    values: bool = True,
) -> str:
    """Every row a name and, under it, its figures as marks with their 95 % intervals.

    Args:
        rows: From top to bottom.
        title: What a screen reader says of the chart.
        unit: What the axis shows.
        signed: Whether the figures are differences: the axis then need not begin at 0, and 0 is drawn.
        reference: A value drawn as a line through all rows.
        legend: Name and series of what the marks are, where rows hold several.
        values: Whether figures stand in numbers beside their marks.
    """
    drawn = [bar for row in rows for bar in row.bars]
    ends = [v for bar in drawn for v in (bar.mean, bar.low, bar.high) if v is not None]
    low, high = around([*ends, *([reference] if reference is not None else [])], zero=True)
    right = WIDTH - (60 if values else 8)
    axis = Axis(low, high, 4, right)
    top = LINE * len(legend) + (8 if legend else 0)
    parts = [part for place, entry in enumerate(legend) for part in _key(place, *entry)]
    body: list[str] = []
    y = top
    for row in rows:
        body.append(text(0, y + 13, shortened(row.name, _letters(row.remark)), "halo"))
        if row.remark:
            body.append(text(WIDTH, y + 13, row.remark, "end tick halo"))
        y += 17
        for bar in row.bars:
            body += _bar(bar, axis, y + 7, signed=signed, value=values)
            y += 16
        y += 10
    parts += [line(axis(t), top, axis(t), y, "grid") for t in axis.ticks()]
    if signed:
        parts.append(line(axis(0), top, axis(0), y, "axis"))
    if reference is not None:
        parts.append(line(axis(reference), top, axis(reference), y, "mark"))
    return svg(y + 42, title, [*parts, *body, *x_axis(axis, y, unit)])


def _key(place: int, name: str, series: int) -> list[str]:
    y = LINE * place + 8
    return [mark(series, 7, y), text(18, y + 4.5, shortened(name, 42))]


def _bar(bar: Bar, axis: Axis, y: float, *, signed: bool, value: bool) -> list[str]:
    parts = []
    if bar.low is not None and bar.high is not None:
        parts.append(line(axis(bar.low), y, axis(bar.high), y, f"bar s{colour(bar.series)}"))
    parts.append(mark(bar.series, axis(bar.mean), y))
    if value:
        parts.append(text(WIDTH, y + 4.5, figure_text(bar.mean, signed=signed), "end"))
    return parts


def _letters(remark: str) -> int:
    """How many letters of a name fit beside a remark."""
    return int((WIDTH - LETTER * (len(remark) + (2 if remark else 0))) / LETTER)
