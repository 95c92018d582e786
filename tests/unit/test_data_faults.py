"""What is wrong with a log is dropped and counted, taken as missing, or refused by name: every cell of the tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from data_faults import INTEGERS, TEXTS, Fault, all_faults, prepared, rows, trouble

from towerrec.data.id_files import read_table
from towerrec.data.ids import index_of, known_ids
from towerrec.report.lists import read_lists
from towerrec.retrieval.recommend import write_lists


def case(fault: Fault) -> Any:
    """Numbers take other ways as Float32 and in CSV, and come to the same."""
    again = fault.kind == "numbers" and (fault.format == "csv" or fault.name.endswith("float32"))
    return pytest.param(fault, id=fault.id, marks=[pytest.mark.slow] if again else [])


@pytest.mark.parametrize("fault", [case(fault) for fault in all_faults()])
def test_what_is_wrong_with_a_log_leads_to_what_was_said(tmp_path: Path, fault: Fault):
    assert trouble(fault, tmp_path) is None


IDS = {"numbers": sorted(INTEGERS), "text": sorted({*TEXTS, "007", "7"} - {" ", " a", "a\nb"}), "zeros": ["007", "7"]}


@pytest.mark.parametrize("ending", ["parquet", "csv", "jsonl"])
@pytest.mark.parametrize("kind", IDS)
def test_ids_of_lists_come_back_as_they_were_of_every_format(tmp_path: Path, kind: str, ending: str):
    ids = pl.Series("user_id", IDS[kind])
    count = len(ids)
    table = pl.DataFrame(
        {
            "user_id": ids,
            "item_id": ids.rename("item_id").reverse(),
            "rank": pl.Series([1] * count, dtype=pl.Int32),
            "score": pl.Series([0.5] * count, dtype=pl.Float32),
        }
    )
    path = tmp_path / f"lists.{ending}"
    write_lists([table], path, format=ending, schema=table.schema)
    found = read_lists(path, torch.arange(count), user_ids=ids, item_ids=ids.rename("item_id"), n=1)
    assert found.lists.items[:, 0].tolist() == list(reversed(range(count)))
    again = read_table(path, column="user_id", like=ids)
    assert again["user_id"].to_list() == ids.to_list() and again.schema["user_id"] == ids.dtype


@pytest.mark.parametrize("ending", ["parquet", "csv", "tsv", "jsonl", "txt"])
@pytest.mark.parametrize("kind", IDS)
def test_ids_that_a_person_hands_over_are_those_of_the_log(tmp_path: Path, kind: str, ending: str):
    ids = pl.Series("item_id", IDS[kind])
    path = tmp_path / f"items.{ending}"
    match ending:
        case "parquet":
            ids.to_frame().write_parquet(path)
        case "jsonl":
            ids.to_frame().write_ndjson(path)
        case "txt":
            path.write_text("\n".join(str(value) for value in ids), encoding="utf-8")
        case _:
            ids.to_frame().write_csv(path, separator="\t" if ending == "tsv" else ",")
    assert read_table(path, column="item_id", like=ids)["item_id"].to_list() == ids.to_list()


def test_bare_ids_without_a_header_keep_their_zeros(tmp_path: Path):
    path = tmp_path / "users.csv"
    path.write_text("007\n7\n08\n")
    like = pl.Series("user_id", ["007", "7", "08"])
    assert read_table(path, column="user_id", like=like)["user_id"].to_list() == ["007", "7", "08"]


@pytest.mark.parametrize("ending", ["csv", "txt"])
@pytest.mark.parametrize(("written", "ids"), [(["u7", "x"], ["u7", "x"]), (["7.0", "12.0"], [7, 12]), (["-7"], [-7])])
def test_bare_ids_without_a_header_are_known_by_the_ids_of_the_log(tmp_path: Path, ending: str, written, ids):
    path = tmp_path / f"users.{ending}"
    path.write_text("\n".join(written))
    assert read_table(path, column="user_id", like=pl.Series(ids))["user_id"].to_list() == ids


def test_every_id_has_its_place_also_at_the_ends_of_64_bits():
    ids = known_ids("user_id", pl.Series("user_id", INTEGERS), None)
    assert ids.to_list() == sorted(INTEGERS)
    assert index_of(ids, pl.Series([*sorted(INTEGERS), 1, 2**53 - 1])).tolist() == [*range(len(INTEGERS)), -1, -1]


def test_a_user_and_an_item_of_one_id_are_two(tmp_path: Path):
    log = rows().with_columns(item_id=pl.col("user_id"))
    made = prepared(Fault("same", "ids", log), tmp_path)
    assert made.user_ids.to_list() == made.item_ids.to_list() == list(range(12))


@pytest.mark.parametrize("ids", [[1.5, 2.0], [float("nan"), 2.0], [2.0**53 + 2, 1.0]])
def test_floats_that_are_no_ids_are_refused_in_lists_and_files(tmp_path: Path, ids: list[float]):
    table = pl.DataFrame({"user_id": ids, "item_id": [1, 1], "rank": [1, 1]})
    table.write_parquet(tmp_path / "lists.parquet")
    known = pl.Series("user_id", [1, 2, 2**53 + 2])
    with pytest.raises(ValueError, match="that are no whole numbers up to"):
        read_lists(tmp_path / "lists.parquet", torch.arange(3), user_ids=known, item_ids=known.rename("item_id"), n=1)
    with pytest.raises(ValueError, match=r"decimal numbers|rows have no user_id|different ids may already have become"):
        read_table(tmp_path / "lists.parquet", column="user_id", like=known)
