"""Who profits and who does not: figures by groups of users and of items, with counts and intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.cast import Cast
from towerrec.report.charts_rows import Bar, Row, rows_chart
from towerrec.report.page import Section, bullets, charts, figure, folded, note
from towerrec.report.slices import TITLES, slice_title
from towerrec.report.table import Cell, figure_cell, table

_MOST_GROUPS = 12
"""Of a chart; the largest are drawn, all stand in the table."""

LENGTHS = ("history", "activity")
"""Slices by how much training knows of a user."""


def slices_sections(cast: Cast, frame: pl.DataFrame) -> list[Section]:
    """Length of history, other groups of users, groups of items."""
    users = frame.filter(pl.col("side") == "user")
    lengths = users.filter(pl.col("slice").is_in(LENGTHS))
    others = users.filter(~pl.col("slice").is_in(LENGTHS))
    items = frame.filter(pl.col("side") == "item")
    sections = []
    for title, part in (("Length of history", lengths), ("Groups of users", others), ("Groups of items", items)):
        if part.is_empty():
            continue
        side = str(part["side"][0])
        known = pl.col("slice").is_in(list(TITLES))
        body = bullets(slice_sentences(cast, part)) + charts(_drawn(cast, part.filter(known), side))
        body += note(_how(cast, side))
        for name in part.filter(~known)["slice"].unique(maintain_order=True):
            body += folded(f"By {name}", charts(_drawn(cast, part.filter(pl.col("slice") == name), side)))
        body += folded("In numbers", slices_table(cast, part))
        sections.append(Section(title, body))
    return sections


def slice_sentences(cast: Cast, frame: pl.DataFrame) -> list[str]:
    """Per slice: where the judged system is best and worst, and where it falls behind its strongest rival."""
    found = []
    for name in frame["slice"].unique(maintain_order=True):
        rows = _figures_of(cast, frame, name, cast.judged.name).filter(~pl.col("small")).to_dicts()
        if len(rows) < 2:
            continue
        worst, best = (pick(rows, key=lambda row: row["mean"]) for pick in (min, max))
        apart = best["low"] is not None and worst["high"] is not None and best["low"] > worst["high"]
        chance = "their intervals do not touch" if apart else "their intervals overlap"
        title = definition(str(rows[0]["metric"])).title
        sentence = (
            f"{slice_title(name)}: {title} {worst['mean']:.4f} for {worst['group']} to {best['mean']:.4f} for "
            f"{best['group']} ({chance})"
        )
        behind = _behind(cast, frame, name)
        if behind and cast.rival is not None:
            sentence += f"; clearly below {cast.rival.name} for {', '.join(behind)}"
        found.append(f"{sentence}.")
    return found


def _behind(cast: Cast, frame: pl.DataFrame, name: str) -> list[str]:
    """Groups, small ones aside, where the interval of the strongest rival lies above that of the judged system."""
    if cast.rival is None:
        return []
    own, rival = (_figures_of(cast, frame, name, system.name) for system in (cast.judged, cast.rival))
    both = own.join(rival.select("group", rival="low"), on="group", maintain_order="left")
    behind = both.filter(~pl.col("small"), pl.col("high") < pl.col("rival"))
    return [str(group) for group in behind["group"].head(4)] + (["others"] if behind.height > 4 else [])


def _figures_of(cast: Cast, frame: pl.DataFrame, name: str, system: str) -> pl.DataFrame:
    """One row per group of a slice: the main figure of a system."""
    metric = _metric(cast, str(frame["side"][0]))
    known = (pl.col("slice") == name, pl.col("metric") == metric, pl.col("system") == system)
    return frame.filter(*known, pl.col("mean").is_not_null()).sort("order")


def _metric(cast: Cast, side: str) -> str:
    return cast.metric if side == "user" else f"item_recall@{cast.k}"


def _drawn(cast: Cast, frame: pl.DataFrame, side: str) -> list[str]:
    drawn = []
    for name in frame["slice"].unique(maintain_order=True):
        part = frame.filter(pl.col("slice") == name)
        kept, hidden = _largest(part)
        if kept.is_empty():
            continue
        more = f"; the largest {_MOST_GROUPS} of {_MOST_GROUPS + hidden} groups" if hidden else ""
        chart = slice_chart(cast, kept, side)
        if chart:
            drawn.append(figure(slice_title(name), chart, words=f"{definition(_metric(cast, side)).title}{more}"))
        shares = exposure_chart(cast, kept) if side == "item" else ""
        if shares:
            drawn.append(
                figure(f"{slice_title(name)}: what is shown", shares, words=f"share of the places up to {cast.k}")
            )
    return drawn


def slice_chart(cast: Cast, part: pl.DataFrame, side: str) -> str:
    """The main figure by group: the judged system and its strongest rival. Empty where there is nothing to draw."""
    shown = [s for s in (cast.judged, cast.rival) if s is not None]
    metric = _metric(cast, side)
    found = part.filter(pl.col("metric") == metric, pl.col("system").is_in([s.name for s in shown]))
    rows = _rows(found, "users" if side == "user" else "items", {s.name: cast.series(s.name) for s in shown})
    if not rows:
        return ""
    title = definition(metric).title
    legend = [(cast.label(s, 40), cast.series(s.name)) for s in shown]
    return rows_chart(rows, title=f"{slice_title(str(part['slice'][0]))}: {title}", unit=title, legend=legend)


def exposure_chart(cast: Cast, part: pl.DataFrame) -> str:
    """The share of the lists that a group has, beside its share of the relevant items. Empty where not measured."""
    exposure = f"share_of_exposure@{cast.k}"
    own = part.filter(pl.col("metric") == exposure, pl.col("system") == cast.judged.name)
    relevant = part.filter(pl.col("metric") == "share_of_relevant").with_columns(system=pl.lit("relevant items"))
    if own.is_empty():
        return ""
    series = {cast.judged.name: 0, "relevant items": 1}
    rows = _rows(pl.concat([own, relevant]), "items", series)
    title = f"{slice_title(str(part['slice'][0]))}: share of the lists and of the relevant items"
    legend = [(f"lists of {cast.judged.name}", 0), ("relevant items", 1)]
    return rows_chart(rows, title=title, unit="share", legend=legend)


def _rows(found: pl.DataFrame, counted: str, series: Mapping[str, int]) -> list[Row]:
    """A row per group with a figure per system, in their orders."""
    found = found.filter(pl.col("mean").is_not_null())
    rows = []
    for _, group in found.sort("order", maintain_order=True).group_by("order", maintain_order=True):
        by_system = {str(row["system"]): row for row in group.to_dicts()}
        bars = [
            Bar(by_system[name]["mean"], by_system[name]["low"], by_system[name]["high"], number)
            for name, number in series.items()
            if name in by_system
        ]
        first = group.row(0, named=True)
        few = "few: " if first["small"] else ""
        rows.append(Row(str(first["group"]), bars, remark=f"{few}{first[counted]:,} {counted}"))
    return rows


def _largest(part: pl.DataFrame) -> tuple[pl.DataFrame, int]:
    """The groups that a chart has room for, and how many it has not."""
    sizes = part.group_by("order", maintain_order=True).agg(size=pl.max_horizontal("users", "items").max())
    hidden = max(0, sizes.height - _MOST_GROUPS)
    kept = sizes.sort("size", descending=True, maintain_order=True).head(_MOST_GROUPS)["order"]
    return part.filter(pl.col("order").is_in(kept.implode())), hidden


def _how(cast: Cast, side: str) -> str:
    beside = f" beside {cast.rival.name}, the strongest of the others" if cast.rival is not None else ""
    return (
        f"{cast.judged.name}{beside}; bars are 95 % intervals over users; «few» marks groups of fewer than 30 {side}s."
    )


def slices_table(cast: Cast, frame: pl.DataFrame) -> str:
    """All groups and systems in numbers: the main figure of the side."""
    metric = _metric(cast, str(frame["side"][0]))
    systems = [s for s in cast.systems if s.name in frame["system"].unique().to_list()]
    found = frame.filter(pl.col("metric") == metric)
    rows: list[Sequence[str | Cell]] = []
    for (name, _), group in found.sort("order").group_by("slice", "order", maintain_order=True):
        by_system = {str(row["system"]): row for row in group.to_dicts()}
        first = group.row(0, named=True)
        count = f"{first['users']:,}" if first["side"] == "user" else f"{first['items']:,}"
        cells = [figure_cell(by_system.get(s.name, {})) for s in systems]
        rows.append([Cell(str(first["group"]), note=slice_title(str(name))), count, *cells])
    rows.sort(key=lambda row: row[0].note if isinstance(row[0], Cell) else "")
    counted = "users" if str(frame["side"][0]) == "user" else "items"
    heads = (Cell(cast.label(s), series=cast.series(s.name)) for s in systems)
    head: list[str | Cell] = [definition(metric).title, counted, *heads]
    return table(head, rows)
