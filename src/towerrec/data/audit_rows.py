"""Leaks among the rows themselves: rows from the future, rows on both sides, ids that were to be kept apart.

Everything reads the store in blocks, so a log that stays on disk is audited like any other. Shape letters: N rows of a
block, U users.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.audit_findings import Example, Finding, failed, nothing, passed, stated
from towerrec.data.report import moment_text
from towerrec.data.selection import at_places
from towerrec.data.splits import Split
from towerrec.data.store import InteractionStore
from towerrec.schema import NO_TIMESTAMP, SPLITS, USER_ID

FUTURE, DUPLICATES, APART = "future rows", "duplicates across splits", "ids kept apart"
# The sides that a later one must not reach back into.
_PAIRS = (("train", "val"), ("train", "test"), ("val", "test"))
_LATEST = np.iinfo(np.int64).max
_COLUMNS = ("user_idx", "item_idx", "timestamp_ms")

Columns = dict[str, NDArray[Any]]


def future_rows(store: InteractionStore, split: Split, example: Example, *, timezone: str) -> Finding:
    """Rows that teach and are later than rows that judge, as far as the split promises that there are none."""
    timed = {side: _count(store, side) for side in SPLITS}
    if split.time_order == "none":
        if not timed["train"] or not timed["test"]:
            return nothing(FUTURE, f"split={split.name} does not go by time, and the rows have none")
        return stated(FUTURE, _shares(store, split.name, timed, timezone))
    sides = ("train", "val") if split.time_order == "validation" else SPLITS
    untimed = sum(store.num_rows(side) - timed[side] for side in sides)
    if untimed:
        text = f"{untimed:,} rows have no time, though split={split.name} goes by time"
        return failed(FUTURE, untimed, text, "the prepared log was changed: delete the cached log and prepare it anew")
    late, where = 0, ""
    for earlier, later in _PAIRS:
        if earlier in sides and later in sides:
            number, first = _too_late(store, earlier, later, per_user=split.time_order == "users")
            late += number
            if number and not where:
                where = f"; a {earlier} row as late as the {later} rows: {example(store, earlier, first)}"
    if late:
        text = f"{late:,} rows are not earlier than the rows that they are kept from{where}"
        return failed(FUTURE, late, text, "the prepared log was changed: delete the cached log and prepare it anew")
    whose = " of each user" if split.time_order == "users" else ""
    judged = "validation rows" if split.time_order == "validation" else "judged rows"
    text = f"all {store.num_rows('train'):,} training rows{whose} lie before the {judged}"
    if split.time_order == "validation" and timed["train"] and timed["test"]:
        return stated(FUTURE, f"{text}; {_shares(store, split.name, timed, timezone)}")
    return passed(FUTURE, text)


def duplicates(store: InteractionStore, example: Example, *, pairs_are_unique: bool) -> Finding:
    """The same user, item and moment on two sides; without times the same pair, where pairs are unique.

    A user who watches a video again does so at another moment: such rows are events of their own, and no leak.
    """
    found, pairs, first = 0, 0, ""
    columns = {side: {name: store.mapped(name, side) for name in _COLUMNS} for side in SPLITS}
    bounds, by = _bounds(store), ["key", "item_idx", *([] if pairs_are_unique else ["timestamp_ms"])]
    for users, places in blocks_of_users(store):
        block = {}
        for side, of_side in columns.items():
            rows_of_users = {name: column[slice(*places[side])] for name, column in of_side.items()}
            block[side] = rows_of_users | {"key": _key(rows_of_users, users, bounds, pairs_are_unique=pairs_are_unique)}
        for earlier, later in _PAIRS:
            rows, timed_row = _on_both_sides(block[earlier], block[later], by=by)
            found, pairs = found + int(timed_row.sum()), pairs + int((~timed_row).sum())
            if len(rows) and not first and (pairs_are_unique or timed_row.any()):
                place = rows[0] if pairs_are_unique else rows[timed_row][0]
                first = example.of_row({name: column[place] for name, column in block[later].items()})
    bad = found + pairs if pairs_are_unique else found
    if bad:
        same = "pair of user and item" if pairs_are_unique else "user, item and moment"
        return failed(
            DUPLICATES,
            bad,
            f"{bad:,} held-out rows have the same {same} as a row on an earlier side; {first}",
            "let cleaning drop them (cleaning.exact_duplicates=true cleaning.near_duplicates=true), or, if they are "
            "events of their own, set audit=warn",
        )
    if pairs:
        return stated(
            DUPLICATES,
            f"{pairs:,} held-out rows without a time have a user and item that another side has too: seen again or "
            "written twice, a log without times does not tell (cleaning.untimed_duplicates, cleaning.repeated_pairs)",
        )
    return passed(DUPLICATES, "no user, item and moment stands on two sides")


def kept_apart(store: InteractionStore, split: Split, example: Example) -> Finding:
    """Users or items that judge and teach, where the split keeps them apart."""
    if split.apart is None:
        return nothing(APART, f"split={split.name} keeps no users or items from training")
    side = "user" if split.apart == USER_ID else "item"
    taught = store.in_log(side, "train").numpy()
    number, first = 0, ""
    for held_out in ("val", "test"):
        at = 0
        for block in store.blocks(f"{side}_idx", held_out):
            known = np.flatnonzero(taught[block])
            if len(known) and not first:
                first = example(store, held_out, at + int(known[0]))
            number, at = number + len(known), at + len(block)
    if number:
        return failed(
            APART,
            number,
            f"{number:,} held-out rows are of {side}s that training rows have too; {first}",
            "the prepared log was changed: delete the cached log and prepare it anew",
        )
    return passed(APART, f"no {side} of a held-out row has a training row")


def _count(store: InteractionStore, side: str) -> int:
    """Rows that have a time."""
    return sum(int((block != NO_TIMESTAMP).sum()) for block in store.blocks("timestamp_ms", side))


def _shares(store: InteractionStore, name: str, timed: dict[str, int], timezone: str) -> str:
    """How many training rows are later than the first, and than the middle one, of the test rows."""

    def times(side: str) -> Iterator[NDArray[Any]]:
        return (block[block != NO_TIMESTAMP] for block in store.blocks("timestamp_ms", side))

    first, middle = (int(t) for t in at_places(lambda: times("test"), [0, (timed["test"] - 1) // 2]))
    later = [
        sum(int((block > moment).sum()) for block in times("train")) / timed["train"] for moment in (first, middle)
    ]
    return (
        f"split={name} does not promise that training lies before test: {later[0]:.1%} of the training rows are later "
        f"than the first test row ({moment_text(first, timezone)[:16]}), {later[1]:.1%} later than the middle one. The "
        "figures say how well gaps of the log are filled, not how well its future is foreseen (split=time, rolling)"
    )


def _too_late(store: InteractionStore, earlier: str, later: str, *, per_user: bool) -> tuple[int, int]:
    """Rows of the earlier side that are not before those of the later one (per user: that are after the user's first),
    and the place of the first such row."""
    bound_U = np.full(store.num_users if per_user else 1, _LATEST, dtype=np.int64)
    for user, time in zip(store.blocks("user_idx", later), store.blocks("timestamp_ms", later), strict=True):
        if per_user:
            np.minimum.at(bound_U, user, time)
        else:
            bound_U[0] = min(int(bound_U[0]), int(time.min()))
    number, first, at = 0, -1, 0
    for user, time in zip(store.blocks("user_idx", earlier), store.blocks("timestamp_ms", earlier), strict=True):
        # Rows of one user and moment keep the order of the file.
        late = np.flatnonzero(time > bound_U[user] if per_user else time >= bound_U[0])
        if len(late) and first < 0:
            first = at + int(late[0])
        number, at = number + len(late), at + len(time)
    return number, first


def blocks_of_users(store: InteractionStore) -> Iterator[tuple[tuple[int, int], dict[str, tuple[int, int]]]]:
    """Users `first` to `last` (exclusive), all in turn, and from where to where their rows stand in each side."""
    columns = {side: store.mapped("user_idx", side) for side in SPLITS}
    edges = {0, store.num_users}
    for column in columns.values():
        edges.update(int(user) for user in column[:: store.block_rows])
    for users in pairwise(sorted(edges)):
        yield users, {side: tuple(np.searchsorted(column, users).tolist()) for side, column in columns.items()}


def _on_both_sides(earlier: Columns, later: Columns, *, by: list[str]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Places in `later` of rows that equal a row of `earlier` in some columns, `key` among them, and which of these
    have a time."""
    # Most keys stand on one side alone: the rows of the others are few enough to be joined.
    shared = [np.flatnonzero(_stands_in(a["key"], b["key"])) for a, b in ((earlier, later), (later, earlier))]
    frames = [
        pl.DataFrame({name: side[name][rows] for name in by}).with_columns(place=pl.Series(rows))
        for side, rows in zip((earlier, later), shared, strict=True)
    ]
    rows = frames[1].join(frames[0], on=by, how="semi")["place"].sort().to_numpy()
    return rows, later["timestamp_ms"][rows] != NO_TIMESTAMP


def _stands_in(key: NDArray[np.int64], other: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Which keys stand in the others, both ascending."""
    if not len(other):
        return np.zeros(len(key), dtype=np.bool_)
    found: NDArray[np.bool_] = other[np.searchsorted(other, key).clip(max=len(other) - 1)] == key
    return found


def _key(
    rows: Columns, users: tuple[int, int], bounds: tuple[int, int], *, pairs_are_unique: bool
) -> NDArray[np.int64]:
    """User and moment of rows as one number, ascending as the store is, rows without a time first; the user alone where
    pairs are unique (or where moments and users are too many for one number)."""
    low, high = bounds
    span = high - low + 2
    user = rows["user_idx"].astype(np.int64)
    if pairs_are_unique or (users[1] - users[0]) * span >= _LATEST:
        return user
    time = rows["timestamp_ms"]
    return (user - users[0]) * span + np.where(time == NO_TIMESTAMP, 0, time - low + 1)


def _bounds(store: InteractionStore) -> tuple[int, int]:
    """The first and the last moment of the log."""
    low, high = _LATEST, NO_TIMESTAMP
    for block in store.blocks("timestamp_ms"):
        low = min(low, int(block.min(initial=_LATEST, where=block != NO_TIMESTAMP)))
        high = max(high, int(block.max()))
    return (0, 0) if high == NO_TIMESTAMP else (low, high)
