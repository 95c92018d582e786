"""Losses: what the towers said of a batch, to one number.

All share one interface: a loss says which rows it trains on, which items it compares with and what it is judged by.
Every reduction is the mean over the rows of the batch, weighted by the rows' weights.

Shape letters: B rows, G groups (distinct users, or rows), C candidates, V width of the vectors, P masked pairs.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from towerrec.nn.negatives import Candidates, KnownPairs
from towerrec.nn.softmax import Pairs, masked_logsumexp

Rows = Literal["all", "positives"]
Compares = Literal["rows", "batch", "catalogue"]


@dataclass
class Scored:
    """What the towers said of a batch.

    Attributes:
        user_GV: Vectors of the groups: distinct users, or one per row where the row has a context or a history.
        user_idx_G: Their users.
        group_B: Group of every row.
        item_BV: Vector of every row's item.
        item_idx_B: That item.
        label_B: Label of every row.
        weight_B: Weight of every row.
        candidates: What the items compete with, for losses that compare.
    """

    user_GV: Tensor
    user_idx_G: Tensor
    group_B: Tensor
    item_BV: Tensor
    item_idx_B: Tensor
    label_B: Tensor
    weight_B: Tensor
    candidates: Candidates | None = None

    @property
    def score_B(self) -> Tensor:
        """Dot products of the rows."""
        return (self.user_GV.index_select(0, self.group_B) * self.item_BV).sum(1)


@dataclass(frozen=True)
class LabelFacts:
    """The labels of the training rows, as far as a loss must know them."""

    mean: float
    low: float
    high: float


class Loss(nn.Module):
    """Base of the losses.

    Attributes:
        rows: Training rows it reads: `all`, or `positives` only.
        compares: With what: the `rows` themselves, the items of the `batch`, or the whole `catalogue`.
        monitor: The validation figure that early stopping and the best checkpoint watch.
        mode: Whether that figure should be `max` or `min`.
        corrects_sampling: Whether candidates carry the log of their sampling probability.
    """

    name: str
    rows: Rows = "all"
    compares: Compares = "rows"
    corrects_sampling = False

    def __init__(self, *, monitor: str, mode: str) -> None:
        super().__init__()
        if mode not in ("min", "max"):
            raise ValueError(f"loss.mode must be min or max, got {mode!r}")
        self.monitor, self.mode = monitor, mode

    def forward(self, scored: Scored, known: KnownPairs) -> Tensor:
        """The loss, a scalar."""
        raise NotImplementedError(f"{type(self).__name__} must define forward")

    def check(self, labels: LabelFacts, *, negatives_per_row: int) -> None:
        """Refuse labels the loss cannot learn from.

        Raises:
            ValueError: They are out of its range, or all the same.
        """

    def initial_bias(self, labels: LabelFacts, *, negatives_per_row: int) -> float:
        """Where the global bias starts, so that training does not begin with walking there."""
        return 0.0

    def predict(self, score_B: Tensor) -> Tensor:
        """The label that a score stands for, for losses that compare a score with its own label (`rows`)."""
        raise ValueError(f"loss={self.name} orders items and predicts no label")


class MSE(Loss):
    """Mean squared error of the score against the label."""

    name = "mse"

    def __init__(self, *, monitor: str = "val/rmse", mode: str = "min") -> None:
        super().__init__(monitor=monitor, mode=mode)

    def forward(self, scored: Scored, known: KnownPairs) -> Tensor:
        return _weighted_mean((scored.score_B.float() - scored.label_B).square(), scored.weight_B)

    def check(self, labels: LabelFacts, *, negatives_per_row: int) -> None:
        if labels.low == labels.high and negatives_per_row == 0:
            raise ValueError(
                f"loss=mse: every training label is {labels.low:g}, so there is nothing to learn; choose another "
                "label, negatives=uniform or loss=in_batch_softmax"
            )

    def initial_bias(self, labels: LabelFacts, *, negatives_per_row: int) -> float:
        return labels.mean / (1 + negatives_per_row)

    def predict(self, score_B: Tensor) -> Tensor:
        return score_B


class BCE(Loss):
    """Binary cross-entropy of the score, as a logit, against labels in [0, 1]."""

    name = "bce"

    def __init__(self, *, monitor: str = "val/ndcg@20", mode: str = "max") -> None:
        super().__init__(monitor=monitor, mode=mode)

    def forward(self, scored: Scored, known: KnownPairs) -> Tensor:
        loss_B = F.binary_cross_entropy_with_logits(scored.score_B.float(), scored.label_B, reduction="none")
        return _weighted_mean(loss_B, scored.weight_B)

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


class _Softmax(Loss):
    """Cross-entropy of each positive against its candidates."""

    rows: Rows = "positives"

    def __init__(
        self, *, temperature: float, learn_temperature: bool, mask_known: bool, monitor: str, mode: str
    ) -> None:
        super().__init__(monitor=monitor, mode=mode)
        if temperature <= 0.0:
            raise ValueError(f"loss.temperature must be above 0, got {temperature}")
        self.mask_known = mask_known
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log(), requires_grad=learn_temperature)

    @property
    def temperature(self) -> Tensor:
        return self.log_temperature.exp()

    def forward(self, scored: Scored, known: KnownPairs) -> Tensor:
        candidates = scored.candidates
        assert candidates is not None, "a softmax compares with candidates"
        column_I = torch.full((known.num_items,), -1, device=scored.group_B.device)
        column_I[candidates.idx_C] = torch.arange(candidates.idx_C.shape[0], device=column_I.device)
        target_B = column_I[scored.item_idx_B]
        log_q_C = candidates.log_q_C
        bias_C = torch.zeros_like(candidates.vectors_CV[:, 0], dtype=torch.float32)
        if candidates.log_count_C is not None:
            bias_C = bias_C + candidates.log_count_C
        positive_B = scored.score_B.float() / self.temperature
        if log_q_C is not None:
            # Subtracted from every candidate, the positive included: a frequent item stands in for fewer.
            bias_C = bias_C - log_q_C
            positive_B = positive_B - log_q_C[target_B]
        user_GV, group_B = scored.user_GV, scored.group_B
        if self.mask_known:
            masks = self._masks(scored, known, column_I, target_B)
        else:
            # Each row compares with all but its own item, so rows of one user differ.
            user_GV = user_GV.index_select(0, group_B)
            group_B = torch.arange(target_B.shape[0], device=target_B.device)
            masks = [(group_B, target_B)]
        others_G = masked_logsumexp(
            user_GV.float() / self.temperature,
            candidates.vectors_CV,
            bias_C,
            masks=masks,
        )
        # -log(e^p / (e^p + sum of the others)) = softplus(others - p).
        return _weighted_mean(F.softplus(others_G.index_select(0, group_B) - positive_B), scored.weight_B)

    def _masks(self, scored: Scored, known: KnownPairs, column_I: Tensor, target_B: Tensor) -> list[Pairs]:
        """Pairs left out of each group's candidates: what its user is known to like, and the batch's own positives."""
        row_P, item_P, _ = known.known.pairs_of(scored.user_idx_G)
        column_P = column_I[item_P]
        among = column_P >= 0
        # Own positives are among the known ones, unless a caller gave other lists.
        group_B, order_B = torch.sort(scored.group_B)
        return [(row_P[among], column_P[among]), (group_B, target_B[order_B])]


class InBatchSoftmax(_Softmax):
    """Softmax over the items of the batch (and shared negatives), corrected for how often sampling shows each item.

    Yi et al., RecSys 2019. Without the correction a popular item is a negative so often that it sinks.

    Args:
        logq: Subtract the log of the sampling probability.
        temperature: Scores are divided by it.
        learn_temperature: Whether it is learned from there.
        mask_known: Leave out the user's other known training positives; repeats of the positive are always left out.
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    name = "in_batch_softmax"
    compares: Compares = "batch"

    def __init__(
        self,
        *,
        logq: bool = True,
        temperature: float = 1.0,
        learn_temperature: bool = False,
        mask_known: bool = True,
        monitor: str = "val/ndcg@20",
        mode: str = "max",
    ) -> None:
        super().__init__(
            temperature=temperature,
            learn_temperature=learn_temperature,
            mask_known=mask_known,
            monitor=monitor,
            mode=mode,
        )
        self.corrects_sampling = logq


class FullSoftmax(_Softmax):
    """Exact softmax over the whole catalogue, in chunks of users.

    Args:
        temperature: Scores are divided by it.
        learn_temperature: Whether it is learned from there.
        mask_known: Leave out the user's other known training positives.
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    name = "full_softmax"
    compares: Compares = "catalogue"

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        learn_temperature: bool = False,
        mask_known: bool = False,
        monitor: str = "val/ndcg@20",
        mode: str = "max",
    ) -> None:
        super().__init__(
            temperature=temperature,
            learn_temperature=learn_temperature,
            mask_known=mask_known,
            monitor=monitor,
            mode=mode,
        )


def _weighted_mean(loss_B: Tensor, weight_B: Tensor) -> Tensor:
    # Weights of zero only (a batch of masked negatives) give zero, not NaN.
    return (loss_B * weight_B).sum() / weight_B.sum().clamp(min=1e-12)


def predicted_label(loss_name: str, score_B: Tensor) -> Tensor | None:
    """The label that a score of a model stands for, by the name of the loss it was trained with; None where scores
    only order."""
    pointwise: dict[str, Loss] = {MSE.name: MSE(), BCE.name: BCE()}
    return pointwise[loss_name].predict(score_B) if loss_name in pointwise else None
