"""Every parameter gets a gradient in every step: DDP waits for one of each, from every process."""

from __future__ import annotations

from typing import Any

import lightning as L
import pytest
from planted import Planted, module_of, train_loader, trainer_of

from towerrec.nn.losses import BCE, BPR, FullSoftmax, InBatchSoftmax, Loss, Multi, Multinomial
from towerrec.nn.negatives import Uniform

PLANTED = Planted.make()
PARTS = {"a": {"weight": 1.0, "loss": BCE()}, "b": {"weight": 1.0, "loss": InBatchSoftmax(learn_temperature=True)}}
MODELS: dict[str, dict[str, Any]] = {
    "two towers": {},
    "ids": {"use_features": False, "user_hidden": [], "item_hidden": []},
    "features": {"use_ids": False},
    "cosine": {"similarity": "cosine", "learn_scale": True},
    "cross": {"user_cross": 1, "item_cross": 1, "norm": "layer"},
    "positives": {"profile": "positives"},
    "rows": {"profile": "rows"},
    "members": {"members": 2},
    "dropout": {"id_dropout": 0.5, "feature_dropout": 0.5, "dropout": 0.5},
}


class Forgotten(L.Callback):
    """Names of the parameters that were left without a gradient."""

    def __init__(self) -> None:
        self.names: set[str] = set()

    def on_after_backward(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.names |= {name for name, p in pl_module.named_parameters() if p.requires_grad and p.grad is None}


@pytest.mark.parametrize("model", MODELS.values(), ids=MODELS)
@pytest.mark.parametrize(
    "loss",
    [BCE(), BPR(), InBatchSoftmax(), FullSoftmax(), Multinomial(), Multi(parts=PARTS)],
    ids=lambda loss: loss.name,
)
def test_no_parameter_is_left_without_a_gradient(model: dict[str, Any], loss: Loss):
    module = module_of(PLANTED, loss=loss, negatives=Uniform(per_row=1) if loss.name == "bpr" else None, model=model)
    forgotten = Forgotten()
    trainer = trainer_of(max_epochs=1, limit_train_batches=2, callbacks=[forgotten])
    # Few rows, so that some batches hold no positive.
    trainer.fit(module, train_loader(PLANTED, module, batch_size=4))
    assert forgotten.names == set()
