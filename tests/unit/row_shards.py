"""What each of two processes does with its rows of a table, on CPUs (gloo) or GPUs (NCCL)."""

from __future__ import annotations

import os
import socket

import torch
import torch.distributed as dist
from torch.distributed.device_mesh import DeviceMesh

from towerrec.nn.sharded import RowShard


def look_up_and_learn(rank: int, device_type: str, port: int) -> None:
    """One of two processes: 5 or 7 rows of an odd table and its biases, the gradients of both, and the whole table."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    device = torch.device(device_type, rank) if device_type == "cuda" else torch.device("cpu")
    if device.type == "cuda":
        torch.cuda.set_device(device)
    dist.init_process_group("nccl" if device.type == "cuda" else "gloo", rank=rank, world_size=2)
    shard = RowShard(DeviceMesh.from_group(dist.new_group(), device.type), num_rows=11)
    draw = torch.Generator().manual_seed(0)
    table, biases = torch.randn(11, 3, generator=draw), torch.randn(11, generator=draw)
    asked = [torch.tensor([0, 10, 4, 4, 7]), torch.tensor([10, 1, 2, 3, 4, 5, 6])]
    blocks = [torch.nn.Parameter(shard.cut(whole).to(device)) for whole in (table, biases)]
    rows, of_rows = shard.look_up(asked[rank].to(device), *blocks)
    assert torch.equal(rows.cpu(), table[asked[rank]]) and torch.equal(of_rows.cpu(), biases[asked[rank]])
    (rows.square().sum() + of_rows.square().sum()).backward()
    for whole, block in ((table, blocks[0]), (biases, blocks[1])):
        whole = whole.clone().requires_grad_()
        (sum(whole[idx].square().sum() for idx in asked) / 2).backward()
        torch.testing.assert_close(block.grad.cpu(), shard.cut(whole.grad))
    put_together = shard.gathered(blocks[0], dist.new_group(backend="gloo"))
    assert torch.equal(put_together, table if rank == 0 else table[:0])
    dist.destroy_process_group()


def free_port() -> int:
    """A port that nobody listens at."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        port: int = server.getsockname()[1]
        return port
