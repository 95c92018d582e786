"""KuaiRec's videos: categories, captions and what stands still in the daily features, joined into one table."""

from __future__ import annotations

from pathlib import Path

import polars as pl

from towerrec.data.columns import require_columns
from towerrec.data.sources import kuairec_files as files
from towerrec.data.sources.scan import load, scan_file
from towerrec.schema import DURATION_MS, ITEM_ID

TIMEZONE = "Asia/Shanghai"
UNKNOWN_TEXT = "UNKNOWN"
UNKNOWN_CATEGORY = -124
LEVELS = ("first", "second", "third")
CAPTION_TYPES = {
    "video_id": pl.Int64,
    "manual_cover_text": pl.String,
    "caption": pl.String,
    "topic_tag": pl.String,
    **{f"{level}_level_category_id": pl.Int64 for level in LEVELS},
    **{f"{level}_level_category_name": pl.String for level in LEVELS},
}
STATIC = ("author_id", "music_id", "video_type", "upload_type")
SIZES = ("video_width", "video_height")
# Everything else in the daily features is a number: a length, a size or a counter.
DAILY_TYPES = {
    **dict.fromkeys(("video_id", "author_id", "music_id", "video_tag_id"), pl.Int64),
    **dict.fromkeys(("video_type", "upload_type", "upload_dt", "visible_status", "video_tag_name"), pl.String),
    "date": pl.String,
}


def items_table(folder: Path) -> pl.LazyFrame | None:
    """One row per video that any file knows; None where no file is there. A missing file leaves its columns out."""
    readers = {files.CATEGORIES: read_tags, files.CAPTIONS: read_captions, files.DAILY: read_static}
    tables = [read(folder / name) for name, read in readers.items() if (folder / name).is_file()]
    if not tables:
        return None
    joined = tables[0]
    for table in tables[1:]:
        joined = joined.join(table, on=ITEM_ID, how="full", coalesce=True)
    return joined.sort(ITEM_ID).lazy()


def read_tags(path: Path) -> pl.DataFrame:
    """`feat`: the tags of each video, a list written as text."""
    table = load(scan_file(path, types={"video_id": pl.Int64, "feat": pl.String}), path)
    require_columns(["video_id", "feat"], table.columns, str(path))
    feat = pl.col("feat").str.json_decode(pl.List(pl.Int64))
    return _one_row_each(load(table.lazy().select(pl.col("video_id").alias(ITEM_ID), feat), path), path)


def read_captions(path: Path) -> pl.DataFrame:
    """Texts and category levels; the release's own words for unknown become null."""
    table = load(scan_file(path, types=CAPTION_TYPES), path)
    require_columns(CAPTION_TYPES, table.columns, str(path))
    text = pl.col([name for name, dtype in CAPTION_TYPES.items() if dtype == pl.String])
    category = pl.col([f"{level}_level_category_id" for level in LEVELS])
    cleaned = table.select(
        pl.col("video_id").alias(ITEM_ID),
        pl.when(~text.str.strip_chars().is_in(["", UNKNOWN_TEXT])).then(text),
        pl.when(category != UNKNOWN_CATEGORY).then(category),
    )
    # `[a,b]` without quotes is no JSON; the words are what matters, and an empty list says nothing.
    topics = pl.col("topic_tag").str.strip_prefix("[").str.strip_suffix("]")
    return _one_row_each(cleaned.with_columns(pl.when(topics != "").then(topics).alias("topic_tag")), path)


def read_static(path: Path) -> pl.DataFrame:
    """What a video is from its first known day on; its duration, which jitters by milliseconds, as the median."""
    daily = _scan(path)
    existing = daily.collect_schema().names()
    firsts = [name for name in (*STATIC, *SIZES) if name in existing]
    known = [pl.col(name).sort_by("date").drop_nulls().first() for name in firsts]
    if "upload_dt" in existing:
        day = pl.col("upload_dt").cast(pl.String).str.head(10).str.to_date("%Y-%m-%d", strict=False)
        known.append(day.sort_by("date").drop_nulls().first().alias("upload_date"))
    if "video_duration" in existing:
        known.append(pl.col("video_duration").cast(pl.Float64).median().alias(DURATION_MS))
    unknown_to_null = [
        pl.when(pl.col(name) != UNKNOWN_TEXT).then(pl.col(name)).alias(name)
        for name in ("video_type", "upload_type")
        if name in existing
    ]
    static = daily.group_by(pl.col("video_id").alias(ITEM_ID)).agg(known).with_columns(unknown_to_null)
    return load(static, path)


def scan_daily(path: Path) -> pl.LazyFrame:
    """`item_id`, `date` and the counters of that day: known only once the day is over."""
    daily = _scan(path)
    schema = daily.collect_schema()
    counters = [name for name in schema.names() if name not in {*DAILY_TYPES, "video_duration", *SIZES}]
    return daily.select(pl.col("video_id").alias(ITEM_ID), "date", *counters)


def _scan(path: Path) -> pl.LazyFrame:
    """The daily features with a real date."""
    existing = scan_file(path, infer_rows=0).collect_schema().names()
    require_columns(["video_id", "date"], existing, str(path))
    # Said, not guessed: some counters are empty for weeks before their first value.
    types = {name: DAILY_TYPES.get(name, pl.Float64) for name in existing}
    frame = scan_file(path, types=types, infer_rows=0)
    frame = frame.rename(
        {f: f"video_{f}" for f in ("width", "height") if f in existing and f"video_{f}" not in existing}
    )
    return frame.with_columns(pl.col("date").str.head(8).str.to_date("%Y%m%d"))


def _one_row_each(table: pl.DataFrame, path: Path) -> pl.DataFrame:
    twice = table[ITEM_ID].is_duplicated()
    if twice.any():
        raise ValueError(f"{path}: video {table[ITEM_ID].filter(twice)[0]} has more than one row; it must have one")
    return table
