"""Points: two figures against each other, predicted against actual, and clouds of items."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from towerrec.report.charts import (
    LETTER,
    LINE,
    OTHER,
    WIDTH,
    Axis,
    around,
    colour,
    line,
    mark,
    short,
    shortened,
    spread,
    svg,
    text,
    x_axis,
    y_axis,
)


@dataclass(frozen=True)
class Spot:
    """A named point; intervals (low, high) of either figure where there are any."""

    name: str
    x: float
    y: float
    across: tuple[float, float] | None = None
    up: tuple[float, float] | None = None
    series: int = 0


def spots_chart(
    spots: Sequence[Spot],
    *,
    title: str,
    across: str,
    up: str,
    joined: bool = False,
    diagonal: bool = False,
    marked: tuple[float, str] | None = None,
    height: float = 290,
) -> str:
    """Two figures of every spot, each with its interval, and its name beside it.

    Args:
        spots: The first lies on top.
        title: What a screen reader says of the chart.
        across: What the horizontal axis shows.
        up: What the vertical axis shows.
        joined: Whether a line runs through the spots in their order.
        diagonal: Whether both axes have the same ends and their diagonal is drawn.
        marked: A place of the horizontal axis with a word on it.
        height: Of the chart.
    """
    left, right, top, bottom = 48, WIDTH - 10, 36, height - 40
    xs = [v for s in spots for v in (s.x, *(s.across or ()))] + ([marked[0]] if marked else [])
    ys = [v for s in spots for v in (s.y, *(s.up or ()))]
    if diagonal:
        xs = ys = [*xs, *ys]
    x = Axis(*around(xs, zero=True), left, right)
    y = Axis(*around(ys, zero=True), bottom, top)
    parts = y_axis(y, left, right, up) + x_axis(x, bottom, across)
    if diagonal:
        parts.append(line(x(max(x.low, y.low)), y(max(x.low, y.low)), x(x.high), y(x.high), "mark"))
    if marked is not None:
        side = "end " if x(marked[0]) > WIDTH / 2 else ""
        parts.append(line(x(marked[0]), top, x(marked[0]), bottom, "mark"))
        parts.append(text(x(marked[0]) + (3 if side else -3), top - 4, marked[1], f"{side}tick"))
    if joined:
        path = " ".join(f"{short(x(s.x))},{short(y(s.y))}" for s in spots)
        parts.append(f'<polyline class="curve s{colour(spots[0].series)}" points="{path}"/>')
    for spot in reversed(spots):
        parts += _spot(spot, x, y)
    parts += _names(spots, x, y, top, bottom)
    return svg(height, title, parts)


def cloud_chart(groups: Sequence[tuple[str, int | None, Sequence[tuple[float, float]]]], *, title: str) -> str:
    """Groups of points (name, series or None for everything else, places), the last on top, with their names below.

    Distances mean the same in both directions; the axes have no unit and are not drawn.
    """
    places = [place for _, _, points in groups for place in points]
    (left, right), (low, high) = (around([p[i] for p in places], room=0.02) for i in (0, 1))
    scale = min((WIDTH - 8) / (right - left), (WIDTH - 8) / (high - low))
    height = (high - low) * scale + 8
    parts = []
    for _, series, points in groups:
        drawn = "".join(f"M{short(4 + (a - left) * scale)} {short(4 + (high - b) * scale)}h0" for a, b in points)
        name = OTHER if series is None else colour(series)
        # Dots are lines of no length with round or square ends: a tenth of the letters of a circle each.
        square = " square" if name in "135" else ""
        parts.append(f'<path class="cloud{square} s{name}" d="{drawn}"/>')
    y = height + 16
    for name, series, points in reversed(groups):
        if series is None:
            parts.append(f'<circle class="f{OTHER}" cx="7" cy="{short(y - 4.5)}" r="4.5"/>')
        else:
            parts.append(mark(series, 7, y - 4.5))
        parts.append(text(18, y, f"{shortened(name, 30)}: {len(points):,}"))
        y += LINE + 3
    return svg(y - 6, title, parts)


def _spot(spot: Spot, x: Axis, y: Axis) -> list[str]:
    name = f"thin s{colour(spot.series)}"
    parts = []
    if spot.across is not None:
        parts.append(line(x(spot.across[0]), y(spot.y), x(spot.across[1]), y(spot.y), name))
    if spot.up is not None:
        parts.append(line(x(spot.x), y(spot.up[0]), x(spot.x), y(spot.up[1]), name))
    return [*parts, mark(spot.series, x(spot.x), y(spot.y))]


def _names(spots: Sequence[Spot], x: Axis, y: Axis, top: float, bottom: float) -> list[str]:
    """Names to the right of their spots, or to the left where there is no room, moved apart on either side."""
    parts = []
    named = [s for s in spots if s.name]
    to_left = [s for s in named if x(s.x) + 10 + LETTER * len(s.name) > WIDTH]
    for side in (to_left, [s for s in named if s not in to_left]):
        wanted = [y(s.y) - 8 for s in side]
        for spot, place in zip(side, spread(wanted, [LINE] * len(side), top, bottom - 2), strict=True):
            shift, end = (-8, "end ") if side is to_left else (8, "")
            room = (x(spot.x) - 8 if side is to_left else WIDTH - x(spot.x) - 8) / LETTER
            name = f"{end}halo f{colour(spot.series)}"
            parts.append(text(x(spot.x) + shift, place + 4.5, shortened(spot.name, int(room)), name))
    return parts
