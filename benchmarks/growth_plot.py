"""The growth curves as one SVG: a panel for every axis, both scales logarithmic, a line for every step.

It follows the reader's light or dark scheme and has a background of its own, so that it can be read on any page.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from html import escape
from typing import Any

COLOURS = {
    "prepare": ("#2a78d6", "#6cabf5"),
    "train": ("#c8501e", "#f2894f"),
    "train, softmax": ("#a33a86", "#e07fc4"),
    "evaluate": ("#26835a", "#56bb8c"),
    "recommend": ("#8a6a00", "#d6ae3a"),
}
PANEL_WIDTH, PANEL_HEIGHT, COLUMNS = 296, 268, 3
LEFT, RIGHT, TOP, BOTTOM, HEAD = 46, 60, 30, 34, 10


def draw(axes: dict[str, dict[str, Any]]) -> str:
    """An SVG of `{axis: {step: {sizes, seconds, slope, ...}}}`."""
    steps = list(dict.fromkeys(step for found in axes.values() for step in found))
    seconds = [s for found in axes.values() for step in found.values() for s in step["seconds"]]
    low, high = math.floor(math.log10(min(seconds))), math.ceil(math.log10(max(seconds)))
    places = [(i % COLUMNS * PANEL_WIDTH, HEAD + i // COLUMNS * PANEL_HEIGHT) for i in range(len(axes) + 1)]
    width, height = COLUMNS * PANEL_WIDTH, places[-1][1] + PANEL_HEIGHT
    parts = [f'<rect class="page" width="{width}" height="{height}"/>']
    for (axis, found), place in zip(axes.items(), places, strict=False):
        parts += _panel(axis, found, place, (low, high))
    parts += _key(steps, places[len(axes)])
    body = "\n".join(parts)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="Seconds of every step against the size of the log and of the model">\n'
        f"{_style()}\n{body}\n</svg>\n"
    )


def _style() -> str:
    light, dark = (_rules(scheme) for scheme in (0, 1))
    return (
        "<style>text{font:11px system-ui,sans-serif;fill:#333}.title{font-size:13px;font-weight:600}.page{fill:#fff}"
        ".grid{stroke:#ddd}polyline{fill:none!important;stroke-width:2}.end{text-anchor:end}.middle{text-anchor:middle}"
        f".slope{{stroke:none}}{light}@media(prefers-color-scheme:dark){{text{{fill:#ccc}}.page{{fill:#16181d}}"
        f".grid{{stroke:#33373f}}{dark}}}text.slope{{stroke:none}}</style>"
    )


def _rules(scheme: int) -> str:
    return "".join(f".s{i}{{stroke:{c[scheme]};fill:{c[scheme]}}}" for i, c in enumerate(COLOURS.values()))


def _panel(axis: str, found: dict[str, Any], place: tuple[int, int], decades: tuple[int, int]) -> Iterator[str]:
    sizes = sorted({size for step in found.values() for size in step["sizes"]})
    left, top = place[0] + LEFT, place[1] + TOP
    width, height = PANEL_WIDTH - LEFT - RIGHT, PANEL_HEIGHT - TOP - BOTTOM

    def x(size: float) -> float:
        return left + width * math.log(size / sizes[0]) / math.log(sizes[-1] / sizes[0])

    def y(seconds: float) -> float:
        return top + height * (decades[1] - math.log10(seconds)) / (decades[1] - decades[0])

    yield f'<text class="title" x="{left}" y="{top - 12}">{escape(axis)}</text>'
    for power in range(decades[0], decades[1] + 1):
        at = y(10.0**power)
        yield f'<line class="grid" x1="{left}" y1="{at:.1f}" x2="{left + width}" y2="{at:.1f}"/>'
        yield f'<text class="end" x="{left - 6}" y="{at + 4:.1f}">{10.0**power:g} s</text>'
    for size in sizes[:: 2 if len(sizes) < 8 else 3]:
        yield f'<text class="middle" x="{x(size):.1f}" y="{top + height + 16}">{_short(size)}</text>'
    labels: dict[str, float] = {}
    for last in {figures["sizes"][-1] for figures in found.values()}:
        ends = {step: y(f["seconds"][-1]) for step, f in found.items() if f["sizes"][-1] == last}
        labels |= _apart(ends)
    for step, figures in found.items():
        name = f"s{list(COLOURS).index(step)}"
        points = " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in zip(figures["sizes"], figures["seconds"], strict=True))
        yield f'<polyline class="{name}" points="{points}"/>'
        end = x(figures["sizes"][-1])
        slope = f"{figures['slope']:.2f} ({figures['arithmetic']:g}{'!' if figures['flag'] else ''})"
        yield f'<text class="slope {name}" x="{end + 6:.1f}" y="{labels[step] + 4:.1f}">{slope}</text>'


def _apart(wanted: dict[str, float], least: float = 12.0) -> dict[str, float]:
    """Heights of the labels, moved down where they would lie on one another."""
    placed: dict[str, float] = {}
    last = -math.inf
    for step, at in sorted(wanted.items(), key=lambda pair: pair[1]):
        last = placed[step] = max(at, last + least)
    return placed


def _key(steps: list[str], place: tuple[int, int]) -> Iterator[str]:
    left, top = place[0] + LEFT, place[1] + TOP
    for i, step in enumerate(steps):
        y = top + 20 * i
        yield f'<polyline class="s{list(COLOURS).index(step)}" points="{left},{y} {left + 26},{y}"/>'
        yield f'<text x="{left + 34}" y="{y + 4}">{escape(step)}</text>'
    below = top + 20 * len(steps) + 14
    words = (
        "Seconds against size, both logarithmic.",
        "At the end of a line its slope (1: twice the",
        "size, twice the seconds), and in brackets",
        "the most that arithmetic accounts for.",
    )
    for i, line in enumerate(words):
        yield f'<text x="{left}" y="{below + 15 * i}">{line}</text>'


def _short(size: int) -> str:
    for unit, word in ((2**20, "M"), (2**10, "k")):
        if size >= unit:
            return f"{size / unit:g} {word}"
    return str(size)
