import datetime
import math

import numpy as np
import polars as pl
import pytest

from towerrec.data.declarations import declaration
from towerrec.data.statistics import daily_counters, train_statistic

ROWS = {
    "idx": np.array([0, 0, 0, 2], dtype=np.int32),
    "label": np.array([1.0, 0.0, 5.0, 2.0], dtype=np.float32),
    "positive": np.array([True, False, True, True]),
    "timestamp_ms": np.array([0, 1, 2, 3]) * 86_400_000,
    "num_rows": 3,
}


def statistic(of, **plain):
    return train_statistic(declaration("x", {"side": "item", "kind": "statistic", "of": of, **plain}), **ROWS).to_list()


def test_views_count_training_rows_and_an_id_without_any_is_null():
    assert statistic("views") == [3.0, None, 1.0]


def test_the_mean_label_leans_on_the_average_by_the_smoothing():
    # 4 rows with mean 2; item 0 holds 3 rows with sum 6, item 2 one row of 2.
    assert statistic("mean_label", smoothing=0) == [2.0, None, 2.0]
    rows = ROWS | {"label": np.array([1.0, 0.0, 5.0, 6.0], dtype=np.float32)}  # average 3
    feature = declaration("x", {"side": "item", "kind": "statistic", "of": "mean_label", "smoothing": 1})
    assert train_statistic(feature, **rows).to_list() == [(6 + 3) / 4, None, (6 + 3) / 2]


def test_the_positive_rate_is_finite_log_odds_even_where_every_row_is_positive():
    # Item 2: one positive of one; half a row on each side gives (1 + 0.5) / 2 = 0.75.
    rate = statistic("positive_rate", smoothing=0)
    assert rate[2] == pytest.approx(math.log(0.75 / 0.25))
    assert rate[1] is None


def test_recent_positives_are_halved_with_every_half_life_and_stand_beside_their_mean():
    # Positives: item 0 on days 0 and 2, item 2 on day 3, the last: 1/8 + 1/2 and 1; mean over 3 items 1.625 / 3.
    got = statistic("recent_positives", half_life_days=1)
    assert got[1] is None
    assert [got[0], got[2]] == pytest.approx([math.log1p(0.625 / (1.625 / 3)), math.log1p(1 / (1.625 / 3))], rel=1e-6)


def test_daily_counters_stop_before_the_first_unseen_day():
    daily = pl.LazyFrame(
        {
            "item_id": [7, 7, 7, 8],
            "date": [datetime.date(2020, 7, day) for day in (1, 2, 3, 3)],
            "play_cnt": [10, 20, 4000, 5000],
            "like_cnt": [1, 5, 4000, 5000],
        }
    )
    features = [
        declaration("plays", {"kind": "daily", "column": "play_cnt"}),
        declaration("likes", {"kind": "daily", "column": "like_cnt", "per": "play_cnt", "smoothing": 10}),
    ]
    got = daily_counters(features, daily, before=datetime.date(2020, 7, 3), item_ids=pl.Series([6, 7, 8]))
    assert got["plays"].to_list() == [None, 30.0, None]
    assert got["likes"].to_list() == [None, pytest.approx((6 + 10 * 0.2) / 40), None]
