"""item_daily_features.csv: what the platform did with every video on every day, in step with the views."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass, field

import numpy as np
import polars as pl

from towerrec.data.sources.simulator.calendar import DAY_ZERO, DAYS, partition_dates
from towerrec.data.sources.simulator.events import Events, day_number
from towerrec.data.sources.simulator.scales import Floats, Ints, stream
from towerrec.data.sources.simulator.videos import Videos, first_possible_day
from towerrec.data.sources.simulator.vocabulary import TOPICS

_ROWS_PER_VIDEO = 343_341 / 10_728
_PLATFORM = 25.0
"""Plays on the platform for every play in the log."""
_SUMS = ("play", "play_ms", "progress", "complete", "valid", "long", "short")
# Counters that follow from the plays, with the mean number per play; those of a pair also exist per user.
_PER_PLAY_PAIRS = {
    "like": 0.030,
    "cancel_like": 0.0006,
    "comment": 0.004,
    "delete_comment": 0.0001,
    "comment_like": 0.006,
    "follow": 0.0022,
    "cancel_follow": 0.00012,
    "share": 0.0012,
    "download": 0.0016,
    "report": 0.00004,
    "reduce_similar": 0.0007,
    "collect": 0.0009,
    "cancel_collect": 0.00005,
}
_COLLECT = ("collect_cnt", "collect_user_num", "cancel_collect_cnt", "cancel_collect_user_num")
_COLLECT_GAP_SHARE = 69_683 / 343_341
_UPLOAD_TYPES = ("ShortImport", "LongImport", "ShortCamera", "LongCamera", "PictureSet", "Kmovie", "Web", "UNKNOWN")
_COLUMN_NAMES = """
    video_id date author_id video_type upload_dt upload_type visible_status video_duration video_width
    video_height music_id video_tag_id video_tag_name show_cnt show_user_num play_cnt play_user_num
    play_duration complete_play_cnt complete_play_user_num valid_play_cnt valid_play_user_num
    long_time_play_cnt long_time_play_user_num short_time_play_cnt short_time_play_user_num play_progress
    comment_stay_duration like_cnt like_user_num click_like_cnt double_click_cnt cancel_like_cnt
    cancel_like_user_num comment_cnt comment_user_num direct_comment_cnt reply_comment_cnt delete_comment_cnt
    delete_comment_user_num comment_like_cnt comment_like_user_num follow_cnt follow_user_num
    cancel_follow_cnt cancel_follow_user_num share_cnt share_user_num download_cnt download_user_num
    report_cnt report_user_num reduce_similar_cnt reduce_similar_user_num collect_cnt collect_user_num
    cancel_collect_cnt cancel_collect_user_num
"""
COLUMNS: tuple[str, ...] = tuple(_COLUMN_NAMES.split())


@dataclass
class DayCounters:
    """Sums over the simulated views of every video and day, each [I, 63], filled chunk by chunk."""

    num_videos: int
    sums: dict[str, Floats] = field(init=False)

    def __post_init__(self) -> None:
        self.sums = {name: np.zeros(self.num_videos * DAYS) for name in _SUMS}

    def add(self, events: Events) -> None:
        """Count the events that have a time."""
        events = events.take(np.flatnonzero(events.timestamp_ms >= 0))
        cell = events.video * DAYS + day_number(events.timestamp_ms)
        play, length = events.play_ms, events.duration_ms
        values = {
            "play": None,
            "play_ms": play,
            "progress": np.minimum(play / length, 1.0),
            "complete": play >= length,
            "valid": play >= np.minimum(length, 7_000),
            "long": play >= 18_000,
            "short": play < 3_000,
        }
        for name, value in values.items():
            self.sums[name] += np.bincount(cell, weights=value, minlength=self.num_videos * DAYS)


def item_daily_features(videos: Videos, counters: DayCounters, tags: list[list[int]], seed: int) -> pl.DataFrame:
    """The table: one row per video and day it was alive, sorted by video and day, 58 columns."""
    rng = stream(seed, "daily")
    video, day = _alive_days(rng, videos, counters)
    plays = _platform_plays(rng, videos, counters, video, day)
    columns = {
        "video_id": video,
        "date": partition_dates()[day],
        **_constants(rng, videos, tags, video, day),
        **_play_columns(rng, videos, counters, video * DAYS + day, video, plays),
        **_reaction_columns(rng, videos, video, plays),
    }
    frame = pl.DataFrame(columns).select(COLUMNS)
    # Collecting came to the app in July: the first fifth of the rows do not know it.
    without = pl.col("date") <= int(np.quantile(frame["date"].to_numpy(), _COLLECT_GAP_SHARE, method="lower"))
    return frame.with_columns(pl.when(~without).then(pl.col(name).cast(pl.Float64)).alias(name) for name in _COLLECT)


def _alive_days(rng: np.random.Generator, videos: Videos, counters: DayCounters) -> tuple[Ints, Ints]:
    """Video and day number of every row [R]: days with views first, then other days since the upload."""
    alive = np.arange(DAYS)[None, :] >= first_possible_day(videos)[:, None]
    viewed = counters.sums["play"].reshape(-1, DAYS) > 0
    # Quiet days drop out first for videos with few views.
    priority = 2.0 * viewed + alive + rng.random(alive.shape) * np.sqrt(0.05 + videos.rows / videos.rows.max())[:, None]
    rows = round(_ROWS_PER_VIDEO * len(videos.rows))
    kept = np.sort(np.argsort(-priority.ravel(), kind="stable")[:rows])
    return kept // DAYS, kept % DAYS


def _platform_plays(rng: np.random.Generator, videos: Videos, counters: DayCounters, video: Ints, day: Ints) -> Ints:
    """Plays on the platform [R]: the logged ones many times over, plus a trickle that fades with age."""
    age = np.maximum(day - first_possible_day(videos)[video], 0)
    trickle = 0.2 + 0.01 * videos.rows[video] * np.exp(-age / 15.0)
    mean = _PLATFORM * (counters.sums["play"][video * DAYS + day] + trickle)
    return rng.poisson(mean * rng.gamma(20.0, 1 / 20.0, len(mean)))


def _constants(
    rng: np.random.Generator, videos: Videos, tags: list[list[int]], video: Ints, day: Ints
) -> dict[str, object]:
    """Columns that describe the video; only the status changes from day to day."""
    count = len(videos.rows)
    kind = np.array(["NORMAL", "AD"])[(rng.random(count) < 29 / 10_728).astype(np.int64)]
    upload_type = np.array(_UPLOAD_TYPES)[rng.choice(8, size=count, p=[0.44, 0.2, 0.14, 0.07, 0.06, 0.04, 0.03, 0.02])]
    dates = [(DAY_ZERO + dt.timedelta(days=int(offset))).isoformat() for offset in videos.upload_day]
    hidden_from = np.where(rng.random(count) < 926 / 10_728, rng.integers(10, DAYS, count), DAYS)
    landscape = rng.random(count) < 0.12
    tag = np.array([row[0] for row in tags])
    names = np.array([topic.name for topic in TOPICS])
    unnamed = rng.random(count) < 32_434 / 343_341
    unmeasured = rng.random(count) < 10_598 / 343_341
    music = rng.integers(1_000_000, 9_000_000, max(2, count // 2))
    duration = pl.Series(videos.duration_ms[video], dtype=pl.Float64)
    return {
        "author_id": videos.author[video],
        "video_type": kind[video],
        "upload_dt": np.array(dates)[video],
        "upload_type": upload_type[video],
        "visible_status": np.where(day >= hidden_from[video], "private", "public"),
        "video_duration": duration.scatter(np.flatnonzero(unmeasured[video]), None),
        "video_width": np.where(landscape, 1_280, 720)[video],
        "video_height": np.where(landscape, 720, 1_280)[video],
        "music_id": music[rng.integers(0, len(music), count)][video],
        "video_tag_id": tag[video],
        "video_tag_name": pl.Series(names[tag[video]]).scatter(np.flatnonzero(unnamed[video]), None),
    }


def _play_columns(
    rng: np.random.Generator, videos: Videos, counters: DayCounters, cell: Ints, video: Ints, plays: Ints
) -> dict[str, object]:
    """Columns on playing: the rates of the simulated views, drawn again for the platform's plays."""
    seen = counters.sums["play"]
    overall = {name: total.sum() / max(seen.sum(), 1.0) for name, total in counters.sums.items()}
    rate = {name: (total[cell] + 3 * overall[name]) / (seen[cell] + 3) for name, total in counters.sums.items()}
    shows = plays + rng.poisson(plays * (0.15 + 0.3 * rng.random(len(videos.rows)))[video])
    columns: dict[str, object] = {
        "show_cnt": shows,
        "show_user_num": _users(shows),
        "play_cnt": plays,
        "play_user_num": _users(plays),
        "play_duration": np.rint(plays * rate["play_ms"]).astype(np.int64),
        "play_progress": np.round(rate["progress"], 6),
        "comment_stay_duration": rng.poisson(plays * 350.0 * rng.gamma(2.0, 0.5, len(videos.rows))[video]),
    }
    for name, key in (("complete", "complete"), ("valid", "valid"), ("long_time", "long"), ("short_time", "short")):
        number = rng.binomial(plays, np.clip(rate[key], 0.0, 1.0))
        columns[f"{name}_play_cnt"], columns[f"{name}_play_user_num"] = number, _users(number)
    return columns


def _reaction_columns(rng: np.random.Generator, videos: Videos, video: Ints, plays: Ints) -> dict[str, object]:
    """Likes, comments and the like: per play, more of them for videos of higher quality."""
    columns: dict[str, object] = {}
    for name, per_play in _PER_PLAY_PAIRS.items():
        lift = np.exp(1.5 * videos.quality + 0.4 * rng.standard_normal(len(videos.quality)))
        number = rng.poisson(plays * per_play * lift[video])
        columns[f"{name}_cnt"], columns[f"{name}_user_num"] = number, _users(number)
    likes, comments = np.asarray(columns["like_cnt"]), np.asarray(columns["comment_cnt"])
    clicks, direct = rng.binomial(likes, 0.45), rng.binomial(comments, 0.75)
    columns |= {"click_like_cnt": clicks, "double_click_cnt": likes - clicks}
    columns |= {"direct_comment_cnt": direct, "reply_comment_cnt": comments - direct}
    return columns


def _users(number: Ints) -> Ints:
    """People behind a number of actions: slightly fewer."""
    return np.ceil(0.94 * number).astype(np.int64)
