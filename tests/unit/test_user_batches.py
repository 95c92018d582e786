"""Batches of whole users: what is asked for, by whom, and when."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from towerrec.data.rows import Rows
from towerrec.data.user_batches import UserBatchLoader
from towerrec.schema import Batch

# Users 0, 2, 3, ... 40 with as many rows as their number says (user 1 has none); every row has an item of its own.
COUNTS = [3, 0, *range(2, 41)]


def rows_of(*, weight: bool = False) -> Rows:
    user = torch.repeat_interleave(torch.arange(len(COUNTS)), torch.tensor(COUNTS))
    item = torch.arange(len(user))
    return Rows(
        user_idx=user.int(),
        item_idx=item.int(),
        label=(item % 3).float(),
        timestamp_ms=item,
        weight=item.float() if weight else None,
        user_context={"hour": (item % 24).to(torch.uint8)},
        item_context={"age": item.float()},
    )


ROWS = rows_of()


def loader_of(**keywords: Any) -> UserBatchLoader:
    return UserBatchLoader(ROWS, **{"batch_size": 7, "target_share": 0.5, **keywords})


def items_of(batches: list[Batch]) -> list[int]:
    return torch.cat([batch.item_idx for batch in batches]).tolist()


def test_every_row_is_asked_for_at_most_once_an_epoch_with_its_own_columns():
    loader = UserBatchLoader(rows_of(weight=True), batch_size=7, target_share=0.5)
    batches = list(loader)
    assert len(batches) == len(loader) == 6  # 40 users with rows
    items = items_of(batches)
    assert len(items) == len(set(items)) < len(ROWS)
    for batch in batches:
        assert torch.equal(batch.user_idx, ROWS.user_idx[batch.item_idx].long())
        assert torch.equal(batch.label, ROWS.label[batch.item_idx])
        assert torch.equal(batch.weight, batch.item_idx.float())
        assert torch.equal(batch.item_context["age"], batch.item_idx.float())
        assert torch.equal(batch.user_context["hour"], batch.item_idx % 24)


def test_a_user_comes_in_one_batch_of_an_epoch_and_a_batch_holds_so_many_users():
    owners = [set(batch.user_idx.tolist()) for batch in loader_of(target_share=1.0)]
    assert [len(users) for users in owners] == [7] * 5 + [5]
    assert sum(map(len, owners)) == len(set().union(*owners)) == 40


@pytest.mark.parametrize("share", [0.2, 0.5, 0.9, 1.0])
def test_the_share_of_rows_asked_for_is_what_was_said(share: float):
    loader = loader_of(target_share=share)
    counts = torch.zeros(len(ROWS))
    for epoch in range(60):
        loader.set_epoch(epoch)
        counts[items_of(list(loader))] += 1
    # 60 coins a row: no row is always asked for or never, unless that is what was said.
    assert float(counts.mean()) / 60 == pytest.approx(share, abs=0.01)
    assert float((counts / 60 - share).abs().max()) < 0.3


def test_equal_seed_and_epoch_give_equal_batches_and_others_do_not():
    def drawn(epoch: int = 0, **keywords: Any) -> list[int]:
        loader = loader_of(**keywords)
        loader.set_epoch(epoch)
        return items_of(list(loader))

    assert drawn(3, seed=1) == drawn(3, seed=1)
    assert len({tuple(drawn(*args)) for args in [(0,), (1,), (2,)]}) == 3
    assert drawn(seed=1) != drawn(seed=2)
    again = loader_of()
    assert items_of(list(again)) == items_of(list(again))  # the epoch, not the pass, decides
    late = loader_of()
    late.set_epoch(5)  # resumed
    assert items_of(list(late)) == drawn(5)


@pytest.mark.parametrize("batch_size", [1, 4, 7, 19, 20, 39, 40, 100])
@pytest.mark.parametrize("world_size", [2, 3])
@pytest.mark.parametrize("share", [0.5, 1.0])
def test_processes_deal_out_the_users_without_overlap_or_loss_and_take_equal_steps(
    batch_size: int, world_size: int, share: float
):
    parts = [
        list(loader_of(batch_size=batch_size, target_share=share, rank=rank, world_size=world_size))
        for rank in range(world_size)
    ]
    assert len({len(part) for part in parts}) == 1 and parts[0]
    users = [{u for batch in part for u in batch.user_idx.tolist()} for part in parts]
    assert sum(map(len, users)) == len(set().union(*users))
    alone = items_of(list(loader_of(batch_size=batch_size, target_share=share)))
    assert sorted(item for part in parts for item in items_of(part)) == sorted(alone)
    if share == 1.0:
        assert sorted(alone) == list(range(len(ROWS)))


def test_only_the_positives_are_asked_for_where_that_is_said():
    loader = loader_of(kind="positives", positive=">= 2", target_share=1.0, batch_size=1000)
    batch = next(iter(loader))
    assert len(loader) == 1
    assert batch.item_idx.sort().values.tolist() == [i for i in range(len(ROWS)) if i % 3 == 2]
    assert loader.num_rows == len(batch)
    half = loader_of(kind="positives", positive=">= 2")
    assert all((batch.label >= 2).all() for batch in half)


def test_users_of_whom_nothing_is_asked_are_left_out_and_their_batch_may_be_empty():
    rows = Rows(torch.tensor([4, 9]).int(), torch.tensor([1, 2]).int(), torch.ones(2), torch.zeros(2).long())
    loader = UserBatchLoader(rows, batch_size=1, target_share=0.5)
    sizes = set()
    for epoch in range(20):
        loader.set_epoch(epoch)
        batches = list(loader)
        assert len(batches) == len(loader) == 2
        sizes |= {len(batch) for batch in batches}
        assert all(torch.equal(batch.user_idx, torch.where(batch.item_idx == 1, 4, 9)) for batch in batches)
    assert sizes == {0, 1}


@pytest.mark.parametrize(
    ("keywords", "message"),
    [
        ({"target_share": 0.0}, "loader.target_share must be above 0 and at most 1, got 0"),
        ({"target_share": 1.1}, "loader.target_share must be above 0 and at most 1, got 1.1"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"kind": "positive"}, "'all' or 'positives'"),
        ({"rank": 2, "world_size": 2}, "rank must lie"),
    ],
)
def test_a_wrong_setting_says_what_is_wrong(keywords: dict[str, Any], message: str):
    with pytest.raises(ValueError, match=message):
        loader_of(**keywords)
