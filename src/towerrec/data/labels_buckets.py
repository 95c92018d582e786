"""Buckets of views by the duration of the video, learnt from training rows.

Shape letters: N rows, B buckets.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class DurationBuckets:
    """Neighbouring durations that are compared with each other.

    Attributes:
        edges_ms: The B - 1 inner edges, ascending: bucket b holds `edges_ms[b - 1] <= duration < edges_ms[b]`; what is
            shorter or longer than any training row belongs to the first or the last.
    """

    edges_ms: tuple[float, ...]

    @classmethod
    def fit(cls, duration_ms_N: NDArray[np.float64], *, max_width: float, min_views: int) -> DurationBuckets:
        """Log-spaced buckets, each at most `max_width` times as long at its end as at its beginning, then joined from
        short to long until each holds `min_views` rows; what is left over at the long end joins the last.

        Args:
            duration_ms_N: Durations of the training rows, above 0.
            max_width: Ratio of the ends of a bucket before it is joined with others, above 1.
            min_views: Training rows per bucket.
        """
        low, high = float(duration_ms_N.min()), float(duration_ms_N.max())
        num_narrow = max(1, math.ceil(math.log(high / low) / math.log(max_width)))
        inner = low * (high / low) ** (np.arange(1, num_narrow) / num_narrow)
        views = np.bincount(np.searchsorted(inner, duration_ms_N, side="right"), minlength=num_narrow)
        edges: list[float] = []
        held = 0
        for narrow, end in zip(views[:-1], inner, strict=True):
            held += int(narrow)
            if held >= min_views:
                edges.append(float(end))
                held = 0
        if edges and held + int(views[-1]) < min_views:
            edges.pop()
        return cls(tuple(edges))

    def __len__(self) -> int:
        return len(self.edges_ms) + 1

    def of(self, duration_ms_N: NDArray[np.float64]) -> NDArray[np.int16]:
        """Bucket of each duration, [N]."""
        return np.searchsorted(np.asarray(self.edges_ms), duration_ms_N, side="right").astype(np.int16)

    def parts(self, duration_ms_N: NDArray[np.float64], value_N: NDArray[np.float64]) -> list[NDArray[np.float64]]:
        """The values of each bucket, B arrays; rows keep their order."""
        bucket_N = self.of(duration_ms_N)
        order_N = np.argsort(bucket_N, kind="stable")
        ends = np.cumsum(np.bincount(bucket_N, minlength=len(self)))[:-1]
        return np.split(value_N[order_N], ends)
