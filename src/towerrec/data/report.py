"""What a log holds, in numbers and in words: rows, users, items, density, quartiles, days, per split."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.report_bias import bias_lines, duration_bias
from towerrec.data.report_counts import QUANTILES, counts, quantiles
from towerrec.positive import positive_mask
from towerrec.schema import (
    DURATION_MS,
    ITEM_ID,
    LABEL,
    NO_TIMESTAMP,
    PLAY_DURATION_MS,
    SPLITS,
    TIMESTAMP_MS,
    USER_ID,
    WATCH_RATIO,
)

VALUES = (WATCH_RATIO, PLAY_DURATION_MS, DURATION_MS)


def describe(
    frame: pl.DataFrame,
    *,
    split: pl.Series,
    label: pl.Series,
    positive: str,
    cleaning: Mapping[str, int],
    name: str,
    timezone: str = "UTC",
) -> dict[str, Any]:
    """Numbers about a cleaned, labelled and split log, as plain builtins for JSON.

    Args:
        frame: The log; `user_id` and `item_id`, and what it has of times (null or `NO_TIMESTAMP` where unknown), watch
            ratios and durations.
        split: Codes of its rows, UInt8.
        label: Labels of its rows, Float32.
        positive: Rule over labels.
        cleaning: Rows dropped, by reason.
        name: Name of the data.
        timezone: In which days are written.

    Returns:
        `name`, `cleaning`, `all` and one entry per split. Each holds `rows`, `users`, `items`, `density` (share of
        all user-item cells that occur), `positive_rate`, `label` and other values (mean and quantiles),
        `rows_per_user`, `rows_per_item`, and `first`, `last` (local times) with `rows_without_time`; those of the
        splits also `by_duration` (see `report_bias.duration_bias`).
    """
    code_N = split.to_numpy()
    columns = {LABEL: label} | {c: frame[c] for c in (TIMESTAMP_MS, *VALUES) if c in frame.columns}
    counted = counts(frame[USER_ID], frame[ITEM_ID], code_N)
    report: dict[str, Any] = {
        "name": name,
        "timezone": timezone,
        "cleaning": dict(cleaning),
        "rows_left_out_by_split": int((code_N == 0).sum()),
    }
    for code, word in enumerate(("all", *SPLITS)):
        inside_N = code_N != 0 if code == 0 else code_N == code
        if code > 0 and not inside_N.any():
            continue
        part = _Part(columns, inside_N)
        report[word] = counted[code] | _values(part, positive) | _times(part, timezone)
        bias = duration_bias(part.frame(WATCH_RATIO, DURATION_MS, LABEL), positive) if code > 0 else None
        if bias is not None:
            report[word]["by_duration"] = bias
    return report


class _Part:
    """The rows of a split, a column at a time: what is not read is not copied."""

    def __init__(self, columns: Mapping[str, pl.Series], inside_N: NDArray[np.bool_]) -> None:
        self.columns = columns
        self.inside = None if inside_N.all() else pl.Series(inside_N)

    def __getitem__(self, name: str) -> pl.Series:
        return self.columns[name] if self.inside is None else self.columns[name].filter(self.inside)

    def frame(self, *names: str) -> pl.DataFrame:
        """Those of the columns that there are."""
        return pl.DataFrame({name: self[name] for name in names if name in self.columns})


def _values(part: _Part, positive: str) -> dict[str, Any]:
    label = part[LABEL]
    facts: dict[str, Any] = {"positives": int(positive_mask(label, positive).sum())}
    facts["positive_rate"] = facts["positives"] / label.len() if label.len() else 0.0
    return facts | {name: quantiles(part[name]) for name in (LABEL, *VALUES) if name in part.columns}


def _times(part: _Part, timezone: str) -> dict[str, Any]:
    if TIMESTAMP_MS not in part.columns:
        return {}
    times = part[TIMESTAMP_MS]
    missing = (times.is_null() | (times == NO_TIMESTAMP)).sum()
    facts: dict[str, Any] = {"rows_without_time": int(missing)}
    if missing < times.len():
        known = times if missing == times.null_count() else times.filter(times != NO_TIMESTAMP)
        facts["first"], facts["last"] = (moment_text(int(t), timezone) for t in (known.min(), known.max()))  # type: ignore[arg-type]
    return facts


def moment_text(time_ms: int, timezone: str) -> str:
    """A moment as the clocks of a zone showed it."""
    return datetime.fromtimestamp(time_ms / 1000, UTC).astimezone(ZoneInfo(timezone)).strftime("%Y-%m-%d %H:%M:%S")


def as_text(report: Mapping[str, Any]) -> str:
    """The report for a terminal: cleaning, one line per split, one line per value."""
    cleaning = report["cleaning"]
    dropped = ", ".join(f"{number:,} {reason}" for reason, number in cleaning.items() if not reason.startswith("rows_"))
    lines = [f"data {report['name']}: {cleaning.get('rows_read', report['all']['rows']):,} rows read"]
    lines.append(f"  dropped: {dropped or 'nothing'}")
    if report["rows_left_out_by_split"]:
        lines.append(f"  left out by the split: {report['rows_left_out_by_split']:,}")
    lines.append(f"  {'':<6}{'rows':>13}{'users':>10}{'items':>10}{'density':>10}{'positive':>10}  from .. to")
    for word in ("all", *SPLITS):
        if word in report:
            lines.append(_split_line(word, report[word]))
    everything = report["all"]
    lines.append(f"  {'':<18}" + "".join(f"{word:>12}" for word in ("mean", *QUANTILES)))
    for name in (LABEL, *VALUES, "rows_per_user", "rows_per_item"):
        if everything.get(name):
            values = "".join(f"{_short(everything[name][word]):>12}" for word in ("mean", *QUANTILES))
            lines.append(f"  {name.replace('_', ' '):<18}{values}")
    for word in ("val", "test"):
        if word in report:
            new = [report[word][f"rows_with_{side}_new_to_training"] for side in ("user", "item")]
            lines.append(f"  {word}: {new[0]:.1%} of rows by users, {new[1]:.1%} on items that training has not seen")
    lines += bias_lines(report)
    return "\n".join(lines)


def _split_line(word: str, facts: Mapping[str, Any]) -> str:
    days = f"{facts['first'][:16]} .. {facts['last'][:16]}" if "first" in facts else "no times"
    return (
        f"  {word:<6}{facts['rows']:>13,}{facts['users']:>10,}{facts['items']:>10,}{facts['density']:>10.2%}"
        f"{facts['positive_rate']:>10.2%}  {days}"
    )


def _short(number: float) -> str:
    return f"{number:,.0f}" if abs(number) >= 1000 or number == int(number) else f"{number:.3g}"
