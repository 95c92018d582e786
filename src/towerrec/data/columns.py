"""Columns by name: errors that help."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from towerrec.schema import ITEM_ID
from towerrec.wording import shortened

VIDEO_ID = "video_id"
"""What KuaiRec calls an item."""


@dataclass(frozen=True)
class LogColumns:
    """What the log of a run calls its columns, so that files of the same shape are understood later.

    Attributes:
        called: Its own names of `user_id`, `item_id`, `label` and `timestamp`, where it has such a column.
        texts: Which of `user_id` and `item_id` are text there.
    """

    called: Mapping[str, str] = field(default_factory=dict)
    texts: Collection[str] = ()

    def names(self, column: str) -> list[str]:
        """The names under which a file may hold a column, the first of them first."""
        names = [column, *([self.called[column]] if column in self.called else [])]
        return list(dict.fromkeys([*names, VIDEO_ID] if column == ITEM_ID else names))

    def found(self, column: str, existing: Collection[str]) -> str | None:
        """The name under which a table holds a column; None where it does not."""
        return next((name for name in self.names(column) if name in existing), None)


ANY_LOG = LogColumns()


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
