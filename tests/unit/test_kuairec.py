import zipfile
from datetime import date

import polars as pl
import pytest
from kuairec_release import FILES, LOG, write_release

from towerrec.data.cleaning import clean
from towerrec.data.sources.auto import Auto
from towerrec.data.sources.demo import Demo
from towerrec.data.sources.kuairec import KuaiRec


@pytest.fixture
def tables(tmp_path):
    return KuaiRec(root=str(write_release(tmp_path))).read()


def zipped(path, inner="KuaiRec 2.0/data/"):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in FILES.items():
            archive.writestr(inner + name, text)
    return path


def test_both_matrices_become_one_log_with_exact_times_and_gaps(tables):
    log = tables.interactions.collect()
    assert log["timestamp_ms"].to_list() == [1593878401373] * 4 + [
        1593997200000,
        1594000800000,
        1594087200500,
        None,
        None,
    ]
    assert log["matrix"].to_list() == ["big"] * 6 + ["small"] * 3
    assert log["watch_ratio"].to_list() == pytest.approx([2, 2, 2, 2.00025, 0.24981, 0.24981, 0.5, 573.46, 0])
    assert log["date"].to_list() == [20200705, 20200705, 20200706, 20200706, 20200706, 20200706, 20200707, None, None]
    assert log.schema["user_id"] == log.schema["item_id"] == log.schema["timestamp_ms"] == pl.Int64
    assert tables.timezone == "Asia/Shanghai"


def test_duplicates_go_and_views_again_and_rows_without_a_time_stay(tables):
    kept, counts = clean(tables.interactions, columns=["timestamp_ms", "matrix"])
    assert counts == {"rows_read": 9, "exact duplicates": 2, "near duplicates": 1, "rows_kept": 6}
    assert kept["matrix"].to_list() == ["big"] * 3 + ["small"] * 3


def test_a_bare_carriage_return_is_part_of_a_caption_and_unknown_is_null(tables):
    items = tables.items.collect()
    assert items["item_id"].to_list() == [10, 11, 12, 13]
    assert items["caption"].to_list() == ["one\rtwo", "a, b\r", None, None]
    assert items["manual_cover_text"].to_list() == [None, "封面", None, None]
    assert items["topic_tag"].to_list() == [None, "x", "井柏然,宋威龙", None]
    assert items["first_level_category_id"].to_list() == [8, None, 1, None]
    assert items["third_level_category_name"].to_list() == [None, None, "c", None]


def test_lists_are_parsed_and_the_jittering_duration_is_its_median(tables):
    items = tables.items.collect()
    assert items["feat"].to_list() == [[8], [27, 9], [], [3]]
    assert items["duration_ms"].to_list() == [4001.0, None, None, None]
    assert items["upload_date"].to_list()[:2] == [date(2020, 7, 1), date(2020, 6, 1)]
    assert items["upload_type"].to_list()[:2] == [None, "LongCamera"]
    assert items["video_type"].to_list()[:2] == ["NORMAL", "AD"]


def test_daily_counters_keep_their_day_and_their_gaps(tables):
    daily = tables.item_daily.sort("item_id", "date").collect()
    assert daily["date"].to_list() == [date(2020, 7, 5), date(2020, 7, 6), date(2020, 7, 7), date(2020, 7, 5)]
    assert daily["show_cnt"].to_list() == [20, 30, 10, 5]
    assert daily["collect_cnt"].to_list() == [None, 2, None, None]
    assert set(daily.columns) == {"item_id", "date", "show_cnt", "collect_cnt"}


def test_users_bring_their_features_and_their_number_of_friends(tables):
    users = tables.users.collect()
    assert users["num_friends"].to_list() == [0, 3]
    assert users["onehot_feat4"].to_list() == [2.0, None]


def test_files_that_are_not_there_leave_their_columns_out(tmp_path):
    absent = ("social_network.csv", "kuairec_caption_category.csv", "item_daily_features.csv")
    source = KuaiRec(root=str(write_release(tmp_path, without=absent)))
    tables = source.read()
    assert "num_friends" not in tables.users.collect_schema()
    assert tables.items.collect_schema().names() == ["item_id", "feat"]
    assert tables.item_daily is None
    assert len(source.files()) == 4


@pytest.mark.parametrize(
    "inside", ["", "data", "KuaiRec", "KuaiRec/data", "KuaiRec 2.0/data", "kuairec/KuaiRec 2.0/data"]
)
def test_the_files_are_found_in_every_layout_seen_in_the_wild(tmp_path, inside):
    write_release(tmp_path / inside)
    assert KuaiRec(root=str(tmp_path)).folder() == tmp_path / inside


@pytest.mark.parametrize("given", ["KuaiRec.zip", ""])
def test_the_zip_itself_is_unpacked_beside_itself_once(tmp_path, given):
    archive = zipped(tmp_path / "KuaiRec.zip")
    source = KuaiRec(root=str(tmp_path / given))
    assert source.folder() == tmp_path / "KuaiRec/KuaiRec 2.0/data"
    archive.write_bytes(b"no longer read")
    assert KuaiRec(root=str(tmp_path / given)).read().interactions.collect().height == 9
    assert sorted(path.name for path in tmp_path.iterdir()) == ["KuaiRec", "KuaiRec.zip"]


def test_a_truncated_zip_is_told_and_leaves_nothing(tmp_path):
    archive = zipped(tmp_path / "KuaiRec.zip")
    archive.write_bytes(archive.read_bytes()[:-200])
    with pytest.raises(ValueError, match="not a whole zip file"):
        KuaiRec(root=str(archive)).folder()
    assert [path.name for path in tmp_path.iterdir()] == ["KuaiRec.zip"]


def test_two_copies_are_never_chosen_between(tmp_path):
    write_release(tmp_path / "a/data")
    write_release(tmp_path / "b/data")
    with pytest.raises(ValueError, match=r"several copies .* name one with data.root"):
        KuaiRec(root=str(tmp_path)).folder()


def test_a_root_without_the_files_says_what_it_holds_and_what_to_do(tmp_path):
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match=r"holds notes.txt; big_matrix.csv was not found.*data.download=true"):
        KuaiRec(root=str(tmp_path)).files()
    with pytest.raises(ValueError, match="does not exist"):
        KuaiRec(root=str(tmp_path / "nowhere")).files()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "is empty"),
        (LOG, "header but no rows"),
        (
            LOG.replace("watch_ratio", "watch_ration") + "1,1,1,1,,,,1\n",
            "no column 'watch_ratio': did you mean 'watch_ration'",
        ),
        (LOG + "1,1,much,1,,,,1\n", "much"),
    ],
)
def test_a_damaged_log_is_one_readable_error(tmp_path, text, message):
    write_release(tmp_path)
    (tmp_path / "big_matrix.csv").write_text(text)
    with pytest.raises(ValueError, match=message):
        clean(KuaiRec(root=str(tmp_path), matrices=["big"]).read().interactions)


def test_a_row_cut_short_at_the_end_of_a_file_is_counted(tmp_path):
    write_release(tmp_path)
    (tmp_path / "big_matrix.csv").write_text(LOG + "1,1,9,1,,,,1\n2,2,9\n")
    log = KuaiRec(root=str(tmp_path), matrices=["big"]).read().interactions
    assert clean(log, required=["watch_ratio"])[1] == {"rows_read": 2, "no watch_ratio": 1, "rows_kept": 1}


def test_only_the_matrices_asked_for_are_needed(tmp_path):
    source = KuaiRec(root=str(write_release(tmp_path, without=("small_matrix.csv",))), matrices=["big"])
    assert source.read().interactions.collect()["matrix"].unique().to_list() == ["big"]
    with pytest.raises(ValueError, match="must name big, small"):
        KuaiRec(matrices=["medium"])


def test_auto_takes_kuairec_where_it_lies_and_the_demo_where_nothing_does(tmp_path, capsys):
    demo = Auto(data_dir=str(tmp_path), demo={"scale": "tiny"})
    assert demo.name == "demo"
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert "data=kuairec" in said
    assert demo.read().interactions.collect().height > 1000
    assert Auto(data_dir=str(tmp_path), demo={"scale": "tiny"}).name == "demo"
    capsys.readouterr()
    write_release(tmp_path / "KuaiRec 2.0" / "data")
    assert Auto(data_dir=str(tmp_path)).name == "kuairec"
    assert capsys.readouterr().out == ""


def test_a_root_that_was_given_to_auto_and_holds_nothing_is_an_error(tmp_path):
    with pytest.raises(ValueError, match=r"is empty; big_matrix.csv was not found"):
        Auto(root=str(tmp_path), data_dir=str(tmp_path)).read()


def test_the_demo_is_simulated_once_and_reads_like_kuairec(tmp_path):
    first = Demo(demo={"scale": "tiny", "seed": 1}, data_dir=str(tmp_path))
    stamps = [path.stat().st_mtime_ns for path in first.files()]
    again = Demo(demo={"scale": "tiny", "seed": 1}, data_dir=str(tmp_path))
    assert [path.stat().st_mtime_ns for path in again.files()] == stamps
    tables = again.read()
    assert tables.name == "demo"
    assert {"feat", "caption", "duration_ms", "upload_date", "author_id"} <= set(tables.items.collect_schema())
    assert tables.interactions.collect()["timestamp_ms"].null_count() > 0


def test_settings_of_the_demo_that_do_not_exist_are_refused(tmp_path):
    for wrong, message in (
        ({"scale": "huge"}, "tiny, small, full"),
        ({"sacle": "tiny"}, "did you mean 'scale'"),
        ({"seed": -1}, "0 or more"),
    ):
        with pytest.raises(ValueError, match=message):
            Demo(demo=wrong, data_dir=str(tmp_path))
