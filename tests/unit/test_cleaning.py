import math

import numpy as np
import polars as pl
import pytest

from towerrec.data.cleaning import Cleaning, clean

#                 kept | exact (date differs) | near | untimed twin | negative | NaN | zero duration | no item | kept
EVENTS = pl.DataFrame(
    {
        "user_id": [1, 1, 1, 2, 2, 3, 3, 3, 3, 1],
        "item_id": [7, 7, 7, 8, 8, 9, 9, 9, None, 7],
        "timestamp_ms": [5, 5, 5, None, None, 1, 2, 3, 4, 6],
        "play_duration_ms": [9, 9, 8, 9, 9, -1, 9, 9, 9, 9],
        "duration_ms": [9, 9, 9, 9, 9, 9, 9, 0, 9, 9],
        "watch_ratio": pl.Series([1, 1, 0.9, 1, 1, 1, math.nan, 1, 1, 1], dtype=pl.Float32),
        "date": [1, 2, 2, 1, 1, 1, 1, 1, 1, 1],
    }
).with_row_index("place")


def test_every_reason_is_counted_once_and_the_first_of_equal_rows_stays_in_its_place():
    kept, counts = clean(EVENTS.drop("place").lazy().with_columns(EVENTS["user_id"].alias("own")), columns=["date"])
    assert counts == {
        "rows_read": 10,
        "no item_id": 1,
        "impossible watch_ratio": 1,
        "impossible play_duration_ms": 1,
        "zero duration_ms": 1,
        "exact duplicates": 1,
        "near duplicates": 1,
        "rows_kept": 4,
    }
    assert kept.columns == ["user_id", "item_id", "date"]
    assert kept["user_id"].to_list() == [1, 2, 2, 1]


def places(rules, **more):
    frame, counts = clean(EVENTS.lazy(), rules=rules, columns=["place"], **more)
    return frame["place"].to_list(), counts


def test_each_rule_can_be_switched_off():
    off = Cleaning(exact_duplicates=False, near_duplicates=False, impossible=False)
    assert places(off)[0] == list(range(10))
    log = EVENTS.drop("place").lazy()
    for rule, reason in (("exact_duplicates", "exact duplicates"), ("impossible", "zero duration_ms")):
        assert reason in clean(log, columns=["date"])[1]
        assert reason not in clean(log, rules=Cleaning(**{rule: False}), columns=["date"])[1]
    without_near = clean(log, rules=Cleaning(near_duplicates=False), columns=["date"])[0]
    assert without_near.height == 5


def test_rows_without_a_time_are_duplicates_only_on_request():
    log = pl.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 1, 1]}).lazy()
    assert clean(log)[1] == {"rows_read": 3, "rows_kept": 3}
    assert clean(log, rules=Cleaning(untimed_duplicates=True))[1]["exact duplicates"] == 1


def test_a_row_without_its_label_is_useless():
    log = pl.DataFrame({"user_id": [1, 1, 2], "item_id": [1, 2, 3], "label_raw": [1.0, None, math.nan]}).lazy()
    assert clean(log, required=["label_raw"])[1] == {"rows_read": 3, "no label_raw": 2, "rows_kept": 1}


def test_a_large_log_keeps_file_order_and_equals_unique():
    coin = np.random.default_rng(0)
    log = pl.DataFrame(
        {
            name: coin.integers(0, high, 200_000)
            for name, high in (("user_id", 90), ("item_id", 90), ("timestamp_ms", 30))
        }
    ).with_row_index("place")
    kept, counts = clean(log.lazy(), columns=["place", "timestamp_ms"])
    expected = log.unique(["user_id", "item_id", "timestamp_ms"], keep="first", maintain_order=True)
    assert kept["place"].to_list() == expected["place"].to_list()
    assert counts["near duplicates"] == 200_000 - expected.height


def test_a_missing_column_is_named():
    with pytest.raises(ValueError, match="no column 'watch_ration': did you mean 'watch_ratio'"):
        clean(EVENTS.lazy(), columns=["watch_ration"])


def test_a_log_of_which_nothing_is_left_is_an_error():
    with pytest.raises(ValueError, match="no row of the log is left"):
        clean(pl.LazyFrame({"user_id": [None], "item_id": [1]}))
