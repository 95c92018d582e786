"""towerrec itself, as `train.py` runs it, in the place of a reference: an epoch of its Lightning trainer is a turn.

Everything that is not named here comes from the command line, as of `train.py`:

    python benchmarks/references/towerrec_turns.py --export FILE.npz --label logit --rounds 3 experiment=best_warm ...

Run with `--export` and without `--rounds` it only writes the prepared rows for the references.
"""

from __future__ import annotations

import argparse
import logging
import tempfile
from pathlib import Path
from typing import Any

import lightning as L
import torch
import turns
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict
from rows import Data, judge
from torch import Tensor

from towerrec import config, tasks
from towerrec.data.catalogue import catalogue_of
from towerrec.data.prepare import Prepared
from towerrec.judging import load
from towerrec.run_directory import RunDirectory
from towerrec.schema import ITEM_ID, PAD, USER_ID, Batch, FeatureTable, Side
from towerrec.training import fit

CONF = Path(__file__).resolve().parents[2] / "conf"


class Turns(L.Callback):
    """An epoch is a turn, from its first batch to its last; the first one warms up.

    Args:
        warm_up: Epochs before the first turn.
    """

    def __init__(self, *, warm_up: int = 1) -> None:
        self.warm_up, self.rows, self.since = warm_up, 0, 0.0

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        self.rows = 0
        if trainer.current_epoch == self.warm_up:
            turns.ready(torch=torch.__version__, lightning=L.__version__)
        if trainer.current_epoch >= self.warm_up:
            self.since = turns.wait()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.rows += len(batch)
        if trainer.is_last_batch and trainer.current_epoch >= self.warm_up:
            turns.report(self.since, rows=self.rows)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--export", type=Path, required=True, help="the rows, for the references")
    parser.add_argument("--label", choices=("logit", "rank", "ratio"), required=True, help="what the score is")
    parser.add_argument("--rounds", type=int, default=0)
    asked, overrides = parser.parse_known_args()
    logging.disable(logging.INFO)
    with tempfile.TemporaryDirectory() as directory:
        cfg = composed([*overrides, f"trainer.max_epochs={1 + asked.rounds}"], Path(directory))
        data = tasks.prepared_data(cfg)
        if asked.rounds == 0:
            exported(data.prepared).save(asked.export)
            return
        cfg.callbacks["turns"] = {"_target_": "towerrec_turns.Turns"}
        fit(cfg, data, Path(directory))
        trained = load(
            RunDirectory(Path(directory)),
            checkpoint="last",
            device=torch.device("cpu"),
            catalogue=catalogue_of(data.prepared),
        )
        users_UV, items_IV = trained.scores.users(torch.arange(data.prepared.schema.num_users)), trained.scores.items()
    turns.finish(**judge(Data.load(asked.export), users_UV.numpy(), items_IV.numpy(), label=asked.label))


def composed(overrides: list[str], directory: Path) -> config.TrainConfig:
    """The config of `train.py`, for a run directory of ours; nothing is validated or logged on the way."""
    quiet = ["~callbacks.progress", "~callbacks.learning_rate", "~callbacks.early_stopping", "logger=none"]
    bare = ["trainer=cpu", "trainer.enable_progress_bar=false", f"hydra.runtime.output_dir={directory}"]
    with initialize_config_dir(config_dir=str(CONF), version_base="1.3"):
        cfg = compose("train", [*quiet, *bare, *overrides], return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    return config.train_config(cfg)


def exported(prepared: Prepared) -> Data:
    """The prepared log as plain arrays: every id is its row's own number, categories are as encoded, tags are flags."""
    schema = prepared.schema
    train, test = prepared.store.rows("train"), prepared.store.rows("test")
    tags = torch.zeros(schema.num_items, 0)
    for spec in schema.side("item"):
        if spec.kind == "multi":
            tags = torch.zeros(schema.num_items, spec.cardinality)
            tags.scatter_(1, prepared.items.columns[spec.name].long(), 1.0)
            tags = tags[:, PAD + 1 :]
    user_sizes, users = _categories(prepared, "user", prepared.users)
    item_sizes, items = _categories(prepared, "item", prepared.items)
    return Data(
        user=train.user_idx.long().numpy(),
        item=train.item_idx.long().numpy(),
        label=train.label.numpy(),
        test_user=test.user_idx.long().numpy(),
        test_item=test.item_idx.long().numpy(),
        test_label=test.label.numpy(),
        users=users.numpy(),
        items=items.numpy(),
        user_sizes=user_sizes.numpy(),
        item_sizes=item_sizes.numpy(),
        tags=tags.numpy(),
    )


def _categories(prepared: Prepared, side: Side, table: FeatureTable) -> tuple[Tensor, Tensor]:
    """Sizes [F] and values [N, F] of the id and the categorical features."""
    num_rows = table.num_rows
    specs = [s for s in prepared.schema.side(side) if s.kind == "categorical" and s.name not in (USER_ID, ITEM_ID)]
    columns = [torch.arange(num_rows), *(table.columns[s.name].long() for s in specs)]
    return torch.tensor([num_rows, *(s.cardinality for s in specs)]), torch.stack(columns, dim=1)


if __name__ == "__main__":
    main()
