"""Profiles and the softmax per user on CUDA are those of the CPU, up to rounding."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from planted import Planted, module_of, trainer_of, val_loaders

from towerrec.data.user_batches import UserBatchLoader
from towerrec.nn.losses import BCE, Loss, Multinomial
from towerrec.optim import Adam

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PLANTED = Planted.make()


@pytest.mark.parametrize("kind", ["positives", "rows"])
@pytest.mark.parametrize("loss", [BCE(), Multinomial()], ids=lambda loss: loss.name)
def test_a_batch_of_users_has_the_loss_and_the_gradients_of_the_cpu(loss: Loss, kind: str):
    found = []
    for device in ("cpu", "cuda"):
        module = module_of(PLANTED, loss=loss.cpu(), model={"profile": kind, "use_user_id": False})
        batch = next(iter(UserBatchLoader(PLANTED.train, batch_size=40, target_share=0.5)))
        module = module.to(device)
        module.scorer.to(device)
        value = module.loss(module.scorer.scored(batch.to(device), module.loss), module.scorer.known)
        value.backward()
        gradients = {name: p.grad.cpu() for name, p in module.named_parameters() if p.grad is not None}
        found.append((value.detach().cpu(), gradients))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_planted_tastes_are_learned_from_rows_that_live_on_cuda():
    narrow = {"use_features": False, "use_user_id": False, "embedding_dim": 8, "profile": "rows"}
    module = module_of(PLANTED, loss=Multinomial(shown_weight=0.0), model=narrow, optimizer=Adam(lr=0.02))
    loader = UserBatchLoader(
        PLANTED.train.to("cuda"), batch_size=30, target_share=0.5, kind="positives", positive="> 0"
    )
    trainer = trainer_of(accelerator="gpu", max_epochs=60, check_val_every_n_epoch=60)
    trainer.fit(module, loader, val_loaders(PLANTED))
    assert float(trainer.callback_metrics["val/recall@10"]) >= 0.9
