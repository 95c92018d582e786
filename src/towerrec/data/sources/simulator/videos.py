"""The videos: topic, quality, length, author, and the days on which the recommender pushes them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from towerrec.data.sources.simulator.calendar import DAY_WEIGHT, DAYS, DOUBLED_DAYS, DOUBLED_SHARE, LOG_DAYS
from towerrec.data.sources.simulator.scales import (
    OTHER_VIDEO_MS,
    OTHER_VIDEO_ROWS,
    SMALL_VIDEO_MS,
    SMALL_VIDEO_ROWS,
    Bools,
    Floats,
    Ints,
    Scale,
    ranks,
    stream,
)
from towerrec.data.sources.simulator.users import TASTE_DIM
from towerrec.data.sources.simulator.vocabulary import SUBS_PER_TOPIC, TOPICS

# How common every tag is as the main tag, per thousand videos, by tag id.
_TAG_WEIGHT = np.array(
    [
        *(2, 40, 18, 9, 14, 85, 66, 43, 87, 46, 12, 166, 46, 21, 5, 32),
        *(18, 28, 11, 58, 20, 2, 2, 3, 1, 35, 28, 2, 100, 1, 2),
    ],
    dtype=float,
)
# Shares of the variance of a topic vector: tag, sub-topic, the video's own style.
TOPIC_SHARES = (0.45, 0.25, 0.30)
QUALITY_SD = 0.15
# The shortest videos are made to be looped: the score they gain at three seconds, fading out at the second length.
_LOOP_GAIN = 0.2
_LOOP_MS = (3_100.0, 4_200.0)
# Small-matrix share of the rows, and the largest share of its possible pairs that may be filled.
_SMALL_SHARE = 0.82
_LARGEST_FILL = 0.62
# Share of a popular video's views outside its push, and of all views that are repeats of a pair.
_ALWAYS = 0.12
_REPEATED = 0.109
_FRESH_REPEATS = 0.5
_BALANCING_ROUNDS = 30
# Pushes of the other videos per log day, in proportion: fewer in the last week.
_OTHER_PUSHES = np.array([33.0] * 17 + [60.0] * 4 + [28.0] * 7)


@dataclass(frozen=True)
class Videos:
    """All videos; arrays have one row per video_id.

    `topic` [I, K] has variance 1 per dimension; `style` [I, K] is its individual part; `quality` [I] moves the latent
    watch score; `duration_ms` [I]; `rows` [I] is the target number of raw rows in the big matrix; `push_day` [I] is the
    day number of the push (0 is July 5) and `upload_day` [I] that of the upload; `day_profile` [I, 28] weighs the log
    days and sums to one per video.
    """

    topic: Floats
    style: Floats
    tag: Ints
    sub: Ints
    quality: Floats
    duration_ms: Floats
    author: Ints
    rows: Floats
    push_day: Ints
    upload_day: Ints
    day_profile: Floats
    in_small: Bools


def simulate_videos(scale: Scale, seed: int) -> Videos:
    """Draw all videos."""
    rng = stream(seed, "videos")
    count = scale.videos
    in_small = np.zeros(count, dtype=bool)
    in_small[rng.permutation(count)[: scale.small_videos]] = True
    tag = rng.choice(len(TOPICS), size=count, p=_TAG_WEIGHT / _TAG_WEIGHT.sum())
    sub = rng.integers(0, SUBS_PER_TOPIC, size=count)
    topic, style = _draw_topic(rng, tag, sub)
    duration = _draw_duration(rng, tag, in_small)
    quality = _draw_quality(rng, tag, sub) + np.interp(duration, _LOOP_MS, (_LOOP_GAIN, 0.0)).astype(np.float32)
    rows, push = _draw_rows_and_push(rng, scale, in_small)
    upload = push - np.where(in_small, rng.exponential(60.0, count), rng.exponential(1.5, count)).astype(np.int64)
    return Videos(
        topic=topic,
        style=style,
        tag=tag,
        sub=sub,
        quality=quality,
        duration_ms=duration,
        author=_draw_author(rng, count),
        rows=rows,
        push_day=push,
        upload_day=upload,
        day_profile=_day_profile(rng, push, rows, in_small),
        in_small=in_small,
    )


def _draw_topic(rng: np.random.Generator, tag: Ints, sub: Ints) -> tuple[Floats, Floats]:
    """Topic vectors [I, K] (tag, sub-topic, style) and the style part alone [I, K]."""
    tags = rng.standard_normal((len(TOPICS), TASTE_DIM))
    subs = rng.standard_normal((len(TOPICS), SUBS_PER_TOPIC, TASTE_DIM))
    style = rng.standard_normal((len(tag), TASTE_DIM))
    root = np.sqrt(TOPIC_SHARES)
    topic = root[0] * tags[tag] + root[1] * subs[tag, sub] + root[2] * style
    return topic.astype(np.float32), style.astype(np.float32)


def _draw_quality(rng: np.random.Generator, tag: Ints, sub: Ints) -> Floats:
    """Shift of the latent watch score [I]: a fifth from the tag, a tenth from the sub-topic, the rest its own."""
    parts = (
        np.sqrt(0.2) * rng.standard_normal(len(TOPICS))[tag],
        np.sqrt(0.1) * rng.standard_normal((len(TOPICS), SUBS_PER_TOPIC))[tag, sub],
        np.sqrt(0.7) * rng.standard_normal(len(tag)),
    )
    return (QUALITY_SD * sum(parts)).astype(np.float32)


def _draw_duration(rng: np.random.Generator, tag: Ints, in_small: Bools) -> Floats:
    """Milliseconds [I]: the published quantiles, with some tags shorter than others."""
    score = 0.45 * rng.standard_normal(len(TOPICS))[tag] + rng.standard_normal(len(tag))
    duration = np.empty(len(tag))
    for group, curve in ((in_small, SMALL_VIDEO_MS), (~in_small, OTHER_VIDEO_MS)):
        duration[group] = curve(ranks(score[group]))
    return np.rint(duration)


def _draw_author(rng: np.random.Generator, count: int) -> Ints:
    """Authors [I]: about six for ten videos, a few of them prolific."""
    pool = max(2, round(0.78 * count))
    share = (1.0 + np.arange(pool)) ** -0.25
    return rng.permutation(pool)[rng.choice(pool, size=count, p=share / share.sum())]


def small_share(scale: Scale) -> float:
    """Share of the big rows on small-matrix videos: the published one where the pairs suffice."""
    pairs = (scale.users - scale.small_users) * scale.small_videos
    return min(_SMALL_SHARE, _LARGEST_FILL * pairs / (0.89 * scale.events))


def _draw_rows_and_push(rng: np.random.Generator, scale: Scale, in_small: Bools) -> tuple[Floats, Ints]:
    """Target raw rows [I] and the day of the push [I]. Late videos outside the small matrix have gathered less."""
    log_day = np.empty(len(in_small), dtype=np.int64)
    rows = np.empty(len(in_small))
    other = ~in_small
    log_day[other] = rng.choice(len(LOG_DAYS), size=other.sum(), p=_OTHER_PUSHES / _OTHER_PUSHES.sum())
    lateness = log_day[other] / len(LOG_DAYS)
    rows[other] = OTHER_VIDEO_ROWS(ranks(rng.standard_normal(other.sum()) - 0.8 * lateness))
    rows[in_small] = SMALL_VIDEO_ROWS(ranks(rng.standard_normal(in_small.sum())))
    share = small_share(scale)
    rows[in_small] *= share * scale.big_rows / rows[in_small].sum()
    rows[other] *= (1 - share) * scale.big_rows / rows[other].sum()
    # The popular videos are pushed where the other ones leave room in the traffic of the day.
    taken = np.bincount(log_day[other], weights=rows[other], minlength=len(LOG_DAYS)) / scale.big_rows
    room = np.maximum(DAY_WEIGHT / DAY_WEIGHT.sum() - taken, 1e-3)
    log_day[in_small] = rng.choice(len(LOG_DAYS), size=in_small.sum(), p=room / room.sum())
    return rows, LOG_DAYS[log_day]


def _day_profile(rng: np.random.Generator, push: Ints, rows: Floats, in_small: Bools) -> Floats:
    """Weight of the log days [I, 28]: a push that fades within days; the popular ones circulate all the time.

    The days are then balanced to the traffic of the app, less the views that will be repeats.
    """
    count = len(push)
    fade = np.where(in_small, rng.gamma(2.0, 0.7, count), rng.gamma(2.0, 0.35, count)) + 0.25
    age = LOG_DAYS[None, :] - push[:, None]
    burst = np.where(age >= 0, np.exp(-np.maximum(age, 0) / fade[:, None]), 0.0)
    burst /= burst.sum(axis=1, keepdims=True)
    traffic = DAY_WEIGHT / DAY_WEIGHT.sum()
    always = np.where(in_small, _ALWAYS, 0.0)[:, None]
    profile = (1 - always) * burst + always * traffic
    for _ in range(_BALANCING_ROUNDS):
        weight = rows / (1 + doubled_share(profile))
        weight /= weight.sum()
        repeated = _REPEATED * (weight @ repeat_profile(push, in_small, profile))
        wanted = np.maximum(traffic - repeated, 0.2 * traffic)
        profile *= wanted / (weight @ profile)
        profile /= profile.sum(axis=1, keepdims=True)
    return profile.astype(np.float32)


def repeat_profile(push: Ints, in_small: Bools, day_profile: Floats) -> Floats:
    """Weight of the log days for a view that is not the first of its pair [N, 28], for rows of videos.

    Half the repeats of popular videos come any day after the push; all others come while the video is fresh.
    """
    fresh = np.where(in_small, _FRESH_REPEATS, 1.0)[:, None]
    later = np.where(LOG_DAYS[None, :] >= push[:, None], DAY_WEIGHT, 0.0).astype(np.float32)
    later /= later.sum(axis=1, keepdims=True)
    return ((1 - fresh) * later + fresh * day_profile).astype(np.float32)


def doubled_share(day_profile: Floats) -> Floats:
    """Share of the rows that the log holds twice [N], for weights of the log days [N, 28]."""
    return DOUBLED_SHARE * day_profile[:, np.isin(LOG_DAYS, DOUBLED_DAYS)].sum(axis=1) / day_profile.sum(axis=1)


def item_categories(videos: Videos, seed: int) -> tuple[pl.DataFrame, list[list[int]]]:
    """item_categories.csv, its lists written as text, and the lists themselves: the main tag is one of 1 to 4."""
    rng = stream(seed, "tags")
    count = len(videos.tag)
    number = rng.choice([1, 2, 3, 4], size=count, p=[0.8361, 0.1456, 0.0173, 0.0010])
    share = _TAG_WEIGHT / _TAG_WEIGHT.sum()
    extra = rng.choice(len(TOPICS), size=(count, 6), p=share)
    lists: list[list[int]] = []
    for tag, more, size in zip(videos.tag.tolist(), extra.tolist(), number.tolist(), strict=True):
        lists.append(list(dict.fromkeys([tag, *more]))[:size])
    return pl.DataFrame({"video_id": np.arange(count), "feat": [str(tags) for tags in lists]}), lists


def first_possible_day(videos: Videos) -> Ints:
    """First day number on which a video can be watched [I]: its upload, or July 5."""
    return np.clip(videos.upload_day, 0, DAYS - 1)
