"""Tables that one device cannot hold: every process keeps a block of rows, and learns and optimises only those.

The engine is torch.distributed's own: a block is handed to it as a `DTensor` sharded along the rows, whose embedding is
that of tensor parallelism (`RowwiseParallel`; Shoeybi et al. 2019, Megatron-LM, arXiv 1909.08053, section 3). All
processes see the indices of all, each looks up what it holds and gives zeros for the rest, and the sum of it is
scattered back, so that every process has its own rows; gradients take the same way home. Nothing but torch is needed,
and it runs on CPUs (gloo) as on GPUs (NCCL). What is sent for R rows of width W is R * W numbers per pair of processes:
an exchange of only the rows that somebody asked for (TorchRec) sends less where there are many processes, but needs
kernels of its own (fbgemm) and the host to wait for the sizes.

Shape letters: N rows of the whole table, L rows of this process's block, R rows looked up, M the most of any process,
W width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.tensor import DTensor, Replicate, Shard


@dataclass(frozen=True)
class RowShard:
    """The block of rows that this process holds of every table with so many.

    Blocks are equally long, but for the last ones where the rows do not divide.

    Args:
        mesh: The processes, one dimension.
        num_rows: N, of the whole tables.
    """

    mesh: DeviceMesh
    num_rows: int

    @property
    def block(self) -> int:
        """Rows of a full block."""
        return -(-self.num_rows // self.mesh.size())

    @property
    def first(self) -> int:
        return min(self.mesh.get_local_rank() * self.block, self.num_rows)

    @property
    def end(self) -> int:
        return min(self.first + self.block, self.num_rows)

    def cut(self, whole: Tensor) -> Tensor:
        """This process's block of a table [N, ...], a copy."""
        assert whole.shape[0] == self.num_rows, "a shard cuts tables of its own length"
        return whole[self.first : self.end].clone()

    def look_up(self, idx_R: Tensor, *blocks: Tensor) -> list[Tensor]:
        """Rows `idx_R` of some tables, of each of which this process has the block [L, W] (or [L]).

        All processes call it together, each with its own indices, as many as it likes. The gradient of a row is the
        mean over the processes, as `DistributedDataParallel` has it.
        """
        num = idx_R.shape[0]
        most = torch.tensor([num], device=idx_R.device)
        dist.all_reduce(most, dist.ReduceOp.MAX, group=self.mesh.get_group())
        # Row 0 fills up: what is looked up there is thrown away, and gets no gradient.
        padded_M = F.pad(idx_R, (0, int(most) - num))
        everybodys = DTensor.from_local(padded_M, self.mesh, [Shard(0)], run_check=False)
        everybodys = everybodys.redistribute(self.mesh, [Replicate()])
        return [self._rows(everybodys, block)[:num] for block in blocks]

    def _rows(self, everybodys: DTensor, block: Tensor) -> Tensor:
        """Rows [M, W] (or [M]) of one table."""
        block_LW = block if block.ndim == 2 else block[:, None]
        width = block_LW.shape[1]
        table_NW = DTensor.from_local(
            block_LW,
            self.mesh,
            [Shard(0)],
            run_check=False,
            shape=torch.Size((self.num_rows, width)),
            stride=(width, 1),
        )
        found = F.embedding(everybodys, table_NW)
        assert isinstance(found, DTensor)
        rows_MW = found.redistribute(self.mesh, [Shard(0)]).to_local()
        if rows_MW.requires_grad:
            world = self.mesh.size()
            rows_MW.register_hook(lambda gradient: gradient / world)
        return rows_MW if block.ndim == 2 else rows_MW[:, 0]

    def holds(self, idx: Tensor) -> Tensor:
        """Which of these rows are in this process's block; there they lie at `idx - first`."""
        return (idx >= self.first) & (idx < self.end)

    def gathered(self, block: Tensor, group: dist.ProcessGroup) -> Tensor:
        """The whole table [N, ...] on the host of the first process of a gloo group, nothing ([0, ...]) on the others.

        All processes call it together. No device ever holds more than its block.
        """
        own = block.detach().cpu()
        missing = self.block - own.shape[0]
        if missing:
            own = torch.cat([own, own.new_zeros(missing, *own.shape[1:])])
        if dist.get_rank(group) != 0:
            dist.gather(own.contiguous(), group=group, group_dst=0)
            return own[:0]
        whole = own.new_empty(self.block * self.mesh.size(), *own.shape[1:])
        dist.gather(own.contiguous(), list(whole.split(self.block)), group=group, group_dst=0)
        return whole[: self.num_rows]
