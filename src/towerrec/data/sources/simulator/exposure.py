"""Who is shown what: a recommender that follows taste (as it believes it) and meets the margins of the release.

The log odds that user u ever sees video i are a_u + b_i + tilt * believed_taste_u . topic_i / sqrt(K); a and b are
fitted so that the expected rows of every user and video are their targets. Pairs of the fully observed matrix are
never shown in the feed. A pair, once shown, may be shown again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from towerrec.data.sources.simulator.calendar import DAY_WEIGHT
from towerrec.data.sources.simulator.scales import (
    FULL_EVENTS,
    FULL_PAIRS,
    FULL_ROWS,
    Bools,
    Floats,
    Ints,
    Scale,
    stream,
)
from towerrec.data.sources.simulator.users import TASTE_DIM, Users
from towerrec.data.sources.simulator.videos import Videos, doubled_share

TILT = 0.6
RARE_ROWS = 30.0
"""Videos with fewer events than this get exactly their number of viewers, so none is left without a row."""
_ROUNDS = 18
_SECOND_VIEWS = FULL_EVENTS / FULL_PAIRS - 1
# Of a video below the limit: the heavy ones make up the rest of the repeats.
_USUAL_REPEATS = 0.78 * _SECOND_VIEWS
_FULLEST = 0.7
"""Share of the possible pairs of a user or a video above which more rows become repeated views."""


@dataclass(frozen=True)
class Exposure:
    """Fitted propensities.

    `user_bias` [U] and `video_bias` [I] are log odds; expected repeated views of a pair are
    `user_repeats` [U] times `video_repeats` [I]; `rare_user`, `rare_video` [R] are the pairs of the rare videos.
    """

    user_bias: Floats
    video_bias: Floats
    user_repeats: Floats
    video_repeats: Floats
    rare_user: Ints
    rare_video: Ints
    is_rare: Bools


def user_chunks(scale: Scale) -> Iterator[slice]:
    """Slices over the users, small enough for a dense block of users by videos."""
    for start in range(0, scale.users, scale.chunk_users):
        yield slice(start, min(start + scale.chunk_users, scale.users))


def show_probability(users: Users, videos: Videos, exposure: Exposure, chunk: slice) -> Floats:
    """Probability that each user of the chunk is shown each video [u, I]."""
    logit = (TILT / np.sqrt(TASTE_DIM)).astype(np.float32) * (users.believed_taste[chunk] @ videos.topic.T)
    logit += exposure.user_bias[chunk, None]
    logit += exposure.video_bias[None, :]
    np.negative(logit, out=logit)
    np.exp(np.minimum(logit, 60.0, out=logit), out=logit)
    logit += 1.0
    shown = np.reciprocal(logit, out=logit)
    shown[np.ix_(users.in_small[chunk], videos.in_small)] = 0.0
    return shown


def fit_exposure(users: Users, videos: Videos, scale: Scale, seed: int) -> Exposure:
    """Fit the propensities to the row targets of users and videos, alternating between the two."""
    user_target, video_target = _event_targets(users, videos)
    is_rare = video_target < RARE_ROWS
    user_repeats, video_repeats = _repeats(users, videos, user_target, video_target, is_rare)
    start = np.log(user_target.sum() / (len(user_target) * len(video_target)))
    exposure = Exposure(
        user_bias=(np.log(user_target / user_target.mean()) + start).astype(np.float32),
        video_bias=np.log(video_target / video_target.mean()).astype(np.float32),
        user_repeats=user_repeats,
        video_repeats=video_repeats,
        rare_user=np.empty(0, dtype=np.int64),
        rare_video=np.empty(0, dtype=np.int64),
        is_rare=is_rare,
    )
    for turn in range(_ROUNDS):
        _adjust(users, videos, scale, exposure, user_target if turn % 2 else video_target, of_users=bool(turn % 2))
    return _with_rare_pairs(users, videos, exposure, video_target, seed)


def _event_targets(users: Users, videos: Videos) -> tuple[Floats, Floats]:
    """Rows without duplicates per user [U] and per video [I], with equal sums."""
    user_target = users.rows / (1 + doubled_share(users.day_activity * DAY_WEIGHT))
    video_target = videos.rows / (1 + doubled_share(videos.day_profile))
    total = users.rows.sum() * FULL_EVENTS / FULL_ROWS
    return user_target * total / user_target.sum(), video_target * total / video_target.sum()


def _repeats(
    users: Users, videos: Videos, user_target: Floats, video_target: Floats, is_rare: Bools
) -> tuple[Floats, Floats]:
    """Factors of the expected repeated views, larger where targets exceed the pairs there are."""
    user_room = np.where(users.in_small, (~videos.in_small).sum(), len(videos.rows))
    video_room = np.where(videos.in_small, (~users.in_small).sum(), len(users.rows))
    user_need = user_target / (_FULLEST * user_room * 0.75) - 1
    video_need = video_target / (_FULLEST * video_room) - 1
    user_repeats = np.maximum(1.0, user_need / _SECOND_VIEWS)
    video_repeats = np.where(is_rare, 0.0, np.maximum(_USUAL_REPEATS, video_need))
    return user_repeats.astype(np.float32), video_repeats.astype(np.float32)


def _adjust(users: Users, videos: Videos, scale: Scale, exposure: Exposure, target: Floats, *, of_users: bool) -> None:
    """One Newton step of the user or the video biases, in place, towards the expected rows."""
    expected, slope = np.zeros(len(target)), np.zeros(len(target))
    for chunk in user_chunks(scale):
        shown = show_probability(users, videos, exposure, chunk)
        for power, total in ((1, expected), (2, slope)):
            block = shown if power == 1 else np.square(shown, out=shown)
            if of_users:
                once, again = block.sum(axis=1), block @ exposure.video_repeats
                total[chunk] = once + exposure.user_repeats[chunk] * again
            else:
                once, again = block.sum(axis=0), exposure.user_repeats[chunk] @ block
                total += once + exposure.video_repeats * again
    slope = np.maximum(expected - slope, 0.02 * expected)
    step = np.clip(np.log(target / np.maximum(expected, 1e-9)) * expected / slope, -2.0, 2.0).astype(np.float32)
    bias = exposure.user_bias if of_users else exposure.video_bias
    bias += step


def _with_rare_pairs(users: Users, videos: Videos, exposure: Exposure, video_target: Floats, seed: int) -> Exposure:
    """Draw the viewers of the rare videos: their exact number, weighted by the propensities (Gumbel top-k)."""
    rng = stream(seed, "rare videos")
    rare = np.flatnonzero(exposure.is_rare)
    tilt = (TILT / np.sqrt(TASTE_DIM)).astype(np.float32) * (videos.topic[rare] @ users.believed_taste.T)
    score = tilt + exposure.user_bias + rng.gumbel(size=tilt.shape).astype(np.float32)
    score[np.ix_(videos.in_small[rare], users.in_small)] = -np.inf
    viewers = np.maximum(1, np.floor(video_target[rare] + rng.random(len(rare)))).astype(np.int64)
    viewers = np.minimum(viewers, (~users.in_small).sum())
    widest = int(viewers.max(initial=1))
    best = np.argsort(-score, axis=1, kind="stable")[:, :widest]
    chosen = np.arange(widest)[None, :] < viewers[:, None]
    row, place = np.nonzero(chosen)
    return Exposure(
        user_bias=exposure.user_bias,
        video_bias=exposure.video_bias,
        user_repeats=exposure.user_repeats,
        video_repeats=exposure.video_repeats,
        rare_user=best[row, place],
        rare_video=rare[row],
        is_rare=exposure.is_rare,
    )


def draw_pairs(
    rng: np.random.Generator, users: Users, videos: Videos, exposure: Exposure, chunk: slice
) -> tuple[Ints, Ints, Ints]:
    """Pairs the users of the chunk are shown: user, video, and the number of further views of the pair [P]."""
    shown = show_probability(users, videos, exposure, chunk)
    shown[:, exposure.is_rare] = 0.0
    user, video = np.nonzero(rng.random(shown.shape, dtype=np.float32) < shown)
    mine = (exposure.rare_user >= chunk.start) & (exposure.rare_user < chunk.stop)
    user = np.concatenate([user + chunk.start, exposure.rare_user[mine]])
    video = np.concatenate([video, exposure.rare_video[mine]])
    # Repeats cluster on few pairs: a Poisson number with an exponential mean.
    expected = exposure.user_repeats[user] * exposure.video_repeats[video]
    again = rng.poisson(expected * rng.standard_exponential(len(user), dtype=np.float32))
    return user, video, again
