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
    assert places(off)[0] == [0, 1, 2, 3, 4, 5, 6, 7, 9], "a row without an id leaves in any case"
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


# One pair three times (the latest in the middle), one untimed pair, one pair in both matrices, one pair once.
PAIRS = pl.DataFrame(
    {
        "user_id": [1, 1, 1, 2, 2, 3, 3, 4],
        "item_id": [7, 7, 7, 8, 8, 9, 9, 9],
        "timestamp_ms": [5, 9, 7, None, None, 1, 2, 3],
        "watch_ratio": pl.Series([1, 3, 8, 1, 2, 1, 3, 5], dtype=pl.Float32),
        "duration_ms": pl.Series([10, 11, 10, 9, 9, 9, 9, 9], dtype=pl.Int32),
        "matrix": ["big", "big", "big", "big", "big", "big", "small", "small"],
        "place": range(8),
    }
)


def test_repeated_pairs_become_their_mean_in_the_place_of_the_latest():
    kept, counts = clean(PAIRS.lazy(), rules=Cleaning(repeated_pairs="mean"))
    assert counts == {"rows_read": 8, "repeats of a pair, averaged": 3, "rows_kept": 5}
    assert kept["place"].to_list() == [1, 4, 5, 6, 7]
    assert kept["watch_ratio"].to_list() == [4.0, 1.5, 1.0, 3.0, 5.0]
    assert kept["duration_ms"].to_list() == [10, 9, 9, 9, 9]
    assert kept.schema == PAIRS.schema
    # Without the matrix nothing keeps its rows apart, and without pairs nothing changes.
    assert clean(PAIRS.drop("matrix").lazy(), rules=Cleaning(repeated_pairs="mean"))[0].height == 4
    assert (
        clean(PAIRS.filter(pl.col("user_id") == 4).lazy(), rules=Cleaning(repeated_pairs="mean"))[1]["rows_kept"] == 1
    )


def test_the_mean_of_a_large_log_equals_group_by():
    coin = np.random.default_rng(0)
    names = (("user_id", 50), ("item_id", 80), ("timestamp_ms", 10**6))
    log = pl.DataFrame({name: coin.integers(0, high, 10_000) for name, high in names})
    log = log.with_columns(watch_ratio=pl.Series(coin.random(10_000), dtype=pl.Float32))
    kept, _ = clean(log.lazy(), rules=Cleaning(repeated_pairs="mean"))
    expected = log.group_by("user_id", "item_id").agg(
        pl.col("watch_ratio").cast(pl.Float64).mean().cast(pl.Float32), pl.col("timestamp_ms").max()
    )
    order = ["user_id", "item_id"]
    assert kept.sort(order).equals(expected.select(kept.columns).sort(order))


ITEMS = pl.DataFrame({"item_id": [7, 8, 9], "kind": ["NORMAL", "AD", None]})


def test_rows_of_items_that_do_not_pass_leave_the_log():
    kept, counts = clean(PAIRS.lazy(), rules=Cleaning(items="kind = 'NORMAL'"), items=ITEMS)
    assert kept["item_id"].to_list() == [7, 7, 7]
    assert counts["items other than kind = 'NORMAL'"] == 5
    assert clean(PAIRS.lazy(), rules=Cleaning(items="item_id > 0"), items=ITEMS)[1]["rows_kept"] == 8


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Cleaning(items="kind ="), "cleaning.items='kind =' is not a SQL condition"),
        (lambda: Cleaning(repeated_pairs="max"), "repeated_pairs must be one of keep, mean"),
        (lambda: clean(PAIRS.lazy(), rules=Cleaning(items="kind = 'AD'")), "has no table of items"),
        (lambda: clean(PAIRS.lazy(), rules=Cleaning(items="kin = 'AD'"), items=ITEMS), "did you mean 'kind'"),
        (lambda: clean(PAIRS.lazy(), rules=Cleaning(items="item_id + 1"), items=ITEMS), "write a comparison"),
    ],
)
def test_impossible_rules_are_refused_by_name(make, message):
    with pytest.raises(ValueError) as raised:
        make()
    assert message in str(raised.value)


def test_settings_change_with_every_rule():
    rules = [Cleaning(), Cleaning(exact_duplicates=False), Cleaning(near_duplicates=False), Cleaning(impossible=False)]
    rules += [Cleaning(untimed_duplicates=True), Cleaning(repeated_pairs="mean"), Cleaning(items="a = 1")]
    assert len({str(rule.settings()) for rule in rules}) == len(rules)
