"""Training speed on made-up rows: ids and 24 categorical features, whole batches, the loop of train.py.

    python benchmarks/training_speed.py --loss bce --batch 4096 8192

Prints one JSON line per loss and batch size: rows (or positives) a second of the second and later epochs, median.
"""

from __future__ import annotations

import argparse
import json
import logging
import statistics
import time
import warnings

import lightning as L
import torch

from towerrec.callbacks import Throughput
from towerrec.data.loader import BatchLoader
from towerrec.data.rows import Rows
from towerrec.module import RetrievalModule
from towerrec.nn.losses import BCE, MSE, FullSoftmax, InBatchSoftmax, LabelFacts, Loss
from towerrec.nn.negatives import NoNegatives
from towerrec.optim import Adam, Constant
from towerrec.ragged import UserItems
from towerrec.resident import RankingTask, Resident
from towerrec.schema import FIRST, FeatureSchema, FeatureSpec, FeatureTable

LOSSES: dict[str, type[Loss]] = {
    "bce": BCE,
    "mse": MSE,
    "in_batch_softmax": InBatchSoftmax,
    "full_softmax": FullSoftmax,
}
CARDINALITIES = [2, 8, 30, 1076, 12, 10, 3, 47, 340, 7, 5, 3]


class EpochRates(Throughput):
    """Keeps the rate of every epoch."""

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        super().on_train_epoch_end(trainer, pl_module)
        self.rates = [*getattr(self, "rates", []), self._epoch_rows / self._epoch_seconds]


def made_up(num_rows: int, num_users: int, num_items: int) -> tuple[FeatureSchema, FeatureTable, FeatureTable, Rows]:
    """A schema of ids and 12 + 12 categorical features, its tables, and rows as skewed as a log's."""
    generator = torch.Generator().manual_seed(0)
    specs = []
    columns: dict[str, dict[str, torch.Tensor]] = {"user": {}, "item": {}}
    for side, num in (("user", num_users), ("item", num_items)):
        specs.append(FeatureSpec(f"{side}_id", side, "categorical", cardinality=num + FIRST))  # type: ignore[arg-type]
        columns[side][f"{side}_id"] = torch.arange(num) + FIRST
        for i, cardinality in enumerate(CARDINALITIES):
            name = f"{side}_{i}"
            specs.append(FeatureSpec(name, side, "categorical", cardinality=cardinality + FIRST))  # type: ignore[arg-type]
            columns[side][name] = torch.randint(cardinality, (num,), generator=generator) + FIRST
    users = torch.randint(num_users, (num_rows,), generator=generator)
    items = (torch.rand(num_rows, generator=generator).pow(1.6) * num_items).long()
    label = (torch.rand(num_rows, generator=generator) < 0.2).float()
    rows = Rows(users.int(), items.int(), label, torch.zeros(num_rows, dtype=torch.int64))
    schema = FeatureSchema(tuple(specs), num_users, num_items)
    return schema, FeatureTable(columns["user"], num_users), FeatureTable(columns["item"], num_items), rows


def measure(name: str, batch: int, args: argparse.Namespace) -> dict[str, object]:
    schema, users, items, rows = made_up(args.rows, args.users, args.items)
    loss = LOSSES[name]()
    positives = rows.label > 0
    known = UserItems.from_pairs(
        rows.user_idx[positives], rows.item_idx[positives], num_users=args.users, num_items=args.items
    )
    kind = loss.rows
    counts = torch.bincount(rows.item_idx[positives] if kind == "positives" else rows.item_idx, minlength=args.items)
    model = {"embedding_dim": 64, "feature_dim": args.feature_dim, "user_hidden": [128], "item_hidden": [128]}
    module = RetrievalModule(
        schema=schema.to_dict(),
        model=model,
        loss=loss,
        negatives=NoNegatives(),
        optimizer=Adam(),
        scheduler=Constant(),
    )
    facts = LabelFacts(float(rows.label.mean()), 0.0, 1.0)
    module.attach(Resident(users, items, counts, known, facts, tasks={"val": RankingTask(known)}))
    loader = BatchLoader(rows, batch_size=batch, shuffle=True, kind=kind, positive="> 0")
    rates = EpochRates()
    trainer = L.Trainer(
        max_epochs=args.epochs,
        accelerator=args.device,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[rates],
    )
    start = time.perf_counter()
    trainer.fit(module, train_dataloaders=loader)
    return {
        "loss": name,
        "batch": batch,
        "rows_per_s": round(statistics.median(rates.rates[1:] or rates.rates)),
        "rows_an_epoch": loader.num_rows,
        "epochs": args.epochs,
        "seconds": round(time.perf_counter() - start, 1),
        "threads": torch.get_num_threads(),
        "torch": torch.__version__,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--loss", nargs="+", default=["bce"], choices=sorted(LOSSES))
    parser.add_argument("--batch", nargs="+", type=int, default=[4096, 8192])
    parser.add_argument("--rows", type=int, default=1_000_000)
    parser.add_argument("--users", type=int, default=7176)
    parser.add_argument("--items", type=int, default=10728)
    parser.add_argument("--feature-dim", type=int, default=8)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--device", default="cpu")
    args = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    for name in args.loss:
        for batch in args.batch:
            print(json.dumps(measure(name, batch, args)), flush=True)


if __name__ == "__main__":
    main()
