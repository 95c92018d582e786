"""What all charts are drawn with: axes, marks and texts as inline SVG. No script, no network, colours from the page.

A chart is 328 units wide, which is what a phone of 360 pixels has between its margins: its text is never smaller than
it says here, and a wider screen sets two beside each other. Series are told apart by colour, by shape and by a label
that stands beside them.
"""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from towerrec.report.style import CHART_RULES, DARK, LIGHT, NUM_COLOURS

WIDTH = 328
LETTER = 7.5
"""Width of a letter at the size of the charts' text, on average."""

LINE = 15.0
"""Height of a line of text."""

OTHER = "x"
"""The colour of everything that has none of its own."""

# Corners of the marks in units of their size; the first series and everything else are circles.
_SHAPES: dict[str, list[tuple[float, float]]] = {
    "1": [(-0.95, -0.95), (0.95, -0.95), (0.95, 0.95), (-0.95, 0.95)],
    "2": [(0, -1.3), (1.3, 0), (0, 1.3), (-1.3, 0)],
    "3": [(0, -1.2), (1.2, 0.9), (-1.2, 0.9)],
    "4": [(0, 1.2), (1.2, -0.9), (-1.2, -0.9)],
    "5": [(-0.6, -1.3), (0, -0.6), (0.6, -1.3), (1.3, -0.6), (0.6, 0), (1.3, 0.6), (0.6, 1.3), (0, 0.6), (-0.6, 1.3)],
}


@dataclass(frozen=True)
class Axis:
    """Values from `low` to `high` on the pixels from `start` to `end`."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, value: float) -> float:
        if self.high == self.low:
            return (self.start + self.end) / 2
        if self.log:
            share = math.log(value / self.low) / math.log(self.high / self.low)
        else:
            share = (value - self.low) / (self.high - self.low)
        return self.start + (self.end - self.start) * share

    def ticks(self, about: int = 4) -> list[float]:
        """Round values between the ends, about so many steps."""
        return ticks(self.low, self.high, about)


def ticks(low: float, high: float, about: int = 4) -> list[float]:
    """Round values from `low` to `high`; one where both are the same."""
    if high <= low:
        return [low]
    step = 10 ** math.floor(math.log10((high - low) / about))
    step *= next(m for m in (1, 2, 5, 10) if (high - low) / (step * m) <= about + 1)
    first = math.ceil(low / step - 1e-9)
    return [round(step * i, 12) + 0.0 for i in range(first, math.floor(high / step + 1e-9) + 1)]


def tick_text(value: float) -> str:
    """A number on an axis: 0.25, 1,500, 20k, 3M."""
    for unit, letter in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if abs(value) >= unit:
            return f"{value / (1e3 if letter == 'k' else unit):g}{letter}"
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:g}"


def figure_text(value: float, *, signed: bool = False) -> str:
    """A figure beside its mark: four decimals below 10, fewer above."""
    decimals = 4 if abs(value) < 10 else 1 if abs(value) < 10000 else 0
    return f"{value:{'+' if signed else ''},.{decimals}f}"


def around(values: Sequence[float], *, zero: bool = False, room: float = 0.06) -> tuple[float, float]:
    """Ends of an axis that holds all values and some room; with `zero` it begins (or ends) at 0."""
    low, high = min(values), max(values)
    if zero:
        low, high = min(low, 0.0), max(high, 0.0)
    if low == high:
        return (low, low + 1.0) if low == 0 else (low - abs(low) / 2, low + abs(low) / 2)
    space = (high - low) * room
    return (low if zero and low == 0 else low - space, high if zero and high == 0 else high + space)


def colour(place: int) -> str:
    """Number of the colour of the n-th series; the first is the judged one, those past the sixth share a grey."""
    return str(place) if place < NUM_COLOURS else OTHER


def svg(height: float, label: str, parts: Sequence[str], *, width: float = WIDTH) -> str:
    """The chart; `label` is what a screen reader says of it."""
    size = f"0 0 {short(width)} {short(height)}"
    return f'<svg viewBox="{size}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'


def standalone(chart: str, *, dark: bool = False, scale: float = 2.0) -> str:
    """A chart as a file of its own, with background and style inside and no variables: for programs that draw SVG."""
    found = re.match(r'<svg viewBox="0 0 ([\d.]+) ([\d.]+)"', chart)
    if found is None:
        raise ValueError("not a chart: it does not begin with <svg viewBox=...")
    width, height = float(found[1]), float(found[2])
    mode, edge = (DARK if dark else LIGHT), 12
    style = re.sub(r"var\(--(\w+)\)", lambda name: mode[name[1]], CHART_RULES)
    inner = chart[chart.index(">") + 1 :]
    frame = f"{-edge} {-edge} {short(width + 2 * edge)} {short(height + 2 * edge)}"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="{frame}" width="{short((width + 2 * edge) * scale)}" '
        f'height="{short((height + 2 * edge) * scale)}"><style>{style}</style><rect x="{-edge}" y="{-edge}" '
        f'width="100%" height="100%" fill="{mode["back"]}"/>{inner}'
    )


def line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    return f'<line class="{name}" x1="{short(x1)}" y1="{short(y1)}" x2="{short(x2)}" y2="{short(y2)}"/>'


def text(x: float, y: float, words: str, name: str = "") -> str:
    kind = f' class="{name}"' if name else ""
    return f'<text{kind} x="{short(x)}" y="{short(y)}">{escape(words)}</text>'


def mark(place: int, x: float, y: float, size: float = 4.5) -> str:
    """The mark of the n-th series: every colour has a shape of its own."""
    name = colour(place)
    if name not in _SHAPES:
        return f'<circle class="f{name}" cx="{short(x)}" cy="{short(y)}" r="{short(size)}"/>'
    corners = " ".join(f"{short(x + a * size)},{short(y + b * size)}" for a, b in _SHAPES[name])
    return f'<polygon class="f{name}" points="{corners}"/>'


def wrapped(name: str, letters: int) -> list[str]:
    """A name on at most two lines of so many letters, broken where words or underscores end; cut where it must be."""
    if len(name) <= letters:
        return [name]
    breaks = [m.end() for m in re.finditer(r"[_\s\-./]", name) if m.end() <= letters]
    at = breaks[-1] if breaks else letters
    first, rest = name[:at].rstrip(), name[at:].strip()
    return [first, rest if len(rest) <= letters else f"{rest[: letters - 1]}…"]


def shortened(name: str, letters: int) -> str:
    return name if len(name) <= letters else f"{name[: letters - 1]}…"


def spread(wanted: Sequence[float], heights: Sequence[float], low: float, high: float) -> list[float]:
    """Centres of labels near where they are wanted, none over another, from `low` to `high` where they fit.

    From the top down every label is pushed below the one before, then from the bottom up back into the frame.
    """
    order = sorted(range(len(wanted)), key=lambda i: wanted[i])
    placed = list(wanted)
    edge = low
    for i in order:
        placed[i] = max(placed[i], edge + heights[i] / 2)
        edge = placed[i] + heights[i] / 2
    edge = high
    for i in reversed(order):
        placed[i] = min(placed[i], edge - heights[i] / 2)
        edge = placed[i] - heights[i] / 2
    return placed


def y_axis(axis: Axis, left: float, right: float, label: str) -> list[str]:
    """Grid lines with their values to the left, and what they are above them."""
    parts = [text(0, min(axis.start, axis.end) - 20, label, "tick")]
    for value in axis.ticks():
        parts.append(line(left, axis(value), right, axis(value), "grid"))
        parts.append(text(left - 6, axis(value) + 4.5, tick_text(value), "end tick"))
    return parts


def x_axis(axis: Axis, bottom: float, label: str, *, at: Sequence[float] | None = None) -> list[str]:
    """Values under the frame and what they are under those."""
    parts = [line(axis.start, bottom, axis.end, bottom, "axis")]
    for value in axis.ticks() if at is None else at:
        parts.append(line(axis(value), bottom, axis(value), bottom + 4, "axis"))
        parts.append(text(axis(value), bottom + 18, tick_text(value), "middle tick"))
    parts.append(text((axis.start + axis.end) / 2, bottom + 35, label, "middle tick"))
    return parts


def short(value: float) -> str:
    """A coordinate in as few letters as a screen can tell apart."""
    return f"{value:.1f}".removesuffix(".0")
