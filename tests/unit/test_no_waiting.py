"""On an accelerator the host never waits in a training step.

On the `meta` device, which holds no values, whatever would need one fails: a number of distinct rows, the places of a
mask, a scalar.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from planted import Planted, module_of, train_loader

from towerrec.nn.losses import BCE, BPR, MSE, Loss
from towerrec.nn.negatives import Negatives, NoNegatives, Popularity, Uniform

PLANTED = Planted.make()
META = torch.device("meta")

STEPS: list[tuple[Loss, Negatives, dict[str, Any]]] = [
    (BCE(), NoNegatives(), {}),
    (MSE(), NoNegatives(), {"dropout": 0.2, "id_dropout": 0.1, "feature_dropout": 0.1}),
    (BCE(), Uniform(per_row=2), {"similarity": "cosine"}),
    (BPR(), Popularity(per_row=3), {"use_features": False, "user_hidden": [], "item_hidden": []}),
]


@pytest.mark.parametrize(("loss", "negatives", "model"), STEPS, ids=lambda part: getattr(part, "name", ""))
def test_a_step_over_rows_or_pairs_asks_for_no_value(loss: Loss, negatives: Negatives, model: dict[str, Any]):
    module = module_of(PLANTED, loss=loss, negatives=negatives, model=model).train()
    batch = next(iter(train_loader(PLANTED, module)))
    module.scorer.to(META)
    module.to(META)
    value = module.loss(module.scorer.scored(batch.to(META), module.loss), module.scorer.known)
    value.backward()
    assert value.shape == () and value.device == META
    assert all(p.grad is not None for p in module.parameters() if p.requires_grad)


def test_what_waits_is_caught():
    with pytest.raises((RuntimeError, NotImplementedError)):
        torch.zeros(3, device=META).nonzero()
