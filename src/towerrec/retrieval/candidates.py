"""Who may be listed for whom, in terms of the columns that are scored.

Shape letters: B users asked for, b users of a chunk, I items, C candidates shared by all users (columns).
"""

from __future__ import annotations

import torch
from torch import Tensor

from towerrec.ragged import UserItems

Allowed = Tensor | UserItems | None

# Pairs looked up at once: bounds the memory of the search.
_PAIRS = 1 << 20


class Candidates:
    """The columns of the scores and what of them a user may not be given.

    Args:
        num_items: Items there are.
        columns_C: The item behind every column, ascending; None where they are all items.
        exclude: Items never listed for a user.
        allowed: Candidates of every user, where they differ between users.

    Raises:
        ValueError: If the lists speak of another number of items.
    """

    def __init__(
        self, num_items: int, columns_C: Tensor | None, exclude: UserItems | None, allowed: UserItems | None
    ) -> None:
        self.columns_C = columns_C
        self.num_columns = num_items if columns_C is None else columns_C.shape[0]
        self.exclude = exclude
        self.allowed = allowed
        self.num_users: int | None = None
        for lists in (exclude, allowed):
            if lists is None:
                continue
            if lists.num_items != num_items:
                raise ValueError(f"exclude or allowed speak of {lists.num_items} items, the scores of {num_items}")
            self.num_users = lists.num_users
        self.column_of_I: Tensor | None = None
        if columns_C is not None:
            self.column_of_I = torch.full((num_items,), -1, dtype=torch.int64, device=columns_C.device)
            self.column_of_I[columns_C] = torch.arange(self.num_columns, device=columns_C.device)

    def num_excluded(self, users_B: Tensor, chunk: int) -> list[int | None]:
        """Excluded items of every chunk of users: what an accelerator is asked once, not chunk by chunk."""
        starts = range(0, len(users_B), chunk)
        if self.exclude is None or users_B.device.type == "cpu":
            return [None] * len(starts)
        counts_B = self.exclude.counts[users_B]
        return torch.stack([counts_B[start : start + chunk].sum() for start in starts]).tolist() if starts else []

    def mask_(self, scores_bC: Tensor, users_b: Tensor, *, num_excluded: int | None = None) -> Tensor:
        """Scores with -inf wherever the item is no candidate of the user; `num_excluded` of these users, if known."""
        if self.allowed is not None:
            flat = self._flat(self.allowed, users_b)
            admitted_bC = torch.full_like(scores_bC, -torch.inf)
            admitted_bC.view(-1)[flat] = scores_bC.reshape(-1)[flat]
            scores_bC = admitted_bC
        if self.exclude is not None:
            scores_bC = scores_bC.contiguous()
            scores_bC.view(-1).index_fill_(0, self._flat(self.exclude, users_b, num_excluded), -torch.inf)
        return scores_bC

    def items_of(self, columns_bn: Tensor) -> Tensor:
        """The items behind columns of the scores."""
        return columns_bn if self.columns_C is None else self.columns_C[columns_bn]

    def _flat(self, lists: UserItems, users_b: Tensor, total: int | None = None) -> Tensor:
        row, item, _ = lists.pairs_of(users_b, total=total)
        if self.column_of_I is None:
            return row.mul_(self.num_columns).add_(item)
        column = self.column_of_I[item]
        return (row * self.num_columns + column)[column >= 0]


def columns_of(allowed: Allowed, num_items: int) -> Tensor | None:
    """The items that a mask for all users admits; None where there is no such mask."""
    if allowed is None or isinstance(allowed, UserItems):
        return None
    if allowed.dtype != torch.bool or allowed.shape != (num_items,):
        raise ValueError(f"allowed must be bool [{num_items}], got {allowed.dtype} {tuple(allowed.shape)}")
    return allowed.nonzero()[:, 0]


def only_candidates(
    relevant: UserItems, *, exclude: UserItems | None = None, allowed: Allowed = None
) -> tuple[UserItems, int]:
    """Drop relevant items that no list may hold, so that no system is asked for what the rules forbid.

    Returns the relevant items left and how many were dropped.
    """
    num_users, num_items = relevant.num_users, relevant.num_items
    user = torch.repeat_interleave(torch.arange(num_users, device=relevant.items.device), relevant.counts)
    keep = are_candidates(user, relevant.items, exclude=exclude, allowed=allowed)
    left = UserItems.from_pairs(
        user[keep],
        relevant.items[keep],
        num_users=num_users,
        num_items=num_items,
        values=None if relevant.values is None else relevant.values[keep],
    )
    return left, int((~keep).sum())


def are_candidates(
    user_P: Tensor, item_P: Tensor, *, exclude: UserItems | None = None, allowed: Allowed = None
) -> Tensor:
    """Whether each item may be listed for its user, bool [P]."""
    keep_P = torch.ones_like(item_P, dtype=torch.bool)
    if isinstance(allowed, UserItems):
        keep_P &= _contains(allowed, user_P, item_P)
    elif allowed is not None:
        keep_P &= allowed[item_P]
    if exclude is not None:
        keep_P &= ~_contains(exclude, user_P, item_P)
    return keep_P


def _contains(lists: UserItems, user: Tensor, item: Tensor) -> Tensor:
    """Whether each (user, item) pair is in the lists."""
    pieces = zip(user.split(_PAIRS), item.split(_PAIRS), strict=True)
    return torch.cat([lists.contain(user_p, item_p) for user_p, item_p in pieces])
