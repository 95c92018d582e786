"""Batches without rows, of one row, without positives: every loss is a finite number, and so is every gradient."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from planted import Planted, module_of, train_loader

from towerrec.data.rows import Rows
from towerrec.nn.losses import (
    BCE,
    BPR,
    MSE,
    FullSoftmax,
    Huber,
    InBatchSoftmax,
    Loss,
    Multi,
    Multinomial,
    Poisson,
    Quantile,
)
from towerrec.nn.negatives import Negatives, Uniform

PLANTED = Planted.make()
PARTS = {"a": {"weight": 1.0, "loss": BCE()}, "b": {"weight": 1.0, "loss": InBatchSoftmax(learn_temperature=True)}}
LOSSES: list[Loss] = [
    *(BCE(), MSE(), Huber(), Poisson(), Quantile(), FullSoftmax(), Multinomial(), BPR()),
    *(
        InBatchSoftmax(),
        InBatchSoftmax(correction="refined"),
        InBatchSoftmax(learn_temperature=True),
        Multi(parts=PARTS),
    ),
]
POSITIVE, OTHER = int(PLANTED.train.label.argmax()), int(PLANTED.train.label.argmin())
# Places of the rows of a batch in the training rows.
BATCHES = {
    "no row": [],
    "one positive row": [POSITIVE],
    "one other row": [OTHER],
    "the same row twice": [POSITIVE, POSITIVE],
    "no positive": [OTHER, OTHER + 1 if PLANTED.train.label[OTHER + 1] == 0 else OTHER],
}
MODELS: dict[str, dict[str, Any]] = {
    "two towers": {},
    "a profile": {"profile": "rows"},
    "cosine": {"similarity": "cosine"},
}


def rows_at(places: list[int]) -> Rows:
    at, rows = torch.tensor(places, dtype=torch.int64), PLANTED.train
    return Rows(rows.user_idx[at], rows.item_idx[at], rows.label[at], rows.timestamp_ms[at])


def negatives_of(loss: Loss) -> Negatives | None:
    return Uniform(per_row=2) if loss.name == "bpr" else None


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("place", range(len(LOSSES)), ids=[f"{n}-{loss.name}" for n, loss in enumerate(LOSSES)])
def test_a_batch_of_hardly_anything_has_a_finite_loss_and_gradient(place: int, model: str):
    loss = LOSSES[place]
    module = module_of(PLANTED, loss=loss, negatives=negatives_of(loss), model=MODELS[model])
    (whole, *_) = train_loader(PLANTED, module)
    for name, places in BATCHES.items():
        rows = rows_at(places)
        batch = type(whole)(
            user_idx=rows.user_idx.long(),
            item_idx=rows.item_idx.long(),
            label=rows.label,
            weight=torch.ones(len(places)),
        )
        module.zero_grad()
        value = loss(module.scorer.scored(batch, loss), module.scorer.known)
        assert value.isfinite(), name
        value.backward()
        grads = [(n, p.grad) for n, p in module.named_parameters() if p.grad is not None]
        assert all(grad.isfinite().all() for _, grad in grads), name
