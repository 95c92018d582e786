"""What reaches a model as history lies before its row and never holds the row's own video."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from towerrec.data.history import UserHistory
from towerrec.data.loader import BatchLoader
from towerrec.data.rows import Rows
from towerrec.schema import NO_TIMESTAMP

NUM_USERS, NUM_ITEMS, LENGTH = 9, 30, 6


def log_of(seed: int, *, untimed: float = 0.0) -> Rows:
    """Rows sorted by user and time, with many equal moments and videos seen again."""
    draw = torch.Generator().manual_seed(seed)
    user = torch.randint(NUM_USERS, (400,), generator=draw).sort().values
    time = torch.randint(1_000, 1_040, (400,), generator=draw)
    time[torch.rand(400, generator=draw) < untimed] = NO_TIMESTAMP
    order = torch.argsort(user * 10**6 + time.clamp(min=0), stable=True)
    item = torch.randint(NUM_ITEMS, (400,), generator=draw)
    label = (torch.rand(400, generator=draw) < 0.6).float()
    return Rows(user.int(), item.int(), label, time[order])


def history_of(rows: Rows) -> UserHistory:
    liked = rows.label > 0
    return UserHistory.build(rows.user_idx[liked], rows.item_idx[liked], rows.timestamp_ms[liked], num_users=NUM_USERS)


def histories(
    rows: Rows, history: UserHistory, *, shuffle: bool = False, kind: str = "all"
) -> list[tuple[Tensor, ...]]:
    """(user, item, history) of every row as the loader hands it over."""
    loader = BatchLoader(
        rows, batch_size=64, shuffle=shuffle, kind=kind, positive="> 0", history=history, history_length=LENGTH
    )
    return [
        (user, item, seen)
        for batch in loader
        for user, item, seen in zip(batch.user_idx, batch.item_idx, batch.history, strict=True)
    ]


@pytest.mark.parametrize("seed", range(3))
def test_every_row_of_the_loader_reads_what_its_user_liked_strictly_before_without_its_own_video(seed: int):
    rows = log_of(seed)
    got = histories(rows, history_of(rows))
    for row, (user, item, seen) in enumerate(got):
        before = [
            int(rows.item_idx[other])
            for other in range(len(rows))
            if rows.user_idx[other] == user
            and rows.label[other] > 0
            and rows.timestamp_ms[other] < rows.timestamp_ms[row]
        ][::-1][:LENGTH]
        want = [-1 if liked == int(item) else liked for liked in before]
        assert seen.tolist() == want + [-1] * (LENGTH - len(want))


def test_rows_at_or_after_a_moment_change_no_history_before_it():
    rows, cut = log_of(0), 1_020
    earlier = rows.timestamp_ms < cut
    later_changed = Rows(
        rows.user_idx,
        torch.where(earlier, rows.item_idx, (rows.item_idx + 7) % NUM_ITEMS),
        torch.where(earlier, rows.label, 1 - rows.label),
        rows.timestamp_ms,
    )
    early = [row for row in range(len(rows)) if rows.timestamp_ms[row] <= cut and earlier[row]]
    at_cut = [row for row in range(len(rows)) if rows.timestamp_ms[row] == cut]
    whole, changed = (histories(rows, history_of(log)) for log in (rows, later_changed))
    for row in early:
        assert torch.equal(whole[row][2], changed[row][2])
    # At the moment itself the window is the same too; only its own video is masked.
    history, other = history_of(rows), history_of(later_changed)
    user, time = rows.user_idx[at_cut].long(), rows.timestamp_ms[at_cut]
    nobody = torch.full_like(user, -2)
    assert len(at_cut) > 3
    assert torch.equal(
        history.before(user, time, nobody, length=LENGTH), other.before(user, time, nobody, length=LENGTH)
    )


@pytest.mark.parametrize("kind", ["all", "positives"])
def test_shuffling_moves_every_history_with_its_row(kind: str):
    rows = log_of(1)
    history = history_of(rows)
    inorder, shuffled = (histories(rows, history, shuffle=shuffle, kind=kind) for shuffle in (False, True))

    def as_set(found: list[tuple[Tensor, ...]]) -> list[tuple[int, int, list[int]]]:
        return sorted((int(user), int(item), seen.tolist()) for user, item, seen in found)

    assert as_set(inorder) == as_set(shuffled)


def test_no_history_of_a_row_without_time_holds_its_own_video():
    rows = log_of(2, untimed=0.4)
    order = torch.argsort(rows.user_idx.long() * 10**6 + rows.timestamp_ms.clamp(min=-1), stable=True)
    rows = Rows(*(column[order] for column in (rows.user_idx, rows.item_idx, rows.label, rows.timestamp_ms)))
    found = histories(rows, history_of(rows))
    assert any((seen >= 0).any() for _, _, seen in found)
    assert not any((seen == item).any() for _, item, seen in found)


def test_lists_are_made_from_training_rows_alone():
    rows = log_of(3)
    train = Rows(*(column[:300] for column in (rows.user_idx, rows.item_idx, rows.label, rows.timestamp_ms)))
    held_out = Rows(*(column[300:] for column in (rows.user_idx, rows.item_idx, rows.label, rows.timestamp_ms)))
    history = history_of(train)
    known = {(int(u), int(i)) for u, i, liked in zip(train.user_idx, train.item_idx, train.label, strict=True) if liked}
    for user, _, seen in histories(held_out, history):
        assert all((int(user), item) in known for item in seen.tolist() if item >= 0)
