"""The largest scores of every row, equal ones by column.

Shape letters: b rows, C columns, k and `width` places, G groups of S columns, t rows with ties.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import torch
from torch import Tensor

# Columns of a group: a maximum over eight is one pass, and eight in nine of the columns are done with.
_GROUP = 8
# Below so many rows a thread costs more than it brings.
_ROWS_PER_THREAD = 64


def top(scores_bC: Tensor, width: int) -> tuple[Tensor, Tensor]:
    """The `width` best of every row: scores and columns [b, width], by score and then by column.

    The order among scores of -inf is open.

    Raises:
        ValueError: If a score is not a number.
    """
    # One more than asked for, to see whether another item has the score of the last one.
    wider = min(width + 1, scores_bC.shape[1])
    best_b, place_b = in_order(scores_bC, largest(scores_bC, wider))
    if bool(best_b.isnan().any()):
        raise ValueError("some scores are not numbers (NaN): the model has diverged, train with a lower learning rate")
    if wider == width:
        return best_b, place_b
    # Which of several columns with the last score were taken is open, and rare for a model: settle those rows alone.
    tied_b = (best_b[:, -1] == best_b[:, -2]) & (best_b[:, -1] > -torch.inf)
    best_b, place_b = best_b[:, :width], place_b[:, :width]
    if bool(tied_b.any()):
        scores_tC = scores_bC[tied_b]
        columns_t = _first_columns(scores_tC, best_b[tied_b, -1:], width)
        best_b[tied_b], place_b[tied_b] = in_order(scores_tC, columns_t)
    return best_b, place_b


def in_order(scores_bC: Tensor, columns_bk: Tensor) -> tuple[Tensor, Tensor]:
    """Scores and columns [b, k] of some columns of every row, by score (float32) and then by column."""
    # One sort of whole numbers does both: the bits of a float, made to fall as it grows, then the column.
    bits_bk = (scores_bC.gather(1, columns_bk) + 0.0).view(torch.int32)  # + 0.0: of two zeros none is the larger
    rising_bk = bits_bk ^ ((bits_bk >> 31) & 0x7FFFFFFF)
    key_bk = (~rising_bk.long() << 32) | columns_bk
    if key_bk.device.type == "cpu":
        key_bk.numpy().sort(axis=1)
    else:
        key_bk = key_bk.sort(dim=1).values
    columns_bk = key_bk & 0xFFFFFFFF
    return scores_bC.gather(1, columns_bk), columns_bk


def largest(scores_bC: Tensor, k: int) -> Tensor:
    """Columns [b, k] of the k largest of every row, in any order; which of equal scores is open, NaN comes first.

    In steps: the k largest cannot lie outside the k groups of largest maximum, and so on among the maxima.
    """
    num_columns = scores_bC.shape[1]
    if num_columns < 2 * _GROUP * k:
        return _partitioned(scores_bC, k)
    groups = num_columns // _GROUP
    # Group g holds the columns g, g + groups, g + 2 groups, ...: so the maximum runs over contiguous memory.
    maximum_bG = scores_bC[:, : groups * _GROUP].unflatten(1, (_GROUP, groups)).amax(1)
    group_bk = largest(maximum_bG, k)
    step_S1 = torch.arange(_GROUP, device=group_bk.device)[:, None] * groups
    place = (group_bk[:, None, :] + step_S1).flatten(1)
    rest = torch.arange(groups * _GROUP, num_columns, device=place.device).expand(place.shape[0], -1)
    place = torch.cat([place, rest], dim=1)
    return place.gather(1, _partitioned(scores_bC.gather(1, place), k))


def _partitioned(scores_bC: Tensor, k: int) -> Tensor:
    """`largest` in one step. On the CPU by NumPy, whose partition is a third of the work of torch's top-k."""
    if scores_bC.device.type != "cpu" or scores_bC.dtype != torch.float32:
        return torch.topk(scores_bC, k, dim=1, sorted=False).indices
    scores = scores_bC.numpy()
    columns = np.empty((len(scores), k), dtype=np.int64)

    def fill(rows: slice) -> None:
        columns[rows] = np.argpartition(scores[rows], scores.shape[1] - k, axis=1)[:, scores.shape[1] - k :]

    threads = max(1, min(torch.get_num_threads(), len(scores) // _ROWS_PER_THREAD))
    if threads == 1:
        fill(slice(None))
    else:
        size = -(-len(scores) // threads)
        with ThreadPoolExecutor(threads) as pool:
            list(pool.map(fill, [slice(start, start + size) for start in range(0, len(scores), size)]))
    return torch.from_numpy(columns)


def _first_columns(scores_bC: Tensor, last_b1: Tensor, width: int) -> Tensor:
    """Columns above the last score, and of those that equal it the first ones, `width` in all."""
    above_bC = scores_bC > last_b1
    equal_bC = scores_bC == last_b1
    room_b1 = width - above_bC.sum(1, keepdim=True)
    taken_bC = above_bC | (equal_bC & (torch.cumsum(equal_bC, 1) <= room_b1))
    return taken_bC.nonzero()[:, 1].view(-1, width)
