"""Leaks into what a model is given: the target in its user's history, held-out rows in his history or profile.

The histories and profiles are those that the store hands to training, validation, judgement and recommendation; they
are compared with the rows that they were made from, some users at a time. Shape letters: R rows, P positives or pairs.
"""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerrec.data.audit_findings import Example, Finding, failed, passed
from towerrec.data.audit_rows import blocks_of_users
from towerrec.data.history import UserHistory
from towerrec.data.loader import BatchLoader
from towerrec.data.rows import Rows
from towerrec.data.store import InteractionStore
from towerrec.positive import positive_mask
from towerrec.ragged import UserItems
from towerrec.schema import NO_TIMESTAMP, SPLITS

TARGET, PROFILE = "target in history", "held-out rows in profiles"
# Rows that pass the loader itself, spread over each side; where histories end is looked up for all rows.
_LOADED, _LENGTH, _BATCH = 1 << 17, 50, 1 << 14
_REMEDY = "the prepared log was changed, or towerrec is at fault: delete the cached log and prepare it anew"


def target_in_history(store: InteractionStore, history: UserHistory, example: Example) -> Finding:
    """The history of a row holds what its user liked strictly before it, and never its own item.

    Rows spread over each side pass the loader itself; that histories are those of the log, times included, is checked
    of every row (`held_out_in_profiles`).
    """
    found, looked_at, first = 0, 0, ""
    for side in SPLITS:
        rows = store.rows(side)
        step = max(len(rows) // _LOADED, 1)
        columns = (rows.user_idx, rows.item_idx, rows.label, rows.timestamp_ms)
        user_idx, item_idx, label, times = (column[::step].contiguous() for column in columns)
        some = Rows(user_idx, item_idx, label, times)
        place = torch.cat([_too_late(some, history), _holding_itself(some, history)]) * step
        found, looked_at = found + len(place), looked_at + len(some)
        if len(place) and not first:
            first = example(store, side, int(place[0]))
    if found:
        text = f"{found:,} of {looked_at:,} rows find themselves or later rows in their user's history; {first}"
        return failed(TARGET, found, text, _REMEDY)
    return passed(TARGET, f"histories of {looked_at:,} rows, spread over the log, end before the row")


def held_out_in_profiles(
    store: InteractionStore, history: UserHistory, profiles: UserItems, example: Example, *, positive: str
) -> Finding:
    """Histories and profiles of users hold training rows and nothing else.

    Args:
        store: The log.
        history: Of all users, as a model gets it.
        profiles: Items of all users, as a model gets them.
        example: Says a row in ids.
        positive: Rule over labels that histories go by.
    """
    number, what, first = 0, "", ""
    columns = [store.mapped(name, "train") for name in ("user_idx", "item_idx", "timestamp_ms", "label")]
    for users, places in blocks_of_users(store):
        user, item, time, label = (column[slice(*places["train"])] for column in columns)
        key = user.astype(np.int64) * store.num_items + item
        liked = np.asarray(positive_mask(label, positive))
        strange = {
            "histories": _other_than(history, users, key[liked], time[liked], num_items=store.num_items),
            "profiles": _not_among(_keys(profiles.offsets, profiles.items, users, store.num_items), np.sort(key)),
        }
        for where, pairs in strange.items():
            number += len(pairs)
            if len(pairs) and not first:
                of_user, of_item = divmod(int(pairs[0]), store.num_items)
                what, first = where, f"user {example.user_ids[of_user]}, item {example.item_ids[of_item]}"
    if number:
        text = f"{number:,} items in the {what} of users are of no training row (or of another moment); {first}"
        return failed(PROFILE, number, text, _REMEDY)
    return passed(PROFILE, "histories and profiles of users hold training rows alone")


def _too_late(rows: Rows, history: UserHistory) -> Tensor:
    """Places of rows whose window holds positives of another user, or ends with one that is not earlier; a window is in
    the order of time, so its last place tells."""
    start_R, end_R = (place.long() for place in history.windows(rows.user_idx, rows.timestamp_ms))
    user_R = rows.user_idx.long()
    outside_R = (start_R < history.first[user_R]) | (end_R > history.first[user_R + 1])
    if not len(history.items) or not len(history.moments):
        return ((end_R > start_R) & outside_R).nonzero()[:, 0]
    rank_R = history.key[(end_R - 1).clamp(min=0)] % (len(history.moments) + 2)
    timed_R = (rows.timestamp_ms != NO_TIMESTAMP) & (rank_R > 0)
    late_R = timed_R & (history.moments[(rank_R - 1).clamp(min=0)] >= rows.timestamp_ms)
    return ((end_R > start_R) & (outside_R | late_R)).nonzero()[:, 0]


def _holding_itself(rows: Rows, history: UserHistory) -> Tensor:
    """Places of rows to which the loader hands a history with the row's own item."""
    found = [torch.zeros(0, dtype=torch.int64)]
    for number, batch in enumerate(BatchLoader(rows, batch_size=_BATCH, history=history, history_length=_LENGTH)):
        assert batch.history is not None
        found.append(number * _BATCH + (batch.history == batch.item_idx[:, None]).any(1).nonzero()[:, 0])
    return torch.cat(found)


def _other_than(
    history: UserHistory,
    users: tuple[int, int],
    key_P: NDArray[np.int64],
    time_P: NDArray[np.int64],
    *,
    num_items: int,
) -> NDArray[np.int64]:
    """Pairs in the histories of some users that are not, place by place, the positives that they were made from."""
    given = _keys(history.first, history.items, users, num_items)
    if len(given) != len(key_P):
        return given[len(key_P) :] if len(given) > len(key_P) else key_P[len(given) :]
    a, b = int(history.first[users[0]]), int(history.first[users[1]])
    moments = torch.cat([history.moments.new_full((1,), NO_TIMESTAMP), history.moments])
    other = (given != key_P) | (moments[history.key[a:b] % (len(history.moments) + 2)].numpy() != time_P)
    return given[other]


def _keys(first_U: Tensor, items: Tensor, users: tuple[int, int], num_items: int) -> NDArray[np.int64]:
    """The packed items of some users, each with its user as one number, [P]."""
    first, last = users
    user_P = torch.repeat_interleave(torch.arange(first, last), first_U[first : last + 1].diff())
    key_P: NDArray[np.int64] = (user_P * num_items + items[int(first_U[first]) : int(first_U[last])]).numpy()
    return key_P


def _not_among(key: NDArray[np.int64], ascending: NDArray[np.int64]) -> NDArray[np.int64]:
    if not len(ascending):
        return key
    strange: NDArray[np.int64] = key[ascending[np.searchsorted(ascending, key).clip(max=len(ascending) - 1)] != key]
    return strange
