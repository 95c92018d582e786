"""The processes that share a batch, and what one of them needs of the others.

Every process must make the same calls in the same order, also one whose share is empty: a call that only some of them
make waits forever.

Shape letters: W processes, N rows of one process, M the most that any has, A rows of all processes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable


@dataclass(frozen=True)
class Peers:
    """The processes of a training under DDP: each holds the whole model and its share of the rows of every batch.

    DDP averages the gradients of the processes. So that this average is the gradient of the mean over the rows of all
    shares, however unequal these are in number or weight, the loss of a process is the sum over its rows divided by
    `mean` of the sums of weights: `world_size` times its part of the whole.

    Args:
        rank: Number of this process.
        world_size: Number of processes; with one, nothing is sent.
    """

    rank: int = 0
    world_size: int = 1

    @property
    def several(self) -> bool:
        return self.world_size > 1

    def mean(self, value: Tensor) -> Tensor:
        """Mean of a value over the processes, without a gradient."""
        if not self.several:
            return value
        total = value.detach().clone()
        dist.all_reduce(total)
        return total / self.world_size

    def sizes(self, *numbers: int, device: torch.device) -> list[list[int]]:
        """Some numbers of every process: for each number a list over the processes. The host waits for them."""
        mine = torch.tensor(numbers, dtype=torch.int64, device=device)
        return [list(each) for each in zip(*_all_gather(mine[None]).tolist(), strict=True)]

    def share(self, number: int) -> slice:
        """This process's part of so many things in a row; the parts differ by one at most."""
        return slice(self.rank * number // self.world_size, (self.rank + 1) * number // self.world_size)

    def collect(self, part_N: Tensor) -> Tensor:
        """The parts of all processes in a row [A, ...], in every process."""
        if not self.several:
            return part_N
        (sizes,) = self.sizes(part_N.shape[0], device=part_N.device)
        return self.gather(part_N, sizes)

    def gather(self, share_N: Tensor, sizes: Sequence[int]) -> Tensor:
        """The rows of all processes [A, ...], those of the first one first.

        The gradient of a share is the sum of what all processes say of it.

        Args:
            share_N: Rows of this process [N, ...]; the processes may hold different numbers.
            sizes: Their numbers, see `sizes`.
        """
        assert len(sizes) == self.world_size and sizes[self.rank] == share_N.shape[0]
        gathered: Tensor = _Gather.apply(share_N, tuple(sizes), self.rank)
        return gathered


ALONE = Peers()


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, share_N: Tensor, sizes: tuple[int, ...], rank: int) -> Tensor:
        ctx.sizes, ctx.rank = sizes, rank
        all_WM = _all_gather(_padded(share_N, max(sizes))[None])
        return torch.cat([all_M[:size] for all_M, size in zip(all_WM, sizes, strict=True)])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_A: Tensor) -> tuple[Tensor, None, None]:
        most = max(ctx.sizes)
        parts = [_padded(part, most) for part in grad_A.split(ctx.sizes)]
        mine_M = torch.empty_like(parts[ctx.rank])
        dist.reduce_scatter(mine_M, parts)
        return mine_M[: ctx.sizes[ctx.rank]], None, None


def _all_gather(part_1: Tensor) -> Tensor:
    """Tensors [1, ...] of all processes as one [W, ...]."""
    all_W = part_1.new_empty(dist.get_world_size(), *part_1.shape[1:])
    dist.all_gather(list(all_W.split(1)), part_1.contiguous())
    return all_W


def _padded(rows_N: Tensor, most: int) -> Tensor:
    """With zeros behind, up to `most` rows; contiguous."""
    return F.pad(rows_N, [0, 0] * (rows_N.ndim - 1) + [0, most - rows_N.shape[0]]).contiguous()
