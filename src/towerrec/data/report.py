"""What a log holds, in numbers and in words: rows, users, items, density, quartiles, days, per split."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from towerrec.data.report_bias import bias_lines, duration_bias
from towerrec.positive import positive_mask
from towerrec.schema import (
    DURATION_MS,
    ITEM_ID,
    LABEL,
    PLAY_DURATION_MS,
    SPLIT,
    SPLITS,
    TIMESTAMP_MS,
    USER_ID,
    WATCH_RATIO,
)

QUANTILES = {"min": 0.0, "p25": 0.25, "p50": 0.5, "p75": 0.75, "p99": 0.99, "max": 1.0}
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
        frame: The log; `user_id` and `item_id`, and what it has of times, watch ratios and durations.
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
    columns = [c for c in (USER_ID, ITEM_ID, TIMESTAMP_MS, *VALUES) if c in frame.columns]
    kept = frame.select(columns).with_columns(split.alias(SPLIT), label.alias(LABEL))
    parts = {word: kept.filter(pl.col(SPLIT) == code) for code, word in enumerate(SPLITS, start=1)}
    used = kept if (split != 0).all() else kept.filter(pl.col(SPLIT) != 0)
    report: dict[str, Any] = {
        "name": name,
        "timezone": timezone,
        "cleaning": dict(cleaning),
        "rows_left_out_by_split": kept.height - used.height,
        "all": _describe_rows(used, positive, timezone),
    }
    train = parts["train"]
    for word, part in parts.items():
        if part.height == 0:
            continue
        report[word] = _describe_rows(part, positive, timezone)
        bias = duration_bias(part, positive)
        if bias is not None:
            report[word]["by_duration"] = bias
        if word != "train":
            report[word] |= _cold_share(part, train)
    return report


def _describe_rows(rows: pl.DataFrame, positive: str, timezone: str) -> dict[str, Any]:
    per_user = rows.group_by(USER_ID).len()["len"]
    per_item = rows.group_by(ITEM_ID).len()["len"]
    cells = rows.select(pl.struct(USER_ID, ITEM_ID).hash(seed=0).n_unique()).item()
    facts: dict[str, Any] = {
        "rows": rows.height,
        "users": per_user.len(),
        "items": per_item.len(),
        "pairs": cells,
        "density": cells / (per_user.len() * per_item.len()) if rows.height else 0.0,
        "positives": int(positive_mask(rows[LABEL], positive).sum()),
        "rows_per_user": quantiles(per_user),
        "rows_per_item": quantiles(per_item),
    }
    facts["positive_rate"] = facts["positives"] / rows.height if rows.height else 0.0
    for name in (LABEL, *VALUES):
        if name in rows.columns:
            facts[name] = quantiles(rows[name])
    if TIMESTAMP_MS in rows.columns:
        times = rows[TIMESTAMP_MS]
        facts["rows_without_time"] = times.null_count()
        if times.null_count() < rows.height:
            facts["first"], facts["last"] = (_moment(int(t), timezone) for t in (times.min(), times.max()))  # type: ignore[arg-type]
    return facts


def _cold_share(part: pl.DataFrame, train: pl.DataFrame) -> dict[str, float]:
    """Share of rows whose user or item training has never seen."""
    return {
        f"rows_with_{word}_new_to_training": float((~part[name].is_in(train[name].unique().implode())).mean() or 0.0)  # type: ignore[arg-type]
        for word, name in (("user", USER_ID), ("item", ITEM_ID))
    }


def quantiles(values: pl.Series) -> dict[str, float]:
    """Mean, standard deviation and the quantiles of `QUANTILES`, nulls left out."""
    known = values.drop_nulls()
    if known.len() == 0:
        return {}
    # One sort serves all quantiles.
    ordered = known.sort()
    facts = {"mean": float(known.cast(pl.Float64).mean()), "sd": float(known.cast(pl.Float64).std() or 0.0)}  # type: ignore[arg-type]
    return facts | {word: float(ordered.quantile(q, "linear") or 0.0) for word, q in QUANTILES.items()}


def _moment(time_ms: int, timezone: str) -> str:
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
