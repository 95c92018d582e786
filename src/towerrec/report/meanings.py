"""What figures mean, in a few words each, for a terminal."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable

from towerrec.metrics.definitions import definition

_WIDTH = 118


def meanings(names: Iterable[str]) -> str:
    """`ndcg@20: gain 0 or 1, ...; recall@20: ...`, wrapped; of a figure at several cuts the first alone."""
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(name.partition("@")[0], name)
    said = "; ".join(f"{name}: {definition(name).short}" for name in first.values())
    return textwrap.fill(said, _WIDTH, break_long_words=False, break_on_hyphens=False)
