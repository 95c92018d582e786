"""Labels that mean taste: a view is compared with training views of videos of about the same length.

Watch time hardly depends on how long a video is, so the watch ratio mostly says how short it is. Within a narrow bucket
of durations it says how long *this* view was for such a video (Zhan et al., «Deconfounding Duration Bias in Watch-time
Prediction», KDD 2022). A view without a known duration above 0 cannot be compared: cleaning leaves such rows out and
counts them, and `apply` refuses them.

Shape letters: N rows, B buckets, Q points of a grid of quantiles.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, Self

import numpy as np
import polars as pl
from numpy.typing import NDArray
from torch import Tensor

from towerrec.data.labels import check_numbers, finite, invert
from towerrec.data.labels_buckets import DurationBuckets
from towerrec.positive import parse_positive
from towerrec.schema import DURATION_MS, LABEL, WATCH_RATIO

Floats = NDArray[np.float64]


class DurationDebiased:
    """What the debiased labels share: buckets of training views, and one array of figures per bucket.

    Args:
        max_width: Ends of a bucket before it is joined with others, longest to shortest duration.
        min_views: Training views per bucket; a log with fewer has one bucket, and nothing to debias by.
    """

    name: str
    columns: tuple[str, ...] = (WATCH_RATIO, DURATION_MS)
    raw: str | None = None
    grade: str | None = WATCH_RATIO
    inverse_name = "identity"

    def __init__(self, *, max_width: float, min_views: int) -> None:
        if not (math.isfinite(max_width) and max_width > 1):
            raise ValueError(f"label.max_width must be above 1 (1.15: a bucket spans 15 %), got {max_width}")
        if min_views < 1:
            raise ValueError(f"label.min_views must be at least 1, got {min_views}")
        self.max_width, self.min_views = float(max_width), min_views
        self._buckets: DurationBuckets | None = None
        self._figures: dict[str, Floats] = {}

    @property
    def buckets(self) -> DurationBuckets:
        """The buckets that were learnt."""
        if self._buckets is None:
            raise ValueError(f"label={self.name} has learnt nothing yet: call fit with training rows, or restore")
        return self._buckets

    def fit(self, train: pl.DataFrame) -> Self:
        """Learn buckets and their figures from training rows."""
        ratio_N, duration_N = self._inputs(train)
        finite(self.name, self.columns, pl.Series(ratio_N))
        self._buckets = DurationBuckets.fit(duration_N, max_width=self.max_width, min_views=self.min_views)
        self._figures = self._learn(self._buckets.parts(duration_N, ratio_N))
        return self

    def fitted(self) -> dict[str, Any]:
        """`edges_ms` of the buckets and figures by name, one (or one list) per bucket."""
        return {
            "edges_ms": list(self.buckets.edges_ms),
            "figures": {name: figure.tolist() for name, figure in self._figures.items()},
        }

    def restore(self, fitted: Mapping[str, Any]) -> Self:
        """Take over what `fitted` gave."""
        self._buckets = DurationBuckets(tuple(float(edge) for edge in fitted["edges_ms"]))
        self._figures = {name: np.asarray(figure) for name, figure in fitted["figures"].items()}
        return self

    def apply(self, frame: pl.DataFrame) -> pl.Series:
        """Labels of all rows, Float32 [N].

        Raises:
            ValueError: A column is missing, or a row has no watch ratio or no duration above 0.
        """
        ratio_N, duration_N = self._inputs(frame)
        label_N = self._label(ratio_N, self.buckets.of(duration_N))
        label_N[np.isnan(ratio_N)] = np.nan
        return finite(self.name, self.columns, pl.Series(LABEL, label_N.astype(np.float32)))

    def inverse(self, label: Tensor) -> Tensor:
        """From label space back to the raw value, elementwise, once the terms are undone."""
        return invert(label, self.inverse_name)

    def terms(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        """A class or a rank leads back to no watch ratio."""
        return {}

    def _inputs(self, frame: pl.DataFrame) -> tuple[Floats, Floats]:
        """Watch ratios, NaN where the row cannot be labelled, and durations, 1 there."""
        check_numbers(self.name, self.columns, frame)
        ratio_N, duration_N = (frame[name].cast(pl.Float64).to_numpy().copy() for name in self.columns)
        bad_N = ~(np.isfinite(ratio_N) & np.isfinite(duration_N) & (duration_N > 0))
        ratio_N[bad_N], duration_N[bad_N] = np.nan, 1.0
        return ratio_N, duration_N

    def _learn(self, parts: list[Floats]) -> dict[str, Floats]:
        """Figures from the training watch ratios of each bucket."""
        raise NotImplementedError(f"{type(self).__name__} must define _learn")

    def _label(self, ratio_N: Floats, bucket_N: NDArray[np.int16]) -> Floats:
        raise NotImplementedError(f"{type(self).__name__} must define _label")


class Debiased(DurationDebiased):
    """1 where the watch ratio is above a quantile of the training views in the same duration bucket, else 0.

    The label of njbabani/kuairec-recsys (29 buckets on KuaiRec's big matrix before 30 August).

    Args:
        quantile: Share of the training views of a bucket that are not liked.
        max_width: Ends of a bucket before it is joined with others, longest to shortest duration.
        min_views: Training views per bucket; a log with fewer has one bucket, and nothing to debias by.
    """

    name = "debiased"
    binary = True
    positive = "> 0"

    def __init__(self, *, quantile: float = 0.8, max_width: float = 1.15, min_views: int = 10_000) -> None:
        super().__init__(max_width=max_width, min_views=min_views)
        if not 0 < quantile < 1:
            raise ValueError(f"label.quantile must lie between 0 and 1, got {quantile}")
        self.quantile = float(quantile)

    def settings(self) -> dict[str, Any]:
        return {
            "label": self.name,
            "quantile": self.quantile,
            "max_width": self.max_width,
            "min_views": self.min_views,
        }

    def _learn(self, parts: list[Floats]) -> dict[str, Floats]:
        return {"threshold": np.array([np.quantile(part, self.quantile) for part in parts])}

    def _label(self, ratio_N: Floats, bucket_N: NDArray[np.int16]) -> Floats:
        return (ratio_N > self._figures["threshold"][bucket_N]).astype(np.float64)


class DebiasedRank(DurationDebiased):
    """Share of the training views in the same duration bucket whose watch ratio is not above this one, in [0, 1].

    A graded form of `Debiased`, as the watch-time quantiles of D2Q (Zhan et al., KDD 2022): above .8 here is liked
    there. Read off a grid of `resolution` quantiles per bucket, linearly between its points.

    Args:
        resolution: Steps of the grid.
        positive: Which labels are positive.
        max_width: Ends of a bucket before it is joined with others, longest to shortest duration.
        min_views: Training views per bucket; a log with fewer has one bucket, and nothing to debias by.
    """

    name = "debiased_rank"
    binary = False

    def __init__(
        self,
        *,
        resolution: int = 200,
        positive: str = "> 0.8",
        max_width: float = 1.15,
        min_views: int = 10_000,
    ) -> None:
        super().__init__(max_width=max_width, min_views=min_views)
        if resolution < 2:
            raise ValueError(f"label.resolution must be at least 2 steps, got {resolution}")
        parse_positive(positive)
        self.resolution, self.positive = resolution, positive

    def settings(self) -> dict[str, Any]:
        return {
            "label": self.name,
            "resolution": self.resolution,
            "positive": self.positive,
            "max_width": self.max_width,
            "min_views": self.min_views,
        }

    def _learn(self, parts: list[Floats]) -> dict[str, Floats]:
        share_Q = np.linspace(0, 1, self.resolution + 1)
        return {"quantiles": np.array([np.quantile(part, share_Q) for part in parts])}

    def _label(self, ratio_N: Floats, bucket_N: NDArray[np.int16]) -> Floats:
        share_Q = np.linspace(0, 1, self.resolution + 1)
        label_N = np.empty_like(ratio_N)
        for bucket, ratios_Q in enumerate(self._figures["quantiles"]):
            inside_N = bucket_N == bucket
            label_N[inside_N] = np.interp(ratio_N[inside_N], ratios_Q, share_Q)
        return label_N
