"""A two-tower as one writes it with Lightning: a Dataset of rows, a DataLoader, `training_step`, Adam.

`--fetch rows` lets the DataLoader collate row by row; `--fetch batches` asks the Dataset for whole batches by index
(a BatchSampler as sampler), which is what its documentation advises for data in memory.

Shape letters: B rows, F categorical features, V vector width.
"""

from __future__ import annotations

import logging
import warnings
from typing import Any

import lightning as L
import torch
import torch.nn.functional as F
import turns
from rows import Data, arguments, judge
from torch import Tensor, nn
from torch.utils.data import BatchSampler, DataLoader, Dataset, RandomSampler
from towers_torch import Tower, in_batch_softmax


class Pairs(Dataset[tuple[Tensor, ...]]):
    """Rows of the log with the features of their user and item; takes one number, or a list of them."""

    def __init__(self, data: Data, *, only_positives: bool) -> None:
        chosen = data.positives if only_positives else slice(None)
        self.user, self.item = torch.from_numpy(data.user[chosen]), torch.from_numpy(data.item[chosen])
        self.label = torch.from_numpy(data.label[chosen])
        self.users, self.items = torch.from_numpy(data.users), torch.from_numpy(data.items)

    def __len__(self) -> int:
        return len(self.user)

    def __getitem__(self, at: Any) -> tuple[Tensor, ...]:
        user, item = self.user[at], self.item[at]
        return self.users[user], self.items[item], item, self.label[at]


class TwoTower(L.LightningModule):
    """Dot product of two towers under binary cross-entropy or the softmax over the batch."""

    def __init__(self, data: Data, *, loss: str, lr: float) -> None:
        super().__init__()
        self.user_tower, self.item_tower = Tower(data.user_sizes.tolist()), Tower(data.item_sizes.tolist())
        self.bias = nn.Parameter(torch.zeros(()))
        self.loss, self.lr = loss, lr
        counts = torch.bincount(torch.from_numpy(data.item[data.positives]), minlength=len(data.items))
        self.register_buffer("log_q", (counts / counts.sum()).clamp(min=1e-12).log())

    def training_step(self, batch: tuple[Tensor, ...], batch_idx: int) -> Tensor:
        user_BF, item_BF, item_B, label_B = batch
        user_BV, item_BV = self.user_tower(user_BF), self.item_tower(item_BF)
        if self.loss == "bce":
            loss = F.binary_cross_entropy_with_logits((user_BV * item_BV).sum(1) + self.bias, label_B)
        else:
            loss = in_batch_softmax(user_BV, item_BV, item_B, self.log_q)
        self.log("train/loss", loss)
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.Adam(self.parameters(), lr=self.lr)


class Turns(L.Callback):
    """An epoch is a turn; the first one warms up."""

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.rows = 0
        if trainer.current_epoch == 1:
            turns.ready(torch=torch.__version__, lightning=L.__version__)
        if trainer.current_epoch > 0:
            self.since = turns.wait()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: tuple[Tensor, ...], batch_idx: int
    ) -> None:
        self.rows += len(batch[0])

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        if trainer.current_epoch > 0:
            turns.report(self.since, rows=self.rows)


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--loss", choices=("bce", "softmax"), required=True)
    parser.add_argument("--fetch", choices=("rows", "batches"), required=True)
    parser.add_argument("--workers", type=int, default=0)
    asked = parser.parse_args()
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    torch.manual_seed(0)
    data = Data.load(asked.data)
    pairs = Pairs(data, only_positives=asked.loss == "softmax")
    if asked.fetch == "rows":
        loader = DataLoader(pairs, batch_size=asked.batch, shuffle=True, num_workers=asked.workers)
    else:
        batches = BatchSampler(RandomSampler(pairs), asked.batch, drop_last=False)
        loader = DataLoader(pairs, sampler=batches, batch_size=None, num_workers=asked.workers)
    model = TwoTower(data, loss=asked.loss, lr=asked.lr)
    trainer = L.Trainer(
        max_epochs=1 + asked.rounds,
        limit_train_batches=max(1, round(asked.part * len(loader))),
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[Turns()],
    )
    trainer.fit(model, loader)
    with torch.inference_mode():
        users_UV, items_IV = model.user_tower(pairs.users), model.item_tower(pairs.items)
        users_UV = torch.cat([users_UV, model.bias.expand(len(users_UV), 1)], dim=1)
        items_IV = torch.cat([items_IV, torch.ones(len(items_IV), 1)], dim=1)
    label = "logit" if asked.loss == "bce" else "rank"
    turns.finish(**judge(data, users_UV.numpy(), items_IV.numpy(), label=label))


if __name__ == "__main__":
    main()
