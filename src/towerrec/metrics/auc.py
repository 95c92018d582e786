"""Area under the ROC curve of every user's own rows.

Shape letters: N rows, U users.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def user_auc(score_N: Tensor, positive_N: Tensor, user_N: Tensor, num_users: int) -> Tensor:
    """Share of a user's pairs of a positive and another row that the scores put in the right order, float64 [U].

    A pair of equal scores counts one half. NaN for users whose rows are all positive, all negative, or none.

    Args:
        score_N: Scores; compared as float32, as lists are made.
        positive_N: Whether each row is positive, bool.
        user_N: User of every row, 0 .. num_users - 1.
        num_users: U.

    Raises:
        ValueError: If a score is not a number.
    """
    score_N = score_N.float()
    if bool(score_N.isnan().any()):
        raise ValueError("some scores of rows are not numbers (NaN): the model has diverged, lower optimizer.lr")
    # One sort of plain numbers: the user, then the score as a whole number of the same order, then the class.
    key_N = np.sort(((user_N.long() << 33) | (_ordered(score_N) << 1) | positive_N.long()).numpy())
    positive_N, tie_N = torch.from_numpy(key_N & 1), torch.from_numpy(key_N >> 1)
    user_N = tie_N >> 32
    positives_U = torch.bincount(user_N, weights=positive_N.double(), minlength=num_users)
    rows_U = torch.bincount(user_N, minlength=num_users).double()
    # Mean rank of each group of equal scores among the user's rows, from 1 (Mann and Whitney, 1947).
    _, group_N, size_G = torch.unique_consecutive(tie_N, return_inverse=True, return_counts=True)
    end_G = size_G.cumsum(0).double()
    rank_N = (end_G - (size_G - 1) / 2)[group_N] - (rows_U.cumsum(0) - rows_U)[user_N]
    ranked_U = torch.bincount(user_N, weights=rank_N * positive_N, minlength=num_users)
    pairs_U = positives_U * (rows_U - positives_U)
    return torch.where(pairs_U > 0, (ranked_U - positives_U * (positives_U + 1) / 2) / pairs_U, torch.nan)


def _ordered(score_N: Tensor) -> Tensor:
    """A float32 as a whole number below 2**32 of the same order; -0 is 0."""
    bits_N = (score_N + 0.0).contiguous().view(torch.int32)
    return (bits_N ^ ((bits_N >> 31) & 0x7FFFFFFF)).long() + 2**31
