"""Train twice: once to learn how long, once more on everything that is not for the test.

Validation rows say when to stop; after that they are the freshest rows that a model could learn from. The number of
epochs is all that is taken over (Goodfellow et al., Deep Learning, 2016, section 7.8, algorithm 7.2).
"""

from __future__ import annotations

import logging
from dataclasses import replace
from pathlib import Path
from typing import Any

from towerrec.config import TrainConfig
from towerrec.continuing import Start
from towerrec.data.datamodule import RetrievalDataModule
from towerrec.run_directory import VALIDATED
from towerrec.training import Fitted, fit

log = logging.getLogger(__name__)


def fit_twice(cfg: TrainConfig, data: RetrievalDataModule, directory: Path, *, start: Start | None = None) -> Fitted:
    """Fit with validation, then anew on training and validation rows for as many epochs as its best model had.

    The second fit is one with `trainer.max_epochs` set to that number: same seed, same batch size, a schedule of the
    same shape over fewer steps, nothing watched. Its last model becomes `checkpoints/best.ckpt`; the first fit's files
    lie in folders `validated`. With a `start` both begin with its weights. A refit that is interrupted leaves no
    `run.json`, so nothing takes the run for finished; one that goes on finds in `last.ckpt` that the first fit is over.

    Raises:
        ValueError: If there are no validation rows.
    """
    joined = data.joined()
    # What the first fit settles in its config (batch size, scale of the cosine) is settled for the second.
    begun = replace(cfg, callbacks=_aside(cfg.callbacks), logger=_aside(cfg.logger))
    first = fit(begun, data, directory, part=VALIDATED, start=start)
    if first.pruned is not None:
        return first
    # None where no epoch was better than the model that the run went on from: the validation rows are worth one.
    epochs = max(first.best_epochs, 1)
    log.info(f"refit: {epochs} epochs on {joined.prepared.store.num_rows('train'):,} training and validation rows")
    ends = {"max_epochs": epochs, "min_epochs": None, "max_steps": -1, "max_time": None}
    # Lightning would wait for a validation before it writes a checkpoint, and there is none.
    ends["check_val_every_n_epoch"] = 1
    settled = replace(begun, callbacks=cfg.callbacks, logger=cfg.logger, trainer=begun.trainer | ends)
    second = fit(settled, joined, directory, start=start)
    return Fitted(
        best=second.best,
        best_epochs=second.best_epochs,
        monitor=first.monitor,
        monitored=first.monitored,
        facts={
            **second.facts,
            **{name: first.facts[name] for name in ("monitor", "monitored", "mode")},
            "refit": True,
            "first_fit": {
                "epochs": first.facts["epochs"],
                "best_epoch": epochs,
                "seconds": first.facts["seconds"],
                "note": "validation figures are those of this fit",
            },
        },
        loggers=second.loggers,
    )


def _aside(nodes: dict[str, Any]) -> dict[str, Any]:
    """Callbacks or loggers whose files lie in a folder of their own."""

    def moved(node: Any) -> Any:
        if node is None:
            return None
        if node.get("dirpath") is not None:
            return {**node, "dirpath": str(Path(node["dirpath"]) / VALIDATED)}
        return {**node, "version": VALIDATED} if "version" in node else node

    return {name: moved(node) for name, node in nodes.items()}
