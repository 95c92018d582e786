"""How large a simulated release is, and the margins it is drawn to.

The curves are quantiles published for KuaiRec 2.0 (Gao et al., CIKM 2022, https://kuairec.com, and statistics of the
release reported by others); a margin is drawn by interpolating its curve and is then scaled to the release at hand.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.floating]
Ints = NDArray[np.integer]
Bools = NDArray[np.bool_]
ScaleName = Literal["tiny", "small", "full"]

FULL_ROWS = 12_530_806
FULL_EVENTS = 11_562_801
FULL_NEAR_DUPLICATES = 2_186
FULL_PAIRS = 10_300_969


@dataclass(frozen=True)
class Scale:
    """Sizes of a release; `big_rows` counts duplicates."""

    users: int
    videos: int
    small_users: int
    small_videos: int
    big_rows: int
    chunk_users: int

    @property
    def events(self) -> int:
        """Rows of the big matrix without duplicates."""
        return round(self.big_rows * FULL_EVENTS / FULL_ROWS)


SCALES: dict[str, Scale] = {
    "tiny": Scale(users=150, videos=200, small_users=40, small_videos=60, big_rows=15_000, chunk_users=150),
    "small": Scale(users=1_000, videos=1_500, small_users=200, small_videos=450, big_rows=350_000, chunk_users=500),
    "full": Scale(
        users=7_176, videos=10_728, small_users=1_411, small_videos=3_327, big_rows=FULL_ROWS, chunk_users=384
    ),
}


def get_scale(name: str) -> Scale:
    """The sizes of a named scale.

    Raises:
        ValueError: If the name is not one of `SCALES`.
    """
    if name not in SCALES:
        raise ValueError(f"scale {name!r} is unknown: choose one of {sorted(SCALES)}")
    return SCALES[name]


@dataclass(frozen=True)
class Curve:
    """A quantile function, linear in the logarithm between its knots (so every value must be positive)."""

    probability: tuple[float, ...]
    value: tuple[float, ...]

    def __call__(self, probability: Floats) -> Floats:
        return np.exp(np.interp(probability, self.probability, np.log(self.value)))

    def spread(self, count: int) -> Floats:
        """`count` values at evenly spaced probabilities from 0 to 1, in ascending order."""
        return self(np.linspace(0.0, 1.0, count))


# Rows of the big matrix per user and per video, inside and outside the fully observed matrix.
SMALL_USER_ROWS = Curve(
    (0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1), (154, 233, 267, 334, 390, 454, 535, 594, 753, 1186)
)
OTHER_USER_ROWS = Curve(
    (0, 0.01, 0.05, 0.1, 0.25, 0.4, 0.5, 0.75, 0.9, 0.95, 0.99, 0.999, 1),
    (114, 489, 798, 996, 1494, 1899, 2108, 2574, 3001, 3345, 4130, 5684, 16015),
)
SMALL_VIDEO_ROWS = Curve(
    (0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.6, 0.75, 0.9, 0.95, 0.99, 0.999, 1),
    (4, 368, 1199, 1571, 2146, 2832, 3142, 3960, 4935, 5511, 6842, 10276, 27615),
)
OTHER_VIDEO_ROWS = Curve(
    (0, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.75, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999, 1),
    (1, 1, 2, 4, 8.7, 13.5, 19.5, 26, 47, 77, 128, 212, 283, 393, 838, 1454, 2468, 3211, 3974, 5022, 8106),
)
# Milliseconds of video: those of the fully observed matrix, and the rest.
SMALL_VIDEO_MS = Curve(
    (0, 0.004, 0.0065, 0.01, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.998, 1),
    (3_067, 3_300, 3_700, 5_150, 6_450, 7_523, 9_600, 11_934, 19_800, 38_000, 74_000, 100_000, 180_000, 315_072),
)
OTHER_VIDEO_MS = Curve(
    (0, 0.003, 0.05, 0.25, 0.5, 0.75, 0.9, 0.95, 0.98, 0.99, 0.998, 1),
    (140, 3_000, 5_600, 7_300, 9_900, 13_200, 23_000, 42_000, 72_000, 94_000, 160_000, 315_072),
)
# Cells missing from a row of the fully observed matrix (blocked authors), as a share of the row, plus one cell.
BLOCKED_CELLS = Curve((0, 0.05, 0.25, 0.5, 0.75, 1), (1, 4, 8, 13, 19, 33))


def stream(seed: int, name: str, *parts: int) -> np.random.Generator:
    """The random numbers of one named step, independent of every other step's."""
    return np.random.default_rng([seed, zlib.crc32(name.encode()), *parts])


def ranks(score: Floats) -> Floats:
    """Position of every value in ascending order, scaled to 0..1 (ties by position)."""
    order = np.argsort(score, kind="stable")
    place = np.empty(len(score))
    place[order] = np.linspace(0.0, 1.0, len(score))
    return place
