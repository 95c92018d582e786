import numpy as np
import polars as pl
import pytest

from towerrec.data.splits_rolling import Moments, Rolling, Times
from towerrec.data.splits_time import moment_ms

DAY = 86_400_000


def log(times, users=None):
    return pl.DataFrame({"timestamp_ms": times, "user_id": users or [0] * len(times)})


def codes(times, users=None, **settings):
    return Rolling(**settings).assign(log(times, users)).to_list()


def test_windows_of_equally_many_rows_follow_each_other_to_the_end_of_the_log():
    times = [70, 10, 20, 80, 30, 40, None, 50, 60]
    # Half of the eight timed rows come first; two windows of two rows each; a quarter of what is before validates.
    common = {"start": 0.5, "num_windows": 2, "val": 0.25}
    assert codes(times, window=0, **common) == [0, 1, 1, 0, 1, 2, 0, 3, 3]
    # The next window trains on the last one too: 10 to 60, of which a quarter (1.5, so 2) validates.
    assert codes(times, window=1, **common) == [3, 1, 1, 3, 1, 1, 0, 2, 2]


def test_windows_of_days_begin_at_a_day_and_what_comes_after_one_is_left_out():
    start = moment_ms("2020-08-20", "Asia/Shanghai")
    times = [start - 2 * DAY, start - DAY, start - 1, start, start + DAY, start + 7 * DAY - 1, start + 7 * DAY]
    common = {"start": "2020-08-20", "days": 7, "num_windows": 2, "val_days": 1.5, "timezone": "Asia/Shanghai"}
    assert codes(times, window=0, **common) == [1, 2, 2, 3, 3, 3, 0]
    assert codes(times, window=1, **common) == [1, 1, 1, 1, 1, 2, 3]


def test_training_can_be_kept_to_the_days_before_the_window():
    times = [day * DAY for day in range(20)]
    # Eighteen rows come before the window; the last day of them validates, the four days before that teach.
    got = codes(times, start=0.9, num_windows=1, val_days=1, train_days=4)
    assert got == [0] * 13 + [1] * 4 + [2] + [3] * 2
    # A share validates: that of the rows of the last ten days, in front of which the ten days of training begin.
    got = codes(times, start=0.9, num_windows=1, val=0.3, train_days=10)
    assert got == [0] * 5 + [1] * 10 + [2] * 3 + [3] * 2


def test_no_row_validates_where_none_shall_and_equal_times_stay_together():
    assert codes([1, 2, 3, 4, 4, 4], start=0.7, num_windows=1, val=0.0) == [1, 1, 1, 3, 3, 3]


def test_users_that_training_has_not_seen_can_be_left_out_of_a_window():
    times, users = [1, 2, 3, 4, 5, 6], [7, 7, 7, 8, 7, 9]
    settings = {"start": 0.5, "num_windows": 1, "val": 0.0}
    assert codes(times, users, **settings) == [1, 1, 1, 3, 3, 3]
    assert codes(times, users, known_users=True, **settings) == [1, 1, 1, 0, 3, 0]


def slowly(times, window, num_windows, start, val):
    """By the definition: sort, count, cut."""
    known = sorted(t for t in times if t is not None)
    first = min(round(len(known) * start), len(known) - 1)
    cuts = [known[first]]
    for number in range(1, num_windows):
        cuts.append(known[first + round((len(known) - first) * number / num_windows)])
    cuts.append(float("inf"))
    before = [t for t in known if t < cuts[window]]
    validates = len(before) - round(len(before) * val)
    val_from = before[validates] if validates < len(before) else cuts[window]
    found = []
    for t in times:
        if t is None or t >= cuts[window + 1]:
            found.append(0)
        else:
            found.append(3 if t >= cuts[window] else 2 if t >= val_from else 1)
    return found


@pytest.mark.parametrize("window", range(4))
def test_windows_equal_a_loop_over_the_rows(window):
    rng = np.random.default_rng(window)
    times = [None if rng.random() < 0.05 else int(t) for t in rng.integers(0, 300, 500)]
    settings = {"num_windows": 4, "start": 0.6, "val": 0.15}
    assert codes(times, window=window, **settings) == slowly(times, window, **settings)


def test_training_never_shrinks_from_one_window_to_the_next():
    times = np.random.default_rng(0).integers(0, 10_000, 2_000)
    found = Times.of(times)
    moments = [Rolling(window=w, num_windows=5).moments(found) for w in range(5)]
    assert [m.test for m in moments[1:]] == [m.end for m in moments[:-1]]
    assert moments[-1].end is None and moments[0] == Moments(None, moments[0].val, moments[0].test, moments[1].test)
    assert sorted(m.val for m in moments) == [m.val for m in moments]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"window": 3}, r"split.window=3: there are 3 windows .*, 0 to 2"),
        ({"window": -1}, "split.window=-1"),
        ({"num_windows": 0}, "split.num_windows must be at least 1"),
        ({"start": 1.0}, "split.start=1.0: the share"),
        ({"start": "soon"}, "not a date"),
        ({"timezone": "Mars", "start": "2020-08-20"}, "not a time zone"),
        ({"val": 1.0}, "split.val=1.0"),
        ({"days": 0}, "split.days must be above 0"),
        ({"val_days": -1.0}, "split.val_days must be above 0"),
        ({"train_days": 0.0}, "split.train_days must be above 0"),
        ({"candidates": "all"}, "split.candidates"),
    ],
)
def test_impossible_settings_of_windows_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        Rolling(**settings)


def test_a_window_outside_the_log_says_how_long_the_log_is():
    times = [moment_ms("2020-08-01", "UTC") + day * DAY for day in range(10)]
    late = Rolling(start="2020-08-05", days=7, window=1, num_windows=2)
    with pytest.raises(
        ValueError, match=r"begins at 2020-08-12 .* has 10 rows before it and 0 in it; .* to 2020-08-10"
    ):
        late.assign(log(times))
    with pytest.raises(ValueError, match="has 0 rows before it"):
        Rolling(start="2020-07-01", days=40, num_windows=1).assign(log(times))


def test_a_log_without_times_has_no_windows():
    with pytest.raises(ValueError, match="no row of the log has one"):
        Rolling().assign(log([None, None]).cast({"timestamp_ms": pl.Int64}))


def test_every_option_of_the_windows_changes_the_settings():
    other = {
        "window": 1,
        "num_windows": 4,
        "start": 0.6,
        "days": 3.0,
        "val": 0.2,
        "val_days": 2.0,
        "train_days": 9.0,
        "known_users": True,
        "timezone": "Asia/Shanghai",
    }
    for name, value in other.items():
        assert Rolling(**{name: value}).settings() != Rolling().settings(), name
