"""Training on CUDA is the training of the CPU, up to rounding."""

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from planted import Planted, module_of, train_loader, trainer_of, val_loaders

from towerrec.nn.losses import BCE, FullSoftmax, InBatchSoftmax, Loss, Multi
from towerrec.nn.negatives import Negatives, NoNegatives, Uniform

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]

PLANTED = Planted.make()


BOTH = Multi(parts={"bce": {"weight": 1.0, "loss": BCE()}, "softmax": {"weight": 0.1, "loss": InBatchSoftmax()}})
LOSSES = [BCE(), InBatchSoftmax(), InBatchSoftmax(correction="refined"), FullSoftmax(), BOTH]


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.name}-{loss.correction}")
def test_a_batch_has_the_loss_and_the_gradients_of_the_cpu(loss: Loss):
    found = []
    for device in ("cpu", "cuda"):
        module = module_of(PLANTED, loss=loss.cpu())
        batch = next(iter(train_loader(PLANTED, module)))
        module = module.to(device)
        module.scorer.to(device)
        value = module.loss(module.scorer.scored(batch.to(device), module.loss), module.scorer.known)
        value.backward()
        gradients = {name: p.grad.cpu() for name, p in module.named_parameters() if p.grad is not None}
        found.append((value.detach().cpu(), gradients))
    torch.testing.assert_close(found[1][0], found[0][0], rtol=1e-4, atol=1e-5)
    for name, gradient in found[0][1].items():
        torch.testing.assert_close(found[1][1][name], gradient, rtol=1e-3, atol=1e-5, msg=name)


def test_planted_tastes_are_learned_on_cuda():
    module = module_of(PLANTED)
    trainer = trainer_of(accelerator="gpu", max_epochs=8, check_val_every_n_epoch=8)
    trainer.fit(module, train_loader(PLANTED, module), val_loaders(PLANTED))
    assert float(trainer.callback_metrics["val/recall@10"]) >= 0.9


@pytest.mark.parametrize("negatives", [NoNegatives(), Uniform(per_row=2)], ids=lambda source: source.name)
def test_the_host_never_waits_in_a_step_over_rows(negatives: Negatives):
    module = module_of(PLANTED, negatives=negatives).to("cuda")
    module.scorer.to(torch.device("cuda"))
    optimizer = module.optimizer_settings.build(module.named_parameters())
    batches = [batch.to("cuda") for batch in train_loader(PLANTED, module)][:3]
    try:
        for batch in batches:
            module.loss(module.scorer.scored(batch, module.loss), module.scorer.known).backward()
            optimizer.step()
            optimizer.zero_grad()
            # From the second step on: what never changes is found in the first.
            torch.cuda.set_sync_debug_mode("error")
    finally:
        torch.cuda.set_sync_debug_mode("default")
