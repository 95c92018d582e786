"""The fully observed matrix: every small user watched every small video, except those of blocked authors."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from towerrec.data.sources.simulator.big_matrix import mean_score
from towerrec.data.sources.simulator.calendar import DAYS, clock_ms, partition_dates, timestamp_ms
from towerrec.data.sources.simulator.events import Events, sort_by_user_and_time
from towerrec.data.sources.simulator.scales import BLOCKED_CELLS, Bools, Floats, Ints, Scale, stream
from towerrec.data.sources.simulator.users import Users
from towerrec.data.sources.simulator.videos import Videos, first_possible_day
from towerrec.data.sources.simulator.watching import PANEL, watch

_DATES = partition_dates()
_UNRECORDED_SHARE = 0.038916
_WRONG_DATE_SHARE = 1_213 / 4_494_578
_FULL_VIDEOS = 3_327
_CHUNK = 256


def small_matrix(users: Users, videos: Videos, scale: Scale, seed: int) -> Iterator[Events]:
    """Rows of the matrix for chunks of users, in order of the user id."""
    rng = stream(seed, "small matrix")
    members, shown = np.flatnonzero(users.in_small), np.flatnonzero(videos.in_small)
    blocked = _blocked(rng, members, videos.author[shown], scale)
    activity = rng.lognormal(sigma=0.56, size=(len(members), DAYS))
    activity[rng.random(activity.shape) < 0.02] = 1e-6
    for number, start in enumerate(range(0, len(members), _CHUNK)):
        rows = slice(start, start + _CHUNK)
        row, column = np.nonzero(~blocked[rows])
        yield _chunk_events(
            stream(seed, "small chunk", number), users, videos, members[rows][row], shown[column], activity[rows][row]
        )


def _blocked(rng: np.random.Generator, members: Ints, author: Ints, scale: Scale) -> Bools:
    """Cells that were never shown [S, J]: all videos of the authors a user has blocked, author by author."""
    wanted = BLOCKED_CELLS(rng.random(len(members))) * scale.small_videos / _FULL_VIDEOS - 0.5
    authors, author = np.unique(author, return_inverse=True)
    size = np.bincount(author)
    blocked = np.zeros((len(members), len(author)), dtype=bool)
    for row, cells in enumerate(wanted):
        order = rng.permutation(len(authors))[: max(1, int(cells) + 1)]
        before = np.cumsum(size[order]) - size[order]
        blocked[row] = np.isin(author, order[before < cells])
    return blocked


def _chunk_events(
    rng: np.random.Generator, users: Users, videos: Videos, user: Ints, video: Ints, activity: Floats
) -> Events:
    score = mean_score(users, videos, user, video)
    views = watch(
        rng, PANEL, mean_score=score, restlessness=users.restlessness[user], duration_ms=videos.duration_ms[video]
    )
    day = _draw_day(rng, activity, first_possible_day(videos)[video])
    recorded = rng.random(len(user)) >= _UNRECORDED_SHARE
    filed = np.clip(day + (rng.random(len(user)) < _WRONG_DATE_SHARE), 0, DAYS - 1)
    events = Events(
        user=user,
        video=video,
        play_ms=views.play_ms,
        duration_ms=views.duration_ms,
        timestamp_ms=np.where(recorded, timestamp_ms(day, clock_ms(rng, len(user))), -1),
        date=np.where(recorded, _DATES[filed], -1),
    )
    return sort_by_user_and_time(events)


def _draw_day(rng: np.random.Generator, activity: Floats, first: Ints) -> Ints:
    """A day number per view [N], by the user's activity [N, 63], not before the video's first day."""
    total = np.cumsum(activity, axis=1, dtype=np.float32)
    before = np.where(first > 0, np.take_along_axis(total, np.maximum(first - 1, 0)[:, None], axis=1)[:, 0], 0.0)
    mark = before + rng.random(len(total), dtype=np.float32) * (total[:, -1] - before)
    return np.minimum((total < mark[:, None]).sum(axis=1), DAYS - 1)
