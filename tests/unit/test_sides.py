"""The user and item tables beside the store, as they were read."""

import memory_source
import polars as pl

from towerrec.data.sides import read_side, write_sides

USERS, ITEMS = pl.Series("user_id", [1, 2, 3]), pl.Series("item_id", ["a", "b"])


def test_a_side_table_has_a_row_per_id_in_the_order_of_the_ids_and_no_vectors(tmp_path):
    items = pl.DataFrame({"item_id": ["b", "c"], "tags": [["x"], ["y"]], "clip": [[0.1, 0.2], [0.3, 0.4]]})
    write_sides(tmp_path, users=None, items=items, user_ids=USERS, item_ids=ITEMS)
    assert read_side(tmp_path, "item").to_dicts() == [{"item_id": "a", "tags": None}, {"item_id": "b", "tags": ["x"]}]
    assert read_side(tmp_path, "user").to_dicts() == [{"user_id": 1}, {"user_id": 2}, {"user_id": 3}]


def test_a_prepared_log_has_its_side_tables_whatever_the_features_read(tmp_path):
    ids = {name: memory_source.FEATURES["declared"][name] for name in ("user_id", "item_id")}
    prepared = memory_source.run(tmp_path, features={"declared": ids})
    items = prepared.side("item")
    assert items["item_id"].equals(prepared.item_ids)
    assert {"tags", "caption", "length", "born"} <= set(items.columns)
    assert prepared.side("user")["user_id"].equals(prepared.user_ids)
