"""The softmax over candidates without storing its matrix twice: the part that costs the time.

Shape letters: G groups (users, or rows where every row has its own vector), C candidates, V width of the vectors,
P masked pairs, B rows.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

# Probabilities kept between forward and backward (256 MB); beyond it the chunks are computed again.
_KEPT = 1 << 26
# Probabilities of one chunk where they are computed again.
_CHUNK = 1 << 24


class _MaskedLogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        user_GV: Tensor,
        item_CV: Tensor,
        bias_C: Tensor,
        mask_row_P: Tensor,
        mask_column_P: Tensor,
        chunk: int,
    ) -> Tensor:
        num_groups = user_GV.shape[0]
        ctx.chunk = chunk
        kept: list[Tensor] = []
        lse_G = user_GV.new_empty(num_groups)
        for start, stop, pairs in _chunks(mask_row_P, num_groups, chunk):
            exp_gC, sum_g, shift_g = _exponentials(
                user_GV[start:stop], item_CV, bias_C, mask_row_P[pairs] - start, mask_column_P[pairs]
            )
            lse_G[start:stop] = sum_g.log() + shift_g
            kept = [exp_gC, sum_g]
        single = kept if chunk >= num_groups else []
        ctx.save_for_backward(user_GV, item_CV, bias_C, mask_row_P, mask_column_P, *single)
        return lse_G

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_G: Tensor) -> tuple[Tensor | None, ...]:
        user_GV, item_CV, bias_C, mask_row_P, mask_column_P, *kept = ctx.saved_tensors
        grad_user_GV = torch.empty_like(user_GV)
        grad_item_CV = torch.zeros_like(item_CV)
        grad_bias_C = torch.zeros_like(bias_C)
        for start, stop, pairs in _chunks(mask_row_P, user_GV.shape[0], ctx.chunk):
            user_gV = user_GV[start:stop]
            if kept:
                exp_gC, sum_g = kept
            else:
                exp_gC, sum_g, _ = _exponentials(
                    user_gV, item_CV, bias_C, mask_row_P[pairs] - start, mask_column_P[pairs]
                )
            # Normalisation and gradient are one factor a row: it goes to the narrow matrices, the wide one stays.
            factor_g1 = torch.where(sum_g > 0, grad_G[start:stop] / sum_g, 0.0)[:, None]
            torch.mm(exp_gC, item_CV, out=grad_user_GV[start:stop])
            grad_user_GV[start:stop] *= factor_g1
            grad_item_CV.addmm_(exp_gC.T, user_gV * factor_g1)
            if ctx.needs_input_grad[2]:
                grad_bias_C += exp_gC.T @ factor_g1[:, 0]
        return grad_user_GV, grad_item_CV, grad_bias_C if ctx.needs_input_grad[2] else None, None, None, None


def masked_logsumexp(
    user_GV: Tensor,
    item_CV: Tensor,
    bias_C: Tensor,
    *,
    mask_row_P: Tensor,
    mask_column_P: Tensor,
    chunk: int | None = None,
) -> Tensor:
    """Log of the sum over candidates of `exp(user . item + bias)`, masked pairs left out; [G], -inf where none is left.

    Args:
        user_GV: Vectors of the groups.
        item_CV: Vectors of the candidates.
        bias_C: Added to every score of a candidate.
        mask_row_P: Groups of the masked pairs.
        mask_column_P: Candidates of the masked pairs.
        chunk: Groups at once; None keeps the probabilities for the backward pass where they fit and computes them
            again in chunks where they do not. It bounds the memory, not the result.
    """
    if chunk is None:
        size = user_GV.shape[0] * item_CV.shape[0]
        chunk = max(1, user_GV.shape[0]) if size <= _KEPT else max(1, _CHUNK // item_CV.shape[0])
    if chunk < user_GV.shape[0]:
        mask_row_P, order_P = torch.sort(mask_row_P)
        mask_column_P = mask_column_P[order_P]
    device = user_GV.device.type
    # Sums of exponentials in half precision lose the tail: always float32.
    with torch.autocast(device, enabled=False):
        lse_G: Tensor = _MaskedLogSumExp.apply(
            user_GV.float(), item_CV.float(), bias_C.float(), mask_row_P, mask_column_P, chunk
        )
    return lse_G


def _exponentials(
    user_gV: Tensor, item_CV: Tensor, bias_C: Tensor, row_p: Tensor, column_p: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Exponentials [g, C] of the shifted scores (zero where masked), their sums [g] and the shifts [g]."""
    exp_gC = torch.addmm(bias_C, user_gV, item_CV.T)
    exp_gC.view(-1).index_fill_(0, row_p * item_CV.shape[0] + column_p, -torch.inf)
    # A row without candidates: a finite shift keeps its exponentials at zero instead of NaN.
    shift_g = exp_gC.amax(1).clamp(min=torch.finfo(exp_gC.dtype).min)
    exp_gC.sub_(shift_g[:, None]).exp_()
    return exp_gC, exp_gC.sum(1), shift_g


def _chunks(mask_row_P: Tensor, num_groups: int, chunk: int) -> list[tuple[int, int, slice]]:
    """Ranges of groups and the masked pairs (ascending by group) that belong to each."""
    if chunk >= num_groups:
        return [(0, num_groups, slice(None))]
    starts = list(range(0, num_groups, chunk))
    bounds = torch.tensor([*starts, num_groups], device=mask_row_P.device)
    places = torch.searchsorted(mask_row_P, bounds).tolist()
    return [(start, min(start + chunk, num_groups), slice(places[i], places[i + 1])) for i, start in enumerate(starts)]
