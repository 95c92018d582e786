"""Plots of a judgement: figures against K, popularity against accuracy, calibration, the course of the training."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.cast import Cast
from towerrec.report.charts_lines import Line, Point, lines_chart
from towerrec.report.charts_points import Spot, spots_chart
from towerrec.report.judge import Judged
from towerrec.report.page import Section, charts, figure, note

_AGAINST_K = ("ndcg", "recall", "precision", "coverage")
POPULARITY = "popularity_percentile"


@dataclass(frozen=True)
class Course:
    """How a training went.

    Attributes:
        curves: `epoch` (from 1) and one list per figure, None where an epoch has none.
        monitor: The figure that chose the model.
        title: What training this was, where there were several.
    """

    curves: Mapping[str, Sequence[float | None]]
    monitor: str
    title: str = ""


def cuts_section(cast: Cast) -> Section | None:
    """Figures against the length of the list; None where there is one length only."""
    if len(_cuts(cast.judged, "ndcg")) < 2:
        return None
    drawn = [
        figure(f"{definition(name).title.removesuffix('@k')} against K", cuts_chart(cast, name))
        for name in _AGAINST_K
        if _cuts(cast.judged, name)
    ]
    words = "Bands are 95 % intervals over users; coverage is one number of all lists and has none."
    if cast.undrawn:
        words += f" {cast.undrawn} further systems stand in the table alone."
    return Section("Longer and shorter lists", note(words) + charts(drawn))


def cuts_chart(cast: Cast, name: str) -> str:
    """A figure of the systems against the cut K."""
    cuts = _cuts(cast.judged, name)
    lines = [
        Line(cast.label(s), [_at(s, f"{name}@{k}", k) for k in cuts], cast.series(s.name), dashed=s.bound)
        for s in cast.drawn
    ]
    title = definition(name).title
    return lines_chart(lines, title=f"{title} against K", across="K (length of the list)", up=title, log=True, at=cuts)


def popularity_section(cast: Cast, references: Mapping[str, Mapping[str, float]]) -> Section | None:
    """Every system by how popular its lists are and how right; None where popularity was not measured."""
    name = f"{POPULARITY}@{cast.k}"
    known = [s for s in cast.ordered if s.summary.get(name, {}).get("mean") is not None]
    if cast.judged not in known:
        return None
    spots = [
        Spot(
            cast.label(s, 26),
            x=s.summary[name]["mean"] * 100,
            y=s.summary[cast.metric]["mean"],
            across=_interval(s.summary[name], 100),
            up=_interval(s.summary[cast.metric]),
            series=cast.series(s.name),
        )
        for s in known
    ]
    relevant = references.get("relevant", {}).get(POPULARITY)
    marked = None if relevant is None else (relevant * 100, "relevant items")
    title = definition(cast.metric).title
    chart = spots_chart(
        spots,
        title=f"Popularity of the lists against {title}",
        across="popularity percentile of the listed items",
        up=title,
        marked=marked,
    )
    own = cast.judged.summary[name]["mean"]
    words = f"An item of {cast.judged.name}'s lists was liked in training more often than {own:.0%} of the candidates"
    words += f"; a relevant item more often than {relevant:.0%}." if relevant is not None else "."
    return Section(
        "Popularity against accuracy", note(words) + charts([figure("Up is better, right is popular", chart)])
    )


def calibration_section(frame: pl.DataFrame) -> Section:
    """Predicted against actual values by bins of the prediction, with intervals."""
    bins = frame.sort("predicted").to_dicts()
    unit = str(bins[0]["unit"])
    spots = [
        Spot("", b["predicted"], b["actual"], up=(b["low"], b["high"]) if b["low"] is not None else None) for b in bins
    ]
    chart = spots_chart(
        spots, title="Predicted against actual values", across=f"predicted {unit}", up=f"actual {unit}", diagonal=True
    )
    off = [b for b in bins if b["low"] is not None and not b["low"] <= b["predicted"] <= b["high"]]
    high = [b for b in off if b["predicted"] > b["high"]]
    words = (
        f"{sum(b['rows'] for b in bins):,} rows in {len(bins)} bins of their prediction; on the dashed line the model "
        f"means what it says. Of the {len(bins)} bins {len(off)} lie off it by more than their 95 % interval: "
        f"{len(high)} promise too much, {len(off) - len(high)} too little."
    )
    return Section("Calibration", note(words) + charts([figure("Predicted against actual", chart)]))


def training_section(courses: Sequence[Course]) -> Section | None:
    """Loss and watched figure by epoch; the chosen epoch is marked."""
    drawn = [chart for course in courses for chart in _course(course)]
    if not drawn:
        return None
    return Section("The training", charts(drawn))


def chosen_epoch(course: Course) -> float | None:
    """The epoch whose watched figure is best, the first of equals; None where it was never logged."""
    epochs = course.curves["epoch"]
    found = [(v, e) for v, e in zip(course.curves.get(course.monitor, []), epochs, strict=False) if v is not None]
    if not found:
        return None
    top = (max if _rises(course.monitor) else min)(value for value, _ in found)
    return next(epoch for value, epoch in found if value == top)


def _course(course: Course) -> list[str]:
    chosen = chosen_epoch(course)
    losses = [name for name in course.curves if name.endswith("/loss")]
    watched = [course.monitor] if course.monitor in course.curves and course.monitor not in losses else []
    drawn = []
    for names, up in ((losses, "loss"), (watched, definition(_bare(course.monitor)).title if watched else "")):
        lines = [Line(n, points, i) for i, n in enumerate(names) if (points := _points(course.curves, n))]
        if not lines:
            continue
        chart = lines_chart(
            lines,
            title=f"{course.title}{up} by epoch",
            across="epoch",
            up=up,
            zero=False,
            at=[e for e in course.curves["epoch"] if e is not None],
            marked=None if chosen is None else (chosen, f"chosen: {chosen:g}"),
        )
        drawn.append(figure(f"{course.title}{up} by epoch", chart))
    return drawn


def _points(curves: Mapping[str, Sequence[float | None]], name: str) -> list[Point]:
    return [Point(e, v) for e, v in zip(curves["epoch"], curves[name], strict=True) if e is not None and v is not None]


def _bare(monitor: str) -> str:
    return monitor.split("/", 1)[-1]


def _rises(monitor: str) -> bool:
    return _bare(monitor) != "loss" and definition(_bare(monitor)).better != "lower"


def _cuts(judged: Judged, name: str) -> list[int]:
    return sorted(int(n.split("@")[1]) for n in judged.summary if n.startswith(f"{name}@"))


def _at(system: Judged, name: str, k: int) -> Point:
    found = system.summary[name]
    return Point(k, found["mean"], found["low"], found["high"])


def _interval(found: Mapping[str, Any], times: float = 1) -> tuple[float, float] | None:
    return None if found.get("low") is None else (found["low"] * times, found["high"] * times)
