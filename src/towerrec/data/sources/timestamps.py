"""Times in whatever form a log has them, as milliseconds since 1970."""

from __future__ import annotations

from contextlib import suppress
from functools import partial

import polars as pl

from towerrec.schema import EARLIEST_MS, LATEST_MS, TIMESTAMP_MS

UNITS_PER_MS: dict[str, float] = {"s": 0.001, "ms": 1, "us": 1_000, "ns": 1_000_000}
SAMPLE_ROWS = 1000
# The end of a time with an offset from UTC.
_OFFSET = r":\d\d(\.\d+)? ?([Zz]|[+-]\d\d(:?\d\d)?)$"


def timestamp_ms(sample: pl.Series, *, timezone: str, unit: str | None, where: str) -> pl.Expr:
    """The expression that turns the column of this name into `timestamp_ms`, Int64, null where unknown.

    Numbers are seconds, milliseconds, microseconds or nanoseconds by their size (or `unit`), or days such as
    20200705. Text is ISO 8601; without an offset it is read in `timezone`.

    Args:
        sample: First non-null values of the column.
        unit: One of s, ms, us, ns; None recognises it.
        where: The column, for errors.

    Raises:
        ValueError: If the sample is none of these.
    """
    column = pl.col(sample.name)
    if unit is not None and unit not in UNITS_PER_MS:
        raise ValueError(f"data.timestamp_unit must be one of {', '.join(UNITS_PER_MS)} or null, got {unit!r}")
    if sample.dtype.is_numeric():
        if unit is None and _are_days(sample):
            day = column.cast(pl.Int64).cast(pl.String).str.to_date("%Y%m%d")
            return _local(day.cast(pl.Datetime("ms")), timezone)
        return _of_numbers(column, UNITS_PER_MS[unit or _unit_by_size(sample)], sample.dtype).alias(TIMESTAMP_MS)
    if isinstance(sample.dtype, pl.Datetime):
        if sample.dtype.time_zone is not None:
            return column.dt.epoch("ms").alias(TIMESTAMP_MS)
        return _local(column, timezone)
    if sample.dtype == pl.Date:
        return _local(column.cast(pl.Datetime("ms")), timezone)
    if sample.dtype == pl.String:
        return _from_text(sample, column, timezone, where)
    raise ValueError(f"{where} holds {sample.dtype}, which is not a time: name another column")


def _from_text(sample: pl.Series, column: pl.Expr, timezone: str, where: str) -> pl.Expr:
    for parsed, zoned in _readings(column, strict=True):
        try:
            sample.to_frame().select(parsed)
        except pl.exceptions.PolarsError:
            continue
        return parsed.dt.epoch("ms").alias(TIMESTAMP_MS) if zoned else _local(parsed, timezone)
    zoned_text = sample.filter(sample.str.contains(_OFFSET))
    if 0 < len(zoned_text) < len(sample):
        plain = sample.filter(~sample.str.contains(_OFFSET))
        raise ValueError(
            f"{where}: {zoned_text[0]!r} names its offset from UTC and {plain[0]!r} does not, or is no time: "
            "write all alike"
        )
    raise ValueError(
        f"{where}: {_not_read(sample)!r} is not a time that is understood: write numbers (seconds or milliseconds "
        "since 1970) or ISO text such as 2020-08-30 20:15:00"
    )


def _readings(column: pl.Expr, *, strict: bool) -> list[tuple[pl.Expr, bool]]:
    """Every way in which text is read as a time, and whether such text names its offset from UTC."""
    ms = partial(column.str.to_datetime, time_unit="ms", strict=strict)
    return [
        (ms(), False),
        (ms(time_zone="UTC"), True),
        (ms("%Y-%m-%dT%H:%M:%S%.f%#z"), True),
        (ms("%Y-%m-%d %H:%M:%S%.f%#z"), True),
        (column.str.to_date("%Y-%m-%d", strict=strict).cast(pl.Datetime("ms")), False),
    ]


def _not_read(sample: pl.Series) -> str:
    """The first text that is no time in the way in which most of them are one."""
    fewest = sample
    for parsed, _ in _readings(pl.col(sample.name), strict=False):
        with suppress(pl.exceptions.PolarsError):
            left = sample.filter(sample.to_frame().select(parsed).to_series().is_null())
            fewest = left if 0 < len(left) < len(fewest) else fewest
    return str(fewest[0])


def _local(moment: pl.Expr, timezone: str) -> pl.Expr:
    # The hour that a clock change skips does not exist: null, like any unknown time. A moment that no calendar has
    # stays as it is: Polars has no clock for it, and the cleaning will leave it out.
    ms = moment.dt.epoch("ms")
    inside = ms.is_between(EARLIEST_MS, LATEST_MS)
    zoned = pl.when(inside).then(moment).dt.replace_time_zone(timezone, ambiguous="earliest", non_existent="null")
    return pl.when(inside).then(zoned.dt.epoch("ms")).otherwise(ms).alias(TIMESTAMP_MS)


def _of_numbers(column: pl.Expr, per_ms: float, dtype: pl.DataType) -> pl.Expr:
    """Numbers as whole milliseconds: infinite ones are unknown, and what lies beyond every calendar becomes the next
    moment outside of it, which the cleaning leaves out."""
    if dtype.is_integer():
        number = column.cast(pl.Int64, strict=False)
        if per_ms >= 1:
            return number if per_ms == 1 else number // int(per_ms)
        factor = round(1 / per_ms)
        # Within bounds, so that the product does not wrap around.
        return number.clip(EARLIEST_MS // factor - 1, LATEST_MS // factor + 1) * factor
    number = column.cast(pl.Float64)
    number = pl.when(number.is_finite()).then(number)
    number = number * round(1 / per_ms) if per_ms < 1 else number // int(per_ms)
    return number.round().clip(EARLIEST_MS - 1, LATEST_MS + 1).cast(pl.Int64)


def _are_days(sample: pl.Series) -> bool:
    """Whole numbers that read as yyyymmdd; as seconds they would all lie in the year 1970."""
    number = sample.filter(sample.is_finite()) if sample.dtype.is_float() else sample
    whole = number.cast(pl.Int64, strict=False)
    if number.len() == 0 or whole.null_count() or (whole != number).any():
        return False
    month, day = whole // 100 % 100, whole % 100
    return bool((whole.is_between(19700101, 21001231) & month.is_between(1, 12) & day.is_between(1, 31)).all())


def _unit_by_size(sample: pl.Series) -> str:
    """By the one in the middle: a few that are damaged say nothing about the others."""
    numbers = sample.cast(pl.Float64)
    typical = float(numbers.filter(numbers.is_finite() & (numbers != 0)).abs().median() or 0)  # type: ignore[arg-type]
    for unit, bound in (("s", 1e11), ("ms", 1e14), ("us", 1e17)):
        if typical < bound:
            return unit
    return "ns"
