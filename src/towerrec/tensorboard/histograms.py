"""Distributions that say how a training fares: lengths of vectors, sizes of parameters, scores.

Shape letters: B users, I items, S items sampled, V width of the vectors.
"""

from __future__ import annotations

import lightning as L
import torch
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.loggers import TensorBoardLogger
from torch import Tensor

from towerrec.module import RetrievalModule
from towerrec.nn.ensemble import without_biases


class Histograms(Callback):
    """Adds histograms to TensorBoard at the end of every validation, from the first process.

    `norms/users` and `norms/items`: lengths of the vectors, without the columns of biases; `scores/sampled_pairs`:
    scores of the users that were ranked first with some items; `parameters/...`: lengths of the rows of every table and
    matrix, and values of vectors. Without a TensorBoard logger nothing is computed. Nothing is drawn at random: what is
    larger than the sample is read at even distances. Of tables that are shared out the first process shows its block.

    Args:
        sample: Rows that are read of each at most.
    """

    def __init__(self, *, sample: int = 10_000) -> None:
        if sample < 1:
            raise ValueError(f"callbacks.histograms.sample must be at least 1, got {sample}")
        self.sample = sample

    @torch.no_grad()
    def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        assert isinstance(pl_module, RetrievalModule)
        boards = [logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger)]
        if trainer.sanity_checking or not trainer.is_global_zero or not boards:
            return
        found = {**self.of_vectors(pl_module), **self.of_parameters(pl_module)}
        for name, values in found.items():
            for board in boards:
                board.experiment.add_histogram(name, values.float().cpu(), trainer.global_step)

    def of_vectors(self, module: RetrievalModule) -> dict[str, Tensor]:
        """Lengths and scores of this validation's vectors; nothing where no users were ranked."""
        if module.ranked_vectors is None:
            return {}
        user_BV, item_IV = (self._some(vectors) for vectors in module.ranked_vectors)
        if len(user_BV) == 0:
            return {}
        # As many pairs as there may be rows of anything else.
        item_SV = evenly(item_IV, max(self.sample // len(user_BV), 1))
        return {
            "norms/users": without_biases(module.model, user_BV).norm(dim=1),
            "norms/items": without_biases(module.model, item_IV).norm(dim=1),
            "scores/sampled_pairs": (user_BV @ item_SV.T).flatten(),
        }

    def of_parameters(self, module: RetrievalModule) -> dict[str, Tensor]:
        """Lengths of rows, or values; single numbers have curves of their own."""
        return {
            f"parameters/{name.removeprefix('model.')}": rows.norm(dim=1) if rows.ndim == 2 else rows
            for name, parameter in module.named_parameters()
            if parameter.numel() > 1
            for rows in (self._some(parameter.detach().flatten(1) if parameter.ndim > 1 else parameter.detach()),)
        }

    def _some(self, rows: Tensor) -> Tensor:
        return evenly(rows, self.sample)


def evenly(rows: Tensor, most: int) -> Tensor:
    """The rows of a tensor, or `most` of them at even distances, the first and the last among them."""
    if len(rows) <= most:
        return rows
    return rows[torch.linspace(0, len(rows) - 1, most, dtype=torch.float64).round().long().to(rows.device)]
