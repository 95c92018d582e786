"""The feed: what the recommender showed every user on the 28 log days, with the flaws of the release."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from towerrec.data.sources.simulator.calendar import (
    DOUBLED_DAYS,
    DOUBLED_SHARE,
    LOG_DAYS,
    MS_PER_DAY,
    clock_ms,
    neighbour_log_day,
    partition_dates,
    timestamp_ms,
)
from towerrec.data.sources.simulator.events import Events, concatenate, sort_by_user_and_time
from towerrec.data.sources.simulator.exposure import Exposure, draw_pairs, user_chunks
from towerrec.data.sources.simulator.scales import FULL_EVENTS, FULL_NEAR_DUPLICATES, Floats, Ints, Scale, stream
from towerrec.data.sources.simulator.users import TASTE_DIM, Users
from towerrec.data.sources.simulator.videos import Videos, repeat_profile
from towerrec.data.sources.simulator.watching import FEED, TASTE_SD, watch

_DATES = partition_dates()
_WRONG_DATE_SHARE = 0.00109
_STRAY_SHARE = 6e-6
# Days by which a stray timestamp is off.
_STRAY_DAYS = np.array([-12, -7, -4, -2, 2, 3, 4, 5])


def mean_score(users: Users, videos: Videos, user: Ints, video: Ints) -> Floats:
    """Expected latent watch score of every view [N]: engagement, quality, and the fit of taste and topic."""
    fit = np.einsum("nk,nk->n", users.taste[user], videos.topic[video]) / np.sqrt(TASTE_DIM)
    return (users.engagement[user] + videos.quality[video] + TASTE_SD * fit).astype(np.float32)


def big_matrix(
    users: Users, videos: Videos, exposure: Exposure, scale: Scale, seed: int
) -> Iterator[tuple[Events, Events]]:
    """For every chunk of users, in order: the clean events, and the rows as the release would hold them."""
    for number, chunk in enumerate(user_chunks(scale)):
        rng = stream(seed, "big matrix", number)
        events = _chunk_events(rng, users, videos, exposure, chunk)
        yield events, sort_by_user_and_time(_with_flaws(rng, events, scale))


def _chunk_events(rng: np.random.Generator, users: Users, videos: Videos, exposure: Exposure, chunk: slice) -> Events:
    user, video, again = draw_pairs(rng, users, videos, exposure, chunk)
    first_day = _draw_log_day(rng, videos.day_profile[video] * users.day_activity[user])
    later_user, later_video = np.repeat(user, again), np.repeat(video, again)
    by_day = repeat_profile(videos.push_day, videos.in_small, videos.day_profile)
    later_day = _draw_log_day(rng, by_day[later_video] * users.day_activity[later_user])
    user, video = np.concatenate([user, later_user]), np.concatenate([video, later_video])
    day = LOG_DAYS[np.concatenate([first_day, later_day])]
    score = mean_score(users, videos, user, video)
    views = watch(
        rng, FEED, mean_score=score, restlessness=users.restlessness[user], duration_ms=videos.duration_ms[video]
    )
    return Events(
        user=user,
        video=video,
        play_ms=views.play_ms,
        duration_ms=views.duration_ms,
        timestamp_ms=timestamp_ms(day, clock_ms(rng, len(day))),
        date=_DATES[day],
    )


def _draw_log_day(rng: np.random.Generator, weight: Floats) -> Ints:
    """One log day (0..27) per row of weights [N, 28]."""
    total = np.cumsum(weight, axis=1, dtype=np.float32)
    below = total < (rng.random(len(total), dtype=np.float32) * total[:, -1])[:, None]
    return np.minimum(below.sum(axis=1), len(LOG_DAYS) - 1)


def _with_flaws(rng: np.random.Generator, events: Events, scale: Scale) -> Events:
    """The rows with wrong partitions, stray times, near duplicates and full duplicates."""
    log_day = np.searchsorted(_DATES[LOG_DAYS], events.date)
    events = _misfiled(rng, events, log_day, scale)
    log_day = np.searchsorted(_DATES[LOG_DAYS], events.date)
    doubled = np.isin(LOG_DAYS[log_day], DOUBLED_DAYS)
    # Outside the two partitions about one row in ten thousand is doubled too.
    share = np.where(doubled, DOUBLED_SHARE, max(1.1e-4, 2 / scale.events))
    copies = np.flatnonzero(rng.random(len(events)) < share)
    return concatenate([events, events.take(copies), _near_duplicates(rng, events, log_day, scale)])


def _misfiled(rng: np.random.Generator, events: Events, log_day: Ints, scale: Scale) -> Events:
    """Some rows lie under the partition of the next or previous log day, a few have a time days away."""
    wrong = rng.random(len(events)) < _WRONG_DATE_SHARE
    other_day = neighbour_log_day(log_day, rng.choice([-1, 1], len(events)))
    date = np.where(wrong, _DATES[LOG_DAYS[other_day]], events.date)
    stray = rng.random(len(events)) < max(_STRAY_SHARE, 3 / scale.events)
    shift = MS_PER_DAY * rng.choice(_STRAY_DAYS, len(events))
    return events.with_columns(date=date, timestamp_ms=events.timestamp_ms + np.where(stray, shift, 0))


def _near_duplicates(rng: np.random.Generator, events: Events, log_day: Ints, scale: Scale) -> Events:
    """Copies of events under a second partition; one in two thousand differs in the time watched instead."""
    share = max(FULL_NEAR_DUPLICATES / FULL_EVENTS, 3 / scale.events)
    rows = np.flatnonzero(rng.random(len(events)) < share)
    copies = events.take(rows)
    by_time = rng.random(len(rows)) < 1 / 2_000
    other_day = neighbour_log_day(log_day[rows], rng.choice([-1, 1], len(rows)))
    return copies.with_columns(
        date=np.where(by_time, copies.date, _DATES[LOG_DAYS[other_day]]),
        play_ms=copies.play_ms + by_time * 17,
    )
