"""Bars for long work on a terminal, and nothing at all elsewhere.

One place decides whether bars are shown: `choose`, called by each task with the key `progress`. A bar is on stderr and
goes when its work is done; only the process that speaks for its job has one. tqdm's own `TQDM_DISABLE=1` is honoured.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from tqdm import tqdm

ItemT = TypeVar("ItemT")

KINDS = ("auto", "bar", "off")
_FORMAT = "{desc} {bar} {percentage:3.0f} % [{elapsed}<{remaining}]"
# A width of its own keeps bars of different work below each other.
_WIDTH = 42
_WIDEST = 120


_kind, _speaks = "auto", True
_open: list[Bar] = []


def choose(kind: str, *, speaks: bool = True) -> None:
    """Say how this process shows progress.

    Args:
        kind: `auto`: bars where stderr is a terminal; `bar`: everywhere; `off`: none.
        speaks: Whether this process is the one of its job that shows anything.

    Raises:
        ValueError: An unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"progress must be one of {', '.join(KINDS)}, got {kind!r}")
    global _kind, _speaks
    _kind, _speaks = kind, speaks


def shown() -> bool:
    """Whether bars are shown."""
    if not _speaks or _kind == "off" or os.environ.get("TQDM_DISABLE", "") not in ("", "0"):
        return False
    return _kind == "bar" or sys.stderr.isatty()


class Bar:
    """A bar of some steps, each of which has a name and may say how far it is.

    Args:
        title: What is done.
        total: Number of steps, or of units.
        unit: For work in units, such as bytes; None: steps.
        initial: Units that are done already.
    """

    def __init__(self, title: str, total: float, *, unit: str | None = None, initial: float = 0) -> None:
        self.title, self._begun, self._name = title, 0, ""
        how: dict[str, Any] = {"bar_format": _FORMAT} if unit is None else {"unit": unit, "unit_scale": True}
        # A terminal that does not know its size has one all the same: tqdm would show nothing there.
        size = shutil.get_terminal_size()
        how |= {"ncols": min(size.columns, _WIDEST), "nrows": size.lines}
        how |= {"leave": False, "disable": not shown(), "file": sys.stderr}
        self._bar = tqdm(total=total, initial=initial, desc=f"{title:<{_WIDTH}}", **how)

    def step(self, name: str) -> None:
        """The step before is done, this one begins (or goes on, where it is the same)."""
        if name == self._name:
            return
        self._name = name
        self._to(self._begun)
        self._begun += 1
        self._bar.set_description_str(f"{f'{self.title}: {name}'[:_WIDTH]:<{_WIDTH}}")

    def share(self, done: float) -> None:
        """How much of the step that has begun is done, 0 to 1."""
        self._to(max(self._begun - 1, 0) + min(done, 1.0))

    def add(self, units: float) -> None:
        """So many more units are done."""
        self._bar.update(units)

    def _to(self, place: float) -> None:
        if place > self._bar.n:
            self._bar.update(place - self._bar.n)

    def close(self) -> None:
        self._bar.close()


@contextmanager
def bar(title: str, total: float, *, unit: str | None = None, initial: float = 0) -> Iterator[Bar]:
    """A bar while the block runs; see `Bar`."""
    made = Bar(title, total, unit=unit, initial=initial)
    _open.append(made)
    try:
        yield made
    finally:
        _open.remove(made)
        made.close()


def step(name: str) -> None:
    """The next step of the innermost open bar begins; without a bar nothing happens."""
    if _open:
        _open[-1].step(name)


def share(done: float) -> None:
    """How much of the step of the innermost open bar is done, 0 to 1; without a bar nothing happens.

    For work in the depths, such as a search over chunks of users, which does not know who asked for it.
    """
    if _open:
        _open[-1].share(done)


def named(items: Iterable[tuple[str, ItemT]], title: str, total: int) -> Iterator[tuple[str, ItemT]]:
    """The items one by one with their names, which are the steps of a bar."""
    with bar(title, total) as steps:
        for name, item in items:
            steps.step(name)
            yield name, item


def each(items: Iterable[ItemT], title: str, total: float) -> Iterator[ItemT]:
    """The items one by one, a bar over them."""
    with bar(title, total) as units:
        for item in items:
            yield item
            units.add(1)
