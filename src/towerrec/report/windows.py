"""Windows of time side by side: a model retrained before each, the first one left as it was, and the baselines.

What a user sees as one figure per window becomes three: what retraining gives, what an old model still gives, and what
anybody can have. The last two tell whether retraining pays, and whether the window was an easy one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape

import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.charts_lines import Line, Point, lines_chart
from towerrec.report.groups import averaged, summarise_groups
from towerrec.report.page import Section, page_of
from towerrec.report.paired import Difference, difference, paired_table
from towerrec.report.table import Cell, figure_cell, table
from towerrec.report.text import aligned
from towerrec.wording import in_markdown

RETRAINED, ONCE, MEAN = "retrained", "trained once", "mean"


@dataclass(frozen=True)
class Windows:
    """The windows of one setting.

    Attributes:
        name: Of the setting.
        judged: Per-user tables by system and window; `RETRAINED` and `ONCE`, then baselines. `ONCE` in the first window
            is the retrained one.
        missing: Windows that no finished run judged.
    """

    name: str
    judged: Mapping[str, Mapping[int, pl.DataFrame]]
    missing: Sequence[int] = ()

    @property
    def numbers(self) -> list[int]:
        """The windows, in order."""
        return sorted(self.judged[RETRAINED])


def windows_table(found: Windows, *, num_resamples: int, seed: int) -> pl.DataFrame:
    """A row per system, window and figure: setting, system, trained_on, judged_on, metric, mean, low, high, users.

    `judged_on` is the number of the window, or `mean`: over users, of each user's mean over the windows that judged
    him. `trained_on` is the window that training ended before; null for a mean.
    """
    parts = []
    for system, tables in found.judged.items():
        for window, per_user in tables.items():
            trained = found.numbers[0] if system == ONCE else window
            parts.append(_rows(found.name, system, trained, str(window), [per_user], num_resamples, seed))
        parts.append(_rows(found.name, system, None, MEAN, list(tables.values()), num_resamples, seed))
    return pl.concat(parts)


def worth(found: Windows, metric: str, *, num_resamples: int, seed: int) -> Difference | None:
    """What retraining is worth in the windows after the first, user by user; None where there is none."""
    later = found.numbers[1:]
    if not later:
        return None
    tables = {name: averaged([found.judged[name][window] for window in later]) for name in (RETRAINED, ONCE)}
    compared = paired_table(tables, [(RETRAINED, ONCE)], [metric], num_resamples=num_resamples, seed=seed)
    return difference(compared, RETRAINED, ONCE, metric)


def sentences(found: Windows, figures: pl.DataFrame, metric: str, *, num_resamples: int, seed: int) -> list[str]:
    """What the windows mean, computed."""
    title = definition(metric).title
    said = []
    gain = worth(found, metric, num_resamples=num_resamples, seed=seed)
    if gain is not None:
        verdict = "makes no difference that shows:"
        if gain.is_clear:
            verdict = "is worth" if gain.mean > 0 else "costs"
        said.append(f"Retraining before each later window {verdict} {title} {gain.mean:+.4f} a user ({gain.words}).")
    means = figures.filter(pl.col("judged_on") != MEAN, pl.col("metric") == metric, pl.col("system") == RETRAINED)
    each = means["mean"].to_list()
    low, high = min(each), max(each)
    said.append(f"From window to window the retrained model's {title} lies between {low:.4f} and {high:.4f}.")
    said.append(f"The last column, {MEAN}: over users, of each user's mean over the windows that judged them.")
    if found.missing:
        said.append(f"No finished run judged window {', '.join(map(str, found.missing))}.")
    return said


def as_text(found: Windows, figures: pl.DataFrame, metric: str) -> str:
    """The windows as a table for a terminal, one column each and their mean, with intervals."""
    head, rows = _cells(found, figures, metric)
    plain = [
        [row[0], *(f"{c.text} [{c.note.replace(' to ', ', ')}]" if c.note else c.text for c in row[1])] for row in rows
    ]
    return "\n".join(aligned([head, *plain]))


def as_markdown(found: Windows, figures: pl.DataFrame, metric: str, said: Sequence[str]) -> str:
    """The same as a section of a Markdown file."""
    head, rows = _cells(found, figures, metric)
    lines = [f"## {in_markdown(found.name)}", "", f"| {' | '.join(head)} |", f"|{'---|' * len(head)}"]
    lines += [
        f"| {' | '.join([row[0], *(f'{c.text} ({c.note})' if c.note else c.text for c in row[1])])} |" for row in rows
    ]
    return "\n".join([*lines, "", *(f"- {in_markdown(sentence)}" for sentence in said), ""])


def section(found: Windows, figures: pl.DataFrame, metric: str, said: Sequence[str]) -> Section:
    """The chart, the table and the sentences of a setting."""
    head, rows = _cells(found, figures, metric)
    words = "".join(f"<p>{escape(sentence)}</p>" for sentence in said)
    meaning = f"<p>{escape(definition(metric).title)}: {escape(definition(metric).text)}</p>"
    cells = [[Cell(row[0], series=number), *row[1]] for number, row in enumerate(rows)]
    return Section(found.name, f"{words}{chart(found, figures, metric)}{table(head, cells)}{meaning}")


def page(sections: Sequence[Section], *, num_windows: int) -> str:
    """The page of a sweep over windows."""
    lead = (
        f"{num_windows} windows of time. «{RETRAINED}»: trained on what came before the window. «{ONCE}»: the model of "
        "the first window, judged on the later ones as it was. Baselines learn from what the retrained model has."
    )
    return page_of("Retraining windows", sections, lead=lead)


def chart(found: Windows, figures: pl.DataFrame, metric: str) -> str:
    """A line per system over the windows, with intervals, as SVG."""
    lines = []
    for number, system in enumerate(found.judged):
        rows = figures.filter(pl.col("system") == system, pl.col("metric") == metric, pl.col("judged_on") != MEAN).sort(
            pl.col("judged_on").cast(pl.Int64)
        )
        points = [Point(int(row["judged_on"]), row["mean"], row["low"], row["high"]) for row in rows.to_dicts()]
        lines.append(Line(system, points, series=number, dashed=system not in (RETRAINED, ONCE)))
    return lines_chart(
        lines,
        title=f"{definition(metric).title} of every window",
        across="window judged",
        up=definition(metric).title,
        at=[float(window) for window in found.numbers],
    )


def _rows(
    setting: str,
    system: str,
    trained_on: int | None,
    judged_on: str,
    tables: Sequence[pl.DataFrame],
    num_resamples: int,
    seed: int,
) -> pl.DataFrame:
    summary = summarise_groups({system: tables}, num_resamples=num_resamples, seed=seed)
    return summary.select(
        pl.lit(setting).alias("setting"),
        "system",
        pl.lit(trained_on, pl.Int64).alias("trained_on"),
        pl.lit(judged_on).alias("judged_on"),
        "metric",
        "mean",
        "low",
        "high",
        "users",
    )


def _cells(found: Windows, figures: pl.DataFrame, metric: str) -> tuple[list[str], list[tuple[str, list[Cell]]]]:
    """Headings, and for every system its name and one cell per window and for the mean."""
    columns = [*map(str, found.numbers), MEAN]
    rows = []
    for system in found.judged:
        of_system = figures.filter(pl.col("system") == system, pl.col("metric") == metric)
        by_window = {row["judged_on"]: row for row in of_system.to_dicts()}
        rows.append((system, [figure_cell(by_window.get(column, {})) for column in columns]))
    return [definition(metric).title, *(c if c == MEAN else f"window {c}" for c in columns)], rows
