"""Rows of tables shared out over processes, against the whole tables."""

from __future__ import annotations

from typing import Any, cast

import pytest
import torch
import torch.multiprocessing as mp
from row_shards import free_port, look_up_and_learn

from towerrec.nn.sharded import RowShard


class Mesh:
    """Stands for `num` processes, of which this one has a number."""

    def __init__(self, rank: int, num: int) -> None:
        self.rank, self.num = rank, num

    def size(self) -> int:
        return self.num

    def get_local_rank(self) -> int:
        return self.rank


def shards_of(num_rows: int, num: int) -> list[RowShard]:
    return [RowShard(cast(Any, Mesh(rank, num)), num_rows) for rank in range(num)]


@pytest.mark.parametrize(("num_rows", "num"), [(12, 3), (11, 3), (4, 3), (2, 3), (5, 1)])
def test_every_row_lies_with_one_process(num_rows: int, num: int):
    table, shards = torch.randn(num_rows, 2), shards_of(num_rows, num)
    blocks = [shard.cut(table) for shard in shards]
    assert torch.equal(torch.cat(blocks), table)
    assert max(len(block) for block in blocks) == -(-num_rows // num)
    held = torch.stack([shard.holds(torch.arange(num_rows)) for shard in shards])
    assert bool((held.sum(0) == 1).all())
    for shard, block in zip(shards, blocks, strict=True):
        mine = torch.arange(num_rows)[shard.holds(torch.arange(num_rows))]
        assert torch.equal(block[mine - shard.first], table[mine])


def test_two_processes_find_each_others_rows_and_teach_them():
    mp.spawn(look_up_and_learn, ("cpu", free_port()), 2)
