"""What one of the processes does in `test_distributed.py`: its share of some trainings; each rank leaves a file.

MASTER_ADDR=... MASTER_PORT=... LOCAL_RANK=... python sharing_processes.py DIRECTORY [CASE ...]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import torch
from planted import Planted, module_of, pairs_of, trainer_of
from torch import Tensor

from towerrec.data.loader import BatchLoader, UserLoader
from towerrec.data.user_batches import UserBatchLoader
from towerrec.nn.losses import BCE, BPR, FullSoftmax, InBatchSoftmax, Loss, Multi, Multinomial
from towerrec.nn.negatives import CrossBatch, Hard, Mixed, Negatives, NoNegatives, RowNegatives
from towerrec.nn.negatives.base import Request
from towerrec.optim import SGD

PLANTED = Planted.make()
# The shares of a batch differ in weight, as they do in a log whose rows count differently.
PLANTED.train.weight = torch.rand(len(PLANTED.train), generator=torch.Generator().manual_seed(1)) + 0.1
WORLD = 2


class Next(Negatives):
    """For every row the items behind its own: the same ones whichever process holds the row."""

    name = "next"
    per_row = 2

    def for_rows(self, request: Request) -> RowNegatives:
        step = torch.arange(1, 3, device=request.item_idx_B.device)
        return RowNegatives((request.item_idx_B[:, None] + step) % request.num_items)


class Given(Negatives):
    """Fixed shared items: half of them in each of two processes, all of them in one."""

    name = "given"
    items = (3, 3, 7, 11, 11, 11, 40, 79)

    def for_batch(self, num_items: int, device: torch.device) -> Tensor:
        held = len(self.items) // world_size()
        start = held * rank()
        return torch.tensor(self.items[start : start + held], device=device)

    def expected(self, num_items: int, *, processes: int = 1) -> Tensor:
        return torch.full((num_items,), processes * len(self.items) / world_size() / num_items, dtype=torch.float64)


class Whole(Hard):
    """A pool of the whole catalogue: the hardest items of all, drawn by no chance."""

    def expected(self, num_items: int, *, processes: int = 1) -> Tensor | None:
        return None


def several() -> Loss:
    parts = {"bce": BCE(), "softmax": InBatchSoftmax(learn_temperature=True), "pairs": BPR(), "all": FullSoftmax()}
    return Multi(parts={name: {"weight": 1.0, "loss": loss} for name, loss in parts.items()})


@dataclass
class Case:
    """A training: rows (or users) of all processes per step, and what `module_of` takes."""

    loss: Callable[[], Loss]
    negatives: Callable[[], Negatives] = NoNegatives
    batch_size: int = 512
    unit: str = "rows"
    model: dict[str, Any] = field(default_factory=dict)
    micro_batch: int | None = None
    trainer: dict[str, Any] = field(default_factory=dict)


CASES = {
    "bce": Case(BCE),
    "bce with negatives": Case(BCE, Next),
    "bce accumulated and clipped": Case(BCE, trainer={"accumulate_grad_batches": 2, "gradient_clip_val": 0.01}),
    "bpr": Case(BPR, Next),
    "in-batch softmax": Case(lambda: InBatchSoftmax(learn_temperature=True)),
    "in-batch softmax, not gathered": Case(lambda: InBatchSoftmax(learn_temperature=True, gather=False)),
    "in-batch softmax, refined": Case(lambda: InBatchSoftmax(correction="refined")),
    "in-batch softmax, known not masked": Case(lambda: InBatchSoftmax(mask_known=False)),
    "in-batch softmax, shared negatives": Case(InBatchSoftmax, Given),
    "in-batch softmax, former batches": Case(InBatchSoftmax, lambda: CrossBatch(num_batches=2), batch_size=64),
    "in-batch softmax, mixed": Case(
        InBatchSoftmax, lambda: Mixed(sources={"a": Given(), "b": Whole(per_row=2, pool=80)})
    ),
    "in-batch softmax, pieces": Case(InBatchSoftmax, micro_batch=16),
    "in-batch softmax, members": Case(InBatchSoftmax, model={"members": 2}),
    "full softmax": Case(FullSoftmax),
    "multinomial": Case(Multinomial),
    "multinomial over users": Case(Multinomial, batch_size=17, unit="users", model={"profile": "rows"}),
    "several, batches without positives": Case(several, Next, batch_size=6, trainer={"limit_train_batches": 60}),
}


def rank() -> int:
    return int(os.environ.get("LOCAL_RANK", "0"))


def world_size() -> int:
    return WORLD if "LOCAL_RANK" in os.environ else 1


class Steps(L.Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[float] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"].detach()) * trainer.accumulate_grad_batches)


def fitted(case: Case) -> dict[str, Any]:
    """Train; the losses of this process, the figures of all, and the weights."""
    module = module_of(
        PLANTED,
        loss=case.loss(),
        negatives=case.negatives(),
        model=case.model,
        micro_batch=case.micro_batch,
        # Adam would blow up the rounding of gradients that are zero, such as a user's bias under a softmax.
        optimizer=SGD(lr=0.1),
    )
    steps = Steps()
    trainer = trainer_of(
        max_epochs=2,
        devices=world_size(),
        strategy="ddp" if world_size() > 1 else "auto",
        use_distributed_sampler=False,
        callbacks=[steps],
        **case.trainer,
    )
    trainer.fit(module, train_loader(case, module.loss), val_loaders())
    return {
        "losses": torch.tensor(steps.losses),
        "figures": {name: float(value) for name, value in trainer.callback_metrics.items()},
        "weights": {name: value.detach().clone() for name, value in module.named_parameters()},
    }


def train_loader(case: Case, loss: Loss) -> BatchLoader:
    share: dict[str, Any] = {
        "batch_size": -(-case.batch_size // world_size()),
        "rank": rank(),
        "world_size": world_size(),
    }
    if case.unit == "users":
        share["batch_size"] = case.batch_size if world_size() == WORLD else case.batch_size * WORLD
        return UserBatchLoader(PLANTED.train, target_share=0.5, kind=loss.rows, positive="> 0", **share)
    return BatchLoader(PLANTED.train, shuffle=True, kind=loss.rows, positive="> 0", **share)


def val_loaders() -> list[UserLoader | BatchLoader]:
    """Of 101 users the second process has none in its last batch."""
    users = pairs_of(PLANTED.held_out).counts.nonzero()[:, 0][:101]
    share = {"rank": rank(), "world_size": world_size()}
    return [
        UserLoader(users, batch_size=50 // world_size(), **share),
        BatchLoader(PLANTED.held_out, batch_size=1000, **share),
    ]


def main(directory: Path, *names: str) -> None:
    torch.set_num_threads(1)
    torch.save({name: fitted(CASES[name]) for name in names or CASES}, directory / f"rank{rank()}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]), *sys.argv[2:])
