"""The softmax over masked candidates, in pieces that stay in the cache.

Shape letters: G groups (users, or rows where every row has its own vector), C candidates, V width of the vectors,
P masked pairs, B rows.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Exponentials kept between forward and backward (256 MB); beyond it they are computed again.
_KEPT = 1 << 26
# Scores worked on at once: on the CPU what stays in the cache through all passes over it, on an accelerator 64 MB.
_CPU_CHUNK = 1 << 18
_ACCELERATOR_CHUNK = 1 << 24

# Groups that a chunk holds at least: fewer make products of matrices those of a matrix and vectors.
_LEAST_GROUPS = 64

Pairs = tuple[Tensor, Tensor]
"""Masked pairs: groups (ascending) and candidates, each int64 [P]."""


class _MaskedLogSumExp(torch.autograd.Function):
    """Keeps the exponentials of all scores for the backward pass."""

    @staticmethod
    def forward(ctx: Any, user_GV: Tensor, item_CV: Tensor, bias_C: Tensor, chunk: int, *masks: Tensor) -> Tensor:
        num_groups = user_GV.shape[0]
        item_VC = item_CV.T.contiguous()
        exp_GC = user_GV.new_empty(num_groups, item_CV.shape[0])
        sum_G, shift_G = user_GV.new_empty(num_groups), user_GV.new_empty(num_groups)
        for start, stop, pairs in _chunks(masks, num_groups, chunk):
            exp_gC = exp_GC[start:stop]
            shift_G[start:stop] = _exponentials_(exp_gC, user_GV[start:stop], item_VC, bias_C, pairs)
            torch.sum(exp_gC, 1, out=sum_G[start:stop])
        ctx.save_for_backward(user_GV, item_CV, sum_G, exp_GC)
        return sum_G.log() + shift_G

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_G: Tensor) -> tuple[Tensor | None, ...]:
        user_GV, item_CV, sum_G, exp_GC = ctx.saved_tensors
        # Normalisation and gradient are one factor a row: it goes to the narrow matrices, the wide one stays.
        factor_G1 = torch.where(sum_G > 0, grad_G / sum_G, 0.0)[:, None]
        grad_user_GV = (exp_GC @ item_CV).mul_(factor_G1)
        # Transposed: the other order of this product takes more than twice the time on a CPU.
        grad_item_VC = (user_GV * factor_G1).T @ exp_GC
        bias = exp_GC.T @ factor_G1[:, 0] if ctx.needs_input_grad[2] else None
        return grad_user_GV, grad_item_VC.T, bias, *[None] * (len(ctx.needs_input_grad) - 3)


class _TiledLogSumExp(torch.autograd.Function):
    """Keeps two numbers a group, and works on tiles of groups and candidates: the memory is that of the two matrices of
    vectors and of a tile, however large the catalogue (the running maximum of Milakov and Gimelshein 2018, arXiv
    1805.02867; recomputed backwards as by Dao et al., NeurIPS 2022)."""

    @staticmethod
    def forward(
        ctx: Any, user_GV: Tensor, item_CV: Tensor, bias_C: Tensor, chunk: int, tile: int, *masks: Tensor
    ) -> Tensor:
        ctx.chunk, ctx.tile = chunk, tile
        lse_G = user_GV.new_empty(user_GV.shape[0])
        for start, stop, pairs in _chunks(masks, user_GV.shape[0], chunk):
            lse_g = user_GV.new_full((stop - start,), -torch.inf)
            for columns in _tiles(item_CV.shape[0], tile):
                exp_gc = user_GV.new_empty(stop - start, columns.stop - columns.start)
                item_Vc, own = item_CV[columns].T, _within(pairs, columns)
                shift_g = _exponentials_(exp_gc, user_GV[start:stop], item_Vc, bias_C[columns], own)
                lse_g = torch.logaddexp(lse_g, exp_gc.sum(1).log_().add_(shift_g))
            lse_G[start:stop] = lse_g
        ctx.save_for_backward(user_GV, item_CV, bias_C, lse_G, *masks)
        return lse_G

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_G: Tensor) -> tuple[Tensor | None, ...]:
        user_GV, item_CV, bias_C, lse_G, *masks = ctx.saved_tensors
        grad_user_GV, grad_bias_C = torch.zeros_like(user_GV), torch.zeros_like(bias_C)
        # Transposed: the other order of this product takes more than twice the time on a CPU.
        grad_item_VC = torch.zeros_like(item_CV.T, memory_format=torch.contiguous_format)
        for start, stop, pairs in _chunks(masks, user_GV.shape[0], ctx.chunk):
            user_gV, grad_g1 = user_GV[start:stop], grad_G[start:stop, None]
            # Groups without a candidate are -inf: a finite shift keeps their exponentials at zero.
            lse_g1 = lse_G[start:stop, None].clamp(min=torch.finfo(lse_G.dtype).min)
            for columns in _tiles(item_CV.shape[0], ctx.tile):
                item_cV = item_CV[columns]
                share_gc = _scores(user_gV, item_cV.T, bias_C[columns], _within(pairs, columns)).sub_(lse_g1).exp_()
                share_gc.mul_(grad_g1)
                grad_user_GV[start:stop].addmm_(share_gc, item_cV)
                grad_item_VC[:, columns].addmm_(user_gV.T, share_gc)
                if ctx.needs_input_grad[2]:
                    grad_bias_C[columns] += share_gc.sum(0)
        bias = grad_bias_C if ctx.needs_input_grad[2] else None
        return grad_user_GV, grad_item_VC.T, bias, None, None, *[None] * len(masks)


def masked_logsumexp(
    user_GV: Tensor,
    item_CV: Tensor,
    bias_C: Tensor,
    *,
    masks: Sequence[Pairs],
    chunk: int | None = None,
    tile: int | None = None,
    keep: bool | None = None,
) -> Tensor:
    """Log of the sum over candidates of `exp(user . item + bias)`, masked pairs left out; [G], -inf where none is left.

    Args:
        user_GV: Vectors of the groups.
        item_CV: Vectors of the candidates.
        bias_C: Added to every score of a candidate.
        masks: Pairs left out.
        chunk: Groups at once; None takes what suits the device. It bounds the memory, not the result.
        tile: Candidates at once where exponentials are not kept; None takes what suits the device.
        keep: Keep the exponentials for the backward pass, which otherwise computes them again; None keeps them where
            they fit.
    """
    if user_GV.shape[0] == 0:
        # Nobody asks, perhaps among no candidates at all; the candidates still get their gradient.
        return user_GV.sum(1) + item_CV.sum() + bias_C.sum()
    num_scores, device = user_GV.shape[0] * item_CV.shape[0], user_GV.device.type
    at_once = _CPU_CHUNK if device == "cpu" else _ACCELERATOR_CHUNK
    if keep is None:
        keep = num_scores <= _KEPT
    if tile is None:
        tile = min(item_CV.shape[0], at_once // _LEAST_GROUPS)
    if chunk is None:
        chunk = max(_LEAST_GROUPS, at_once // (item_CV.shape[0] if keep else tile))
    if keep and device != "cpu":
        # Fewer, larger kernels, and no wait for the places of the masks.
        chunk = user_GV.shape[0]
    flat = [tensor for pairs in masks for tensor in pairs]
    # Sums of exponentials in half precision lose the tail: float32 at least.
    wide = torch.promote_types(torch.promote_types(user_GV.dtype, item_CV.dtype), torch.float32)
    with torch.autocast(device, enabled=False):
        inputs = user_GV.to(wide), item_CV.to(wide), bias_C.to(wide)
        if keep:
            kept_G: Tensor = _MaskedLogSumExp.apply(*inputs, chunk, *flat)
            return kept_G
        lse_G: Tensor = _TiledLogSumExp.apply(*inputs, chunk, tile, *flat)
    return lse_G


def _scores(user_gV: Tensor, item_VC: Tensor, bias_C: Tensor, masks: list[Pairs], out: Tensor | None = None) -> Tensor:
    """Scores [g, C], -inf where masked."""
    # Added in place while the scores are in the cache: addmm would first spread the bias over the whole matrix.
    score_gC = torch.mm(user_gV, item_VC, out=out).add_(bias_C)
    for row_p, column_p in masks:
        score_gC.view(-1).index_fill_(0, row_p * item_VC.shape[1] + column_p, -torch.inf)
    return score_gC


def _exponentials_(exp_gC: Tensor, user_gV: Tensor, item_VC: Tensor, bias_C: Tensor, masks: list[Pairs]) -> Tensor:
    """Fill `exp_gC` with the exponentials of the shifted scores (zero where masked); returns the shifts [g]."""
    _scores(user_gV, item_VC, bias_C, masks, out=exp_gC)
    # A row without candidates: a finite shift keeps its exponentials at zero instead of NaN.
    shift_g = exp_gC.amax(1).clamp_(min=torch.finfo(exp_gC.dtype).min)
    exp_gC.sub_(shift_g[:, None]).exp_()
    return shift_g


def _tiles(num_columns: int, tile: int) -> list[slice]:
    return [slice(start, min(start + tile, num_columns)) for start in range(0, num_columns, tile)]


def _within(masks: list[Pairs], columns: slice) -> list[Pairs]:
    """The masked pairs among these candidates, which are counted from the first of them."""
    found = []
    for row_p, column_p in masks:
        at = ((column_p >= columns.start) & (column_p < columns.stop)).nonzero()[:, 0]
        found.append((row_p.index_select(0, at), column_p.index_select(0, at) - columns.start))
    return found


def _chunks(masks: Sequence[Tensor], num_groups: int, chunk: int) -> Iterator[tuple[int, int, list[Pairs]]]:
    """Ranges of groups and the masked pairs within each, their groups counted from its start."""
    pairs = list(zip(masks[::2], masks[1::2], strict=True))
    if chunk >= num_groups:
        yield 0, num_groups, pairs
        return
    starts = list(range(0, num_groups, chunk))
    bounds = torch.tensor([*starts, num_groups], device=masks[0].device if masks else None)
    places = [torch.searchsorted(row_P, bounds).tolist() for row_P, _ in pairs]
    for i, start in enumerate(starts):
        within = [
            (row_P[place[i] : place[i + 1]] - start, column_P[place[i] : place[i + 1]])
            for (row_P, column_P), place in zip(pairs, places, strict=True)
        ]
        yield start, min(start + chunk, num_groups), within
