"""Labels: what the model learns from a row, and which values of it count as a positive."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Protocol, Self

import polars as pl
import torch
from torch import Tensor

from towerrec.data.columns import require_columns
from towerrec.positive import OPERATORS, parse_positive
from towerrec.schema import DURATION_MS, LABEL, WATCH_RATIO

LABEL_RAW = "label_raw"
"""The label column of a user's own log, under this name whatever it is called there; 1 where the log has none."""

VALUE, GRADE, DURATION = "value", "grade", "duration_s"
"""Columns of the store beside the label, see `kept_beside`."""


class Label(Protocol):
    """A way to turn rows into labels.

    Attributes:
        name: Short name for reports.
        positive: Rule over label values, such as `"> 0"`.
        binary: True where every label is 0 or 1.
        columns: Columns of the interaction table that `apply` reads.
        raw: The column that the label is a transform of, or None where it stands for itself.
        grade: The column that says how much a row was worth, for graded figures; None where the log does not say.
        inverse_name: How a prediction becomes a watch ratio (or the raw value) again: `identity`, `expm1`, or
            `exp-<shift>` for `exp(label) - shift`.
    """

    name: str
    positive: str
    binary: bool
    columns: tuple[str, ...]
    raw: str | None
    grade: str | None
    inverse_name: str

    def settings(self) -> dict[str, Any]: ...

    def fit(self, train: pl.DataFrame) -> Self:
        """Learn what the label needs from training rows only."""
        ...

    def fitted(self) -> dict[str, Any]:
        """What `fit` learnt, as plain builtins; empty where there is nothing to learn."""
        ...

    def restore(self, fitted: Mapping[str, Any]) -> Self:
        """Take over what an equal label learnt, instead of `fit`."""
        ...

    def apply(self, frame: pl.DataFrame) -> pl.Series:
        """Labels of all rows, Float32 without nulls."""
        ...

    def inverse(self, label: Tensor) -> Tensor:
        """From label space back to the raw value, elementwise (where there are `terms`, after they are undone)."""
        ...

    def terms(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        """Where a label is taken relative to something of its row: `base` and `spread`, Float32 [N], such that
        `inverse(label * spread + base)` is the raw value; otherwise nothing."""
        ...


def kept_beside(label: Label, frame: pl.DataFrame) -> list[pl.Series]:
    """What the store keeps of the rows beside their labels, Float32 [N] each, where there is such.

    `value` is what the label is a transform of. `grade` is what graded figures read, where it is neither the label nor
    the value. `duration_s` are the seconds of a video whose watch ratio is predicted, NaN where it is not known.
    """
    kept = {}
    if label.raw is not None:
        kept[VALUE] = frame[label.raw]
    if label.grade is not None and label.grade != label.raw:
        kept[GRADE] = frame[label.grade]
    if label.raw == WATCH_RATIO and DURATION_MS in frame.columns:
        seconds = (pl.col(DURATION_MS).cast(pl.Float64) / 1000).cast(pl.Float32)
        known = (seconds > 0) & seconds.is_finite()
        kept[DURATION] = frame.select(pl.when(known).then(seconds).otherwise(math.nan)).to_series()
    return [series.cast(pl.Float32).alias(name) for name, series in kept.items()]


def invert(label: Tensor, inverse_name: str) -> Tensor:
    """Apply the inverse that a label names, elementwise."""
    if inverse_name == "identity":
        return label
    if inverse_name == "expm1":
        return torch.expm1(label)
    kind, _, shift = inverse_name.partition("-")
    if kind == "exp" and shift:
        return torch.exp(label) - float(shift)
    raise ValueError(f"label inverse {inverse_name!r} is not known: identity, expm1 or exp-<shift>")


class _Fixed:
    """What labels share that learn nothing from the training rows."""

    name: str
    columns: tuple[str, ...]
    raw: str | None = None
    grade: str | None = None
    inverse_name = "identity"

    def fit(self, train: pl.DataFrame) -> Self:
        """Nothing to learn."""
        return self

    def fitted(self) -> dict[str, Any]:
        """Nothing was learnt."""
        return {}

    def restore(self, fitted: Mapping[str, Any]) -> Self:
        """Nothing to take over."""
        return self

    def inverse(self, label: Tensor) -> Tensor:
        """From label space back to the raw value, elementwise."""
        return invert(label, self.inverse_name)

    def terms(self, frame: pl.DataFrame) -> dict[str, pl.Series]:
        """The label stands for itself."""
        return {}

    def _finished(self, frame: pl.DataFrame, expression: pl.Expr) -> pl.Series:
        check_numbers(self.name, self.columns, frame)
        return finite(self.name, self.columns, frame.select(expression.cast(pl.Float32).alias(LABEL)).to_series())


def check_numbers(name: str, columns: Sequence[str], frame: pl.DataFrame) -> None:
    """Refuse a log that lacks a column of the label or holds text there."""
    require_columns(columns, frame.columns, f"label={name}: the log")
    text = [c for c in columns if not (frame.schema[c].is_numeric() or frame.schema[c] == pl.Boolean)]
    if text:
        raise ValueError(
            f"label={name}: column {text[0]!r} holds {frame.schema[text[0]]}, a label needs numbers or booleans"
        )


def finite(name: str, columns: Sequence[str], label: pl.Series) -> pl.Series:
    """The labels themselves, once each is a finite number."""
    bad = int((~label.is_finite()).fill_null(True).sum())
    if bad:
        raise ValueError(
            f"label={name}: {bad:,} of {label.len():,} rows have no finite value in {list(columns)}; "
            "drop them first (cleaning counts such rows and leaves them out)"
        )
    return label


class WatchRatio(_Fixed):
    """The watch ratio itself, clipped and on a log scale if wanted.

    Args:
        clip: Largest watch ratio; null leaves the heavy tail (up to 573 in KuaiRec).
        log: Learn `log(shift + ratio)`.
        shift: Added before the logarithm: the smaller, the more the short views count. 1 learns `log(1 + ratio)`.
        positive: Rule over the *watch ratio*; `self.positive` is the same rule over the label.
    """

    name = "watch_ratio"
    binary = False
    columns: tuple[str, ...] = (WATCH_RATIO,)
    raw: str | None = WATCH_RATIO
    grade: str | None = WATCH_RATIO

    def __init__(
        self, *, clip: float | None = None, log: bool = False, shift: float = 1.0, positive: str = ">= 2"
    ) -> None:
        if not (math.isfinite(shift) and shift > 0):
            raise ValueError(f"label.shift must be above 0, got {shift}: a watch ratio of 0 has no logarithm")
        if shift != 1.0 and not log:
            raise ValueError(f"label.shift={shift} is read under label.log=true only: set that too, or leave it out")
        if clip is not None and not (math.isfinite(clip) and clip > 0):
            raise ValueError(f"label.clip must be above 0 or null, got {clip}")
        comparison, threshold = parse_positive(positive)
        if clip is not None and not OPERATORS[comparison](clip, threshold) and comparison in (">", ">=", "=="):
            raise ValueError(
                f"label.clip={clip} leaves no row that is positive ({positive!r}): raise the clip or lower the rule"
            )
        if log and threshold <= -shift:
            raise ValueError(f"label.positive={positive!r}: with label.log=true the threshold must be above {-shift:g}")
        self.clip, self.log, self.shift = clip, log, float(shift)
        self.rule = positive
        self.inverse_name = "identity" if not log else "expm1" if shift == 1.0 else f"exp-{self.shift!r}"
        # Sent through the same Float32 arithmetic as the labels, so that a ratio exactly at the threshold stays there.
        at = pl.select(self._scale(pl.lit(threshold, pl.Float32))).item()
        self.positive = f"{comparison} {at!r}" if log else positive

    def _scale(self, ratio: pl.Expr) -> pl.Expr:
        if not self.log:
            return ratio
        scaled = ratio.log1p() if self.shift == 1.0 else (ratio.cast(pl.Float64) + self.shift).log()
        return scaled.cast(pl.Float32)

    def settings(self) -> dict[str, Any]:
        return {
            "label": self.name,
            "clip": self.clip,
            "log": self.log,
            "shift": self.shift,
            "positive": self.rule,
        }

    def apply(self, frame: pl.DataFrame) -> pl.Series:
        """Labels of all rows, Float32 [N]."""
        ratio = pl.col(WATCH_RATIO).cast(pl.Float32)
        if self.clip is not None:
            ratio = ratio.clip(upper_bound=self.clip)
        return self._finished(frame, self._scale(ratio))


class Liked(_Fixed):
    """1 where the watch ratio reaches a threshold, else 0.

    Args:
        min_watch_ratio: Smallest watch ratio of a liked row (2: watched twice, as the KuaiRec paper has it).
    """

    name = "liked"
    binary = True
    positive = "> 0"
    columns: tuple[str, ...] = (WATCH_RATIO,)
    grade: str | None = WATCH_RATIO

    def __init__(self, *, min_watch_ratio: float = 2.0) -> None:
        if not math.isfinite(min_watch_ratio):
            raise ValueError(f"label.min_watch_ratio must be a finite number, got {min_watch_ratio}")
        self.min_watch_ratio = float(min_watch_ratio)

    def settings(self) -> dict[str, Any]:
        return {"label": self.name, "min_watch_ratio": self.min_watch_ratio}

    def apply(self, frame: pl.DataFrame) -> pl.Series:
        """Labels of all rows, Float32 [N] of 0 and 1."""
        ratio = pl.col(WATCH_RATIO)
        # NaN compares as the largest number in Polars: such a row must fail, not be liked.
        return self._finished(frame, pl.when(ratio.is_finite()).then(ratio >= self.min_watch_ratio))


class Column(_Fixed):
    """Any column of the log.

    Args:
        column: Its name; `label_raw` is what `data.columns.label` names.
        positive: Which values are positive.
        binary: Learn 1 for positive rows and 0 for the others; false learns the value itself.
    """

    name = "column"

    def __init__(self, *, column: str = LABEL_RAW, positive: str = "> 0", binary: bool = True) -> None:
        parse_positive(positive)
        self.column = column
        self.columns = (column,)
        self.grade = column
        self.rule = positive
        self.binary = binary
        self.positive = "> 0" if binary else positive

    def settings(self) -> dict[str, Any]:
        return {"label": self.name, "column": self.column, "positive": self.rule, "binary": self.binary}

    def apply(self, frame: pl.DataFrame) -> pl.Series:
        """Labels of all rows, Float32 [N]."""
        value = pl.col(self.column).cast(pl.Float32)
        if not self.binary:
            return self._finished(frame, value)
        comparison, threshold = parse_positive(self.rule)
        return self._finished(frame, pl.when(value.is_finite()).then(OPERATORS[comparison](value, threshold)))


class Implicit(_Fixed):
    """Every row is a positive."""

    name = "implicit"
    binary = True
    positive = "> 0"
    columns: tuple[str, ...] = ()

    def settings(self) -> dict[str, Any]:
        return {"label": self.name}

    def apply(self, frame: pl.DataFrame) -> pl.Series:
        """Ones, Float32 [N]."""
        return pl.Series(LABEL, [1.0], dtype=pl.Float32).new_from_index(0, frame.height)
