"""A label that keeps the amount: how far a view lies above what is usual for videos of its length.

Shape letters: N rows, B buckets.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.labels_debiased import DurationDebiased, Floats
from towerrec.positive import parse_positive
from towerrec.schema import WATCH_RATIO


class DebiasedResidual(DurationDebiased):
    """How far a view lies above the mean of the training views in the same duration bucket.

    `label = (f(ratio) - mean[bucket]) / sd[bucket]`, with f = log(1 + ratio) or the ratio itself. A prediction and the
    duration of its row give a watch ratio again, so errors are reported in watch ratios.

    Args:
        log: Compare `log(1 + ratio)`, whose tail is light.
        standardise: Divide by the standard deviation of the bucket, so that every length has the same spread.
        clip: Largest watch ratio; null leaves the heavy tail.
        positive: Which labels are positive (`> 0`: watched for longer than such videos are on average).
        max_width: Ends of a bucket before it is joined with others, longest to shortest duration.
        min_views: Training views per bucket; a log with fewer has one bucket, and nothing to debias by.
    """

    name = "debiased_residual"
    binary = False
    raw: str | None = WATCH_RATIO

    def __init__(
        self,
        *,
        log: bool = True,
        standardise: bool = False,
        clip: float | None = None,
        positive: str = "> 0",
        max_width: float = 1.15,
        min_views: int = 10_000,
    ) -> None:
        super().__init__(max_width=max_width, min_views=min_views)
        if clip is not None and not (math.isfinite(clip) and clip > 0):
            raise ValueError(f"label.clip must be above 0 or null, got {clip}")
        parse_positive(positive)
        self.log, self.standardise, self.clip, self.positive = log, standardise, clip, positive
        self.inverse_name = "expm1" if log else "identity"

    def settings(self) -> dict[str, Any]:
        return {
            "label": self.name,
            "log": self.log,
            "standardise": self.standardise,
            "clip": self.clip,
            "positive": self.positive,
            "max_width": self.max_width,
            "min_views": self.min_views,
        }

    def _learn(self, parts: list[Floats]) -> dict[str, Floats]:
        scaled = [self._scaled(part) for part in parts]
        figures = {"mean": np.array([part.mean() for part in scaled])}
        if self.standardise:
            # A bucket whose views are all alike has nothing to divide by.
            figures["sd"] = np.array([part.std() or 1.0 for part in scaled])
        return figures

    def terms(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        """`base`, the mean of the row's bucket, and `spread`, its standard deviation or 1, Float32 [N]."""
        base_N, spread_N = self._terms(self.buckets.of(self._inputs(frame)[1]))
        return {name: pl.Series(name, t.astype(np.float32)) for name, t in (("base", base_N), ("spread", spread_N))}

    def _label(self, ratio_N: Floats, bucket_N: NDArray[np.int16]) -> Floats:
        base_N, spread_N = self._terms(bucket_N)
        return (self._scaled(ratio_N) - base_N) / spread_N

    def _terms(self, bucket_N: NDArray[np.int16]) -> tuple[Floats, Floats]:
        mean_B = self._figures["mean"]
        return mean_B[bucket_N], self._figures.get("sd", np.ones_like(mean_B))[bucket_N]

    def _scaled(self, ratio_N: Floats) -> Floats:
        clipped_N = ratio_N if self.clip is None else np.minimum(ratio_N, self.clip)
        return np.log1p(clipped_N) if self.log else clipped_N
