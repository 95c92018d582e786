import gzip
from datetime import UTC, datetime

import polars as pl
import pytest

from towerrec.data.cleaning import clean
from towerrec.data.labels import Column
from towerrec.data.sources.interactions import Interactions
from towerrec.data.splits import Given, Where

NOON = 1598760000000  # 2020-08-30 04:00 UTC, noon in Shanghai


def written(folder, name, text):
    path = folder / name
    path.write_bytes(text.encode())
    return str(path)


def read(log, **settings):
    return Interactions(interactions=log, **settings).read().interactions.collect()


def test_columns_get_their_canonical_names_and_keep_their_own(tmp_path):
    log = written(tmp_path, "log.csv", "uid,video,liked,when,fold\n7,b,1,1598760000,3\n8,a,0,1598760001,4\n")
    frame = read(log, columns={"user": "uid", "item": "video", "label": "liked", "timestamp": "when"})
    assert frame["user_id"].to_list() == [7, 8]
    assert frame["item_id"].to_list() == ["b", "a"]
    assert frame["label_raw"].to_list() == [1.0, 0.0]
    assert frame["timestamp_ms"].to_list() == [NOON, NOON + 1000]
    assert {"uid", "video", "liked", "when", "fold"} <= set(frame.columns)
    assert Where(train="video = 'a'", test="uid = 7").assign(frame).to_list() == [3, 1]


def test_without_a_label_every_row_is_a_positive(tmp_path):
    frame = read(written(tmp_path, "log.csv", "user_id,item_id\n1,2\n"))
    assert Column().apply(frame).to_list() == [1.0]


def test_given_files_without_a_header_bring_their_split(tmp_path):
    files = {
        word: written(tmp_path, f"{word}.txt", text)
        for word, text in {"train": "86 39 0.00\n14 13 1.00\n", "val": "8 8 0.00\n", "test": "9 9 1.00\n"}.items()
    }
    columns = {"user": "column_1", "item": "column_2", "label": "column_3"}
    source = Interactions(**files, separator=" ", has_header=False, columns=columns)
    frame = source.read().interactions.collect()
    assert Given().assign(frame).to_list() == [1, 1, 2, 3]
    assert frame["user_id"].to_list() == [86, 14, 8, 9]
    assert Column().apply(frame).to_list() == [0, 1, 0, 1]


@pytest.mark.parametrize("name", ["log.tsv", "log.tsv.gz", "log.parquet", "log.csv"])
def test_the_ending_says_how_to_read(tmp_path, name):
    path = tmp_path / name
    table = pl.DataFrame({"user_id": [1, 2], "item_id": [3, 4]})
    text = table.write_csv(separator="\t" if "tsv" in name else ",")
    if name.endswith(".gz"):
        path.write_bytes(gzip.compress(text.encode()))
    elif name.endswith(".parquet"):
        table.write_parquet(path)
    else:
        path.write_text(text)
    assert read(str(path))["item_id"].to_list() == [3, 4]


@pytest.mark.parametrize(
    ("text", "timezone", "expected"),
    [
        ("1598760000", "UTC", NOON),
        ("1598760000.25", "UTC", NOON + 250),
        ("1598760000123", "UTC", NOON + 123),
        ("1598760000123000", "UTC", NOON + 123),
        ("1598760000123000000", "UTC", NOON + 123),
        ("2020-08-30 12:00:00", "Asia/Shanghai", NOON),
        ("2020-08-30 12:00:00.373", "Asia/Shanghai", NOON + 373),
        ("2020-08-30T04:00:00Z", "Asia/Shanghai", NOON),
        ("2020-08-30T12:00:00+08:00", "UTC", NOON),
        ("2020-08-30 12:00:00+08:00", "UTC", NOON),
        ("2020-08-30", "Asia/Shanghai", NOON - 12 * 3_600_000),
        ("20200830", "Asia/Shanghai", NOON - 12 * 3_600_000),
        ("20200830.0", "Asia/Shanghai", NOON - 12 * 3_600_000),
    ],
)
def test_a_time_is_recognised_in_whatever_form_it_comes(tmp_path, text, timezone, expected):
    log = written(tmp_path, "log.csv", f"user_id,item_id,t\n1,1,{text}\n1,2,\n")
    frame = read(log, columns={"timestamp": "t"}, timezone=timezone)
    assert frame["timestamp_ms"].to_list() == [expected, None]
    assert frame.schema["timestamp_ms"] == pl.Int64


@pytest.mark.parametrize("timezone", [None, "Asia/Shanghai"])
def test_datetimes_of_a_parquet_file_are_read_with_and_without_a_zone(tmp_path, timezone):
    moment = datetime(2020, 8, 30, 4, tzinfo=UTC) if timezone else datetime(2020, 8, 30, 12)
    t = pl.Series("t", [moment], dtype=pl.Datetime("us", "UTC" if timezone else None))
    pl.DataFrame({"user_id": [1], "item_id": [1], "t": t}).write_parquet(tmp_path / "log.parquet")
    frame = read(str(tmp_path / "log.parquet"), columns={"timestamp": "t"}, timezone="Asia/Shanghai")
    assert frame["timestamp_ms"].to_list() == [NOON]


def test_small_numbers_can_be_called_milliseconds(tmp_path):
    log = written(tmp_path, "log.csv", "user_id,item_id,t\n1,1,5\n")
    assert read(log, columns={"timestamp": "t"})["timestamp_ms"].to_list() == [5000]
    assert read(log, columns={"timestamp": "t"}, timestamp_unit="ms")["timestamp_ms"].to_list() == [5]


def test_side_tables_are_joined_and_their_lists_parsed(tmp_path):
    log = written(tmp_path, "log.csv", "user_id,video_id\n1,10\n")
    tags = written(tmp_path, "tags.csv", 'video_id,feat\n10,[8]\n11,"[27, 9]"\n')
    text = written(tmp_path, "text.csv", 'item_id,topic,level\n11,"[a,b]",-124\n12,[],3\n')
    users = written(tmp_path, "users.csv", 'user_id,words\n1,"[""a""]"\n')
    source = Interactions(
        interactions=log, users=users, items=[tags, text], columns={"item": "video_id"}, null_values=["-124"]
    )
    tables = source.read()
    items = tables.items.collect().sort("item_id")
    assert items.to_dict(as_series=False) == {
        "item_id": [10, 11, 12],
        "feat": [[8], [27, 9], None],
        "topic": [None, "[a,b]", "[]"],
        "level": [None, None, 3],
    }
    assert tables.users.collect()["words"].to_list() == [["a"]]
    assert len(source.files()) == 4


def test_ids_are_of_one_type_everywhere(tmp_path):
    train = written(tmp_path, "train.csv", "user_id,item_id\n1,a\n2,b\n")
    test = written(tmp_path, "test.csv", "user_id,item_id\nx3,a\n1,b\n")
    users = written(tmp_path, "users.csv", "user_id,age\n1,30\n")
    tables = Interactions(train=train, test=test, users=users).read()
    assert tables.interactions.collect()["user_id"].to_list() == ["1", "2", "x3", "1"]
    assert tables.users.collect()["user_id"].to_list() == ["1"]


def test_ids_written_as_floats_because_of_gaps_are_integers(tmp_path):
    log = written(tmp_path, "log.csv", "user_id,item_id\n1.0,2\n,3\n")
    kept, counts = clean(Interactions(interactions=log).read().interactions)
    assert kept["user_id"].to_list() == [1]
    assert counts["no user_id"] == 1
    with pytest.raises(ValueError, match="decimal numbers"):
        read(written(tmp_path, "bad.csv", "user_id,item_id\n1.5,2\n"))


def test_numbers_with_a_decimal_comma(tmp_path):
    log = written(tmp_path, "log.csv", "user_id;item_id;score\n1;2;0,5\n")
    frame = read(log, separator=";", decimal_comma=True, columns={"label": "score"})
    assert frame["label_raw"].to_list() == [0.5]


@pytest.mark.parametrize(
    ("text", "settings", "message"),
    [
        ("user,item_id\n1,2\n", {}, r"data.columns.user: .*log.csv has no column 'user_id': did you mean 'user'"),
        ("user_id,item_id\n", {}, "header but no rows"),
        ("", {}, "is empty"),
        ("user_id,item_id,w\n1,2,good\n", {"columns": {"label": "w"}}, "needs numbers or booleans"),
        ("user_id,item_id,t\n1,2,yesterday\n", {"columns": {"timestamp": "t"}}, "'yesterday' is not a time"),
        ("user_id,item_id\n1,2\n", {"columns": {"usr": "user_id"}}, "no column 'usr': did you mean 'user'"),
        ("user_id,item_id\n1,2\n", {"columns": {"item": "user_id"}}, "name two columns"),
        ("user_id,item_id\n1,2\n", {"columns": {"item": None}}, "name the column of the item ids"),
        ("user_id,item_id,uid\n1,2,3\n", {"columns": {"user": "uid"}}, "also has a column 'user_id'"),
        ("user_id,item_id\n1,2\n", {"timezone": "Moon"}, "not a time zone"),
        ("user_id,item_id\n1,2\n", {"separator": "::"}, "must be one character"),
        ("user_id,item_id,t\n1,2,3\n", {"columns": {"timestamp": "t"}, "timestamp_unit": "h"}, "must be one of s, ms"),
    ],
)
def test_a_log_that_does_not_fit_is_one_readable_error(tmp_path, text, settings, message):
    with pytest.raises(ValueError, match=message):
        read(written(tmp_path, "log.csv", text), **settings)


def test_files_that_are_missing_or_say_nothing_about_their_form_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"data.interactions=.*nowhere.csv: there is no such file"):
        read(str(tmp_path / "nowhere.csv"))
    with pytest.raises(ValueError, match="is a folder without a table"):
        read(str(tmp_path))
    with pytest.raises(ValueError, match=r"give data.separator"):
        read(written(tmp_path, "log.dat", "user_id item_id\n1 2\n"))
    with pytest.raises(ValueError, match="cannot be read as a table"):
        read(written(tmp_path, "log.parquet", "user_id,item_id\n1,2\n"))
    for given in ({}, {"interactions": "a.csv", "train": "b.csv", "test": "c.csv"}):
        with pytest.raises(ValueError, match=r"needs either data.interactions=FILE"):
            Interactions(**given)
    with pytest.raises(ValueError, match=r"data.test=FILE is missing"):
        Interactions(train="a.csv")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["name,age\n1,2\n"], "no column 'user_id'"),
        (["user_id,age\n1,2\n1,3\n"], "id 1 has more than one row"),
        (["user_id,age\n1,2\n", "user_id,age\n1,2\n"], "column 'age' is in another side table"),
        (["user_id,age\none,2\n"], "the ids of the log are integers"),
    ],
)
def test_a_side_table_that_does_not_fit_is_one_readable_error(tmp_path, files, message):
    log = written(tmp_path, "log.csv", "user_id,item_id\n1,2\n")
    users = [written(tmp_path, f"users{number}.csv", text) for number, text in enumerate(files)]
    with pytest.raises(ValueError, match=message):
        Interactions(interactions=log, users=users).read()


def test_every_setting_is_part_of_the_fingerprint():
    base = {"interactions": "a.csv"}
    changes = [
        {"separator": ";"},
        {"has_header": False},
        {"columns": {"label": "x"}},
        {"timezone": "Asia/Shanghai"},
        {"timestamp_unit": "s"},
        {"null_values": ["NA"]},
        {"decimal_comma": True},
        {"users": "u.csv"},
        {"items": ["i.csv"]},
    ]
    seen = {str(Interactions(**base, **change).settings()) for change in [{}, *changes]}
    assert len(seen) == len(changes) + 1
