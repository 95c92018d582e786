"""RecBole BPR: its own dataset, loader and trainer, ids only, width 64. A turn is an epoch of its trainer.

Shape letters: U users, I items, V vector width.
"""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path

import numpy as np
import pandas as pd
import recbole
import torch
import turns
from recbole.config import Config
from recbole.data import create_dataset, data_preparation
from recbole.model.general_recommender import BPR
from recbole.trainer import Trainer
from rows import Data, arguments, judge


def config(folder: Path, *, batch: int, lr: float) -> Config:
    """Everything trains; nothing is evaluated by RecBole."""
    settings = {
        "data_path": str(folder),
        "USER_ID_FIELD": "user_id",
        "ITEM_ID_FIELD": "item_id",
        "load_col": {"inter": ["user_id", "item_id"]},
        "eval_args": {"split": {"RS": [1, 0, 0]}, "order": "RO", "group_by": None, "mode": "full"},
        "embedding_size": 64,
        "train_batch_size": batch,
        "learning_rate": lr,
        "use_gpu": False,
        "show_progress": False,
        "state": "ERROR",
        "seed": 0,
        "checkpoint_dir": str(folder),
    }
    return Config(model="BPR", dataset="log", config_dict=settings)


def main() -> None:
    asked = arguments(__doc__).parse_args()
    logging.disable(logging.INFO)
    data = Data.load(asked.data)
    positives = data.positives
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / "log").mkdir()
        pairs = pd.DataFrame({"user_id:token": data.user[positives], "item_id:token": data.item[positives]})
        pairs.to_csv(folder / "log" / "log.inter", sep="\t", index=False)
        settings = config(folder, batch=asked.batch, lr=asked.lr)
        dataset = create_dataset(settings)
        train, _, _ = data_preparation(settings, dataset)
        torch.manual_seed(0)
        model = BPR(settings, train.dataset)
        trainer = Trainer(settings, model)
        trainer._train_epoch(train, 0)
        turns.ready(recbole=recbole.__version__, torch=torch.__version__)
        for turn in range(asked.rounds):
            since = turns.wait()
            trainer._train_epoch(train, 1 + turn)
            turns.report(since, rows=len(positives))
        users_UV = _ours(model.user_embedding.weight, dataset, "user_id", len(data.users))
        items_IV = _ours(model.item_embedding.weight, dataset, "item_id", len(data.items))
    turns.finish(**judge(data, users_UV, items_IV, label="rank"))


def _ours(table: torch.Tensor, dataset: object, field: str, num: int) -> np.ndarray:
    """Vectors in our order; zero for those without a positive."""
    vectors = np.zeros((num, table.shape[1]), dtype=np.float32)
    tokens = dataset.field2id_token[field][1:].astype(np.int64)  # type: ignore[attr-defined]
    vectors[tokens] = table.detach().numpy()[1:]
    return vectors


if __name__ == "__main__":
    main()
