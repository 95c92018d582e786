"""The people: activity, a taste that shows in their features and in part does not, and the table of features."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl

from towerrec.data.sources.simulator.calendar import LOG_DAYS
from towerrec.data.sources.simulator.scales import (
    OTHER_USER_ROWS,
    SMALL_USER_ROWS,
    Bools,
    Floats,
    Ints,
    Scale,
    ranks,
    stream,
)

TASTE_DIM = 8
# Share of the variance of a taste that the features explain.
VISIBLE_TASTE = 0.55
# Number of values of onehot_feat0..17, and how steeply their frequencies fall (0 is uniform).
CARDINALITIES = (2, 8, 30, 1076, 12, 10, 3, 47, 340, 7, 5, 3, 2, 2, 2, 2, 2, 2)
_STEEPNESS = (0.6, 1.1, 1.6, 0.6, 1.9, 6.0, 1.5, 0.7, 0.55, 0.6, 1.3, 3.0, 1.2, 3.1, 3.2, 5.7, 5.8, 6.1)
_GAPS = {4: 201, 12: 77, 13: 75, 14: 75, 15: 74, 16: 74, 17: 74}  # among 7,176 users
# The features that carry taste, with the weight of each.
_TASTE_WEIGHT = {1: 1.0, 2: 0.8, 6: 1.0, 7: 0.5, 8: 0.5, 9: 0.8, 3: 0.4}
# Deviation of a user's engagement, in units of the latent score, at quantiles of the population.
_ENGAGEMENT_AT = (
    (0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1),
    (-1.05, -0.69, -0.56, -0.29, 0, 0.4, 0.81, 1.08, 1.45),
)
_ENGAGEMENT_SCALE = 0.8
_RESTLESS_SCALE = 0.22


@dataclass(frozen=True)
class Users:
    """All users; arrays have one row per user_id.

    `taste` [U, K] has variance 1 per dimension and `believed_taste` [U, K] is what the recommender thinks it is;
    `engagement` [U] moves the latent watch score and `restlessness` [U] multiplies its chance part; `rows` [U] is the
    target number of raw rows in the big matrix; `day_activity` [U, 28] weighs the log days.
    """

    taste: Floats
    believed_taste: Floats
    engagement: Floats
    restlessness: Floats
    rows: Floats
    day_activity: Floats
    in_small: Bools
    table: pl.DataFrame


def simulate_users(scale: Scale, seed: int) -> Users:
    """Draw all users and their features."""
    rng = stream(seed, "users")
    count = scale.users
    in_small = np.zeros(count, dtype=bool)
    in_small[rng.permutation(count)[: scale.small_users]] = True
    onehot = _draw_onehot(rng, count)
    taste = _draw_taste(rng, onehot)
    # The recommender has seen part of every taste.
    noise = rng.standard_normal((count, TASTE_DIM))
    believed = (0.8 * taste + 0.6 * noise).astype(np.float32)
    drive = rng.standard_normal(count)
    liking = _draw_liking(rng, onehot, drive, in_small)
    return Users(
        taste=taste,
        believed_taste=believed,
        engagement=(_ENGAGEMENT_SCALE * liking).astype(np.float32),
        restlessness=np.exp(_RESTLESS_SCALE * liking).astype(np.float32),
        rows=_draw_rows(scale, in_small, drive),
        day_activity=_draw_day_activity(rng, count),
        in_small=in_small,
        table=_feature_table(rng, onehot, drive),
    )


def _draw_onehot(rng: np.random.Generator, count: int) -> list[Ints]:
    """Values of onehot_feat0..17 [18][U]; the frequent values of a wide feature are scattered over its range."""
    columns: list[Ints] = []
    for size, steepness in zip(CARDINALITIES, _STEEPNESS, strict=True):
        share = (1.0 + np.arange(size)) ** -steepness
        names = rng.permutation(size) if size > 3 else np.arange(size)
        columns.append(names[rng.choice(size, size=count, p=share / share.sum())])
    return columns


def _draw_taste(rng: np.random.Generator, onehot: list[Ints]) -> Floats:
    """Tastes [U, K]: a sum over the telling features plus a part of one's own, centred, unit variance."""
    count = len(onehot[0])
    seen = np.zeros((count, TASTE_DIM))
    for feature, weight in _TASTE_WEIGHT.items():
        direction = rng.standard_normal((CARDINALITIES[feature], TASTE_DIM))
        seen += weight * direction[onehot[feature]]
    seen = (seen - seen.mean(axis=0)) / np.maximum(seen.std(axis=0), 1e-9)
    own = rng.standard_normal((count, TASTE_DIM))
    return (np.sqrt(VISIBLE_TASTE) * seen + np.sqrt(1 - VISIBLE_TASTE) * own).astype(np.float32)


def _draw_rows(scale: Scale, in_small: Bools, drive: Floats) -> Floats:
    """Target raw rows per user [U], summing to the rows of the release; the driven users have more."""
    rows = np.empty(len(in_small))
    for group, curve in ((in_small, SMALL_USER_ROWS), (~in_small, OTHER_USER_ROWS)):
        rows[group] = curve(ranks(drive[group]))
    return rows * (scale.big_rows / rows.sum())


def _draw_liking(rng: np.random.Generator, onehot: list[Ints], drive: Floats, in_small: Bools) -> Floats:
    """How readily a user loops a video [U]: less for the very active, shifted by two features, mostly personal.

    Spread out evenly inside and outside the fully observed matrix, so both hold the same kinds of user.
    """
    shift = rng.standard_normal(CARDINALITIES[9])[onehot[9]] + rng.standard_normal(CARDINALITIES[1])[onehot[1]]
    shift = (shift - shift.mean()) / max(shift.std(), 1e-9)
    score = -0.42 * drive + 0.4 * shift + 0.83 * rng.standard_normal(len(drive))
    liking = np.empty(len(drive))
    for group in (in_small, ~in_small):
        liking[group] = np.interp(ranks(score[group]), *_ENGAGEMENT_AT)
    return liking


def _draw_day_activity(rng: np.random.Generator, count: int) -> Floats:
    """Weight of every log day of every user [U, 28], with a few days off."""
    activity = rng.lognormal(sigma=0.9, size=(count, len(LOG_DAYS)))
    activity[rng.random(activity.shape) < 0.07] = 1e-6
    return activity.astype(np.float32)


def _feature_table(rng: np.random.Generator, onehot: list[Ints], drive: Floats) -> pl.DataFrame:
    """user_features.csv: 31 columns, with the gaps of the release."""
    count = len(drive)
    follow = _count_in_ranges(rng, count, _FOLLOW)
    fans = _count_in_ranges(rng, count, _FANS)
    friends = _count_in_ranges(rng, count, _FRIENDS)
    days = _count_in_ranges(rng, count, _REGISTER)
    degree = np.array(["middle_active", "high_active", "full_active"])
    # The least active users are the middle and high ones; the measure of activity is itself noisy.
    active = degree[np.searchsorted([0.004, 0.135], ranks(drive + 0.6 * rng.standard_normal(count)))].astype(object)
    active[rng.random(count) < 118 / 7_176] = "UNKNOWN"
    columns: dict[str, object] = {
        "user_id": np.arange(count),
        "user_active_degree": list(active),
        "is_lowactive_period": (rng.random(count) < 3 / 7_176).astype(np.int64),
        "is_live_streamer": (rng.random(count) < 49 / 7_176).astype(np.int64),
        "is_video_author": (rng.random(count) < 1_217 / 7_176).astype(np.int64),
        "follow_user_num": follow[0],
        "follow_user_num_range": follow[1],
        "fans_user_num": fans[0],
        "fans_user_num_range": fans[1],
        "friend_user_num": friends[0],
        "friend_user_num_range": friends[1],
        "register_days": days[0],
        "register_days_range": days[1],
    }
    columns.update({f"onehot_feat{n}": values for n, values in enumerate(_with_gaps(rng, onehot))})
    return pl.DataFrame(columns)


# label, smallest and largest count, share of the users
_Ranges = tuple[tuple[str, int, int, float], ...]
_FOLLOW: _Ranges = (
    ("0", 0, 0, 14),
    ("(0,10]", 1, 10, 1939),
    ("(10,50]", 11, 50, 2202),
    ("(50,100]", 51, 100, 890),
    ("(100,150]", 101, 150, 430),
    ("(150,250]", 151, 250, 472),
    ("(250,500]", 251, 500, 457),
    ("500+", 501, 2100, 772),
)
_FANS: _Ranges = (
    ("0", 0, 0, 2146),
    ("[1,10)", 1, 9, 3802),
    ("[10,100)", 10, 99, 1150),
    ("[100,1k)", 100, 999, 64),
    ("[1k,5k)", 1_000, 4_999, 12),
    ("[5k,1w)", 5_000, 9_999, 1),
    ("[1w,10w)", 10_000, 99_999, 1),
)
_FRIENDS: _Ranges = (
    ("0", 0, 0, 4338),
    ("[1,5)", 1, 4, 1999),
    ("[5,30)", 5, 29, 705),
    ("[30,60)", 30, 59, 69),
    ("[60,120)", 60, 119, 26),
    ("[120,250)", 120, 249, 17),
    ("250+", 250, 1_500, 22),
)
_REGISTER: _Ranges = (
    ("15-30", 15, 30, 63),
    ("31-60", 31, 60, 695),
    ("61-90", 61, 90, 494),
    ("91-180", 91, 180, 1684),
    ("181-365", 181, 365, 3123),
    ("366-730", 366, 730, 545),
    ("730+", 731, 2_245, 572),
)


def _count_in_ranges(rng: np.random.Generator, count: int, ranges: _Ranges) -> tuple[Ints, list[str]]:
    """A count [U] and the label of its range: small counts are likelier inside a range."""
    share = np.array([row[3] for row in ranges], dtype=float)
    which = rng.choice(len(ranges), size=count, p=share / share.sum())
    low = np.array([row[1] for row in ranges], dtype=float)[which]
    high = np.array([row[2] for row in ranges], dtype=float)[which]
    value = np.floor(np.exp(np.log(low + 1) + rng.random(count) * (np.log(high + 2) - np.log(low + 1)))) - 1
    return np.clip(value, low, high).astype(np.int64), [ranges[n][0] for n in which]


def _with_gaps(rng: np.random.Generator, onehot: list[Ints]) -> list[pl.Series]:
    """The onehot columns with missing values: feat4 for itself, feat12..17 for nearly the same users."""
    count = len(onehot[0])
    shared = rng.permutation(count)
    columns: list[pl.Series] = []
    for number, values in enumerate(onehot):
        column = pl.Series(values.astype(np.int64))
        if number in _GAPS:
            wanted = max(1, round(_GAPS[number] * count / 7_176))
            who = rng.permutation(count)[:wanted] if number == 4 else shared[:wanted]
            column = column.scatter(who, None)
        columns.append(column)
    return columns


def social_network(users: Users, seed: int) -> pl.DataFrame:
    """social_network.csv: 6.6 % of the users with 1 to 5 friends, people of a similar taste among twenty met."""
    rng = stream(seed, "social")
    count = len(users.rows)
    who = np.sort(rng.permutation(count)[: max(2, round(472 * count / 7_176))])
    number = rng.choice(np.arange(1, 6), size=len(who), p=[0.73, 0.17, 0.06, 0.03, 0.01])
    met = rng.integers(0, count, size=(len(who), 20))
    likeness = np.einsum("ud,umd->um", users.taste[who], users.taste[met])
    likeness[met == who[:, None]] = -np.inf
    closest = np.take_along_axis(met, np.argsort(-likeness, axis=1, kind="stable"), axis=1)
    lists = [str(list(dict.fromkeys(row.tolist()))[:size]) for row, size in zip(closest, number, strict=True)]
    return pl.DataFrame({"user_id": who, "friend_list": lists})
