"""The item index and the tables of lists."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from towerrec.ragged import TopN, UserItems
from towerrec.retrieval import index as index_module
from towerrec.retrieval.index import ItemIndex
from towerrec.retrieval.recommend import as_table, lists_schema, recommend, write_lists
from towerrec.retrieval.search import top_n, top_n_among
from towerrec.schema import FeatureSchema, FeatureSpec

USER_IDS = pl.Series("user_id", ["zoe", "adam", "mia", "bob"])
ITEM_IDS = pl.Series("item_id", [100, 7, 300, 20, 5])


def vectors(rows: int, seed: int) -> torch.Tensor:
    return torch.randint(-3, 4, (rows, 4), generator=torch.Generator().manual_seed(seed)).float()


def test_an_index_of_some_items_finds_what_search_finds_among_them():
    user_BD, item_ID = vectors(6, 0), vectors(20, 1)
    candidates = torch.arange(20) % 2 == 1
    exclude = UserItems.from_pairs(torch.arange(6), torch.arange(6), num_users=6, num_items=20)
    index = ItemIndex.of(item_ID, candidates)
    got = index.search(user_BD, n=12, exclude=exclude)
    expected = top_n(user_BD, item_ID, n=12, exclude=exclude, allowed=candidates)
    assert torch.equal(got.items, expected.items) and torch.equal(got.scores, expected.scores)


def test_a_saved_index_loads_as_it_was_and_replaces_an_older_one(tmp_path: Path):
    for seed in (0, 1):
        index = ItemIndex.of(vectors(20, seed), torch.arange(20) < 15)
        index.save(tmp_path / "index", facts={"fingerprint": "abc"})
        loaded = ItemIndex.load(tmp_path / "index")
        assert torch.equal(loaded.vectors_CD, index.vectors_CD)
        assert torch.equal(loaded.item_idx_C, index.item_idx_C)
        assert loaded.num_items == 20
    assert [p.name for p in tmp_path.iterdir()] == ["index"]


def test_a_missing_or_damaged_index_is_refused(tmp_path: Path):
    with pytest.raises(ValueError, match=r"index\.json is missing"):
        ItemIndex.load(tmp_path / "index")
    ItemIndex.of(vectors(20, 0)).save(tmp_path / "index")
    whole = (tmp_path / "index" / "vectors.npy").read_bytes()
    (tmp_path / "index" / "vectors.npy").write_bytes(whole[:-50])
    with pytest.raises(ValueError, match=r"vectors\.npy is damaged: it has"):
        ItemIndex.load(tmp_path / "index")
    (tmp_path / "index" / "vectors.npy").write_bytes(whole[:-1] + b"x")
    with pytest.raises(ValueError, match=r"vectors\.npy is damaged or of another artefact"):
        ItemIndex.load(tmp_path / "index")
    about = json.loads((tmp_path / "index" / "index.json").read_text())
    (tmp_path / "index" / "vectors.npy").write_bytes(whole)
    (tmp_path / "index" / "index.json").write_text(json.dumps(about | {"width": 3}))
    with pytest.raises(ValueError, match="disagree"):
        ItemIndex.load(tmp_path / "index")
    (tmp_path / "index" / "index.json").write_text(json.dumps(about | {"format": 1}))
    with pytest.raises(ValueError, match="format 1 is not known, this version reads 2"):
        ItemIndex.load(tmp_path / "index")


def test_an_index_says_which_ids_and_features_it_is_of_and_is_refused_by_other_towers(tmp_path: Path):
    features = (FeatureSpec("item_id", "item", "categorical", cardinality=22), FeatureSpec("age", "item", "numeric"))
    schema = FeatureSchema(features, num_users=3, num_items=20)
    ids = [2**63 - 1, -7, *range(18)]
    ItemIndex.of(vectors(20, 0)).save(tmp_path / "index", ids=ids, schema=schema, versions={"torch": "2"})
    about = json.loads((tmp_path / "index" / "index.json").read_text())
    assert json.loads((tmp_path / "index" / "ids.json").read_text()) == ids
    assert (about["metric"], about["schema_fingerprint"]) == ("inner_product", schema.fingerprint)
    assert ItemIndex.load(tmp_path / "index", expect=schema).num_items == 20
    other = FeatureSchema(features[:1], num_users=3, num_items=20)
    with pytest.raises(ValueError, match=r"index\.json and the towers were made with different .*'age' is only in"):
        ItemIndex.load(tmp_path / "index", expect=other)
    ItemIndex.of(vectors(20, 0)).save(tmp_path / "index")
    with pytest.raises(ValueError, match="does not say which features"):
        ItemIndex.load(tmp_path / "index", expect=schema)


@pytest.mark.parametrize("items", [[0, 0], [1, 0], [0, 9]])
def test_an_index_refuses_items_out_of_order_or_out_of_range(items: list[int]):
    with pytest.raises(ValueError, match="the items of an index must"):
        ItemIndex(torch.ones(2, 3), torch.tensor(items), num_items=5)


def test_lists_become_rows_with_ids_and_ranks_from_one():
    lists = TopN(torch.tensor([[2, 0], [1, -1]]), torch.tensor([[3.0, 1.5], [2.0, -torch.inf]]))
    table = as_table(lists, user_ids=pl.Series(["mia", "bob"]), item_ids=ITEM_IDS)
    assert table.rows() == [("mia", 300, 1, 3.0), ("mia", 100, 2, 1.5), ("bob", 7, 1, 2.0)]
    assert table.schema == {"user_id": pl.String, "item_id": pl.Int64, "rank": pl.Int32, "score": pl.Float32}


def tables(n: int, *, batch_users: int, exclude: UserItems | None = None, **how: Any) -> Iterator[pl.DataFrame]:
    user_UD = vectors(4, 0)
    return recommend(
        lambda u: user_UD[u],
        ItemIndex.of(vectors(5, 1)),
        torch.tensor([0, 3, 1]),
        user_ids=USER_IDS,
        item_ids=ITEM_IDS,
        n=n,
        exclude=exclude,
        batch_users=batch_users,
        **how,
    )


def test_memory_and_precision_reach_the_search_and_leave_the_lists_alone(monkeypatch: pytest.MonkeyPatch):
    asked: list[dict[str, Any]] = []

    def search(*vectors: torch.Tensor, **how: Any) -> TopN:
        asked.append(how)
        return top_n_among(*vectors, **how)

    expected = pl.concat(tables(4, batch_users=100))
    monkeypatch.setattr(index_module, "top_n_among", search)
    got = pl.concat(tables(4, batch_users=100, memory_mb=0.5, precision="bfloat16"))
    assert [(how["memory_mb"], how["precision"]) for how in asked] == [(0.5, "bfloat16")]
    assert got.drop("score").equals(expected.drop("score"))
    np.testing.assert_allclose(got["score"], expected["score"], rtol=1e-6)


@pytest.mark.parametrize("batch_users", [1, 2, 100])
def test_lists_come_by_user_id_and_rank_whatever_the_chunk(batch_users: int):
    seen = UserItems.from_pairs(torch.tensor([3, 3]), torch.tensor([0, 4]), num_users=4, num_items=5)
    table = pl.concat(tables(4, batch_users=batch_users, exclude=seen))
    assert table["user_id"].unique(maintain_order=True).to_list() == ["adam", "bob", "zoe"]
    assert table["rank"].to_list() == [1, 2, 3, 4, 1, 2, 3, 1, 2, 3, 4]
    assert not set(table.filter(user_id="bob")["item_id"]) & {100, 5}
    scores = vectors(4, 0)[3] @ vectors(5, 1).T
    bob = table.filter(user_id="bob")
    assert bob["score"].to_list() == [scores[ITEM_IDS.to_list().index(i)].item() for i in bob["item_id"]]
    assert table.equals(pl.concat(tables(4, batch_users=100, exclude=seen)))


@pytest.mark.parametrize(
    ("format", "read"), [("parquet", pl.read_parquet), ("csv", pl.read_csv), ("jsonl", pl.read_ndjson)]
)
def test_a_written_file_reads_back_row_by_row(format: str, read, tmp_path: Path):
    path = tmp_path / "deep" / f"lists.{format}"
    num_rows = write_lists(tables(3, batch_users=1), path, format=format, schema=lists_schema(pl.String(), pl.Int64()))
    expected = pl.concat(tables(3, batch_users=1))
    assert num_rows == expected.height == 9
    assert read(path).cast(expected.schema).equals(expected)
    assert [p.name for p in path.parent.iterdir()] == [path.name]


def test_a_file_of_no_lists_still_has_its_columns(tmp_path: Path):
    path = tmp_path / "lists.parquet"
    assert write_lists([], path, format="parquet", schema=lists_schema(pl.Int64(), pl.String())) == 0
    assert pl.read_parquet_schema(path) == {
        "user_id": pl.Int64,
        "item_id": pl.String,
        "rank": pl.Int32,
        "score": pl.Float32,
    }


def test_a_list_file_that_fails_half_way_leaves_the_old_one(tmp_path: Path):
    path = tmp_path / "lists.parquet"
    path.write_text("old")

    def breaks() -> Iterator[pl.DataFrame]:
        yield next(tables(3, batch_users=1))
        raise ValueError("the model has diverged")

    with pytest.raises(ValueError, match="diverged"):
        write_lists(breaks(), path, format="parquet", schema=lists_schema(pl.String(), pl.Int64()))
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["lists.parquet"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match=r"could not write .*lists\.csv"):
        write_lists([], tmp_path / "file" / "lists.csv", format="csv", schema=lists_schema(pl.Int64(), pl.Int64()))


def test_lists_of_no_length_and_unknown_formats_are_refused(tmp_path: Path):
    with pytest.raises(ValueError, match="at least 1, got 0"):
        next(tables(0, batch_users=1))
    with pytest.raises(ValueError, match="format=xml is not known"):
        write_lists([], tmp_path / "x", format="xml", schema=lists_schema(pl.Int64(), pl.Int64()))


def test_an_index_of_all_items_shares_the_vectors_and_one_of_some_has_its_own():
    vectors = torch.randn(5, 3)
    for candidates in (None, torch.ones(5, dtype=torch.bool)):
        assert ItemIndex.of(vectors, candidates).vectors_CD.data_ptr() == vectors.data_ptr()
    some = ItemIndex.of(vectors, torch.tensor([True, False, True, True, False]))
    assert some.item_idx_C.tolist() == [0, 2, 3] and torch.equal(some.vectors_CD, vectors[[0, 2, 3]])
