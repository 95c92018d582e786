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

Pairs = tuple[Tensor, Tensor]
"""Masked pairs: groups (ascending) and candidates, each int64 [P]."""


class _MaskedLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, user_GV: Tensor, item_CV: Tensor, bias_C: Tensor, chunk: int, keep: bool, *masks: Tensor
    ) -> Tensor:
        num_groups, num_columns = user_GV.shape[0], item_CV.shape[0]
        item_VC = item_CV.T.contiguous()
        ctx.chunk, ctx.keep = chunk, keep
        exp_GC = user_GV.new_empty(num_groups if keep else min(chunk, num_groups), num_columns)
        sum_G, shift_G = user_GV.new_empty(num_groups), user_GV.new_empty(num_groups)
        for start, stop, pairs in _chunks(masks, num_groups, chunk):
            exp_gC = exp_GC[start:stop] if keep else exp_GC[: stop - start]
            shift_G[start:stop] = _exponentials_(exp_gC, user_GV[start:stop], item_VC, bias_C, pairs)
            torch.sum(exp_gC, 1, out=sum_G[start:stop])
        kept = [exp_GC] if keep else []
        ctx.save_for_backward(user_GV, item_CV, bias_C, sum_G, *masks, *kept)
        return sum_G.log() + shift_G

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_G: Tensor) -> tuple[Tensor | None, ...]:
        user_GV, item_CV, bias_C, sum_G, *masks = ctx.saved_tensors
        exp_GC = masks.pop() if ctx.keep else None
        # Normalisation and gradient are one factor a row: it goes to the narrow matrices, the wide one stays.
        factor_G1 = torch.where(sum_G > 0, grad_G / sum_G, 0.0)[:, None]
        grad_user_GV = torch.empty_like(user_GV)
        # Transposed: the other order of this product takes more than twice the time on a CPU.
        grad_item_VC = torch.zeros_like(item_CV.T, memory_format=torch.contiguous_format)
        grad_bias_C = torch.zeros_like(bias_C)
        num_groups, item_VC = user_GV.shape[0], item_CV.T
        for start, stop, pairs in _chunks(masks, num_groups, num_groups if ctx.keep else ctx.chunk):
            user_gV, factor_g1 = user_GV[start:stop], factor_G1[start:stop]
            exp_gC = exp_GC
            if exp_gC is None:
                exp_gC = user_GV.new_empty(stop - start, item_CV.shape[0])
                _exponentials_(exp_gC, user_gV, item_VC, bias_C, pairs)
            torch.mm(exp_gC, item_CV, out=grad_user_GV[start:stop])
            grad_item_VC.addmm_((user_gV * factor_g1).T, exp_gC)
            if ctx.needs_input_grad[2]:
                grad_bias_C += exp_gC.T @ factor_g1[:, 0]
        grad_user_GV *= factor_G1
        bias = grad_bias_C if ctx.needs_input_grad[2] else None
        return grad_user_GV, grad_item_VC.T, bias, None, None, *[None] * len(masks)


def masked_logsumexp(
    user_GV: Tensor,
    item_CV: Tensor,
    bias_C: Tensor,
    *,
    masks: Sequence[Pairs],
    chunk: int | None = None,
    keep: bool | None = None,
) -> Tensor:
    """Log of the sum over candidates of `exp(user . item + bias)`, masked pairs left out; [G], -inf where none is left.

    Args:
        user_GV: Vectors of the groups.
        item_CV: Vectors of the candidates.
        bias_C: Added to every score of a candidate.
        masks: Pairs left out.
        chunk: Groups at once; None takes what suits the device. It bounds the memory, not the result.
        keep: Keep the exponentials for the backward pass, which otherwise computes them again; None keeps them where
            they fit.
    """
    if user_GV.shape[0] == 0:
        # Nobody asks, perhaps among no candidates at all; the candidates still get their gradient.
        return user_GV.sum(1) + item_CV.sum() + bias_C.sum()
    num_scores, device = user_GV.shape[0] * item_CV.shape[0], user_GV.device.type
    if chunk is None:
        chunk = max(16, (_CPU_CHUNK if device == "cpu" else _ACCELERATOR_CHUNK) // item_CV.shape[0])
    if keep is None:
        keep = num_scores <= _KEPT
    if keep and device != "cpu":
        # Fewer, larger kernels, and no wait for the places of the masks.
        chunk = user_GV.shape[0]
    flat = [tensor for pairs in masks for tensor in pairs]
    # Sums of exponentials in half precision lose the tail: float32 at least.
    wide = torch.promote_types(torch.promote_types(user_GV.dtype, item_CV.dtype), torch.float32)
    with torch.autocast(device, enabled=False):
        lse_G: Tensor = _MaskedLogSumExp.apply(user_GV.to(wide), item_CV.to(wide), bias_C.to(wide), chunk, keep, *flat)
    return lse_G


def _exponentials_(exp_gC: Tensor, user_gV: Tensor, item_VC: Tensor, bias_C: Tensor, masks: list[Pairs]) -> Tensor:
    """Fill `exp_gC` with the exponentials of the shifted scores (zero where masked); returns the shifts [g]."""
    # Added in place while the scores are in the cache: addmm would first spread the bias over the whole matrix.
    torch.mm(user_gV, item_VC, out=exp_gC).add_(bias_C)
    flat = exp_gC.view(-1)
    for row_p, column_p in masks:
        flat.index_fill_(0, row_p * item_VC.shape[1] + column_p, -torch.inf)
    # A row without candidates: a finite shift keeps its exponentials at zero instead of NaN.
    shift_g = exp_gC.amax(1).clamp_(min=torch.finfo(exp_gC.dtype).min)
    exp_gC.sub_(shift_g[:, None]).exp_()
    return shift_g


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
