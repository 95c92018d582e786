import json

import polars as pl
import pytest

from towerrec.data.report import as_text, describe, quantiles

LOG = pl.DataFrame(
    {
        "user_id": [1, 1, 1, 2, 3, 9],
        "item_id": [7, 7, 8, 7, 9, 7],
        "timestamp_ms": [1593878401373, 1593878401373, None, 1594000800000, 1594087200500, 0],
        "watch_ratio": pl.Series([0.5, 1.5, 2.5, 3.5, 4.5, 0], dtype=pl.Float32),
    }
)
REPORT = describe(
    LOG,
    split=pl.Series([1, 1, 1, 2, 3, 0], dtype=pl.UInt8),
    label=pl.Series([0, 0, 1, 1, 1, 0], dtype=pl.Float32),
    positive="> 0",
    cleaning={"rows_read": 10, "no item_id": 4, "rows_kept": 6},
    name="mine",
    timezone="Asia/Shanghai",
)


def test_the_report_counts_what_the_screen_shows():
    everything = REPORT["all"]
    assert (everything["rows"], everything["users"], everything["items"], everything["pairs"]) == (5, 3, 3, 4)
    assert everything["density"] == pytest.approx(4 / 9)
    assert everything["positive_rate"] == pytest.approx(3 / 5)
    assert everything["rows_per_user"]["max"] == 3
    assert everything["watch_ratio"]["p50"] == 2.5
    assert everything["rows_without_time"] == 1
    assert (everything["first"], everything["last"]) == ("2020-07-05 00:00:01", "2020-07-07 10:00:00")
    assert REPORT["rows_left_out_by_split"] == 1
    assert REPORT["train"]["rows"] == 3


def test_the_report_says_how_cold_the_judged_rows_are():
    assert REPORT["val"]["rows_with_user_new_to_training"] == 1.0
    assert REPORT["val"]["rows_with_item_new_to_training"] == 0.0
    assert REPORT["test"]["rows_with_item_new_to_training"] == 1.0


def test_the_report_is_json_and_text():
    assert json.loads(json.dumps(REPORT)) == REPORT
    text = as_text(REPORT)
    assert "10 rows read" in text
    assert "dropped: 4 no item_id" in text
    assert "left out by the split: 1" in text
    assert "2020-07-05 00:00 .. 2020-07-07 10:00" in text


def test_quantiles_leave_gaps_out():
    assert quantiles(pl.Series([None, 1, 3]))["p50"] == 2
    assert quantiles(pl.Series([None], dtype=pl.Float32)) == {}


def test_quantiles_leave_out_what_is_not_finite():
    assert quantiles(pl.Series([1.0, 3.0, None, float("nan"), float("inf")]))["mean"] == 2.0
    assert quantiles(pl.Series([float("inf")])) == {}
