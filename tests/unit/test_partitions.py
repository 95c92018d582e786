import os

import polars as pl
import pytest

from towerrec.data.memory import available_memory, memory_limit
from towerrec.data.sources import interactions
from towerrec.data.sources.interactions import Interactions
from towerrec.data.sources.partitions import files_of, memory_needed


@pytest.fixture
def folder(tmp_path):
    """Three partitions in folders of their day, two rows each, and files that are no tables."""
    for day in (2, 1, 10):
        place = tmp_path / "log" / f"day={day:02}"
        place.mkdir(parents=True)
        pl.DataFrame({"user_id": [day, 0], "item_id": [1, 2]}).write_parquet(place / "part.parquet")
    (tmp_path / "log" / "_SUCCESS").write_text("")
    (tmp_path / "log" / "readme.txt").write_text("no table")
    return tmp_path / "log"


def users(given) -> list[int]:
    return Interactions(interactions=given).read().interactions.collect()["user_id"].to_list()


def test_a_folder_a_pattern_and_a_list_name_the_rows_of_all_their_files_in_order(folder):
    assert users(str(folder)) == [1, 0, 2, 0, 10, 0]
    assert users(f"{folder}/day=0*/*.parquet") == [1, 0, 2, 0]
    assert users([f"{folder}/day=10/part.parquet", f"{folder}/day=01"]) == [10, 0, 1, 0]
    assert len(Interactions(interactions=str(folder)).files()) == 3


def test_what_names_nothing_or_something_twice_is_refused(folder, tmp_path):
    for given, message in (
        (f"{folder}/*.csv", "no file fits this pattern"),
        ([], "names no file"),
        ([str(folder), f"{folder}/day=01"], "twice"),
        (str(tmp_path / "nowhere"), "there is no such file"),
    ):
        with pytest.raises(ValueError, match=message):
            files_of(given, "data.interactions")


def test_partitions_that_do_not_fit_together_are_one_readable_error(folder):
    pl.DataFrame({"user": [1], "item_id": [1]}).write_parquet(folder / "other.parquet")
    with pytest.raises(ValueError, match="do not fit together"):
        users(str(folder))


def test_a_log_that_free_memory_would_not_hold_is_prepared_in_chunks(folder, monkeypatch, caplog):
    caplog.set_level("INFO")
    source = Interactions(interactions=str(folder))
    needed = memory_needed(source.files())
    assert needed == 6 * 150
    assert not source.streams() and not caplog.text
    monkeypatch.setattr(interactions, "available_memory", lambda: needed - 1)
    assert source.streams() and "preparing it in chunks of 500,000 rows" in caplog.text
    assert not Interactions(interactions=str(folder), streaming=False).streams()


def test_reading_may_begin_anywhere_in_parquet_only(folder):
    assert Interactions(interactions=str(folder)).seekable()
    (folder / "more.csv").write_text("user_id,item_id\n5,6\n")
    assert not Interactions(interactions=str(folder)).seekable()


def test_the_memory_of_this_machine_is_known():
    assert 0 < available_memory() <= memory_limit() <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
