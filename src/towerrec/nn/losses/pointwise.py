"""Losses of a score against the label of its own row.

Shape letters: B rows.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from towerrec.nn.losses.base import LabelFacts, Loss, Prediction, Scored, at_least_single, weighted_mean
from towerrec.nn.negatives import KnownPairs


class _Regression(Loss):
    """The score is the label, up to an error that each of these weighs differently."""

    def forward(self, scored: Scored, known: KnownPairs) -> Tensor:
        loss_B = self.row_loss(at_least_single(scored.score_B), scored.label_B)
        return weighted_mean(loss_B, scored.weight_B, scored.peers)

    def row_loss(self, score_B: Tensor, label_B: Tensor) -> Tensor:
        """Loss of every row, [B]."""
        raise NotImplementedError(f"{type(self).__name__} must define row_loss")

    def check(self, labels: LabelFacts, *, negatives_per_row: int) -> None:
        if labels.low == labels.high and negatives_per_row == 0:
            raise ValueError(
                f"loss={self.name}: every training label is {labels.low:g}, so there is nothing to learn; choose "
                "another label, negatives=uniform or loss=in_batch_softmax"
            )

    def initial_bias(self, labels: LabelFacts, *, negatives_per_row: int) -> float:
        return labels.mean / (1 + negatives_per_row)

    def predict(self, score_B: Tensor) -> Tensor:
        return score_B


class MSE(_Regression):
    """Mean squared error of the score against the label.

    Args:
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    name = "mse"

    def __init__(self, *, monitor: str = "val/rmse", mode: str = "min") -> None:
        super().__init__(monitor=monitor, mode=mode)

    def row_loss(self, score_B: Tensor, label_B: Tensor) -> Tensor:
        return (score_B - label_B).square()


class Huber(_Regression):
    """Squared error up to `delta`, linear beyond it (Huber 1964): half the squared error, or `delta |e| - delta^2 / 2`.

    The tail of a label, such as a clip watched fifty times over, pulls with a bounded force.

    Args:
        delta: Where the error stops to be squared, in units of the label.
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    name = "huber"

    def __init__(self, *, delta: float = 1.0, monitor: str = "val/mae", mode: str = "min") -> None:
        super().__init__(monitor=monitor, mode=mode)
        if delta <= 0.0:
            raise ValueError(f"loss.delta must be above 0, got {delta}")
        self.delta = delta

    def row_loss(self, score_B: Tensor, label_B: Tensor) -> Tensor:
        return F.huber_loss(score_B, label_B.to(score_B.dtype), reduction="none", delta=self.delta)


class Quantile(_Regression):
    """The pinball loss `max(tau e, (tau - 1) e)` of the error e = label - score (Koenker and Bassett 1978).

    The score that minimises it is the `tau` quantile of the label; `tau=0.5` is half the absolute error, and its
    score the median.

    Args:
        tau: The quantile.
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    name = "quantile"

    def __init__(self, *, tau: float = 0.5, monitor: str = "val/mae", mode: str = "min") -> None:
        super().__init__(monitor=monitor, mode=mode)
        if not 0.0 < tau < 1.0:
            raise ValueError(f"loss.tau must lie between 0 and 1, got {tau}")
        self.tau = tau

    def row_loss(self, score_B: Tensor, label_B: Tensor) -> Tensor:
        error_B = label_B - score_B
        return torch.maximum(self.tau * error_B, (self.tau - 1.0) * error_B)


class Poisson(_Regression):
    """Negative log-likelihood of a Poisson mean `exp(score)`, less what the score does not move: `exp(z) - label z`
    (McCullagh and Nelder, Generalized Linear Models, 1989, chapter 6).

    Its minimiser is the mean of the label whatever the label's distribution (a quasi-likelihood, chapter 9), so it
    may be any amount not below 0. Biases multiply instead of adding up, and a prediction is never negative. The pull
    of a row is `exp(z) - label`: upwards it is bounded by the largest label, so clip a heavy tail.

    Args:
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    name = "poisson"

    def __init__(self, *, monitor: str = "val/rmse", mode: str = "min") -> None:
        super().__init__(monitor=monitor, mode=mode)

    def row_loss(self, score_B: Tensor, label_B: Tensor) -> Tensor:
        return score_B.exp() - label_B * score_B

    def check(self, labels: LabelFacts, *, negatives_per_row: int) -> None:
        if labels.low < 0.0:
            raise ValueError(
                f"loss=poisson needs labels that are not negative, the lowest is {labels.low:g}: choose another label "
                "(label.log=true can be negative) or loss=mse"
            )
        super().check(labels, negatives_per_row=negatives_per_row)

    def initial_bias(self, labels: LabelFacts, *, negatives_per_row: int) -> float:
        mean = labels.mean / (1 + negatives_per_row)
        # All labels 0 (negatives are drawn, else `check` refuses): a mean that is all but 0.
        return math.log(max(mean, 1e-6))

    def predict(self, score_B: Tensor) -> Tensor:
        return score_B.exp()


class BCE(Loss):
    """Binary cross-entropy of the score, as a logit, against labels in [0, 1].

    Args:
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    name = "bce"

    def __init__(self, *, monitor: str = "val/ndcg@20", mode: str = "max") -> None:
        super().__init__(monitor=monitor, mode=mode)

    def forward(self, scored: Scored, known: KnownPairs) -> Tensor:
        score_B = at_least_single(scored.score_B)
        label_B = scored.label_B.to(score_B.dtype)
        loss_B = F.binary_cross_entropy_with_logits(score_B, label_B, reduction="none")
        return weighted_mean(loss_B, scored.weight_B, scored.peers)

    def check(self, labels: LabelFacts, *, negatives_per_row: int) -> None:
        if labels.low < 0.0 or labels.high > 1.0:
            raise ValueError(
                f"loss=bce needs labels between 0 and 1, these lie in [{labels.low:g}, {labels.high:g}]: choose "
                "label=liked for a threshold, or loss=mse"
            )
        if labels.low == labels.high and negatives_per_row == 0:
            kind = "positives" if labels.low > 0.0 else "negatives"
            raise ValueError(
                f"loss=bce: the training rows hold only {kind}, and negatives=none: choose negatives=uniform or "
                "loss=in_batch_softmax"
            )

    def initial_bias(self, labels: LabelFacts, *, negatives_per_row: int) -> float:
        rate = min(max(labels.mean / (1 + negatives_per_row), 1e-4), 1 - 1e-4)
        return math.log(rate / (1 - rate))

    def predict(self, score_B: Tensor) -> Tensor:
        return score_B.sigmoid()


def predicted_label(prediction: Prediction | None, score_B: Tensor) -> Tensor | None:
    """The label that a score of a trained model stands for; None where scores only order."""
    if prediction is None:
        return None
    pointwise: dict[str, Loss] = {kind.name: kind() for kind in (MSE, Huber, Quantile, Poisson, BCE)}
    return pointwise[prediction.loss].predict(prediction.scale * score_B + prediction.shift)
