import numpy as np
import pytest
import torch

from towerrec.data.row_order import sort_order
from towerrec.data.store import InteractionStore
from towerrec.schema import NO_TIMESTAMP


@pytest.fixture
def store(tmp_path):
    #                      user item label time  split
    rows = np.array(
        [
            (1, 2, 1.0, 50, 1),
            (0, 1, 0.0, 40, 1),
            (1, 0, 3.0, 40, 1),
            (1, 1, 0.0, 40, 1),
            (0, 2, 2.0, 60, 3),
            (1, 2, 4.0, 60, 1),
            (0, 0, 1.0, 45, 2),
            (1, 1, 0.0, NO_TIMESTAMP, 1),
        ],
        dtype=[("user", "i4"), ("item", "i4"), ("label", "f4"), ("time", "i8"), ("split", "u1")],
    )
    return InteractionStore.write(
        tmp_path / "store",
        split=rows["split"],
        columns={
            "user_idx": rows["user"],
            "item_idx": rows["item"],
            "label": rows["label"],
            "timestamp_ms": rows["time"],
        },
        context={"hour": ("user", np.arange(8, dtype=np.uint8)), "age": ("item", np.arange(8, dtype=np.float32))},
        num_users=3,
        num_items=4,
    )


def test_rows_are_sorted_by_split_user_time_and_file_order(store):
    train = store.rows("train")
    assert train.user_idx.tolist() == [0, 1, 1, 1, 1, 1]
    assert train.item_idx.tolist() == [1, 1, 0, 1, 2, 2]
    assert train.user_context["hour"].tolist() == [1, 7, 2, 3, 0, 5]
    assert train.item_context["age"].tolist() == [1, 7, 2, 3, 0, 5]
    assert [store.num_rows(s) for s in ("train", "val", "test")] == [6, 1, 1]


def test_positives_seen_and_counts_follow_the_rule_and_the_split(store):
    positives = store.positives("train", "> 0")
    assert positives.counts.tolist() == [0, 2, 0]
    assert positives.items.tolist() == [0, 2]
    assert positives.values.tolist() == [3.0, 4.0]
    assert store.positives("train", ">= 4").items.tolist() == [2]
    assert store.seen("train", "val").counts.tolist() == [2, 3, 0]
    assert store.item_counts("train").tolist() == [1, 3, 2, 0]
    assert store.item_counts("train", rule="> 0").tolist() == [1, 0, 2, 0]
    assert store.in_log("item").tolist() == [True, True, True, False]
    assert store.in_log("user", "test").tolist() == [True, False, False]


def test_joined_validation_rows_are_training_rows_in_their_places(store):
    joined = store.joined()
    train = joined.rows("train")
    assert train.user_idx.tolist() == [0, 0, 1, 1, 1, 1, 1]
    assert train.timestamp_ms.tolist()[:2] == [40, 45]  # the second was for validation
    assert train.item_idx.tolist() == [1, 0, 1, 0, 1, 2, 2]
    assert train.user_context["hour"].tolist() == [1, 6, 7, 2, 3, 0, 5]
    assert [joined.num_rows(s) for s in ("train", "val", "test")] == [7, 0, 1]
    assert joined.rows("test").item_idx.tolist() == store.rows("test").item_idx.tolist()
    assert joined.seen("train", "val").items.tolist() == store.seen("train", "val").items.tolist()
    assert joined.item_counts("train").tolist() == [2, 3, 2, 0]
    assert joined.profiles("train", "> 0", positives_only=True).counts.tolist() == [1, 2, 0]
    assert [store.num_rows(s) for s in ("train", "val", "test")] == [6, 1, 1]


def test_what_a_reader_writes_into_the_tensors_never_reaches_the_file(store):
    store.rows("train").label.zero_()
    assert store.rows("train").label.sum() == 8


def test_an_unknown_split_is_named(store):
    with pytest.raises(ValueError, match="'tset' is not known"):
        store.rows("tset")


def test_both_ways_of_sorting_agree():
    rng = np.random.default_rng(1)
    split = rng.integers(1, 4, 500).astype(np.uint8)
    user = rng.integers(0, 20, 500).astype(np.int32)
    time = np.where(rng.random(500) < 0.1, NO_TIMESTAMP, rng.integers(-50, 50, 500))
    expected = sorted(range(500), key=lambda i: (split[i], user[i], time[i], i))
    assert sort_order(split, user, time).tolist() == expected
    far = time.copy()
    far[0] = 2**62  # too wide for one key
    expected = sorted(range(500), key=lambda i: (split[i], user[i], far[i], i))
    assert sort_order(split, user, far).tolist() == expected


def test_rows_move_together(store):
    moved = store.rows("train").to(torch.device("cpu"))
    assert moved.num_bytes == 6 * (4 + 4 + 4 + 8 + 1 + 4)
