"""What a sweep may choose from: the values of a key, as texts in Hydra's grammar, or an interval of numbers."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Choices:
    """Values one by one.

    Attributes:
        texts: Each as it would be written behind `key=`.
        ordered: Whether they are the numbers of a range, so that neighbours are alike.
    """

    texts: tuple[str, ...]
    ordered: bool = False


@dataclass(frozen=True)
class Interval:
    """All numbers between two ends, both included.

    Attributes:
        low: The least.
        high: The largest.
        whole: Only whole numbers.
        log: Drawn evenly over their logarithm.
    """

    low: float
    high: float
    whole: bool = False
    log: bool = False


Axis = Choices | Interval
