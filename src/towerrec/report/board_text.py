"""A leaderboard in Markdown, and shorter for a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.board import Board, further_figures, interval
from towerrec.report.standings import readable
from towerrec.report.text import aligned
from towerrec.wording import fenced, in_markdown, one_line

ALIKE = "≈"
"""Marks what cannot be told apart from the best."""

Row = Mapping[str, Any]


def title(name: str) -> str:
    """A figure as people write it."""
    return name if name == "loss" else definition(name).title


Columns = dict[str, list[str]]
"""Texts of a table by head."""


def cells(table: pl.DataFrame, *, brief: bool = False) -> list[list[str]]:
    """Head and rows of the whole table as texts.

    Args:
        table: Of a board.
        brief: Leaves out what does not fit on a terminal's line.
    """
    columns = {**names(table), **figures(table, brief=brief), **costs(table)}
    left_out = ("sd of runs", "test Recall", "parameters", "epochs") if brief else ()
    return in_rows({name: column for name, column in columns.items() if not name.startswith(left_out)})


def in_rows(columns: Columns) -> list[list[str]]:
    """Columns as rows, the heads first."""
    return [list(columns), *(list(row) for row in zip(*columns.values(), strict=True))]


def names(table: pl.DataFrame) -> Columns:
    """Place and setting."""
    rows = _rows(table)
    return {"": [_whole(row["place"]) for row in rows], "setting": [readable(row["setting"]) for row in rows]}


def figures(table: pl.DataFrame, *, brief: bool = False) -> Columns:
    """How many runs there are, and what they reach."""
    columns: Columns = {"runs": [_whole(row["runs"]) for row in _rows(table)]}
    for on in ("validation", "test"):
        name = _name(table, "figure" if on == "validation" else "test_figure")
        if name is not None:
            columns[f"{on} {title(name)}"] = [figure(row, on) for row in _rows(table)]
            if on == "validation":
                columns["behind the best"] = [behind(row, brief=brief) for row in _rows(table)]
            if table[f"{on}_sd"].is_not_null().any():
                columns[f"sd of runs ({on})"] = [_digits(row[f"{on}_sd"]) for row in _rows(table)]
    for name in further_figures(table):
        columns[f"test {title(name.removeprefix('test/'))}"] = [figure(row, name) for row in _rows(table)]
    return columns


def costs(table: pl.DataFrame) -> Columns:
    """What a run costs, and how it ended."""
    found = {
        "epochs": [_number(row["epochs"], "g") for row in _rows(table)],
        "seconds": [_number(row["seconds"], ",.1f") for row in _rows(table)],
        "rows/s": [_number(row["rows_per_second"], ",.0f") for row in _rows(table)],
        "memory": [memory(row["peak_memory_bytes"]) for row in _rows(table)],
        "parameters": [_number(row["parameters"], ",d") for row in _rows(table)],
    }
    if table["peak_device_memory_bytes"].is_not_null().any():
        found["device memory"] = [memory(row["peak_device_memory_bytes"]) for row in _rows(table)]
    return found | {"status": [row["status"] for row in _rows(table)]}


def figure(row: Row, on: str) -> str:
    """A figure with its interval."""
    if row[on] is None:
        return ""
    low, high = interval(row, on)
    return _digits(row[on]) if low is None else f"{_digits(row[on])} ({_digits(low)} to {_digits(high)})"


def behind(row: Row, *, brief: bool = False) -> str:
    """How far a setting is behind the best, in words whether that is more than chance."""
    if row["behind"] is None:
        return ""
    ends = "" if brief else f" ({_digits(row['behind_low'])} to {_digits(row['behind_high'])})"
    mark = "" if row["clearly_behind"] else f" {ALIKE}"
    return f"{_digits(row['behind'])}{ends}, p {row['p_adjusted']:.4f}{mark}"


def markdown(board: Board) -> str:
    """The board as a Markdown file: table, notes, why jobs did not finish, and the commands."""
    head, *body = cells(board.table)
    lines = [
        f"# Leaderboard of {in_markdown(board.sweep.name)}",
        "",
        f"| {' | '.join(head)} |",
        f"|{'---|' * len(head)}",
        *(f"| {' | '.join(map(in_markdown, row))} |" for row in body),
        "",
        *(f"- {in_markdown(note)}" for note in board.notes),
    ]
    for row in _rows(board.table):
        if row["why"]:
            lines.append(f"- {in_markdown(readable(row['setting']))}: {in_markdown(row['why'])}")
    return "\n".join([*lines, "", "Every run's command:", "", fenced("\n".join(commands(board.table)), "bash"), ""])


def commands(table: pl.DataFrame) -> list[str]:
    """One line of shell per run, in the order of the board, with its job behind it."""
    return [
        f"{command}   # job {job}"
        for row in _rows(table)
        for command, job in zip(row["commands"], row["jobs"], strict=True)
    ]


def terminal(board: Board) -> str:
    """The board for a terminal."""
    head, *body = cells(board.table, brief=True)
    if not body:
        return "no job has a directory yet"
    # The setting to the left, everything else to the right.
    place, setting, *rest = zip(head, *body, strict=True)
    named = [f"{p:>2} {s}" for p, s in zip(place, setting, strict=True)]
    lines = aligned([list(row) for row in zip(named, *rest, strict=True)])
    said = [f"- {one_line(note)}" for note in board.notes]
    why = [
        f"- {one_line(readable(row['setting']))}: {one_line(row['why'])}" for row in _rows(board.table) if row["why"]
    ]
    return "\n".join([*lines, *said, *why])


def memory(size: int | None) -> str:
    """Bytes as GiB."""
    return "" if size is None else f"{size / 2**30:.2f} GiB"


def _rows(table: pl.DataFrame) -> list[dict[str, Any]]:
    return table.to_dicts()


def _name(table: pl.DataFrame, column: str) -> str | None:
    known = table[column].drop_nulls()
    return None if known.is_empty() else str(known[0])


def _digits(value: float | None) -> str:
    return _number(value, ".4f")


def _whole(value: int | None) -> str:
    return _number(value, "d")


def _number(value: float | None, form: str) -> str:
    return "" if value is None else f"{value:{form}}"
