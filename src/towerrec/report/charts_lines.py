"""Lines with the bands of their intervals, each labelled where it ends."""

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
    mark,
    short,
    spread,
    svg,
    text,
    wrapped,
    x_axis,
    y_axis,
)
from towerrec.report.charts import line as straight

_LETTERS = 13
"""Of a label at the end of a line; longer names take two lines."""


@dataclass(frozen=True)
class Point:
    """A figure at a place of the horizontal axis; `low` and `high` where it has an interval."""

    x: float
    mean: float
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Line:
    """A series: its points from left to right, its colour, and whether it is dashed (what is no system)."""

    name: str
    points: Sequence[Point]
    series: int = 0
    dashed: bool = False


def lines_chart(
    lines: Sequence[Line],
    *,
    title: str,
    across: str,
    up: str,
    log: bool = False,
    zero: bool = True,
    at: Sequence[float] | None = None,
    marked: tuple[float, str] | None = None,
    height: float = 240,
) -> str:
    """Lines against a common axis.

    Args:
        lines: The first lies on top.
        title: What a screen reader says of the chart.
        across: What the horizontal axis shows.
        up: What the vertical axis shows.
        log: Whether the horizontal axis is logarithmic.
        zero: Whether the vertical axis begins at 0.
        at: Where the horizontal axis has values; None: round ones.
        marked: A place of the horizontal axis with a word on it.
        height: Of the chart.
    """
    names = {id(one): wrapped(one.name, _LETTERS) for one in lines}
    widest = max(len(row) for rows in names.values() for row in rows)
    left, right, top, bottom = 48, WIDTH - 14 - LETTER * widest, 36, height - 40
    places = [p.x for one in lines for p in one.points]
    values = [v for one in lines for p in one.points for v in (p.mean, p.low, p.high) if v is not None]
    x_scale = Axis(min(places), max(places), left + 4, right, log=log)
    y_scale = Axis(*around(values, zero=zero), bottom, top)
    parts = y_axis(y_scale, left, right, up)
    parts += x_axis(x_scale, bottom, across, at=_thinned(x_scale, at))
    if marked is not None:
        place = x_scale(marked[0])
        side = "end " if place > (left + right) / 2 else ""
        parts.append(straight(place, top, place, bottom, "mark"))
        parts.append(text(place + (3 if side else -3), top - 4, marked[1], f"{side}tick"))
    parts += [_band(one, x_scale, y_scale) for one in lines]
    parts += [part for one in reversed(lines) for part in _curve(one, x_scale, y_scale)]
    ends = [y_scale(one.points[-1].mean) for one in lines]
    heights = [LINE * len(names[id(one)]) for one in lines]
    for one, y in zip(lines, spread(ends, heights, top - 10, bottom + 6), strict=True):
        parts += _label(names[id(one)], one.series, right + 8, y)
    return svg(height, title, parts)


def _thinned(axis: Axis, at: Sequence[float] | None) -> Sequence[float]:
    """Of the wanted values on the axis those whose numbers do not touch, from the last one back."""
    wanted = axis.ticks() if at is None else [value for value in at if axis.low <= value <= axis.high]
    kept: list[float] = []
    for value in reversed(wanted):
        if not kept or abs(axis(kept[-1]) - axis(value)) >= 30:
            kept.append(value)
    return kept[::-1]


def _curve(one: Line, x: Axis, y: Axis) -> list[str]:
    path = " ".join(f"{short(x(p.x))},{short(y(p.mean))}" for p in one.points)
    dashed = " dashed" if one.dashed else ""
    parts = [f'<polyline class="curve{dashed} s{colour(one.series)}" points="{path}"/>']
    every = max(1, len(one.points) // 12)
    return parts + [mark(one.series, x(p.x), y(p.mean), 3.4) for p in one.points[::every]]


def _band(one: Line, x: Axis, y: Axis) -> str:
    ends = [(p.x, p.low, p.high) for p in one.points if p.low is not None and p.high is not None]
    if not ends:
        return ""
    around_it = [(px, low) for px, low, _ in ends] + [(px, high) for px, _, high in reversed(ends)]
    corners = " ".join(f"{short(x(px))},{short(y(value))}" for px, value in around_it)
    return f'<polygon class="band f{colour(one.series)}" points="{corners}"/>'


def _label(rows: Sequence[str], series: int, x: float, y: float) -> list[str]:
    first = y - LINE * (len(rows) - 1) / 2 + 4.5
    return [text(x, first + LINE * place, row, f"f{colour(series)}") for place, row in enumerate(rows)]
