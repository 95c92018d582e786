"""The largest scores of every row, equal ones by column.

Shape letters: b rows, C columns, k and `width` places, G groups of S columns, t rows with ties.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor


def top(scores_bC: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` best of every row: scores and columns [b, width], by score and then by column.

    The order among scores of -inf is open.

    Raises:
        ValueError: If a score is not a number.
    """
    # One more than asked for, to see whether another item has the score of the last one.
    wider = min(width + 1, scores_bC.shape[1])
    best_b, place_b = _largest(scores_bC, wider)
    if bool(best_b[:, 0].isnan().any()):
        raise ValueError("some scores are not numbers (NaN): the model has diverged, train with a lower learning rate")
    # Only ties leave the order open, and they are rare for a model: settle those rows alone.
    tied_b = ((best_b[:, 1:] == best_b[:, :-1]) & (best_b[:, 1:] > -torch.inf)).any(1)
    best_b, place_b = best_b[:, :width], place_b[:, :width]
    if bool(tied_b.any()):
        scores_tC = scores_bC[tied_b]
        columns_t = _first_columns(scores_tC, best_b[tied_b, -1:], width)
        ordered_t = torch.sort(scores_tC.gather(1, columns_t), dim=1, descending=True, stable=True)
        best_b[tied_b], place_b[tied_b] = ordered_t.values, columns_t.gather(1, ordered_t.indices)
    return best_b, place_b


def _largest(scores_bC: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of every row and their columns; columns of equal scores are any, in any order.

    On the CPU in two steps, in half the time: the k largest cannot lie outside the k groups of largest maximum.
    """
    num_columns = scores_bC.shape[1]
    size = math.isqrt(num_columns // k)
    if size < 2 or scores_bC.device.type != "cpu":
        return torch.topk(scores_bC, k, dim=1)
    groups = num_columns // size
    # Group g holds the columns g, g + groups, g + 2 groups, ...: so the maximum runs over contiguous memory.
    maximum_bG = scores_bC[:, : groups * size].view(-1, size, groups).amax(1)
    group_bk = torch.topk(maximum_bG, k, dim=1, sorted=False).indices
    step_S1 = torch.arange(size)[:, None] * groups
    place = (group_bk[:, None, :] + step_S1).flatten(1)
    rest = torch.arange(groups * size, num_columns).expand(place.shape[0], -1)
    place = torch.cat([place, rest], dim=1)
    best_bk, order_bk = torch.topk(scores_bC.gather(1, place), k, dim=1)
    return best_bk, place.gather(1, order_bk)


def _first_columns(scores_bC: Tensor, last_b1: Tensor, width: int) -> Tensor:
    """Columns above the last score, and of those that equal it the first ones, `width` in all."""
    above_bC = scores_bC > last_b1
    equal_bC = scores_bC == last_b1
    room_b1 = width - above_bC.sum(1, keepdim=True)
    taken_bC = above_bC | (equal_bC & (torch.cumsum(equal_bC, 1) <= room_b1))
    return taken_bC.nonzero()[:, 1].view(-1, width)
