"""The differences of a comparison by groups of users: a chart per slice, and all of it in numbers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.charts_rows import Bar, Row, rows_chart
from towerrec.report.correction import TITLES
from towerrec.report.page import Section, bullets, charts, figure, folded, note
from towerrec.report.paired import LEVEL
from towerrec.report.slices import SMALL, slice_title
from towerrec.report.table import Cell, figure_cell, table

MOST_PAIRS = 3
"""Pairs that a chart has room for; the others stand in the table."""


def by_group_section(found: pl.DataFrame) -> Section:
    """For whom one system is better than another.

    Args:
        found: Differences of one figure (`report.by_group.by_group`).
    """
    title = definition(found["metric"][0]).title
    pairs = found.select("first", "second").unique(maintain_order=True).rows()
    drawn = [
        figure(slice_title(str(name)), _chart(part, pairs[:MOST_PAIRS], title), words=f"difference of {title}")
        for (name,), part in found.group_by("slice", maintain_order=True)
    ]
    about = found.row(0, named=True)
    corrected = (
        "" if about["correction"] == "none" else f", corrected for {about['family']} ({TITLES[about['correction']]})"
    )
    words = (
        f"Paired by user within each group, 95 % intervals{corrected}; «few» marks groups of fewer than {SMALL} users."
    )
    return Section("Differences by group", bullets(sentences(found)) + charts(drawn) + note(words) + _numbers(found))


def sentences(found: pl.DataFrame) -> list[str]:
    """Which groups, small ones aside, a system is clearly better or worse for."""
    said = []
    clear = ((pl.col("low") > 0) | (pl.col("high") < 0)) & (pl.col("p_adjusted") <= LEVEL) & ~pl.col("small")
    for (first, second), part in found.group_by("first", "second", maintain_order=True):
        for better, sign in (("better", 1), ("worse", -1)):
            groups = part.filter(clear, pl.col("mean") * sign > 0)
            if groups.height:
                names = [f"{slice_title(row['slice'])} {row['group']}" for row in groups.head(4).to_dicts()]
                more = f" and {groups.height - 4} more" if groups.height > 4 else ""
                said.append(f"{first} is {better} than {second} by more than chance for: {'; '.join(names)}{more}.")
    if not said and bool(found["small"].all()):
        return [f"Every group has fewer than {SMALL} users: none of them says much."]
    return said or ["In no group of users is the difference more than chance."]


def _chart(part: pl.DataFrame, pairs: Sequence[tuple[str, str]], title: str) -> str:
    rows = []
    for (group,), cells in part.sort("order", maintain_order=True).group_by("group", maintain_order=True):
        by_pair: dict[Any, dict[str, Any]] = {(row["first"], row["second"]): row for row in cells.to_dicts()}
        bars = [
            Bar(by_pair[pair]["mean"], by_pair[pair]["low"], by_pair[pair]["high"], series)
            for series, pair in enumerate(pairs)
            if pair in by_pair
        ]
        few = "few: " if cells["small"][0] else ""
        rows.append(Row(str(group), bars, remark=f"{few}{cells['users'][0]:,} users"))
    legend = [(f"{first} − {second}", series) for series, (first, second) in enumerate(pairs)]
    name = slice_title(str(part["slice"][0]))
    return rows_chart(
        rows, title=f"{name}: differences of {title}", unit=f"difference of {title}", signed=True, legend=legend
    )


def _numbers(found: pl.DataFrame) -> str:
    rows: list[list[str | Cell]] = [
        [
            Cell(str(row["group"]), note=slice_title(str(row["slice"]))),
            f"{row['first']} − {row['second']}",
            figure_cell(row, signed=True),
            *(f"{row[share]:.0%}" for share in ("wins", "losses", "ties")),
            "< 0.001" if row["p_adjusted"] < 0.001 else f"{row['p_adjusted']:.3f}",
            f"{row['users']:,}",
        ]
        for row in found.to_dicts()
    ]
    head = ["", "", "difference", "better for", "worse for", "equal", "p adjusted", "users"]
    return folded("In numbers", table(head, rows))
