"""Lists and histories of users on disk: what training and judging ask of a log that does not fit into memory.

Each is made from the store in blocks of whole users, written to a temporary file without a name beside the prepared log
(it goes with the process) and mapped: memory holds a block and a few numbers per user; the rest are pages of a file,
which give way when memory is short. Shape letters: P packed pairs or positives, U users, T distinct moments.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerrec.data.history import UserHistory
from towerrec.positive import positive_mask
from towerrec.ragged import UserItems
from towerrec.schema import NO_TIMESTAMP

if TYPE_CHECKING:
    from towerrec.data.store import InteractionStore


class Spilled:
    """A column that grows on disk and is mapped once it is complete.

    Args:
        folder: On the disk that takes it.
        dtype: Of its values.
    """

    def __init__(self, folder: Path, dtype: type[np.generic]) -> None:
        self.dtype, self.size = np.dtype(dtype), 0
        # Open as long as the map is in use: a file without a name is gone once it is closed.
        self.file = tempfile.TemporaryFile(dir=folder)  # noqa: SIM115

    def append(self, values: NDArray[np.generic]) -> None:
        self.file.write(np.ascontiguousarray(values, dtype=self.dtype).data)
        self.size += len(values)

    def mapped(self) -> Tensor:
        """All values; writing to them changes the temporary file alone."""
        self.file.flush()
        if self.size == 0:
            return torch.from_numpy(np.zeros(0, dtype=self.dtype))
        return torch.from_numpy(np.memmap(self.file, dtype=self.dtype, mode="r+", shape=(self.size,)))


def lists_on_disk(
    store: InteractionStore, splits: tuple[str, ...], *, rule: str | None, values: str, positives_only: bool
) -> UserItems:
    """The items of every user in the rows of some splits, as `UserItems.from_pairs` packs them; `items` are int32.

    Args:
        store: The log.
        splits: Which rows.
        rule: Of a positive.
        values: `label`: the largest label of a pair; `positive`: 1 where a row of the pair passes the rule; `none`.
        positives_only: Leave out the rows that do not pass the rule.
    """
    items, of_pairs = Spilled(store.directory.parent, np.int32), Spilled(store.directory.parent, np.float32)
    offsets = torch.zeros(store.num_users + 1, dtype=torch.int64)
    for (first, last), columns in users_blocks(store, splits, ("user_idx", "item_idx", "label")):
        user, item, label = (torch.from_numpy(columns[name]) for name in ("user_idx", "item_idx", "label"))
        passed = torch.ones(len(user), dtype=torch.bool) if rule is None else positive_mask(label, rule)
        kept = passed if positives_only else torch.ones_like(passed)
        value = label if values == "label" else passed.float()
        lists = UserItems.from_pairs(
            user[kept] - first,
            item[kept],
            num_users=last - first,
            num_items=store.num_items,
            values=None if values == "none" else value[kept],
        )
        items.append(lists.items.numpy())
        if lists.values is not None:
            of_pairs.append(lists.values.numpy())
        offsets[first + 1 : last + 1] = lists.counts
    torch.cumsum(offsets, 0, out=offsets)
    return UserItems(offsets, items.mapped(), store.num_items, None if values == "none" else of_pairs.mapped())


def history_on_disk(store: InteractionStore, rule: str) -> UserHistory:
    """The training positives of every user, as `UserHistory.build` packs them; `items` are int32."""
    folder = store.directory.parent
    moments = distinct_moments(_positive_times(store, rule), folder, rows=store.block_rows)
    items, key = Spilled(folder, np.int32), Spilled(folder, np.int64)
    count = torch.zeros(store.num_users, dtype=torch.int64)
    untimed = torch.zeros_like(count)
    for user_idx, item_idx, times in _positives(store, rule):
        user = torch.from_numpy(user_idx).long()
        rank = torch.searchsorted(moments, torch.from_numpy(times)) + 1
        rank[torch.from_numpy(times == NO_TIMESTAMP)] = 0
        items.append(item_idx)
        key.append((user * (len(moments) + 2) + rank).numpy())
        count += torch.bincount(user, minlength=store.num_users)
        untimed += torch.bincount(user[rank == 0], minlength=store.num_users)
    first = torch.zeros(store.num_users + 1, dtype=torch.int64)
    torch.cumsum(count, 0, out=first[1:])
    return UserHistory(items.mapped(), key.mapped(), first, first[:-1] + untimed, moments)


def users_blocks(
    store: InteractionStore, splits: tuple[str, ...], names: tuple[str, ...]
) -> Iterator[tuple[tuple[int, int], dict[str, NDArray[np.generic]]]]:
    """Columns of the rows of users `first` to `last` (exclusive), all users in turn, about `block_rows` rows each.

    Rows of several splits stand one split after the other.
    """
    columns = {name: [store.mapped(name, split) for split in splits] for name in {*names, "user_idx"}}
    edges = {0, store.num_users}
    for user_idx in columns["user_idx"]:
        edges.update(int(user) for user in user_idx[:: max(store.block_rows // len(splits), 1)])
    for first, last in pairwise(sorted(edges)):
        bounds = [np.searchsorted(user_idx, [first, last]) for user_idx in columns["user_idx"]]
        yield (
            (first, last),
            {
                name: np.concatenate([column[a:b] for column, (a, b) in zip(columns[name], bounds, strict=True)])
                for name in names
            },
        )


def distinct_moments(times: Iterable[NDArray[np.int64]], folder: Path, *, rows: int) -> Tensor:
    """Distinct values, ascending, int64 [T]: spread over files by ranges of value, each then sorted by itself."""
    unsorted = Spilled(folder, np.int64)
    for block in times:
        unsorted.append(block)
    everything, number = unsorted.mapped().numpy(), unsorted.size
    # Ranges as full as a sample says, so that each is sorted in memory.
    sample = np.sort(everything[:: max(number // 65_536, 1)])
    edges = np.unique(sample[:: max(len(sample) * rows // max(number, 1), 1)])
    ranges = [Spilled(folder, np.int64) for _ in range(len(edges) + 1)]
    for at in range(0, number, rows):
        block = np.sort(everything[at : at + rows])
        for place, part in enumerate(np.split(block, np.searchsorted(block, edges))):
            ranges[place].append(part)
    found = Spilled(folder, np.int64)
    for values in ranges:
        found.append(np.unique(values.mapped().numpy()))
    return found.mapped()


def _positives(
    store: InteractionStore, rule: str
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int64]]]:
    """User, item and moment of the training positives, in blocks."""
    names = ("user_idx", "item_idx", "timestamp_ms", "label")
    for user_idx, item_idx, times, label in zip(*(store.blocks(name, "train") for name in names), strict=True):
        kept = np.asarray(positive_mask(label, rule))
        yield user_idx[kept], item_idx[kept], times[kept]


def _positive_times(store: InteractionStore, rule: str) -> Iterator[NDArray[np.int64]]:
    for _, _, times in _positives(store, rule):
        yield times[times != NO_TIMESTAMP]
