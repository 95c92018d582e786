"""Exact top n under exclusions and allow-lists, for vectors and for anything else that scores.

Equal scores are ordered by item index, so equal scores give equal lists on any device, in any chunk.
Memory is bounded by the scores held at once, time is one matrix product plus one partial sort.

Shape letters: U users, B users asked for, b users of a chunk, I items, C candidates shared by all users (columns),
D vector width, n length of the lists.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from towerrec import progress
from towerrec.ragged import TopN, UserItems
from towerrec.retrieval.candidates import Allowed, Candidates, columns_of
from towerrec.retrieval.one_ranking import SameForAll
from towerrec.retrieval.rescoring import RoundedVectors
from towerrec.retrieval.select import top

Scorer = Callable[[Tensor], Tensor]
"""`scorer(user_idx_B) -> scores_BI`: float scores of all items for some users (the caller may overwrite them)."""

PRECISIONS = ("float32", "bfloat16")

# Megabytes of scores held at once where nobody says otherwise.
_CPU_MEMORY_MB = 128
_ACCELERATOR_MEMORY_MB = 2048
# On the CPU a chunk stays near the caches, unless it then had too few users to keep the matrix product busy.
_CACHED_SCORES = 1 << 22
_BUSY_USERS = 256


def top_n(
    user_BD: Tensor,
    item_ID: Tensor,
    *,
    n: int,
    user_idx_B: Tensor | None = None,
    exclude: UserItems | None = None,
    allowed: Allowed = None,
    chunk: int | None = None,
    memory_mb: float | None = None,
    precision: str = "float32",
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
        chunk: Users scored at once; None takes what suits the device within `memory_mb`. It changes the result only
            where the matrix product rounds the last bit of two scores differently.
        memory_mb: Bound on the scores held at once (those of one user always are); None takes 128 on the CPU and
            2,048 on an accelerator. What else a chunk needs is about a half of its scores.
        precision: `float32`, or `bfloat16`: rough scores first, then those that may stand in the list anew in float32,
            with the same items (see `rescoring`). For accelerators with fast matrix products of that kind.

    Raises:
        ValueError: n, chunk or memory_mb too small, an unknown precision, shapes that do not fit, or scores that are
            not numbers.
    """
    columns_C = columns_of(allowed, item_ID.shape[0])
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
        memory_mb=memory_mb,
        precision=precision,
    )


@torch.no_grad()
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
    memory_mb: float | None = None,
    precision: str = "float32",
) -> TopN:
    """`top_n` where only some items have vectors: `item_CD[c]` is that of item `columns_C[c]`, in ascending order."""
    if user_BD.shape[1] != item_CD.shape[1]:
        widths = f"{user_BD.shape[1]} and {item_CD.shape[1]}"
        raise ValueError(f"user and item vectors must have the same width, got {widths}")
    if precision not in PRECISIONS:
        raise ValueError(f"precision={precision} is not known: choose {' or '.join(PRECISIONS)}")
    plan = Candidates(num_items, columns_C, exclude, allowed)
    users_B = _users(user_idx_B, user_BD.shape[0], plan.num_users, user_BD.device)
    user_BD, item_CD = user_BD.float(), item_CD.float()
    # Autocast would round the scores.
    with torch.autocast(user_BD.device.type, enabled=False):
        if precision == "float32":
            return _exact(user_BD, item_CD, users_B, plan, n=n, chunk=chunk, memory_mb=memory_mb)
        rounded = RoundedVectors(user_BD, item_CD)
        size = _users_at_once(users_B, rounded.bytes_per_user(n), chunk, memory_mb)
        lists, unproven_B = rounded.top_n(users_B, plan, n=_at_least_one(n), chunk=size)
        again = unproven_B.nonzero()[:, 0]
        if len(again):
            exact = _exact(user_BD[again], item_CD, users_B[again], plan, n=n, chunk=chunk, memory_mb=memory_mb)
            lists.items[again], lists.scores[again] = exact.items, exact.scores
        return lists


def top_n_by(
    scorer: Scorer,
    user_idx_B: Tensor,
    *,
    num_items: int,
    n: int,
    exclude: UserItems | None = None,
    allowed: Allowed = None,
    chunk: int | None = None,
    memory_mb: float | None = None,
) -> TopN:
    """The n items that `scorer` rates highest for every user; arguments and rules as in `top_n`.

    Where the scorer gives everybody the same scores the work does not grow with users times items.
    """
    columns_C = columns_of(allowed, num_items)

    def score(start: int, stop: int) -> Tensor:
        scores_bI = scorer(user_idx_B[start:stop])
        if scores_bI.shape != (min(stop, len(user_idx_B)) - start, num_items):
            raise ValueError(f"the scorer gave {tuple(scores_bI.shape)} scores for {num_items} items")
        return (scores_bI if columns_C is None else scores_bI[:, columns_C]).float()

    plan = Candidates(num_items, columns_C, exclude, allowed if isinstance(allowed, UserItems) else None)
    if isinstance(scorer, SameForAll) and (plan.allowed is None or exclude is None) and len(user_idx_B):
        if plan.allowed is not None:
            return scorer.top_n_of(plan.allowed, user_idx_B, n=_at_least_one(n))
        admitted_I = None if isinstance(allowed, UserItems) else allowed
        return scorer.top_n(user_idx_B, n=_at_least_one(n), exclude=exclude, admitted_I=admitted_I)
    size = _users_at_once(user_idx_B, 4 * num_items, chunk, memory_mb)
    return _search(score, user_idx_B, plan, n=n, chunk=size)


def _exact(
    user_BD: Tensor,
    item_CD: Tensor,
    users_B: Tensor,
    plan: Candidates,
    *,
    n: int,
    chunk: int | None,
    memory_mb: float | None,
) -> TopN:
    """All scores in float32, a chunk of users at a time in the same memory."""
    size = min(_users_at_once(users_B, 4 * plan.num_columns, chunk, memory_mb), len(users_B))
    scores = torch.empty(size, plan.num_columns, device=user_BD.device)

    def score(start: int, stop: int) -> Tensor:
        return torch.mm(user_BD[start:stop], item_CD.T, out=scores[: stop - start])

    return _search(score, users_B, plan, n=n, chunk=max(1, size))


def _search(score: Callable[[int, int], Tensor], users_B: Tensor, plan: Candidates, *, n: int, chunk: int) -> TopN:
    num_lists = users_B.shape[0]
    items_Bn = torch.full((num_lists, _at_least_one(n)), -1, dtype=torch.int64, device=users_B.device)
    scores_Bn = torch.full((num_lists, n), -torch.inf, device=users_B.device)
    width = min(n, plan.num_columns)
    if width == 0:
        return TopN(items_Bn, scores_Bn)
    for start in range(0, num_lists, chunk):
        progress.share(start / num_lists)
        part = slice(start, min(start + chunk, num_lists))
        scores_bC = plan.mask_(score(part.start, part.stop), users_B[part])
        scores_Bn[part, :width], columns_bn = top(scores_bC, width)
        items_Bn[part, :width] = plan.items_of(columns_bn)
    return TopN(items_Bn.masked_fill_(scores_Bn == -torch.inf, -1), scores_Bn)


def _users_at_once(users_B: Tensor, bytes_per_user: int, chunk: int | None, memory_mb: float | None) -> int:
    """Users of a chunk: those that were asked for, or what suits the device within the memory."""
    if chunk is not None and chunk < 1:
        raise ValueError(f"chunk must be at least 1, got {chunk}")
    if memory_mb is not None and not memory_mb > 0:
        raise ValueError(f"memory_mb must be above 0, got {memory_mb}")
    on_cpu = users_B.device.type == "cpu"
    memory_mb = (_CPU_MEMORY_MB if on_cpu else _ACCELERATOR_MEMORY_MB) if memory_mb is None else memory_mb
    fitting = int(memory_mb * 2**20 / max(1, bytes_per_user))
    if chunk is None:
        chunk = max(4 * _CACHED_SCORES // max(1, bytes_per_user), _BUSY_USERS) if on_cpu else fitting
    return max(1, min(chunk, fitting))


def _at_least_one(n: int) -> int:
    if n < 1:
        raise ValueError(f"n, the length of a list, must be at least 1, got {n}")
    return n


def _users(user_idx_B: Tensor | None, num_lists: int, num_users: int | None, device: torch.device) -> Tensor:
    if user_idx_B is None:
        if num_users is not None and num_users != num_lists:
            raise ValueError(f"{num_lists} vectors for {num_users} users: say whose they are with user_idx_B")
        return torch.arange(num_lists, device=device)
    if user_idx_B.shape != (num_lists,):
        raise ValueError(f"{num_lists} vectors, but user_idx_B has shape {tuple(user_idx_B.shape)}")
    return user_idx_B
