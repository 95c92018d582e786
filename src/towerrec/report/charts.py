"""Charts as inline SVG: no script, no network, colours from the page's style sheet."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from towerrec.report.judge import Judged

WIDTH = 640
_NUM_COLOURS = 6


def colour(place: int) -> str:
    """Class of the n-th system; the first is the judged one."""
    return f"c{place % _NUM_COLOURS}"


def interval_chart(systems: Sequence[Judged], metric: str) -> str:
    """One line per system: the mean as a dot, the 95 % interval as a bar."""
    left, right, row, top = 190, 70, 30, 8
    highest = max(s.summary[metric]["high"] for s in systems) or 1.0
    height = top + row * len(systems) + 26

    def x(value: float) -> float:
        return left + (WIDTH - left - right) * value / highest

    parts = [_line(x(tick), top, x(tick), height - 22, "grid") for tick in _ticks(highest)]
    parts += [_text(x(tick), height - 6, f"{tick:g}", "middle tick") for tick in _ticks(highest)]
    for place, system in enumerate(systems):
        y = top + row * place + row / 2
        figure = system.summary[metric]
        name = f"{system.name} *" if system.bound else system.name
        parts += [
            _text(left - 10, y + 4, _short(name), "end"),
            _line(x(figure["low"]), y, x(figure["high"]), y, f"bar {colour(place)}"),
            f'<circle class="dot {colour(place)}" cx="{x(figure["mean"]):.1f}" cy="{y:.1f}" r="5"/>',
            _text(x(figure["high"]) + 10, y + 4, f"{figure['mean']:.4f}", "start"),
        ]
    return _svg(height, f"{metric} of every system with its 95 % interval", parts)


def curve_chart(systems: Sequence[Judged], name: str) -> str:
    """A metric against the cut K (logarithmic), one line per system; bounds are dashed."""
    left, right, top, bottom, height = 48, 16, 12, 34, 260
    cuts = sorted({int(n.split("@")[1]) for n in systems[0].summary if n.startswith(f"{name}@")})
    highest = max(s.summary[f"{name}@{k}"]["mean"] for s in systems for k in cuts) or 1.0
    span = math.log(cuts[-1] / cuts[0]) or 1.0

    def x(k: int) -> float:
        return left + (WIDTH - left - right) * (math.log(k / cuts[0]) / span if len(cuts) > 1 else 0.5)

    def y(value: float) -> float:
        return height - bottom - (height - top - bottom) * value / highest

    parts = []
    for tick in _ticks(highest):
        parts.append(_line(left, y(tick), WIDTH - right, y(tick), "grid"))
        parts.append(_text(left - 6, y(tick) + 4, f"{tick:g}", "end tick"))
    parts += [_text(x(k), height - 14, f"{k}", "middle tick") for k in cuts]
    # The judged system last, so that it lies on top.
    for place, system in reversed(list(enumerate(systems))):
        points = [(x(k), y(system.summary[f"{name}@{k}"]["mean"])) for k in cuts]
        path = " ".join(f"{px:.1f},{py:.1f}" for px, py in points)
        dashed = " dashed" if system.bound else ""
        parts.append(f'<polyline class="curve {colour(place)}{dashed}" points="{path}"/>')
        parts += [f'<circle class="dot {colour(place)}" cx="{px:.1f}" cy="{py:.1f}" r="3"/>' for px, py in points]
    return _svg(height, f"{name} against the cut K", parts)


def dial_chart(points: Sequence[tuple[float, float, str]], *, across: str, up: str) -> str:
    """Points (across, up, label) joined in their order; both axes begin at 0."""
    left, right, top, bottom, height = 56, 40, 16, 44, 300
    widest, highest = max(p[0] for p in points) or 1.0, max(p[1] for p in points) or 1.0

    def x(value: float) -> float:
        return left + (WIDTH - left - right) * value / widest

    def y(value: float) -> float:
        return height - bottom - (height - top - bottom) * value / highest

    parts = []
    for tick in _ticks(highest):
        parts += [
            _line(left, y(tick), WIDTH - right, y(tick), "grid"),
            _text(left - 6, y(tick) + 4, f"{tick:g}", "end tick"),
        ]
    parts += [_text(x(tick), height - 26, f"{tick:g}", "middle tick") for tick in _ticks(widest)]
    parts += [_text(WIDTH / 2, height - 8, across, "middle tick"), _text(6, 12, up, "start tick")]
    path = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b, _ in points)
    parts.append(f'<polyline class="curve {colour(0)}" points="{path}"/>')
    for a, b, label in points:
        parts.append(f'<circle class="dot {colour(0)}" cx="{x(a):.1f}" cy="{y(b):.1f}" r="4"/>')
        parts.append(_text(x(a) + 8, y(b) - 6, label, "start"))
    return _svg(height, f"{up} against {across}", parts)


def legend(systems: Sequence[Judged]) -> str:
    """Which colour is whose."""
    items = (
        f'<span class="key"><svg width="14" height="14" aria-hidden="true">'
        f'<circle class="dot {colour(place)}" cx="7" cy="7" r="5"/></svg>'
        f"{escape(system.name)}{' *' if system.bound else ''}</span>"
        for place, system in enumerate(systems)
    )
    return f'<p class="legend">{"".join(items)}</p>'


def _ticks(highest: float) -> list[float]:
    """Round values from 0 to `highest`, about five."""
    step = 10 ** math.floor(math.log10(highest / 4))
    step *= next(m for m in (1, 2, 5, 10) if highest / (step * m) <= 5)
    return [round(step * i, 12) for i in range(int(highest / step + 1e-9) + 1)]


def _svg(height: float, label: str, parts: Sequence[str]) -> str:
    body = "".join(parts)
    return f'<svg viewBox="0 0 {WIDTH} {height:.0f}" role="img" aria-label="{escape(label)}">{body}</svg>'


def _line(x1: float, y1: float, x2: float, y2: float, name: str) -> str:
    return f'<line class="{name}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _text(x: float, y: float, text: str, name: str) -> str:
    return f'<text class="{name}" x="{x:.1f}" y="{y:.1f}">{escape(text)}</text>'


def _short(name: str) -> str:
    return name if len(name) <= 25 else f"{name[:24]}…"
