from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from memory_source import FEATURES, Memory, log

from towerrec.data import datamodule
from towerrec.data.block_loader import BlockLoader
from towerrec.data.datamodule import RetrievalDataModule
from towerrec.data.labels import Liked
from towerrec.data.loader import BatchLoader
from towerrec.data.splits import Given
from towerrec.data.store import InteractionStore
from towerrec.schema import NO_TIMESTAMP

NUM_ROWS = 1000


def made_store(folder, *, num_rows: int = NUM_ROWS, seed: int = 0, num_users: int = 40) -> InteractionStore:
    """Every row has a label of its own, so a batch says which rows it holds; some rows belong to the test."""
    rng = np.random.default_rng(seed)
    order = np.arange(num_rows)
    return InteractionStore.write(
        folder / "store",
        split=np.where(rng.random(num_rows) < 0.8, 1, 3).astype(np.uint8),
        columns={
            "user_idx": rng.integers(0, num_users, num_rows).astype(np.int32),
            "item_idx": rng.integers(0, 30, num_rows).astype(np.int32),
            "label": (order - num_rows // 2).astype(np.float32),
            "timestamp_ms": np.where(rng.random(num_rows) < 0.1, NO_TIMESTAMP, rng.integers(0, 500, num_rows)),
        },
        context={"hour": ("user", (order % 24).astype(np.uint8)), "age": ("item", (order % 7).astype(np.uint8))},
        num_users=num_users,
        num_items=30,
    )


@pytest.fixture
def store(tmp_path):
    return made_store(tmp_path)


def loader(store, **more) -> BlockLoader:
    return BlockLoader(store, **{"batch_size": 32, "buffer_rows": 200, "run_rows": 8, **more})


def labels(batches) -> list[list[float]]:
    return [batch.label.tolist() for batch in batches]


def flat(batches) -> list[float]:
    return [label for batch in labels(batches) for label in batch]


def test_an_epoch_holds_every_row_once_with_all_its_columns(store):
    made = loader(store)
    batches = list(made)
    rows = store.rows("train")
    assert len(batches) == len(made) and sorted(flat(batches)) == sorted(rows.label.tolist())
    place = {label: i for i, label in enumerate(rows.label.tolist())}
    at = torch.tensor([place[label] for label in flat(batches)])
    assert torch.equal(torch.cat([b.user_idx for b in batches]), rows.user_idx[at].long())
    assert torch.equal(torch.cat([b.item_idx for b in batches]), rows.item_idx[at].long())
    assert torch.equal(torch.cat([b.user_context["hour"] for b in batches]), rows.user_context["hour"][at].long())
    assert torch.equal(torch.cat([b.item_context["age"] for b in batches]), rows.item_context["age"][at].long())
    assert all(len(b) == 32 for b in batches[:-1])


def test_the_order_is_that_of_seed_and_epoch(store):
    first = loader(store, seed=1)
    again, other = loader(store, seed=1), loader(store, seed=2)
    assert labels(first) == labels(first) == labels(again) != labels(other)
    again.set_epoch(1)
    assert labels(first) != labels(again)
    # Other runs come together in another epoch, not the same pools in another order.
    assert set(flat(first)[:192]) != set(flat(again)[:192])


def test_users_that_lie_together_in_the_store_come_apart(store):
    users = torch.cat([batch.user_idx for batch in loader(store)])
    neighbours = (users[1:] == users[:-1]).double().mean()
    assert neighbours < 0.15  # a fortieth under a perfect shuffle, nearly all as they lie in the store


@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_batches_of_one(store, world_size):
    alone = labels(loader(store, batch_size=30))
    shares = [
        labels(loader(store, batch_size=30 // world_size, world_size=world_size, rank=rank))
        for rank in range(world_size)
    ]
    assert {len(share) for share in shares} == {len(alone)}
    for step, whole in enumerate(alone):
        dealt = [shares[rank][step] for rank in range(world_size)]
        assert [whole[rank::world_size] for rank in range(world_size)] == dealt


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num_rows=st.integers(10, 300),
    batch_size=st.integers(1, 50),
    pools=st.integers(1, 5),
    run_rows=st.integers(1, 60),
    world_size=st.integers(1, 3),
    kind=st.sampled_from(["all", "positives"]),
)
def test_no_row_is_lost_or_comes_twice_whatever_the_sizes(
    tmp_path_factory, num_rows, batch_size, pools, run_rows, world_size, kind
):
    store = made_store(tmp_path_factory.mktemp("blocks"), num_rows=num_rows, seed=num_rows)
    label = store.rows("train").label
    expected = sorted((label if kind == "all" else label[label > 0]).tolist())
    common = {"batch_size": batch_size, "world_size": world_size, "kind": kind, "positive": "> 0"}
    ranks = [
        loader(store, buffer_rows=batch_size * world_size * pools, run_rows=run_rows, rank=rank, **common)
        for rank in range(world_size)
    ]
    shares = [list(made) for made in ranks]
    assert sorted(label for share in shares for label in flat(share)) == expected
    whole = [BatchLoader(store.rows("train"), rank=rank, **common) for rank in range(world_size)]
    assert [[len(b) for b in share] for share in shares] == [[len(b) for b in w] for w in whole]


def test_histories_are_those_of_each_row(store):
    history = store.history("> 0")
    batches = list(loader(store, history=history, history_length=5))
    rows = store.rows("train")
    place = {label: i for i, label in enumerate(rows.label.tolist())}
    for batch in batches:
        at = torch.tensor([place[label] for label in batch.label.tolist()])
        before = history.before(batch.user_idx, rows.timestamp_ms[at], batch.item_idx, length=5)
        assert torch.equal(batch.history, before)


def test_a_training_that_stops_early_leaves_no_thread_and_the_next_epoch_is_whole(store):
    made = loader(store)
    next(iter(made))
    assert sorted(flat(made)) == sorted(store.rows("train").label.tolist())


def test_a_pool_below_a_batch_is_refused(store):
    with pytest.raises(ValueError, match=r"loader.buffer_rows=200 holds less than one batch of all processes \(256"):
        loader(store, batch_size=128, world_size=2)


# -- lists on disk ----------------------------------------------------------------------------------------------------


def assert_equal_lists(on_disk, in_memory):
    assert torch.equal(on_disk.offsets, in_memory.offsets)
    assert torch.equal(on_disk.items.long(), in_memory.items)
    assert (on_disk.values is None) == (in_memory.values is None)
    if in_memory.values is not None:
        assert torch.equal(on_disk.values, in_memory.values)


@pytest.mark.parametrize("block_rows", [1, 7, 90, 5000])
def test_lists_on_disk_are_those_in_memory(store, block_rows):
    large = replace(store, on_disk=True, block_rows=block_rows)
    for rule in ("> 0", ">= 400", "> 9999"):
        assert_equal_lists(large.positives("train", rule), store.positives("train", rule))
        for only in (True, False):
            lists = [s.profiles("train", rule, positives_only=only) for s in (large, store)]
            assert_equal_lists(*lists)
    assert_equal_lists(large.seen("train", "test"), store.seen("train", "test"))
    assert_equal_lists(large.seen("val"), store.seen("val"))
    assert large.seen("test") is large.seen("test")  # made once
    assert not list(store.directory.parent.glob("tmp*"))  # without a name


@pytest.mark.parametrize("block_rows", [1, 13, 5000])
def test_histories_on_disk_are_those_in_memory(store, block_rows):
    large = replace(store, on_disk=True, block_rows=block_rows).history("> 0")
    small = store.history("> 0")
    for name in ("key", "first", "first_timed", "moments"):
        assert torch.equal(getattr(large, name), getattr(small, name)), name
    assert torch.equal(large.items.long(), small.items)
    user = torch.arange(40)
    assert torch.equal(large.latest(user, length=4), small.latest(user, length=4))
    assert large.latest(user, length=4).dtype == torch.int64


def test_facts_of_the_labels_are_those_of_the_rows(store):
    small_blocks = replace(store, block_rows=17)
    label = store.rows("train").label
    kept = label[label > 0]
    assert small_blocks.count("train", rule="> 0") == len(kept) and small_blocks.count("train") == len(label)
    assert list(small_blocks.label_facts("train", rule="> 0")) == pytest.approx(
        [float(f) for f in (kept.mean(), kept.min(), kept.max())]
    )
    mean, median = small_blocks.mean_and_median("train")
    assert (mean, median) == pytest.approx((float(label.double().mean()), float(label.median())))


def test_a_refit_of_a_log_on_disk_is_refused_with_a_way_out(store):
    with pytest.raises(ValueError, match="set refit=false"):
        replace(store, on_disk=True).joined()


# -- the setting ------------------------------------------------------------------------------------------------------


def module_of(folder, **more) -> RetrievalDataModule:
    source = Memory(folder, log=log())
    settings = {"split": Given(), "label": Liked(min_watch_ratio=2.0), "features": FEATURES, "cache_dir": str(folder)}
    return RetrievalDataModule(source=source, batch_size=16, **settings, **more)


def test_buffer_rows_leaves_rows_and_lists_on_disk(tmp_path):
    pooled, whole = module_of(tmp_path, buffer_rows=64), module_of(tmp_path)
    assert isinstance(pooled.train_dataloader(), BlockLoader) and pooled.train_dataloader().buffer_rows == 64
    assert isinstance(whole.train_dataloader(), BatchLoader) and not whole.prepared.store.on_disk
    assert torch.equal(pooled.users_with_positives("val"), whole.users_with_positives("val"))
    assert pooled.prepared.store.positives("train", "> 0").items.dtype == torch.int32


def test_rows_stay_on_disk_where_memory_would_not_hold_them(tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    monkeypatch.setattr(datamodule, "memory_limit", lambda: 1000)
    assert isinstance(module_of(tmp_path).train_dataloader(), BlockLoader)
    assert "they stay on disk" in caplog.text
    assert isinstance(module_of(tmp_path, resident=True).train_dataloader(), BatchLoader)


def test_batches_of_users_are_refused_there_with_a_way_out(tmp_path):
    with pytest.raises(ValueError, match="choose a loss that reads rows"):
        module_of(tmp_path, buffer_rows=64, unit="users").train_dataloader()
