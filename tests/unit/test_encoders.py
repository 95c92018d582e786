import json

import numpy as np
import polars as pl
import pytest
import torch

from towerrec.data import text
from towerrec.data.column_encoders import quantile_edges
from towerrec.data.declarations import declaration
from towerrec.data.encoders import Encoders
from towerrec.data.time import NO_DAY, ages, days_of, local_time
from towerrec.schema import NO_TIMESTAMP

ITEMS = pl.DataFrame({"item_id": [10, 11, 12]})


def fit(plain, users, *, train=None, items=ITEMS, name="x", train_ages=None, train_recent=None, timezone="UTC"):
    train = [True] * users.height if train is None else train
    return Encoders.fit(
        [declaration(name, plain)],
        users=users,
        items=items,
        train_users=pl.Series(train),
        train_items=pl.Series([True] * items.height),
        train_ages=train_ages or {},
        train_recent=train_recent or {},
        timezone=timezone,
    )


def encode(plain, column, *, train=None):
    users = pl.DataFrame({"user_id": range(len(column)), "x": column})
    encoders = fit({"side": "user", **plain}, users, train=train)
    return encoders, encoders.encode("user", users).columns


def test_a_category_that_no_training_user_has_is_unknown():
    encoders, columns = encode({"kind": "categorical"}, ["b", "a", "c", None], train=[True, True, False, True])
    assert columns["x"].tolist() == [3, 2, 1, 1]
    assert encoders.schema.features[0].cardinality == 4


def test_the_id_of_a_user_without_training_rows_is_unknown():
    users = pl.DataFrame({"user_id": [5, 6, 9]})
    encoders = fit({"side": "user", "kind": "id"}, users, train=[True, False, True], name="user_id")
    assert encoders.encode("user", users).columns["user_id"].tolist() == [2, 1, 3]
    assert encoders.encode("user", pl.DataFrame({"age": [3]})).columns["user_id"].tolist() == [1]


def test_lists_are_padded_and_keep_only_values_that_training_knows():
    lists = [[3, 1], [1], [], None, [9, 3, 3]]
    encoders, columns = encode({"kind": "multi"}, lists, train=[True, True, True, True, False])
    assert columns["x"].tolist() == [[3, 2], [2, 0], [0, 0], [0, 0], [3, 0]]
    assert columns["x"].dtype == torch.int32
    assert (encoders.schema.features[0].cardinality, encoders.schema.features[0].width) == (4, 2)
    _, columns = encode({"kind": "multi", "max_length": 1}, lists)
    assert columns["x"].shape == (5, 1)


def test_numbers_are_standardised_by_training_rows_and_gaps_raise_an_indicator():
    encoders, columns = encode({"kind": "numeric"}, [1.0, 3.0, None, 100.0], train=[True, True, True, False])
    assert columns["x"].tolist() == [-1.0, 1.0, 0.0, 10.0]
    assert columns["x_missing"].tolist() == [0.0, 0.0, 1.0, 0.0]
    assert [spec.name for spec in encoders.schema.features] == ["x", "x_missing"]
    _, columns = encode({"kind": "numeric", "transform": "log1p"}, [0.0, np.e - 1, 0.0, -(np.e - 1)])
    assert columns["x"].tolist() == pytest.approx([0.0, 2**0.5, 0.0, -(2**0.5)])
    assert "x_missing" not in columns
    _, columns = encode({"kind": "numeric"}, [7, 7])
    assert columns["x"].tolist() == [0.0, 0.0]


def test_buckets_hold_about_equally_many_training_values():
    _, columns = encode({"kind": "bucket", "buckets": 4}, [*range(8), None])
    assert columns["x"].bincount().tolist() == [0, 1, 2, 2, 2, 2]
    assert columns["x"][-1] == 1
    assert quantile_edges(np.array([1.0, 1.0, 1.0]), 4) == ()
    assert quantile_edges(np.array([np.nan]), 4) == ()


def test_vectors_are_kept_scaled_or_brought_to_unit_length_and_missing_ones_are_zero():
    vectors = [[3.0, 4.0], None, [1.0, 0.0]]
    encoders, columns = encode({"kind": "vector"}, vectors)
    assert columns["x"].tolist() == [[3.0, 4.0], [0.0, 0.0], [1.0, 0.0]]
    assert encoders.schema.features[0].width == 2
    _, columns = encode({"kind": "vector", "normalise": "unit"}, vectors)
    torch.testing.assert_close(columns["x"][0], torch.tensor([0.6, 0.8]))
    _, columns = encode({"kind": "vector", "normalise": "standard"}, vectors)
    assert columns["x"].tolist() == [[1.0, 1.0], [0.0, 0.0], [-1.0, -1.0]]
    with pytest.raises(ValueError, match="all have length 2, found lengths"):
        encoders.encode("user", pl.DataFrame({"x": [[1.0]]}))
    with pytest.raises(ValueError, match="hold NaN"):
        encode({"kind": "vector"}, [[1.0, float("nan")]])


@pytest.mark.parametrize(
    ("plain", "column", "message"),
    [
        ({"kind": "multi"}, ["[1, 2]"], "a multi feature needs lists"),
        ({"kind": "numeric"}, ["tall"], "cannot be read as numbers"),
        ({"kind": "vector"}, [3.0], "a vector needs lists"),
    ],
)
def test_a_column_of_the_wrong_type_is_named(plain, column, message):
    with pytest.raises(ValueError, match=message):
        encode(plain, column)


def slow_ngrams(texts, lengths):
    """Distinct n-grams of each text that do not reach over a space, from the definition."""
    return [
        {word[i : i + n] for word in line.split() for n in lengths for i in range(len(word) - n + 1)} for line in texts
    ]


def test_ngrams_equal_the_definition():
    texts = pl.Series(["abcab 精神小伙", "", "x", "ab"])
    expected = slow_ngrams(texts, (1, 2, 3))
    grams = text.ngrams(texts, lengths=(1, 2, 3), buckets=2**62)
    got = [set(grams.filter(pl.col("row") == row)["bucket"]) for row in range(4)]
    assert [len(buckets) for buckets in got] == [len(distinct) for distinct in expected]
    assert got[0] & got[3] == got[3]  # "a", "b" and "ab" hash alike in both texts
    assert text.ngrams(pl.Series([""]), lengths=(2,), buckets=8).height == 0


def test_the_hash_of_text_never_changes():
    grams = text.ngrams(pl.Series(["Tower"]), lengths=(5,), buckets=2**32)
    assert grams["bucket"].to_list() == [1756971849]


def test_text_is_lower_case_without_punctuation_and_placeholders():
    assert text.normalised(pl.Series(["Ｈello,  World!", None, "UNKNOWN", "[]"])).to_list() == [
        "hello world",
        "",
        "",
        "",
    ]
    frame = pl.DataFrame({"a": ["x", None], "b": [["y", "z"], None]})
    assert text.joined(frame, ("a", "b")).to_list() == ["x y z", ""]


def test_ngrams_that_training_lacks_are_left_out():
    users = pl.DataFrame({"user_id": [1, 2, 3], "x": ["ab", "ab", "cd ab"]})
    encoders = fit({"side": "user", "kind": "text", "ngrams": [2], "min_count": 2}, users, train=[True, True, False])
    columns = encoders.encode("user", users).columns
    assert columns["x"].tolist() == [[2], [2], [2]]


def test_hours_and_weekdays_are_read_in_the_time_zone_of_the_log():
    # 2020-07-05 (a Sunday) 17:30 UTC is Monday 01:30 in Shanghai; in winter Berlin is one hour ahead, in summer two.
    moment = np.array([1593970200000, NO_TIMESTAMP, 1577880000000], dtype=np.int64)
    local = local_time(moment, "Asia/Shanghai")
    assert (local.hour[0], local.weekday[0]) == (1, 0)
    assert (local.hour[1], local.weekday[1], local.day[1]) == (-1, -1, NO_DAY)
    assert local_time(moment, "Europe/Berlin").hour.tolist() == [19, -1, 13]
    with pytest.raises(ValueError, match="time zone 'Asia/Shanghia'"):
        local_time(moment, "Asia/Shanghia")
    hour = fit({"kind": "hour"}, pl.DataFrame({"user_id": [1]}), timezone="Asia/Shanghai")
    assert hour.user_context(moment)["x"].tolist() == [3, 1, 22]
    assert hour.schema.features[0].context


def test_the_age_of_an_item_counts_local_days_and_falls_into_training_buckets():
    day = days_of(pl.Series(["2020-07-01", None, "2020-07-04"]))
    assert day.tolist()[1] == NO_DAY
    assert ages(np.array([day[2], day[2], NO_DAY], dtype=np.int32), day).tolist() == [3, -1, -1]
    train = np.array([0, 0, 1, 2, 5, -1], dtype=np.int32)
    encoders = fit(
        {"kind": "age_days", "column": "day", "buckets": 3}, pl.DataFrame({"user_id": [1]}), train_ages={"x": train}
    )
    moment = np.full(3, 1593970200000, dtype=np.int64)  # 2020-07-05
    got = encoders.item_context(moment, {"x": days_of(pl.Series(["2020-07-05", "2020-06-01", None]))}, {})
    last = encoders.schema.features[0].cardinality - 1
    assert got["x"].tolist() == [2, last, 1]


@pytest.mark.parametrize("column", [pl.Series([20200701]), pl.Series(["2020-07-01T10:00:00"]), pl.Series([20200701.0])])
def test_dates_are_read_in_every_usual_form(column):
    assert days_of(column).tolist() == days_of(pl.Series(["2020-07-01"]).str.to_date()).tolist()


def test_what_is_no_date_is_refused():
    with pytest.raises(ValueError, match="cannot be read as dates"):
        days_of(pl.Series("day", ["yesterday"]))


def test_encoders_come_back_from_json_as_they_were():
    users = pl.DataFrame(
        {"user_id": ["a", "b"], "n": [1.0, None], "t": ["ab cd", "ab"], "l": [[1], [2, 3]], "v": [[1.0], [2.0]]}
    )
    declared = [
        declaration("user_id", {"side": "user", "kind": "id"}),
        declaration("n", {"side": "user", "kind": "numeric"}),
        declaration("nb", {"side": "user", "kind": "bucket", "column": "n", "buckets": 2}),
        declaration("t", {"side": "user", "kind": "text"}),
        declaration("l", {"side": "user", "kind": "multi"}),
        declaration("v", {"side": "user", "kind": "vector"}),
        declaration("hour", {"kind": "hour"}),
        declaration("age", {"kind": "age_days", "buckets": 2}),
    ]
    fitted = Encoders.fit(
        declared,
        users=users,
        items=ITEMS,
        train_users=pl.Series([True, True]),
        train_items=pl.Series([True] * 3),
        train_ages={"age": np.array([1, 2, 3], dtype=np.int32)},
        train_recent={},
        timezone="UTC",
    )
    again = Encoders.from_dict(json.loads(json.dumps(fitted.to_dict())))
    assert again == fitted
    assert again.schema.fingerprint == fitted.schema.fingerprint
    for name, column in fitted.encode("user", users).columns.items():
        assert torch.equal(again.encode("user", users).columns[name], column)


def test_new_users_need_the_columns_unless_told_that_they_are_unknown():
    encoders, _ = encode({"kind": "categorical"}, ["a", "b"])
    assert encoders.missing_columns("user", ["age"]) == ["x"]
    with pytest.raises(ValueError, match="has no column 'x'"):
        encoders.encode("user", pl.DataFrame({"age": [1]}))
    assert encoders.encode("user", pl.DataFrame({"age": [1]}), allow_missing=True).columns["x"].tolist() == [1]
