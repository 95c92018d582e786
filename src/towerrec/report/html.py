"""The report of an evaluation as one self-contained page: which sections it has, and in which order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.cast import Cast
from towerrec.report.dial import Curve, curve_section
from towerrec.report.judge import Judged, Summary
from towerrec.report.page import Section, bullets, folded, page_of
from towerrec.report.paired import difference
from towerrec.report.sections.background import audit_section, data_section, deck, rules_section, run_section
from towerrec.report.sections.figures import figures_section, predicted_section
from towerrec.report.sections.items import ItemMap, map_section
from towerrec.report.sections.people import Example, people_section
from towerrec.report.sections.plots import (
    Course,
    calibration_section,
    cuts_section,
    popularity_section,
    training_section,
)
from towerrec.report.sections.slices import slices_sections

SENTENCES_SHOWN = 8
"""Sentences that are not folded away."""


@dataclass(frozen=True)
class Report:
    """What a page shows; what a judgement has not is left out of it.

    Attributes:
        title: Heading of the page.
        systems: The judged system first, then what stands beside it.
        sentences: What the figures mean.
        facts: What was run: names and values, nested where that helps.
        rules: How it was judged (`Protocol.describe`).
        data: The data report.
        paired: The judged system beside each other one, user by user.
        values: Errors of predicted values.
        constant_values: The same of constants and simple predictions.
        calibration: Predicted and actual values by bins.
        slices: Figures by groups of users and items.
        references: What relevant items and candidates themselves have of the figures beyond accuracy.
        curve: What a dial gains and costs.
        courses: How the trainings behind it went.
        items: A map of the item vectors.
        examples: Some users' lists.
        left_out: What else could not be shown, and why.
    """

    title: str
    systems: Sequence[Judged]
    sentences: Sequence[str]
    facts: Mapping[str, Any] = field(default_factory=dict)
    rules: Mapping[str, Any] = field(default_factory=dict)
    data: Mapping[str, Any] = field(default_factory=dict)
    paired: pl.DataFrame | None = None
    values: Summary = field(default_factory=dict)
    constant_values: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    calibration: pl.DataFrame | None = None
    slices: pl.DataFrame | None = None
    references: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    curve: Curve | None = None
    courses: Sequence[Course] = ()
    items: ItemMap | None = None
    examples: Sequence[Example] = ()
    left_out: Sequence[str] = ()


def page(report: Report) -> str:
    """The whole page as text."""
    cast = Cast(report.systems)
    sections: list[Section | None] = [
        Section("What the figures say", _sentences(report.sentences)),
        figures_section(cast, report.paired),
        cuts_section(cast),
        popularity_section(cast, report.references),
    ]
    if report.slices is not None:
        sections += slices_sections(cast, report.slices)
    if report.curve is not None:
        sections.append(Section("Accuracy against coverage", curve_section(report.curve)))
    if report.values:
        sections.append(predicted_section(cast.judged.name, report.values, report.constant_values))
    if report.calibration is not None and not report.calibration.is_empty():
        sections.append(calibration_section(report.calibration))
    sections.append(training_section(report.courses))
    if report.items is not None:
        sections.append(map_section(report.items))
    if report.examples:
        sections.append(people_section(report.examples))
    if report.data:
        sections.append(data_section(report.data))
    sections.append(rules_section(report.rules, report.left_out))
    if report.facts.get("audit"):
        sections.append(audit_section(report.facts["audit"]))
    sections.append(run_section(report.facts))
    shown = [section for section in sections if section is not None]
    return page_of(report.title, shown, lead=headline(cast, report.paired), deck=deck(report.rules, report.data))


def _sentences(sentences: Sequence[str]) -> str:
    """The first say who is better and whether that is taste, chance or popularity; the others on demand."""
    first, others = sentences[:SENTENCES_SHOWN], sentences[SENTENCES_SHOWN:]
    return bullets(first) + (folded(f"{len(others)} more", bullets(others)) if others else "")


def headline(cast: Cast, paired: pl.DataFrame | None) -> str:
    """The result in one sentence: the main figure, and what the strongest simple list leaves of it."""
    own, title = cast.judged.summary[cast.metric], definition(cast.metric).title
    figure = f"{title} {own['mean']:.3f} ({own['low']:.3f} to {own['high']:.3f})"
    if cast.rival is None or paired is None:
        return f"{cast.judged.name} reaches {figure}."
    gap = difference(paired, cast.judged.name, cast.rival.name, cast.metric)
    rival = f"{cast.rival.name} ({cast.rival.summary[cast.metric]['mean']:.3f})"
    apart = f"{gap.mean:+.3f}, {gap.low:+.3f} to {gap.high:+.3f}"
    if not gap.is_clear:
        return f"{cast.judged.name} reaches {figure}, which cannot be told from {rival}: difference {apart}."
    side = "above" if gap.mean > 0 else "below"
    return f"{cast.judged.name} reaches {figure}, clearly {side} the best of the others, {rival}: difference {apart}."
