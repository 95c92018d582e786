import numpy as np
import polars as pl
import pytest

from towerrec.data.report import as_text, describe
from towerrec.data.report_bias import duration_bias


def rows(labels, ratios, durations):
    return pl.DataFrame({"label": labels, "watch_ratio": ratios, "duration_ms": durations})


def test_ten_slices_of_twenty_rows_hold_two_rows_each():
    log = rows([0, 1] * 10, [2.0, 0.0] * 5 + [1.0] * 10, list(range(100, 120)))
    bias = duration_bias(log.sample(fraction=1, shuffle=True, seed=1), "> 0")
    assert bias["longest_ms"] == [101, 103, 105, 107, 109, 111, 113, 115, 117, 119]
    assert bias["label"] == bias["mean_label"] == [0.5] * 10
    assert bias["raw"] == [0.5] * 5 + [0] * 5


def test_equal_durations_share_a_slice_and_gaps_are_left_out():
    bias = duration_bias(rows([1, 1, 0, 0, 5], [3.0, None, 1.0, 1.0, 1.0], [10, 10, 10, 10, 20]), "> 0")
    assert bias == {"longest_ms": [10, 20], "raw": [0.333333, 0], "label": [0.333333, 1], "mean_label": [0.333333, 5]}


def test_without_durations_nothing_is_said():
    assert duration_bias(pl.DataFrame({"label": [1.0]}), "> 0") is None
    assert duration_bias(rows([1], [1.0], pl.Series([None], dtype=pl.Int32)), "> 0") is None


def described(labels, **more):
    log = pl.DataFrame(
        {"user_id": 1, "item_id": 1, "watch_ratio": np.linspace(4, 0.1, 100), "duration_ms": range(1, 101)}
    )
    report = describe(
        log,
        split=pl.Series([1, 3] * 50, dtype=pl.UInt8),
        label=pl.Series(labels, dtype=pl.Float32),
        positive="> 0",
        cleaning={},
        name="mine",
    )
    return report | more


@pytest.mark.parametrize(
    ("label", "more", "sentence"),
    [
        ([1, 1, 0, 0] * 25, {}, "watch ratio >= 2 for 0.0% to 100.0%: how long a video is says little of this label"),
        ([1] * 50 + [0] * 50, {}, "says much of this label (label=debiased takes that out)"),
        (
            [1] * 50 + [0] * 50,
            {"label": {"duration_buckets": 1}},
            "by 1 buckets of duration: how long a video is says much",
        ),
    ],
)
def test_the_report_says_what_the_label_owes_to_length(label, more, sentence):
    report = described(label, **more)
    assert set(report["test"]["by_duration"]) == {"longest_ms", "raw", "label", "mean_label"}
    text = as_text(report)
    assert sentence in text
    assert "test  watch ratio >= 2   100.0%" in text
