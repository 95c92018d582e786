"""How long the gradient of a step is."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.utils import get_total_norm

from towerrec.nn.peers import Peers
from towerrec.nn.towers import Tower


def gradient_norm(model: nn.Module, peers: Peers) -> Tensor:
    """L2 norm of the gradient over all parameters, a scalar.

    Where tables are shared out (`nn.sharded`), the blocks of all processes count, and all must call it together.
    """
    blocks = {id(table) for tower in model.modules() if isinstance(tower, Tower) for table in tower.blocks}
    whole = [p.grad for p in model.parameters() if p.grad is not None and id(p) not in blocks]
    square = get_total_norm(whole).square()
    if blocks:
        own = [p.grad for p in model.parameters() if p.grad is not None and id(p) in blocks]
        square = square + peers.mean(get_total_norm(own).square().to(square.device)) * peers.world_size
    return square.sqrt()
