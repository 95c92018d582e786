"""Errors of predicted values as state: sums that add up over batches and over processes.

Shape letters: N rows of a batch.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torchmetrics import Metric


class ErrorMetrics(Metric):
    """RMSE and MAE of predictions, and the share of variance they explain, in the unit of the values.

    Only sums are kept (float64), so the result does not depend on the batch size, and processes add theirs up.
    """

    full_state_update = False
    squared: Tensor
    absolute: Tensor
    actual: Tensor
    actual_squared: Tensor
    num_rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("squared", "absolute", "actual", "actual_squared"):
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("num_rows", torch.zeros((), dtype=torch.int64), dist_reduce_fx="sum")

    def update(self, predicted_N: Tensor, actual_N: Tensor) -> None:
        actual_N = actual_N.double()
        error_N = predicted_N.double() - actual_N
        self.squared += error_N.square().sum()
        self.absolute += error_N.abs().sum()
        self.actual += actual_N.sum()
        self.actual_squared += actual_N.square().sum()
        self.num_rows += actual_N.numel()

    def compute(self) -> dict[str, Tensor]:
        """`{"rmse", "mae", "explained"}`; `explained` is 1 - squared error / squared deviation from the rows' mean."""
        mean = self.actual / self.num_rows
        spread = self.actual_squared - mean * self.actual
        return {
            "rmse": (self.squared / self.num_rows).sqrt(),
            "mae": self.absolute / self.num_rows,
            "explained": 1 - self.squared / spread,
        }
