"""Gradient caching: the gradients of the whole batch, in the memory of a piece."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from planted import NUM_ITEMS, Planted, module_of, schema_of, tables_of, train_loader, trainer_of, val_loaders
from test_two_tower import batch_of, model_of, with_context

from towerrec.module import RetrievalModule
from towerrec.nn import encoder
from towerrec.nn.batch_scorer import BatchScorer
from towerrec.nn.losses import BCE, FullSoftmax, InBatchSoftmax, Loss
from towerrec.nn.negatives import NoNegatives
from towerrec.ragged import UserItems

PLANTED = Planted.make()
LOSSES = [BCE(), InBatchSoftmax(), InBatchSoftmax(correction="refined"), FullSoftmax()]


def gradients(micro_batch: int | None, loss: Loss, **model: Any) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Loss and gradients of one batch of 256 rows in double precision."""
    small = {"use_features": False, "residual_id": False, **model}
    module: RetrievalModule = module_of(PLANTED, loss=loss, model=small, micro_batch=micro_batch).double().train()
    batch = next(iter(train_loader(PLANTED, module)))
    torch.manual_seed(7)
    value = module.loss(module.scorer.scored(batch, module.loss), module.scorer.known)
    value.backward()
    return value.detach(), {n: p.grad for n, p in module.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.name}-{loss.correction}")
@pytest.mark.parametrize("micro_batch", [7, 32])
def test_the_gradients_of_pieces_are_those_of_the_whole_batch(loss: Loss, micro_batch: int):
    want, want_grads = gradients(None, loss)
    got, got_grads = gradients(micro_batch, loss)
    torch.testing.assert_close(got, want, rtol=1e-12, atol=0)
    assert got_grads.keys() == want_grads.keys() and len(want_grads) > 5
    for name, gradient in want_grads.items():
        torch.testing.assert_close(got_grads[name], gradient, rtol=1e-9, atol=1e-14, msg=name)


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: f"{loss.name}-{loss.correction}")
def test_the_second_pass_drops_what_the_first_dropped(loss: Loss, monkeypatch: pytest.MonkeyPatch):
    model = {"dropout": 0.3, "id_dropout": 0.2}
    got, got_grads = gradients(32, loss, **model)
    # The same pieces with their graphs kept: nothing is encoded twice.
    monkeypatch.setattr(encoder, "checkpoint", lambda encode, piece, use_reentrant: encode(piece))
    want, want_grads = gradients(32, loss, **model)
    assert torch.equal(got, want)
    for name, gradient in want_grads.items():
        torch.testing.assert_close(got_grads[name], gradient, rtol=1e-12, atol=1e-15, msg=name)
    assert gradients(32, loss)[0] != got  # dropout was on


def kept_bytes(micro_batch: int | None) -> int:
    """Bytes that the first pass keeps for the second; parameters and tables not counted."""
    module = module_of(PLANTED, model={"user_hidden": [512], "item_hidden": [512]}, micro_batch=micro_batch).train()
    batch = next(iter(train_loader(PLANTED, module)))
    resident = {p.data_ptr() for p in module.parameters()}
    kept: dict[int, int] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in resident:
            kept[tensor.data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        value = module.loss(module.scorer.scored(batch, module.loss), module.scorer.known)
    assert value.requires_grad
    return sum(kept.values())


def test_the_first_pass_keeps_vectors_and_no_hidden_layers():
    assert kept_bytes(8) < 0.35 * kept_bytes(None)


@pytest.mark.parametrize("history", [False, True])
def test_rows_with_a_context_and_a_history_are_cut_with_their_rows(history: bool):
    users, items = tables_of()
    values = []
    for micro_batch in (None, 7):
        model = model_of(with_context(schema_of()), history_dim=3 if history else 0, context_dropout=0.0)
        scorer = BatchScorer(
            model,
            users=users,
            items=items,
            item_counts=torch.ones(NUM_ITEMS),
            known=UserItems.empty(num_users=users.num_rows, num_items=NUM_ITEMS),
            negatives=NoNegatives(),
            micro_batch=micro_batch,
        )
        loss = InBatchSoftmax()
        loss(scorer.scored(batch_of(history=history), loss), scorer.known).backward()
        values.append({n: p.grad for n, p in model.named_parameters() if p.grad is not None})
    for name, gradient in values[0].items():
        torch.testing.assert_close(values[1][name], gradient, rtol=1e-4, atol=1e-6, msg=name)


def test_training_in_pieces_learns_what_training_at_once_learns():
    states = []
    for micro_batch in (None, 40):
        module = module_of(PLANTED, micro_batch=micro_batch)
        trainer = trainer_of(max_epochs=2)
        trainer.fit(module, train_loader(PLANTED, module), val_loaders(PLANTED))
        states.append(float(trainer.callback_metrics["train/loss"]))
    assert states[1] == pytest.approx(states[0], rel=1e-3)


def test_batch_norm_and_pieces_are_refused_together():
    with pytest.raises(ValueError, match="batch norm takes its statistics over a piece"):
        module_of(PLANTED, model={"norm": "batch"}, micro_batch=8)
    with pytest.raises(ValueError, match=r"loader.micro_batch must be at least 1, got 0"):
        module_of(PLANTED, micro_batch=0)
