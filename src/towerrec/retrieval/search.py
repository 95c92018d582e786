"""Exact top n under exclusions and allow-lists, for vectors and for anything else that scores.

Equal scores are ordered by item index, so equal scores give equal lists on any device, in any chunk.
Memory is bounded by the chunk, time is one matrix product plus one partial sort.

Shape letters: U users, B users asked for, b users of a chunk, I items, C candidates shared by all users (columns),
D vector width, n length of the lists.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from towerrec.ragged import TopN, UserItems
from towerrec.retrieval.select import top

Scorer = Callable[[Tensor], Tensor]
"""`scorer(user_idx_B) -> scores_BI`: float scores of all items for some users (the caller may overwrite them)."""

Allowed = Tensor | UserItems | None

# Scores held at once: on the CPU what stays near the caches, on an accelerator what keeps it busy (512 MB).
_CPU_SCORES = 1 << 22
_ACCELERATOR_SCORES = 1 << 27


def top_n(
    user_BD: Tensor,
    item_ID: Tensor,
    *,
    n: int,
    user_idx_B: Tensor | None = None,
    exclude: UserItems | None = None,
    allowed: Allowed = None,
    chunk: int | None = None,
) -> TopN:
    """The n items of largest dot product for every user vector.

    Args:
        user_BD: One vector per list wanted.
        item_ID: One vector per item.
        n: Length of the lists; where fewer candidates remain, the rest is -1 with score -inf.
        user_idx_B: The user behind each vector; needed where `exclude` or `allowed` speak per user and the vectors
            are not those of all users in order.
        exclude: Items never listed for a user (seen ones).
        allowed: Candidates: bool [I] for all users, or a list per user; None admits every item.
        chunk: Users scored at once; None takes what suits the device. It bounds the memory, and changes
            the result only where the matrix product rounds the last bit of two scores differently.

    Raises:
        ValueError: n or chunk below 1, shapes that do not fit, or scores that are not numbers.
    """
    columns_C = _columns(allowed, item_ID.shape[0])
    return top_n_among(
        user_BD,
        item_ID if columns_C is None else item_ID[columns_C],
        columns_C,
        num_items=item_ID.shape[0],
        n=n,
        user_idx_B=user_idx_B,
        exclude=exclude,
        allowed=allowed if isinstance(allowed, UserItems) else None,
        chunk=chunk,
    )


def top_n_among(
    user_BD: Tensor,
    item_CD: Tensor,
    columns_C: Tensor | None,
    *,
    num_items: int,
    n: int,
    user_idx_B: Tensor | None = None,
    exclude: UserItems | None = None,
    allowed: UserItems | None = None,
    chunk: int | None = None,
) -> TopN:
    """`top_n` where only some items have vectors: `item_CD[c]` is that of item `columns_C[c]`, in ascending order."""
    if user_BD.shape[1] != item_CD.shape[1]:
        widths = f"{user_BD.shape[1]} and {item_CD.shape[1]}"
        raise ValueError(f"user and item vectors must have the same width, got {widths}")

    def score(start: int, stop: int) -> Tensor:
        return user_BD[start:stop] @ item_CD.T

    plan = _Candidates(num_items, columns_C, exclude, allowed)
    users_B = _users(user_idx_B, user_BD.shape[0], plan.num_users, user_BD.device)
    return _search(score, users_B, plan, n=n, chunk=chunk)


def top_n_by(
    scorer: Scorer,
    user_idx_B: Tensor,
    *,
    num_items: int,
    n: int,
    exclude: UserItems | None = None,
    allowed: Allowed = None,
    chunk: int | None = None,
) -> TopN:
    """The n items that `scorer` rates highest for every user; arguments and rules as in `top_n`."""
    columns_C = _columns(allowed, num_items)

    def score(start: int, stop: int) -> Tensor:
        scores_bI = scorer(user_idx_B[start:stop])
        if scores_bI.shape != (min(stop, len(user_idx_B)) - start, num_items):
            raise ValueError(f"the scorer gave {tuple(scores_bI.shape)} scores for {num_items} items")
        return scores_bI if columns_C is None else scores_bI[:, columns_C]

    plan = _Candidates(num_items, columns_C, exclude, allowed)
    return _search(score, user_idx_B, plan, n=n, chunk=chunk)


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


class _Candidates:
    """Who may be listed for whom, in terms of the columns that are scored."""

    def __init__(self, num_items: int, columns_C: Tensor | None, exclude: UserItems | None, allowed: Allowed) -> None:
        self.columns_C = columns_C
        self.num_columns = num_items if columns_C is None else columns_C.shape[0]
        self.exclude = exclude
        self.allowed = allowed if isinstance(allowed, UserItems) else None
        self.num_users: int | None = None
        for lists in (exclude, self.allowed):
            if lists is None:
                continue
            if lists.num_items != num_items:
                raise ValueError(f"exclude or allowed speak of {lists.num_items} items, the scores of {num_items}")
            self.num_users = lists.num_users
        self.column_of_I: Tensor | None = None
        if columns_C is not None:
            self.column_of_I = torch.full((num_items,), -1, dtype=torch.int64, device=columns_C.device)
            self.column_of_I[columns_C] = torch.arange(self.num_columns, device=columns_C.device)

    def mask_(self, scores_bC: Tensor, users_b: Tensor) -> Tensor:
        """Scores with -inf wherever the item is no candidate of the user."""
        if self.allowed is not None:
            flat = self._flat(self.allowed, users_b)
            admitted_bC = torch.full_like(scores_bC, -torch.inf)
            admitted_bC.view(-1)[flat] = scores_bC.reshape(-1)[flat]
            scores_bC = admitted_bC
        if self.exclude is not None:
            scores_bC = scores_bC.contiguous()
            scores_bC.view(-1).index_fill_(0, self._flat(self.exclude, users_b), -torch.inf)
        return scores_bC

    def _flat(self, lists: UserItems, users_b: Tensor) -> Tensor:
        row, item, _ = lists.pairs_of(users_b)
        if self.column_of_I is None:
            return row * self.num_columns + item
        column = self.column_of_I[item]
        return (row * self.num_columns + column)[column >= 0]


def _search(
    score: Callable[[int, int], Tensor], users_B: Tensor, plan: _Candidates, *, n: int, chunk: int | None
) -> TopN:
    if n < 1:
        raise ValueError(f"n, the length of a list, must be at least 1, got {n}")
    if chunk is None:
        budget = _CPU_SCORES if users_B.device.type == "cpu" else _ACCELERATOR_SCORES
        chunk = max(1, budget // max(1, plan.num_columns))
    if chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    num_lists = users_B.shape[0]
    items_Bn = torch.full((num_lists, n), -1, dtype=torch.int64, device=users_B.device)
    scores_Bn = torch.full((num_lists, n), -torch.inf, device=users_B.device)
    width = min(n, plan.num_columns)
    if width == 0:
        return TopN(items_Bn, scores_Bn)
    for start in range(0, num_lists, chunk):
        part = slice(start, min(start + chunk, num_lists))
        scores_bC = plan.mask_(score(part.start, part.stop).float(), users_B[part])
        scores_Bn[part, :width], items_Bn[part, :width] = top(scores_bC, width)
    if plan.columns_C is not None:
        items_Bn = torch.where(items_Bn >= 0, plan.columns_C[items_Bn.clamp(min=0)], -1)
    return TopN(torch.where(scores_Bn > -torch.inf, items_Bn, -1), scores_Bn)


def _columns(allowed: Allowed, num_items: int) -> Tensor | None:
    if allowed is None or isinstance(allowed, UserItems):
        return None
    if allowed.dtype != torch.bool or allowed.shape != (num_items,):
        raise ValueError(f"allowed must be bool [{num_items}], got {allowed.dtype} {tuple(allowed.shape)}")
    return allowed.nonzero()[:, 0]


def _users(user_idx_B: Tensor | None, num_lists: int, num_users: int | None, device: torch.device) -> Tensor:
    if user_idx_B is None:
        if num_users is not None and num_users != num_lists:
            raise ValueError(f"{num_lists} vectors for {num_users} users: say whose they are with user_idx_B")
        return torch.arange(num_lists, device=device)
    if user_idx_B.shape != (num_lists,):
        raise ValueError(f"{num_lists} vectors, but user_idx_B has shape {tuple(user_idx_B.shape)}")
    return user_idx_B


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
    owner = torch.repeat_interleave(torch.arange(lists.num_users, device=lists.items.device), lists.counts)
    return torch.isin(user * lists.num_items + item, owner * lists.num_items + lists.items)
