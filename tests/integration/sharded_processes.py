"""What one of two processes does in `test_sharded.py`: training with whole tables, with shared-out ones, resumed.

MASTER_ADDR=... MASTER_PORT=... LOCAL_RANK=... python sharded_processes.py DIRECTORY
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from planted import Planted, module_of, pairs_of, trainer_of

from towerrec.data.loader import BatchLoader, UserLoader
from towerrec.module import RetrievalModule
from towerrec.nn.losses import BCE, BPR, FullSoftmax, InBatchSoftmax, Multi
from towerrec.nn.negatives import Hard, Uniform
from towerrec.optim import Adam
from towerrec.rowwise import RowwiseAdagrad
from towerrec.sharding import ShardedTables

PLANTED = Planted.make()
BATCH, STEPS, EPOCHS = 128, 4, 2
PARTS = {"rows": (BCE, 1.0), "positives": (InBatchSoftmax, 0.1)}
MF = {"use_features": False, "user_bias": False, "item_bias": False, "global_bias": False}
# A softmax gives what is the same for all items nothing but rounding, of which Adam makes full steps.
ORDERS = MF | {"item_bias": True}
# Drawn negatives would differ from process to process, so the cases of two against one process have none.
CASES: dict[str, dict[str, Any]] = {
    "bce": {"loss": BCE},
    "dropout": {"loss": BCE, "model": {"id_dropout": 0.3}, "negatives": lambda: Uniform(per_row=1)},
    "softmax": {"loss": InBatchSoftmax, "model": ORDERS},
    "hard": {"loss": InBatchSoftmax, "model": ORDERS, "negatives": lambda: Hard(per_row=2, pool=8)},
    "apart": {"loss": lambda: InBatchSoftmax(gather=False), "model": ORDERS},
    "members": {"loss": BCE, "model": {"members": 2}},
    "parts": {"loss": lambda: Multi(parts={n: {"weight": w, "loss": part()} for n, (part, w) in PARTS.items()})},
    "rowwise": {"loss": BCE, "optimizer": RowwiseAdagrad},
    "factorization": {"loss": BPR, "model": MF, "negatives": lambda: Uniform(per_row=2)},
}


class Steps(L.Callback):
    """Keeps the loss of every step, and the gradients of the last."""

    def __init__(self) -> None:
        self.losses: list[float] = []
        self.gradients: dict[str, torch.Tensor] = {}

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        self.losses.append(float(outputs["loss"]))
        named = pl_module.named_parameters()
        self.gradients = {name: p.grad.clone() for name, p in named if p.grad is not None}


def module_for(case: dict[str, Any]) -> RetrievalModule:
    return module_of(
        PLANTED,
        loss=case["loss"](),
        negatives=case["negatives"]() if "negatives" in case else None,
        model=case.get("model"),
        optimizer=case.get("optimizer", Adam)(lr=0.02, weight_decay=0.01, embedding_decay=0.001),
    )


def loaders(module: RetrievalModule, rank: int, world: int) -> tuple[BatchLoader, list[UserLoader | BatchLoader]]:
    """Training and validation batches; the 51 validation users of one process in two leave an empty last batch."""
    train = BatchLoader(
        PLANTED.train,
        batch_size=BATCH // world,
        shuffle=True,
        kind=module.loss.rows,
        positive="> 0",
        rank=rank,
        world_size=world,
    )
    users = pairs_of(PLANTED.held_out).counts.nonzero()[:, 0][:101]
    rows = BatchLoader(PLANTED.held_out, batch_size=1000, rank=rank, world_size=world)
    return train, [UserLoader(users, batch_size=50, rank=rank, world_size=world), rows]


def fitted(
    name: str,
    *,
    rank: int,
    world: int,
    strategy: Any,
    epochs: int = EPOCHS,
    more: dict[str, Any] | None = None,
    **keys: Any,
) -> tuple[RetrievalModule, L.Trainer, dict[str, Any]]:
    """Train a case; what came out, on plain builtins and tensors."""
    module, steps = module_for(CASES[name]), Steps()
    callbacks = [steps, *keys.pop("callbacks", [])]
    trainer = trainer_of(
        max_epochs=epochs,
        limit_train_batches=STEPS,
        devices=world,
        strategy=strategy,
        use_distributed_sampler=False,
        callbacks=callbacks,
        **(more or {}),
    )
    train, val = loaders(module, rank, world)
    trainer.fit(module, train, val, **keys)
    out = {
        "losses": torch.tensor(steps.losses),
        "figures": {k: float(v) for k, v in trainer.callback_metrics.items() if k.startswith("val/")},
        "weights": {k: v.detach().clone() for k, v in module.named_parameters()},
        "gradients": steps.gradients,
        "state": [
            [tuple(v.shape) for v in s.values()] for o in trainer.optimizers for s in o.state_dict()["state"].values()
        ],
    }
    return module, trainer, out


def refusals(rank: int) -> dict[str, str]:
    """What is said about settings that need whole tables."""
    held: dict[str, tuple[dict[str, Any], dict[str, Any], int]] = {
        "catalogue": ({"loss": FullSoftmax()}, {}, 1),
        "profile": ({"model": {"profile": "rows"}}, {}, 1),
        "history": ({"model": {"history_dim": 4}}, {}, 1),
        "pieces": ({"micro_batch": 8}, {}, 1),
        "norm": ({}, {"gradient_clip_val": 1.0}, 1),
        "small": ({}, {}, 123),
    }
    said = {}
    for name, (keywords, more, min_rows) in held.items():
        module = module_of(PLANTED, **keywords)
        trainer = trainer_of(
            max_epochs=1, devices=2, strategy=ShardedTables(min_rows=min_rows), use_distributed_sampler=False, **more
        )
        try:
            trainer.fit(module, *loaders(module, rank, 2))
        except ValueError as error:
            said[name] = str(error)
    return said


def main(directory: Path) -> None:
    rank = int(os.environ["LOCAL_RANK"])
    torch.set_num_threads(1)
    results: dict[str, Any] = {}
    for name in CASES:
        results[f"{name} whole"] = fitted(name, rank=rank, world=2, strategy="ddp")[2]
        saver = ModelCheckpoint(dirpath=directory / name, save_last=True, filename="best")
        more = {"enable_checkpointing": True}
        # The users' table (122 rows) is large, that of the items (82) is not in the second case.
        strategy = ShardedTables(min_rows=100 if name == "dropout" else 1)
        results[name] = fitted(name, rank=rank, world=2, strategy=strategy, callbacks=[saver], more=more)[2]
    saver = ModelCheckpoint(dirpath=directory / "half", save_last=True, filename="best")
    fitted("bce", rank=rank, world=2, strategy=ShardedTables(min_rows=1), epochs=1, callbacks=[saver], more=more)
    results["resumed"] = fitted(
        "bce", rank=rank, world=2, strategy=ShardedTables(min_rows=1), ckpt_path=str(directory / "half" / "last.ckpt")
    )[2]
    clipped = {"gradient_clip_val": 1e-4, "gradient_clip_algorithm": "value"}
    results["clipped"] = fitted("bce", rank=rank, world=2, strategy=ShardedTables(min_rows=1), more=clipped)[2]
    results["refusals"] = refusals(rank)
    torch.save(results, directory / f"rank{rank}.pt")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
