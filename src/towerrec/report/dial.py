"""The accuracy-coverage curve of a dial: what each value gains and costs, as a table, a sentence and a section."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from towerrec.report.charts_points import Spot, spots_chart
from towerrec.report.page import charts, figure, note
from towerrec.report.paired import difference, paired_table
from towerrec.report.table import table
from towerrec.report.text import aligned


@dataclass(frozen=True)
class DialPoint:
    """Lists at one value of the dial.

    Attributes:
        weight: The value.
        per_user: One row per judged user with `ndcg@k` and `recall@k`.
        coverage: Share of the candidates among the first k places of all lists.
        popularity: Mean percentile of the listed items by training positives, 0 to 1.
        age_days: Mean age of the listed items at the last training moment; None where no age is known.
    """

    weight: float
    per_user: pl.DataFrame
    coverage: float
    popularity: float
    age_days: float | None

    def mean(self, metric: str) -> float:
        value = self.per_user[metric].mean()
        assert isinstance(value, float)
        return value


@dataclass(frozen=True)
class Curve:
    """All points, by ascending weight; one of them is 0, the dial off.

    Attributes:
        on: The split they were judged on.
        k: Cut of all figures.
        of: What the dial turns: `popularity` or `youth`.
        half_life_days: Of the popularity.
        points: The values.
    """

    on: str
    k: int
    of: str
    half_life_days: float | None
    points: Sequence[DialPoint]

    def rows(self) -> list[dict[str, Any]]:
        """Figures of every point, plain builtins."""
        return [
            {
                "weight": point.weight,
                f"ndcg@{self.k}": point.mean(f"ndcg@{self.k}"),
                f"recall@{self.k}": point.mean(f"recall@{self.k}"),
                f"coverage@{self.k}": point.coverage,
                "popularity percentile": point.popularity,
                "age in days": point.age_days,
            }
            for point in self.points
        ]

    def to_dict(self) -> dict[str, Any]:
        return {"split": self.on, "of": self.of, "half_life_days": self.half_life_days, "points": self.rows()}


def curve_text(curve: Curve) -> str:
    """The table for a terminal."""
    return "\n".join([f"prior.weight ({_what(curve)}) on {curve.on}", *aligned(_cells(curve))])


def curve_sentence(curve: Curve, *, num_resamples: int, seed: int) -> str:
    """What the curve says, with all values compared to 0 user by user."""
    metric = f"ndcg@{curve.k}"
    off = next(point for point in curve.points if point.weight == 0)
    # Of equal values the one closest to doing nothing.
    best = max(curve.points, key=lambda point: (point.mean(metric), -abs(point.weight)))
    start = f"The dial of freshness ({_what(curve)}), judged on {curve.on}"
    if best.weight == 0:
        verdict = f"no value tried beats 0 (NDCG@{curve.k} {off.mean(metric):.4f})"
    else:
        tables = {str(place): point.per_user for place, point in enumerate(curve.points)}
        at_best, at_off = (str(curve.points.index(point)) for point in (best, off))
        tried = [(place, at_off) for place in tables if place != at_off]
        table = paired_table(tables, tried, [metric], num_resamples=num_resamples, seed=seed)
        gap = difference(table, at_best, at_off, metric)
        certain = "more than chance" if gap.is_clear else "which could be chance"
        verdict = (
            f"{best.weight:g} is the best value tried: NDCG@{curve.k} {best.mean(metric):.4f} beside "
            f"{off.mean(metric):.4f} at 0, {certain} ({gap.words}), "
            f"while the lists show {best.coverage:.1%} of the candidates beside {off.coverage:.1%}"
        )
    last = curve.points[-1]
    end = f"at {last.weight:g}, the largest, NDCG@{curve.k} is {last.mean(metric):.4f} and coverage {last.coverage:.1%}"
    caution = (
        "" if curve.on == "val" else " Choose its value with eval.split=val: the best of several test figures flatters."
    )
    return f"{start}: {verdict}; {end}.{caution}"


def curve_section(curve: Curve) -> str:
    """Chart and table for the report page."""
    head, *body = _cells(curve)
    at = f"NDCG@{curve.k}"
    chart = spots_chart(
        [Spot(f"{p.weight:g}", p.coverage, p.mean(f"ndcg@{curve.k}")) for p in curve.points],
        title=f"{at} against coverage@{curve.k}",
        across=f"coverage@{curve.k}",
        up=at,
        joined=True,
    )
    words = (
        f"Every point is a value of prior.weight ({_what(curve)}) on {curve.on} rows; 0 is the model alone. "
        "Popularity percentile: of training positives, 1 is the most liked item."
    )
    return note(words) + charts([figure("More of the catalogue, or more hits", chart)]) + table(head, body)


def _what(curve: Curve) -> str:
    if curve.of == "youth":
        return "youth of the items"
    return "popularity" if curve.half_life_days is None else f"popularity, half-life {curve.half_life_days:g} days"


def _cells(curve: Curve) -> list[list[str]]:
    names = [name for name in curve.rows()[0] if any(row[name] is not None for row in curve.rows())]
    body = [
        [f"{row[n]:g}" if n == "weight" else f"{row[n]:.1f}" if n == "age in days" else f"{row[n]:.4f}" for n in names]
        for row in curve.rows()
    ]
    return [names, *body]
