"""Columns by name: errors that help."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

from towerrec.wording import shortened


def missing_column(name: str, existing: Iterable[str], where: str) -> ValueError:
    """The error for a column that is not there: names it, the place, and the closest existing column.

    Args:
        name: The column that was asked for.
        existing: Columns that are there.
        where: The file or table, as the user knows it.
    """
    names = [shortened(column) for column in existing]
    near = difflib.get_close_matches(name, names, n=1, cutoff=0.5)
    closest = f": did you mean {near[0]!r}?" if near else "."
    listed = ", ".join(names[:40]) + (", ..." if len(names) > 40 else "")
    return ValueError(f"{where} has no column {shortened(name)!r}{closest} It has: {listed or 'no columns at all'}")


def require_columns(names: Iterable[str], existing: Iterable[str], where: str) -> None:
    """Raise `missing_column` for the first of `names` that is not there."""
    there = list(existing)
    for name in names:
        if name not in there:
            raise missing_column(name, there, where)
