"""Duplicates found by neighbours or by a hash are those that a walk over the rows finds, in any order of the log."""

import numpy as np
import polars as pl
import pytest
import torch

from towerrec.data.cleaning import clean
from towerrec.data.time import _read, local_time
from towerrec.ragged import UserItems
from towerrec.schema import NO_TIMESTAMP


def slow(log):
    """Places that stay, exact and near duplicates, row by row."""
    events, moments, kept, exact, near = set(), set(), [], 0, 0
    for place, (user, item, time, ratio) in enumerate(log.iter_rows()):
        event, moment = (user, item, time, ratio), (user, item, time)
        if time is not None and event in events:
            exact += 1
        elif time is not None and moment in moments:
            near += 1
        else:
            kept.append(place)
        events.add(event)
        moments.add(moment)
    return kept, exact, near


@pytest.mark.parametrize("order", ["by user and time", "two runs", "as it came", "text ids"])
@pytest.mark.parametrize("seed", range(4))
def test_duplicates_are_those_of_a_walk_over_the_rows(order, seed):
    coin = np.random.default_rng(seed)
    log = pl.DataFrame({n: coin.integers(0, high, 900) for n, high in (("user_id", 9), ("item_id", 6), ("time", 12))})
    log = log.select("user_id", "item_id", timestamp_ms=pl.when(pl.col("time") > 0).then("time"))
    log = log.with_columns(watch_ratio=pl.Series(coin.integers(0, 2, 900), dtype=pl.Float32))
    if order != "as it came":
        log = log.sort("user_id", "timestamp_ms")
    if order == "two runs":
        log = pl.concat([log[::2], log[1::2]])
    if order == "text ids":
        log = log.cast({"user_id": pl.String})
    kept, exact, near = slow(log)
    got, counts = clean(log.with_row_index("date").lazy(), columns=["date"])
    assert got["date"].to_list() == kept
    assert (counts["exact duplicates"], counts["near duplicates"]) == (exact, near)


@pytest.mark.parametrize("zone", ["Asia/Shanghai", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Monrovia"])
def test_the_calendar_of_many_rows_is_that_of_each_moment(zone):
    for first, last in ((1_590_000_000_000, 1_600_000_000_000), (-10_000_000_000, 90_000_000_000)):
        moments = np.random.default_rng(0).integers(first, last, 60_000)
        moments[::50] = NO_TIMESTAMP
        got, want = local_time(moments, zone), _read(moments, zone)
        for part in ("day", "hour", "weekday"):
            np.testing.assert_array_equal(getattr(got, part), getattr(want, part))


def test_lists_hold_each_pair_once_with_its_largest_value():
    coin = np.random.default_rng(0)
    user, item = coin.integers(0, 5, 300), coin.integers(0, 7, 300)
    value = coin.normal(size=300).astype(np.float32)
    want = {}
    for u, i, v in zip(user, item, value, strict=True):
        want[u, i] = max(want.get((u, i), -np.inf), v)
    pairs = (torch.from_numpy(user), torch.from_numpy(item))
    lists = UserItems.from_pairs(*pairs, num_users=6, num_items=8, values=torch.from_numpy(value))
    users = torch.repeat_interleave(torch.arange(6), lists.counts)
    assert list(zip(users.tolist(), lists.items.tolist(), strict=True)) == sorted(want)
    assert lists.values.tolist() == [want[pair] for pair in sorted(want)]
    assert torch.equal(UserItems.from_pairs(*pairs, num_users=6, num_items=8).items, lists.items)
