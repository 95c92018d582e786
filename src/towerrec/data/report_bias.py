"""What a label owes to the length of the video: its positive rate across ten slices of duration, beside the raw one."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.positive import positive_mask
from towerrec.schema import DURATION_MS, LABEL, SPLITS, WATCH_RATIO

SLICES = 10
# Rows sorted into slices at once: bounds the memory of the 64-bit intermediates, which stay in the processor's cache.
_CHUNK = 1 << 17
RAW_RULE = ">= 2"
"""Of the watch ratio: watched twice, the usual label of KuaiRec, and mostly a sign of a short video."""


def duration_bias(rows: pl.DataFrame, positive: str) -> dict[str, list[float]] | None:
    """Positive rates across ten slices of the rows, from the shortest videos to the longest.

    Args:
        rows: `watch_ratio`, `duration_ms` and `label`; rows without one of them are left out.
        positive: Rule over labels.

    Returns:
        `longest_ms`, the end of each slice; `raw`, the share of the slice whose watch ratio passes `RAW_RULE`; `label`,
        the share whose label is positive; `mean_label`. Equal durations share a slice, and a slice that this leaves
        empty is not listed. None where a column is missing or nothing is known.
    """
    if not {WATCH_RATIO, DURATION_MS}.issubset(rows.columns):
        return None
    known = rows.select(WATCH_RATIO, DURATION_MS, LABEL).drop_nulls()
    if known.height == 0:
        return None
    duration_N = known[DURATION_MS].to_numpy()
    ends = _quantiles(duration_N, np.arange(1, SLICES + 1) / SLICES)
    sums = dict.fromkeys(("rows", "raw", "label", "mean_label"), np.zeros(SLICES))
    for start in range(0, known.height, _CHUNK):
        few = known.slice(start, _CHUNK)
        slice_N = np.searchsorted(ends[:-1], duration_N[start : start + _CHUNK], side="left")
        weights = {
            "rows": None,
            "raw": positive_mask(few[WATCH_RATIO].to_numpy(), RAW_RULE),
            "label": positive_mask(few[LABEL].to_numpy(), positive),
            "mean_label": few[LABEL].to_numpy(),
        }
        sums = {name: sums[name] + np.bincount(slice_N, w, minlength=SLICES) for name, w in weights.items()}
    rows_S = sums.pop("rows")
    means = {name: _plain(sums_S[rows_S > 0] / rows_S[rows_S > 0]) for name, sums_S in sums.items()}
    return {"longest_ms": _plain(ends[rows_S > 0]), **means}


def _quantiles(values_N: NDArray[Any], share_S: NDArray[np.float64]) -> NDArray[Any]:
    """`np.quantile` by the method `inverted_cdf`, by one sort of plain numbers instead of a partition."""
    place_S = np.ceil(len(values_N) * share_S - 1).clip(min=0).astype(np.int64)
    return np.sort(values_N)[place_S]


def _plain(values: NDArray[np.float64]) -> list[float]:
    return [round(float(value), 6) for value in values]


def bias_lines(report: Mapping[str, Any]) -> list[str]:
    """The slices of every split for a terminal, and what they mean; nothing where the log has no durations."""
    known = {word: report[word]["by_duration"] for word in SPLITS if report.get(word, {}).get("by_duration")}
    if not known:
        return []
    lines = ["  positives by length of video, ten slices of the rows from short to long:"]
    for word, bias in known.items():
        shown = {f"watch ratio {RAW_RULE}": bias["raw"], "label": bias["label"]}
        for what, rates in shown.items():
            if what == "label" and rates == bias["raw"]:
                continue
            lines.append(f"    {word:<6}{what:<18}" + "".join(f"{rate:>7.1%}" for rate in rates))
    buckets = report.get("label", {}).get("duration_buckets")
    return [*lines, f"  {_sentence(known.get('train', next(iter(known.values()))), buckets)}"]


def _sentence(bias: Mapping[str, list[float]], buckets: int | None) -> str:
    raw, label = bias["raw"], bias["label"]
    ranges = f"the label holds for {min(label):.1%} to {max(label):.1%} of a slice"
    if raw != label:
        ranges += f", watch ratio {RAW_RULE} for {min(raw):.1%} to {max(raw):.1%}"
    if buckets is not None:
        ranges += f", by {buckets} buckets of duration"
    if max(label) - min(label) <= 0.5 * max(label):
        return f"{ranges}: how long a video is says little of this label"
    remedy = "label=debiased takes that out" if buckets is None else "smaller label.min_views makes narrower buckets"
    return f"{ranges}: how long a video is says much of this label ({remedy})"
