import numpy as np
import pytest
import torch

from towerrec.data.history import UserHistory
from towerrec.data.loader import BatchLoader, UserLoader
from towerrec.data.rows import Rows
from towerrec.schema import NO_TIMESTAMP


def rows_of(num_rows, *, num_users=7, weight=False):
    return Rows(
        user_idx=torch.arange(num_rows, dtype=torch.int32) % num_users,
        item_idx=torch.arange(num_rows, dtype=torch.int32),
        label=(torch.arange(num_rows) % 3).float(),
        timestamp_ms=torch.arange(num_rows),
        weight=torch.arange(num_rows).float() if weight else None,
        user_context={"hour": torch.full((num_rows,), 5, dtype=torch.uint8)},
        item_context={"age": torch.arange(num_rows).float()},
    )


def items_of(loader):
    return [batch.item_idx for batch in loader]


def test_an_epoch_holds_every_row_once_with_its_own_label_and_context():
    loader = BatchLoader(rows_of(103, weight=True), batch_size=10, shuffle=True, seed=1)
    batches = list(loader)
    items = torch.cat([b.item_idx for b in batches])
    assert len(batches) == len(loader) == 11
    assert items.sort().values.tolist() == list(range(103))
    assert items.tolist() != list(range(103))
    for batch in batches:
        assert batch.user_idx.tolist() == (batch.item_idx % 7).tolist()
        assert batch.label.tolist() == (batch.item_idx % 3).tolist()
        assert batch.weight.tolist() == batch.item_idx.tolist()
        assert batch.item_context["age"].tolist() == batch.item_idx.tolist()
        assert batch.user_context["hour"].dtype == torch.int64
        assert len(batch) <= 10


def test_equal_seed_and_epoch_give_equal_order_and_others_do_not():
    first, second = (BatchLoader(rows_of(50), batch_size=50, shuffle=True, seed=3) for _ in range(2))
    assert torch.equal(items_of(first)[0], items_of(second)[0])
    second.set_epoch(1)
    assert not torch.equal(items_of(first)[0], items_of(second)[0])
    other = BatchLoader(rows_of(50), batch_size=50, shuffle=True, seed=4)
    assert not torch.equal(items_of(first)[0], items_of(other)[0])


def test_rows_that_are_fewer_than_processes_are_not_lost():
    loaders = [BatchLoader(rows_of(2), batch_size=4, rank=rank, world_size=3) for rank in range(3)]
    assert [[item.tolist() for item in items_of(loader)] for loader in loaders] == [[[0]], [[1]], [[]]]


def test_the_processes_of_a_step_hold_the_batch_that_one_process_would():
    one = items_of(BatchLoader(rows_of(103), batch_size=20, shuffle=True, seed=1))
    two = [
        items_of(BatchLoader(rows_of(103), batch_size=10, shuffle=True, seed=1, rank=r, world_size=2)) for r in (0, 1)
    ]
    for whole, first, second in zip(one, *two, strict=True):
        assert sorted(whole.tolist()) == sorted([*first.tolist(), *second.tolist()])


@pytest.mark.parametrize("num_rows", [0, 6, 7, 12, 13, 14, 24, 25, 26, 27, 100])
@pytest.mark.parametrize("world_size", [2, 3])
def test_processes_share_the_rows_without_overlap_or_loss_and_take_equally_many_steps(num_rows, world_size):
    rows = rows_of(num_rows)
    loaders = [
        BatchLoader(rows, batch_size=4, shuffle=True, rank=rank, world_size=world_size) for rank in range(world_size)
    ]
    parts = [items_of(loader) for loader in loaders]
    assert len({len(part) for part in parts}) == 1
    assert all(len(batch) > 0 for part in parts for batch in part)
    got = sorted(i for part in parts for batch in part for i in batch.tolist())
    assert got == list(range(num_rows))


def test_positives_only_and_drop_last():
    loader = BatchLoader(rows_of(31), batch_size=4, kind="positives", positive=">= 2", drop_last=True)
    items = torch.cat(items_of(loader))
    assert loader.num_rows == 10
    assert items.tolist() == [2, 5, 8, 11, 14, 17, 20, 23]


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"batch_size": 4, "kind": "positive"}, "'all' or 'positives'"),
        ({"batch_size": 4, "kind": "positives"}, "needs the rule"),
        ({"batch_size": 4, "rank": 2, "world_size": 2}, "rank must lie"),
        ({"batch_size": 4, "history_length": 3}, "needs the users' history"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(keywords, message):
    with pytest.raises(ValueError, match=message):
        BatchLoader(rows_of(5), **keywords)


def test_users_come_in_chunks_and_are_shared_between_processes():
    users = torch.tensor([9, 4, 7, 1, 3])
    assert [chunk.tolist() for chunk in UserLoader(users, batch_size=2)] == [[9, 4], [7, 1], [3]]
    parts = [list(UserLoader(users, batch_size=2, rank=rank, world_size=2)) for rank in range(2)]
    assert [len(part) for part in parts] == [2, 2]
    assert sorted(u for part in parts for chunk in part for u in chunk.tolist()) == [1, 3, 4, 7, 9]


def slow_history(positives, user, time, target, length):
    """Written from the definition: latest first, strictly before, timed rows see timed positives only."""
    own = [(t, i) for u, i, t in positives if u == user]
    seen = own if time == NO_TIMESTAMP else [(t, i) for t, i in own if t != NO_TIMESTAMP and t < time]
    latest = [item for _, item in seen[::-1]][:length]
    latest = [-1 if item == target else item for item in latest]
    return latest + [-1] * (length - len(latest))


def test_history_equals_the_definition_and_never_shows_the_target_or_the_future():
    rng = np.random.default_rng(0)
    times = np.where(rng.random(80) < 0.2, NO_TIMESTAMP, rng.integers(1_596_000_000_000, 1_596_000_000_012, 80))
    triples = sorted(
        zip(rng.integers(0, 5, 80).tolist(), rng.integers(0, 9, 80).tolist(), times.tolist(), strict=True),
        key=lambda triple: (triple[0], triple[2]),
    )
    user, item, time = (torch.tensor(column) for column in zip(*triples, strict=True))
    history = UserHistory.build(user, item, time, num_users=6)
    queries = [
        (u, t, i)
        for u in range(6)
        for i in (0, 3)
        for t in [NO_TIMESTAMP, *range(1_595_999_999_999, 1_596_000_000_014)]
    ]
    user_B, time_B, target_B = (torch.tensor(column) for column in zip(*queries, strict=True))
    got = history.before(user_B, time_B, target_B, length=4)
    assert got.tolist() == [slow_history(triples, u, t, i, 4) for u, t, i in queries]
    assert (got != target_B[:, None]).all()
    latest = history.latest(torch.arange(6), length=3)
    assert latest.tolist() == [slow_history(triples, u, NO_TIMESTAMP, -2, 3) for u in range(6)]


def test_batches_carry_the_history_of_their_rows():
    user = torch.tensor([0, 0, 0, 1], dtype=torch.int32)
    item = torch.tensor([5, 6, 7, 8], dtype=torch.int32)
    time = torch.tensor([10, 20, 30, 10])
    rows = Rows(user_idx=user, item_idx=item, label=torch.ones(4), timestamp_ms=time)
    history = UserHistory.build(user, item, time, num_users=2)
    batch = next(iter(BatchLoader(rows, batch_size=4, history=history, history_length=2)))
    assert batch.history.tolist() == [[-1, -1], [5, -1], [6, 5], [-1, -1]]
