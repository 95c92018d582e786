import numpy as np
import polars as pl
import pytest

from towerrec.data.splits import FirstRows, Given, RandomRows, Where
from towerrec.data.splits_cold import ColdItems, ColdUsers, TwoMatrices
from towerrec.data.splits_time import GlobalTime, LeaveLast, moment_ms

DAY = 86_400_000


def rows(count):
    return pl.DataFrame({"user_id": np.arange(count) % 100, "item_id": np.arange(count) % 77})


def shares(codes):
    return [float((codes == code).mean()) for code in (1, 2, 3)]


def test_random_rows_keep_their_shares_and_repeat_by_seed():
    log = rows(50_000)
    codes = RandomRows(val=0.1, test=0.2, seed=3).assign(log)
    assert codes.dtype == pl.UInt8
    assert shares(codes) == pytest.approx([0.7, 0.1, 0.2], abs=0.01)
    assert codes.equals(RandomRows(val=0.1, test=0.2, seed=3).assign(log))
    other = RandomRows(val=0.1, test=0.2, seed=4).assign(log)
    assert float((codes == other).mean()) == pytest.approx(0.7**2 + 0.1**2 + 0.2**2, abs=0.02)


def splitmix_slowly(state):
    mask = 2**64 - 1
    mixed = (state + 0x9E3779B97F4A7C15) & mask
    mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & mask
    mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & mask
    return mixed ^ (mixed >> 31)


def test_the_coin_of_a_user_is_splitmix_of_the_id_and_the_seed():
    coins = [(splitmix_slowly(user ^ splitmix_slowly(7)) >> 11) / 2**53 for user in range(200)]
    expected = [3 if coin < 0.2 else 2 if coin < 0.3 else 1 for coin in coins]
    users = pl.DataFrame({"user_id": np.arange(200)})
    assert ColdUsers(val=0.1, test=0.2, seed=7).assign(users).to_list() == expected
    # First output of the published generator for seed 0.
    assert splitmix_slowly(0) == 0xE220A8397B1DCDAF


def test_random_rows_are_those_of_scikit_learn():
    # train_test_split(range(10), test_size=0.2, random_state=42) tests on 8 and 1, and draws 5 and 0 next.
    assert RandomRows(val=0.2, test=0.2, seed=42).assign(rows(10)).to_list() == [2, 3, 1, 1, 1, 2, 1, 1, 3, 1]


def test_first_rows_leave_the_rest_of_the_log_out():
    codes = FirstRows(num_rows=1000, val=0, test=0.2).assign(rows(5000))
    assert (codes[1000:] == 0).all()
    assert shares(codes[:1000]) == pytest.approx([0.8, 0, 0.2], abs=0.04)


def test_global_time_cuts_once_and_keeps_equal_times_together():
    times = [50, 10, 20, 20, 30, 40, 40, 40, 60, None]
    log = pl.DataFrame({"timestamp_ms": times})
    codes = GlobalTime(val=0.2, test=0.2).assign(log).to_list()
    assert codes == [3, 1, 1, 1, 1, 2, 2, 2, 3, 0]


def test_global_time_reads_days_in_the_time_zone():
    noon = moment_ms("2020-08-30", "Asia/Shanghai")
    assert noon == moment_ms("2020-08-29T16:00+00:00", "UTC")
    log = pl.DataFrame({"timestamp_ms": [noon - DAY, noon - 1, noon, noon + DAY]})
    split = GlobalTime(val="2020-08-30", test="2020-08-31", timezone="Asia/Shanghai")
    assert split.assign(log).to_list() == [1, 1, 2, 3]


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"val": 0.5, "test": 0.5}, "fractions"),
        ({"val": "2020-08-31", "test": "2020-08-30"}, "begins after"),
        ({"val": 0.1, "test": "2020-08-30"}, "fractions or dates, not both"),
        ({"val": "soon", "test": "2020-08-30"}, "not a date"),
        ({"val": "2020-08-30", "test": "2020-08-31", "timezone": "Mars"}, "not a time zone"),
        ({"val": 0.4, "test": 0.3, "left_out": 0.35}, "nothing is left to train on"),
        ({"val": "2020-08-01", "test": "2020-08-30", "left_out": "2020-08-29"}, "begins after"),
        ({"candidates": "all"}, "catalogue, observed, held_out"),
    ],
)
def test_impossible_settings_of_a_time_split_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        GlobalTime(**settings)


def test_the_end_of_the_log_can_be_left_out_by_share_or_by_day():
    log = pl.DataFrame({"timestamp_ms": np.arange(20) * DAY})
    codes = GlobalTime(val=0.15, test=0.15, left_out=0.2).assign(log).to_list()
    assert codes == [1] * 10 + [2] * 3 + [3] * 3 + [0] * 4
    days = GlobalTime(val="1970-01-11", test="1970-01-14", left_out="1970-01-17")
    assert days.assign(log).to_list() == codes
    assert GlobalTime(val=0.0, test=0.15, left_out=0.15).assign(log).to_list() == [1] * 14 + [3] * 3 + [0] * 3


def test_held_out_rows_of_users_that_training_has_not_seen_can_be_left_out():
    log = pl.DataFrame({"timestamp_ms": [1, 2, 3, 4, 5, 6], "user_id": [1, 2, 1, 9, 2, 9]})
    assert GlobalTime(val=0.0, test=0.5).assign(log).to_list() == [1, 1, 1, 3, 3, 3]
    assert GlobalTime(val=0.0, test=0.5, known_users=True).assign(log).to_list() == [1, 1, 1, 0, 3, 0]


def leave_last_slowly(log, val, test):
    codes = [0] * log.height
    for user in log["user_id"].unique():
        mine = [r for r in range(log.height) if log["user_id"][r] == user and log["timestamp_ms"][r] is not None]
        mine.sort(key=lambda r: log["timestamp_ms"][r])
        for place, row in enumerate(mine):
            left = len(mine) - place
            split = 3 if left <= test else 2 if left <= test + val else 1
            codes[row] = split if len(mine) > val + test else 1
    return codes


@pytest.mark.parametrize(("val", "test"), [(1, 1), (0, 2), (2, 1)])
def test_leave_last_equals_a_loop_over_users(val, test):
    coin = np.random.default_rng(0)
    times = coin.integers(0, 30, 300).tolist()
    log = pl.DataFrame({"user_id": coin.integers(0, 60, 300), "timestamp_ms": [t if t else None for t in times]})
    assert LeaveLast(val=val, test=test).assign(log).to_list() == leave_last_slowly(log, val, test)


def test_leave_last_can_go_by_the_order_of_the_file():
    log = pl.DataFrame({"user_id": ["b", "a", "b", "a", "b", "a", "c"]})
    assert LeaveLast(order="file").assign(log).to_list() == [1, 1, 2, 2, 3, 3, 1]


def test_equal_times_keep_file_order():
    log = pl.DataFrame({"user_id": [1, 1, 1, 1], "timestamp_ms": [5, 5, 5, 5]})
    assert LeaveLast().assign(log).to_list() == [1, 1, 2, 3]


MATRICES = pl.DataFrame(
    {
        "user_id": [1, 2, 3] * 2 + list(range(1000)),
        "timestamp_ms": [0, 5 * DAY, 9 * DAY, None, 10 * DAY, 3 * DAY] + [None] * 1000,
        "matrix": pl.Series(["big"] * 6 + ["small"] * 1000, dtype=pl.Enum(["big", "small"])),
    }
)


def test_two_matrices_train_on_one_and_split_the_users_of_the_other():
    codes = TwoMatrices(val_fraction=0.2).assign(MATRICES)
    assert codes[:6].to_list() == [1] * 6
    assert float((codes[6:] == 2).mean()) == pytest.approx(0.2, abs=0.04)
    assert set(codes[6:].to_list()) == {2, 3}
    assert TwoMatrices().candidates == "observed"
    assert not codes.equals(TwoMatrices(val_fraction=0.2, seed=1).assign(MATRICES))


def test_two_matrices_can_validate_on_the_last_days_of_the_first():
    codes = TwoMatrices(val="time", val_days=2).assign(MATRICES)
    assert codes[:6].to_list() == [1, 1, 2, 0, 2, 1]
    assert (codes[6:] == 3).all()


def test_two_matrices_can_stop_training_at_a_day_or_a_share_of_the_rows():
    users = TwoMatrices(val_fraction=0.2).assign(MATRICES)
    # Big rows lie on days 0, 5, 9, unknown, 10, 3.
    codes = TwoMatrices(val_fraction=0.2, train_until="1970-01-10").assign(MATRICES)
    assert codes[:6].to_list() == [1, 1, 0, 0, 0, 1]
    assert codes[6:].equals(users[6:])
    shanghai = TwoMatrices(train_until="1970-01-10T08:00", timezone="Asia/Shanghai").assign(MATRICES)
    assert shanghai[:6].to_list() == [1, 1, 0, 0, 0, 1]
    assert TwoMatrices(train_until="1970-01-10", timezone="Etc/GMT+9").assign(MATRICES)[:6].to_list()[2] == 1
    assert TwoMatrices(train_until=0.6).assign(MATRICES)[:6].to_list() == [1, 1, 0, 0, 0, 1]
    assert TwoMatrices(train_until=0.8).assign(MATRICES)[:6].to_list() == [1, 1, 1, 0, 0, 1]
    assert set(TwoMatrices(val_fraction=0.0, train_until=0.8).assign(MATRICES)[6:].to_list()) == {3}


def test_the_days_after_training_validate_and_the_test_stays_that_of_the_users():
    settings = {"val": "time", "train_until": "1970-01-10"}
    codes = TwoMatrices(**settings).assign(MATRICES)
    assert codes[:6].to_list() == [1, 1, 2, 0, 2, 1]
    assert (codes[6:] == 3).all()
    same = TwoMatrices(**settings, leave_out_val_users=True).assign(MATRICES)
    by_users = TwoMatrices(val="users", train_until="1970-01-10").assign(MATRICES)
    assert (same == 3).equals(by_users == 3)
    assert ((same[6:] == 0) == (by_users[6:] == 2)).all()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"train_until": 1.0}, "a share of the rows between 0 and 1"),
        ({"train_until": "some day"}, "not a date"),
        ({"leave_out_val_users": True}, "is for split.val=time"),
    ],
)
def test_impossible_settings_of_two_matrices_are_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        TwoMatrices(**settings)


def test_settings_change_with_every_option_of_the_new_ones():
    splits = [
        TwoMatrices(),
        TwoMatrices(train_until=0.5),
        TwoMatrices(train_until="2020-08-30"),
        TwoMatrices(val="time"),
    ]
    splits += [
        TwoMatrices(val="time", leave_out_val_users=True),
        TwoMatrices(train_until=0.5, timezone="Asia/Shanghai"),
    ]
    splits += [TwoMatrices(val="time", train_until=0.5), TwoMatrices(val="time", val_days=3), TwoMatrices(seed=1)]
    splits += [TwoMatrices(val_fraction=0.3), GlobalTime(), GlobalTime(left_out=0.1), GlobalTime(known_users=True)]
    assert len({str(split.settings()) for split in splits}) == len(splits)


@pytest.mark.parametrize(("kind", "column"), [(ColdUsers, "user_id"), (ColdItems, "item_id")])
def test_cold_ids_never_lie_in_two_splits(kind, column):
    for log in (rows(10_000), rows(10_000).cast(pl.String)):
        codes = kind(val=0.2, test=0.3).assign(log)
        assert log.with_columns(codes).group_by(column).agg(pl.col("split").n_unique())["split"].max() == 1
        assert set(codes.to_list()) == {1, 2, 3}


def test_cold_items_go_by_the_remainder_of_their_id():
    log = pl.DataFrame({"item_id": [0, 1, 2, 3, 4, 5]})
    assert ColdItems(modulo=5, test_remainder=0, val_remainder=1).assign(log).to_list() == [3, 2, 1, 1, 1, 3]
    assert ColdItems(modulo=5, test_remainder=4, val_remainder=None).assign(log).to_list() == [1, 1, 1, 1, 3, 1]
    with pytest.raises(ValueError, match="integer ids"):
        ColdItems(modulo=5).assign(log.cast(pl.String))
    with pytest.raises(ValueError, match="between 0 and 4"):
        ColdItems(modulo=5, test_remainder=5)


def test_given_reads_codes_and_words():
    assert Given().assign(pl.DataFrame({"split": [1, 2, 3, 0, None]})).to_list() == [1, 2, 3, 0, 0]
    words = pl.DataFrame({"split": ["train", "valid", "TEST", "val", None]})
    assert Given().assign(words).to_list() == [1, 2, 3, 2, 0]
    with pytest.raises(ValueError, match="tset"):
        Given().assign(pl.DataFrame({"split": ["train", "tset"]}))
    with pytest.raises(ValueError, match=r"data.train="):
        Given().assign(rows(3))


def test_given_draws_validation_rows_from_training_only_where_there_are_none():
    codes = np.repeat([1, 3, 0], [10_000, 500, 100]).astype(np.uint8)
    log = pl.DataFrame({"split": codes})
    drawn = Given(val=0.05, seed=2).assign(log)
    assert float((drawn[:10_000] == 2).mean()) == pytest.approx(0.05, abs=0.01)
    assert drawn[10_000:].to_list() == [3] * 500 + [0] * 100
    assert drawn.equals(Given(val=0.05, seed=2).assign(log)) and not drawn.equals(Given(val=0.05, seed=3).assign(log))
    assert Given(val=0.0).assign(log).to_list() == codes.tolist()
    brought = pl.DataFrame({"split": [1, 1, 1, 2, 3]})
    assert Given(val=0.9).assign(brought).to_list() == [1, 1, 1, 2, 3]
    assert Given(val=0.05).settings() != Given(val=0.1).settings() != Given(val=0.1, seed=1).settings()


@pytest.mark.parametrize("val", [-0.1, 1.0])
def test_a_share_of_the_training_rows_leaves_some_of_them(val):
    with pytest.raises(ValueError, match=r"split\.val_of_train under split=auto.* in \[0, 1\)"):
        Given(val=val)


def test_where_takes_sql_and_names_what_it_reads():
    split = Where(train="fold < 2", val="fold = 2 and kind <> 'ad'", test="fold > 2")
    assert split.columns == ("fold", "kind")
    log = pl.DataFrame({"fold": [0, 1, 2, 2, 3, None], "kind": ["a", "ad", "a", "ad", "a", "a"]})
    assert split.assign(log).to_list() == [1, 1, 2, 0, 3, 0]


@pytest.mark.parametrize(
    ("conditions", "message"),
    [
        ({"train": "fold < 3", "test": "fold > 1"}, "3 rows pass split.test='fold > 1' and an earlier condition"),
        ({"train": "fold <", "test": "fold > 1"}, "split.train='fold <' is not a SQL condition"),
        ({"train": "fold + 1", "test": "fold > 1"}, "write a comparison"),
        ({"train": "fold < 1"}, "split=where needs split.test"),
        ({"train": "flod < 1", "test": "fold > 1"}, "no column 'flod': did you mean 'fold'"),
        ({"train": "fold < 1", "test": "fold > 99"}, "leaves no test rows"),
        ({"train": "fold > 99", "test": "fold < 1"}, "leaves no train rows"),
        ({"train": "fold like 'a'", "test": "fold < 1"}, "cannot be computed"),
    ],
)
def test_conditions_that_cannot_work_are_refused_by_name(conditions, message):
    with pytest.raises(ValueError) as raised:
        Where(**conditions).assign(pl.DataFrame({"fold": [0, 2, 2, 2, 3]}))
    assert message in str(raised.value)


def test_a_log_without_times_is_told_so():
    with pytest.raises(ValueError, match="no row of the log has one"):
        GlobalTime().assign(pl.DataFrame({"timestamp_ms": pl.Series([None, None], dtype=pl.Int64)}))
    with pytest.raises(ValueError, match=r"data\.columns\.timestamp"):
        LeaveLast().assign(rows(3))
