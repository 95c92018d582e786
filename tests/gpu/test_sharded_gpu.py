"""Rows of tables shared out over two GPUs, against the whole tables."""

from __future__ import annotations

import pytest
import torch
import torch.multiprocessing as mp
from row_shards import free_port, look_up_and_learn

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(torch.cuda.device_count() < 2, reason="rows are shared out over two GPUs at least"),
]


def test_two_gpus_find_each_others_rows_and_teach_them():
    mp.spawn(look_up_and_learn, ("cuda", free_port()), 2)
