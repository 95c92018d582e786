"""Popularity of items as of each row's own moment, from strictly earlier training positives only.

The measure is an item's share of all recent positives times the number of items: 1 is the average item, whatever the
hour, the size of the log or the length of a pause in it. Both sides of the share decay alike, so after the last
positive it stands still.

Shape letters: R rows, P counted rows (training positives with a time), I items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from towerrec.decay import DAY_MS, decayed_counts, latest
from towerrec.schema import NO_TIMESTAMP

# Rows looked up at once: bounds the memory of the 64-bit intermediates.
_CHUNK = 1 << 20


def recent_popularity(
    item_idx_R: Tensor, timestamp_ms_R: Tensor, counted_R: Tensor, *, num_items: int, half_life_days: float
) -> Tensor:
    """Each row's item in units of the average item, just before the row, float32 [R].

    0 where the item has no earlier counted row, or the row has no time. Rows of the very same moment do not see each
    other, so no row ever sees itself.

    Args:
        item_idx_R: Item of every row, in any order.
        timestamp_ms_R: Its moment, `NO_TIMESTAMP` where unknown.
        counted_R: Which rows are training positives, bool.
        num_items: Items of the table.
        half_life_days: After how long a positive counts half.
    """
    kept = counted_R & (timestamp_ms_R != NO_TIMESTAMP)
    item_P, time_P = item_idx_R[kept].long(), timestamp_ms_R[kept]
    result = torch.zeros(len(item_idx_R))
    if not len(item_P):
        return result
    half_life_ms = half_life_days * DAY_MS
    of_item = _Decayed(item_P, time_P, half_life_ms=half_life_ms)
    of_all = _Decayed(torch.zeros_like(item_P), time_P, half_life_ms=half_life_ms)
    # In the order of the searched rows, so that one search ends near the next: five times as fast.
    for place in torch.argsort(of_item.key(item_idx_R.long(), timestamp_ms_R)).split(_CHUNK):
        item, time = item_idx_R[place].long(), timestamp_ms_R[place]
        own, own_ms = of_item.before(item, time)
        total, total_ms = of_all.before(torch.zeros_like(item), time)
        # As of the last positive of all, not of the row: the share is the same, and no pause makes it 0 / 0.
        faded = torch.exp2(-(total_ms - own_ms).double() / half_life_ms)
        result[place] = torch.where(own > 0, num_items * own * faded / total, 0.0).float()
    return result


def latest_popularity(item_idx_P: Tensor, timestamp_ms_P: Tensor, *, num_items: int, half_life_days: float) -> Tensor:
    """The same measure of every item after all counted rows, float32 [I]."""
    as_of_ms = latest(timestamp_ms_P)
    if as_of_ms is None:
        return torch.zeros(num_items)
    recent_I = decayed_counts(
        item_idx_P, timestamp_ms_P, num_items=num_items, as_of_ms=as_of_ms, half_life_days=half_life_days
    )
    return (num_items * recent_I / recent_I.sum()).float()


class _Decayed:
    """Decayed counts of every group after each of its counted rows, found by binary search."""

    def __init__(self, group_P: Tensor, time_P: Tensor, *, half_life_ms: float) -> None:
        self.half_life_ms = half_life_ms
        self.first_ms = int(time_P.min())
        self.span = int(time_P.max()) - self.first_ms + 2
        key_P, order_P = torch.sort(self.key(group_P, time_P), stable=True)
        self.key_P, self.group_P, self.time_P = key_P, group_P[order_P], time_P[order_P]
        self.count_P = self._scanned()

    def before(self, group_R: Tensor, time_R: Tensor) -> tuple[Tensor, Tensor]:
        """Count of a group after its last row before a moment, float64 [R], and that row's time.

        0 where there is no such row or the moment is unknown.
        """
        # The first counted row that is not earlier; what stands before it is the last earlier one of the group, if any.
        place_R = torch.searchsorted(self.key_P, self.key(group_R, time_R)) - 1
        at_R = place_R.clamp(min=0)
        known_R = (place_R >= 0) & (self.group_P[at_R] == group_R) & (time_R != NO_TIMESTAMP)
        return torch.where(known_R, self.count_P[at_R], 0.0), self.time_P[at_R]

    def key(self, group: Tensor, time: Tensor) -> Tensor:
        """Ascending by group, then time; moments outside those counted stand at either end of the group."""
        inside = time.clamp(min=self.first_ms, max=self.first_ms + self.span - 1) - self.first_ms
        return group * self.span + inside

    def _scanned(self) -> Tensor:
        """Count after each row, itself included: count_j = 1 + count_(j-1) * 2^-(t_j - t_(j-1)) within a group.

        By doubling (Hillis and Steele, CACM 1986): each pass adds what a row 1, 2, 4, ... places before has gathered,
        decayed to the later moment. No power larger than 1 occurs, so no length of log overflows.
        """
        count_P = torch.ones(len(self.key_P), dtype=torch.float64)
        starts = torch.cat([torch.ones(1, dtype=torch.bool), self.group_P.diff() != 0])
        place = torch.arange(len(starts))
        depth_P = place - torch.where(starts, place, 0).cummax(0).values
        reach, later = 1, place[depth_P >= 1]
        while len(later):
            passed = (self.time_P[later] - self.time_P[later - reach]).double() / self.half_life_ms
            count_P[later] += count_P[later - reach] * torch.exp2(-passed)
            reach *= 2
            later = later[depth_P[later] >= reach]
        return count_P
