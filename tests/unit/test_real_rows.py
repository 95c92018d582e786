"""Real KuaiRec and KuaiRand rows that lie beside the checkout."""

from pathlib import Path

import pytest

from towerrec.data.cleaning import clean
from towerrec.data.labels import Column, Liked
from towerrec.data.sources.interactions import Interactions
from towerrec.data.sources.kuairec import users_table
from towerrec.data.sources.kuairec_items import items_table
from towerrec.data.splits import Given

SHARED = Path(__file__).parents[3] / "shared" / "data"
KUAIREC = SHARED / "kuairec-real"
SIGNED = SHARED / "kuairand-signed"
needs_rows = pytest.mark.skipif(not SHARED.is_dir(), reason=f"the real rows are not in {SHARED}")


@needs_rows
def test_the_genuine_side_tables_hold_what_the_release_says():
    items = items_table(KUAIREC).collect()
    assert items.height == 10_728
    assert items["feat"].list.len().value_counts(sort=True)["count"].to_list() == [8970, 1562, 185, 11]
    # Of four bare carriage returns one ends its field, where Polars takes it for white space; its row is whole.
    assert items["caption"].str.count_matches("\r").sum() == 3
    assert items.filter(item_id=5910)["second_level_category_id"].to_list() == [418]
    users = users_table(KUAIREC).collect()
    assert users.height == 7_176
    assert users["onehot_feat4"].null_count() == 201


@needs_rows
def test_the_same_tables_can_be_anyones_side_tables():
    source = Interactions(
        interactions=str(KUAIREC / "watch_ratio_sample.csv"),
        users=str(KUAIREC / "user_features.csv"),
        items=[str(KUAIREC / "item_categories.csv"), str(KUAIREC / "kuairec_caption_category.csv")],
        columns={"item": "video_id"},
        null_values=["UNKNOWN", "-124"],
    )
    tables = source.read()
    log, counts = clean(tables.interactions, columns=["watch_ratio"])
    assert counts == {"rows_read": 117_113, "rows_kept": 117_113}
    assert 0 < Liked().apply(log).mean() < 0.1
    items = tables.items.collect()
    assert items.height == 10_728
    assert items["caption"].str.count_matches("\r").sum() == 3


@needs_rows
def test_the_signed_rows_are_read_from_three_files_without_a_header():
    columns = {"user": "column_1", "item": "column_2", "label": "column_3"}
    files = {
        word: str(SIGNED / f"{name}.txt") for word, name in (("train", "train"), ("val", "valid"), ("test", "test"))
    }
    log = Interactions(**files, separator=" ", has_header=False, columns=columns).read().interactions.collect()
    assert (log.height, log["user_id"].n_unique(), log["item_id"].n_unique()) == (263_100, 16_974, 4_373)
    shares = Given().assign(log).value_counts(normalize=True).sort("split")["proportion"].to_list()
    assert shares == pytest.approx([0.7, 0.1, 0.2], abs=1e-4)
    assert set(Column().apply(log).unique().to_list()) == {0.0, 1.0}
