"""Scores of rows: the dot products of their users and items, from the vectors of distinct users and items.

Shape letters: B rows, G users, K items, V width of the vectors, N rows of either table, R rows of the log,
D their negatives, b and d some of them at once.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from towerrec.nn.lookup import add_rows_, read

# Rows whose vectors are at hand at once: they stay in the cache, and nothing of width V is ever written for all rows.
_CHUNK = 4096
# Numbers that are kept between forward and backward rather than looked up again.
_KEPT = 1 << 22
# From so many elements on torch sorts whole numbers by their digits, many times faster.
_RADIX_SORT = 1 << 15


class _PairScores(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, user_GV: Tensor, item_KV: Tensor, group_B: Tensor, place_B: Tensor) -> Tensor:
        ctx.save_for_backward(user_GV, item_KV, group_B, place_B)
        score_B = user_GV.new_empty(group_B.shape[0])
        for start in range(0, group_B.shape[0], _CHUNK):
            rows = slice(start, start + _CHUNK)
            product_bV = user_GV.index_select(0, group_B[rows])
            product_bV.mul_(item_KV.index_select(0, place_B[rows]))
            torch.sum(product_bV, 1, out=score_B[rows])
        return score_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor | None, ...]:
        user_GV, item_KV, group_B, place_B = ctx.saved_tensors
        wants_user, wants_item = ctx.needs_input_grad[:2]
        if 2 * group_B.shape[0] < _RADIX_SORT:
            user = _added(user_GV, group_B, item_KV, place_B, grad_B) if wants_user else None
            return user, _added(item_KV, place_B, user_GV, group_B, grad_B) if wants_item else None, None, None
        num_users, num_rows = user_GV.shape[0], group_B.shape[0]
        # One sort for both sides: the rows by user, then the rows by item.
        order = torch.sort(torch.cat([group_B, place_B + num_users]).int(), stable=True).indices
        by_user_B, by_item_B = order[:num_rows], order[num_rows:] - num_rows
        user = _summed(user_GV, group_B, item_KV, place_B, grad_B, by_user_B) if wants_user else None
        return user, _summed(item_KV, place_B, user_GV, group_B, grad_B, by_item_B) if wants_item else None, None, None


class _SampledScores(torch.autograd.Function):
    """As `_PairScores`, where rows of the log stand before equally many negatives each: a user's vector is read, and
    his gradient written, once for a row and its negatives."""

    @staticmethod
    def forward(ctx: Any, user_GV: Tensor, item_KV: Tensor, group_R: Tensor, place_B: Tensor) -> Tensor:
        ctx.save_for_backward(user_GV, item_KV, group_R, place_B)
        num_rows, num_scores = group_R.shape[0], place_B.shape[0]
        ctx.kept = [] if (num_rows + num_scores) * user_GV.shape[1] <= _KEPT else None
        score_B = user_GV.new_empty(num_scores)
        positive_R, negative_D = score_B[:num_rows], score_B[num_rows:]
        for rows, draws, found in _looked_up(user_GV, item_KV, group_R, place_B):
            user_bV, item_bV, negative_dV = found
            torch.sum(user_bV * item_bV, 1, out=positive_R[rows])
            torch.sum(_repeated(user_bV, negative_dV) * negative_dV, 1, out=negative_D[draws])
            if ctx.kept is not None:
                ctx.kept.append((rows, draws, found))
        return score_B

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_B: Tensor) -> tuple[Tensor | None, ...]:
        user_GV, item_KV, group_R, place_B = ctx.saved_tensors
        num_rows, width = group_R.shape[0], user_GV.shape[1]
        total_GV, total_KV = torch.zeros_like(user_GV), torch.zeros_like(item_KV)
        kept = _looked_up(user_GV, item_KV, group_R, place_B) if ctx.kept is None else ctx.kept
        # What was looked up is written over: another pass backward would look it up again.
        ctx.kept = None
        for rows, draws, (user_bV, item_bV, negative_dV) in kept:
            one_b1, each_d1 = grad_B[:num_rows][rows, None], grad_B[num_rows:][draws, None]
            add_rows_(total_KV, place_B[:num_rows][rows], user_bV * one_b1)
            add_rows_(total_KV, place_B[num_rows:][draws], _repeated(user_bV, negative_dV).mul(each_d1))
            negative_dV.mul_(each_d1)
            many = len(negative_dV) > len(user_bV)
            user = negative_dV.view(len(user_bV), -1, width).sum(1) if many else negative_dV
            add_rows_(total_GV, group_R[rows], user.addcmul_(item_bV, one_b1))
        return total_GV, total_KV, None, None


def _looked_up(
    user_GV: Tensor, item_KV: Tensor, group_R: Tensor, place_B: Tensor
) -> Iterator[tuple[slice, slice, tuple[Tensor, Tensor, Tensor]]]:
    """Some rows and their draws at once: vectors of users and items [b, V], and of negatives [d, V]."""
    num_rows = group_R.shape[0]
    per_row = place_B.shape[0] // num_rows - 1
    step = max(1, 2 * _CHUNK // (1 + per_row))
    for start in range(0, num_rows, step):
        rows, draws = slice(start, start + step), slice(start * per_row, (start + step) * per_row)
        user_bV, item_bV = user_GV.index_select(0, group_R[rows]), item_KV.index_select(0, place_B[:num_rows][rows])
        yield rows, draws, (user_bV, item_bV, item_KV.index_select(0, place_B[num_rows:][draws]))


def _repeated(user_bV: Tensor, negative_dV: Tensor) -> Tensor:
    """The user of every draw [d, V]."""
    per_row = len(negative_dV) // len(user_bV)
    return user_bV if per_row == 1 else user_bV.repeat_interleave(per_row, 0)


def _added(table_NV: Tensor, at_B: Tensor, other_NV: Tensor, other_B: Tensor, grad_B: Tensor) -> Tensor:
    """Gradient of one side: the vectors of the other, times the gradients of the scores, added to their rows."""
    total_NV = torch.zeros_like(table_NV)
    for start in range(0, at_B.shape[0], _CHUNK):
        rows = slice(start, start + _CHUNK)
        vectors_bV = other_NV.index_select(0, other_B[rows])
        add_rows_(total_NV, at_B[rows], vectors_bV.mul_(grad_B[rows, None]))
    return total_NV


def _summed(
    table_NV: Tensor, at_B: Tensor, other_NV: Tensor, other_B: Tensor, grad_B: Tensor, order_B: Tensor
) -> Tensor:
    """As `_added`, given the order of the rows that sorts `at_B`: every sum is made in one go."""
    count_N = torch.bincount(at_B, minlength=table_NV.shape[0])
    return F.embedding_bag(
        other_B.index_select(0, order_B),
        other_NV,
        torch.cumsum(count_N, 0) - count_N,
        mode="sum",
        per_sample_weights=grad_B.index_select(0, order_B),
    )


def pair_scores(
    user_GV: Tensor,
    item_KV: Tensor,
    group_B: Tensor | None,
    place_B: Tensor | None = None,
    *,
    num_rows: int | None = None,
) -> Tensor:
    """Dot products [B] of the users `group_B` and the items `place_B`.

    On a CPU no vector of a distinct user or item is copied for all rows: reading and writing these takes more time than
    the products. Products and sums are float32 at least.

    Args:
        user_GV: Vectors of users.
        item_KV: Vectors of items.
        group_B: User of every row; None: there is one per row, in their order.
        place_B: Item of every row; None: there is one per row, in their order.
        num_rows: Rows of the log; behind them stand equally many negatives of each, with its user, those of the first
            row first. None: all are rows of the log.
    """
    wide = torch.promote_types(torch.promote_types(user_GV.dtype, item_KV.dtype), torch.float32)
    user_GV, item_KV = user_GV.to(wide), item_KV.to(wide)
    if group_B is None or place_B is None or user_GV.device.type != "cpu":
        user_BV = user_GV if group_B is None else read(user_GV, group_B)
        return (user_BV * (item_KV if place_B is None else read(item_KV, place_B))).sum(1)
    if num_rows and num_rows < len(group_B):
        sampled_B: Tensor = _SampledScores.apply(user_GV, item_KV, group_B[:num_rows], place_B)
        return sampled_B
    scores_B: Tensor = _PairScores.apply(user_GV, item_KV, group_B, place_B)
    return scores_B
