"""What every loss is: which rows it trains on, which items it compares with and what it is judged by.

Every reduction is the mean over the rows of the batch, weighted by the rows' weights; where processes share a batch,
over the rows of all of them.

Shape letters: B rows, G groups (distinct users, or rows), K items encoded (distinct ones, or one per row), V width of
the vectors.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from towerrec.nn.negatives import Candidates, KnownPairs
from towerrec.nn.pairs import pair_scores
from towerrec.nn.peers import ALONE, Peers
from towerrec.nn.profile import Profile

Rows = Literal["all", "positives"]
Compares = Literal["rows", "pairs", "batch", "catalogue", "parts"]


@dataclass
class Scored:
    """What the towers said of a batch.

    Attributes:
        user_GV: Vectors of the groups: distinct users, or one per row where the row has a context or a history.
        user_idx_G: Their users.
        group_B: Group of every row.
        each: Whether the groups are the rows, in their order.
        item_KV: Vectors of the rows' items.
        place_B: Which of them is that of every row; None: there is one per row, in their order.
        item_idx_B: That item.
        label_B: Label of every row.
        weight_B: Weight of every row.
        num_rows: Rows of the log; behind them stand their sampled negatives, those of the first row first.
        candidates: What the items compete with, for losses that compare.
        scale: Factor of every score, for losses with a calibration of their own.
        shift: Added to every score.
        positive_B: Which rows are positive, for losses over the catalogue.
        in_context: Whether the rows' items stand in a context, which the candidates of the catalogue lack.
        profile: Profiles of the groups without the items of the batch, where the model reads them.
        parts: One of these for each objective of a loss of several; one may have no rows.
        peers: The processes that share the batch.
    """

    user_GV: Tensor
    user_idx_G: Tensor
    group_B: Tensor
    item_KV: Tensor
    item_idx_B: Tensor
    label_B: Tensor
    weight_B: Tensor
    num_rows: int
    place_B: Tensor | None = None
    each: bool = False
    candidates: Candidates | None = None
    scale: Tensor | None = None
    shift: Tensor | None = None
    positive_B: Tensor | None = None
    in_context: bool = False
    profile: Profile | None = None
    parts: tuple[Scored, ...] = ()
    peers: Peers = ALONE

    @property
    def score_B(self) -> Tensor:
        """Dot products of the rows, calibrated where a calibration is given."""
        group_B = None if self.each else self.group_B
        score_B = pair_scores(self.user_GV, self.item_KV, group_B, self.place_B, num_rows=self.num_rows)
        if self.scale is not None:
            score_B = score_B * self.scale
        return score_B if self.shift is None else score_B + self.shift


@dataclass(frozen=True)
class LabelFacts:
    """The labels of the training rows, as far as a loss must know them."""

    mean: float
    low: float
    high: float


@dataclass(frozen=True)
class Prediction:
    """How a score becomes a label, once training is over: the link of the pointwise loss `loss`, of
    `scale * score + shift`."""

    loss: str
    scale: float = 1.0
    shift: float = 0.0


class Loss(nn.Module):
    """Base of the losses.

    Attributes:
        rows: Training rows it reads: `all`, or `positives` only.
        compares: With what: the label of the `rows` themselves, `pairs` of a row and its sampled negatives, the items
            of the `batch`, the whole `catalogue`; `parts` has several objectives that each say so.
        monitor: The validation figure that early stopping and the best checkpoint watch.
        mode: Whether that figure should be `max` or `min`.
        correction: How candidates are corrected for their sampling: `none`, `classic` or `refined`.
        gather: Whether candidates of the batch come from all processes that share it.
    """

    name: str
    rows: Rows = "all"
    compares: Compares = "rows"
    correction: str = "none"
    gather: bool = False

    def __init__(self, *, monitor: str, mode: str) -> None:
        super().__init__()
        if mode not in ("min", "max"):
            raise ValueError(f"loss.mode must be min or max, got {mode!r}")
        self.monitor, self.mode = monitor, mode

    @property
    def objectives(self) -> tuple[Loss, ...]:
        """The losses it consists of: itself, or its parts."""
        return (self,)

    @property
    def predictor(self) -> Loss | None:
        """The objective that compares a score with the row's own label; None where scores only order."""
        return self if self.compares == "rows" else None

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

    def initial_item_bias(self, item_counts_I: Tensor) -> Tensor | None:
        """Where the items' biases start, by their training rows [I]; None: at zero."""
        return None

    def calibrated(self, scored: Scored) -> Scored:
        """The rows as the predictor reads them."""
        return scored

    def learned(self) -> dict[str, Tensor]:
        """What the loss itself learns or holds, for the log: its temperature, its calibration."""
        return {}

    def prediction(self) -> Prediction | None:
        """How scores become labels, for the checkpoint; None where they only order."""
        return None if self.predictor is None else Prediction(self.predictor.name)

    def predict(self, score_B: Tensor) -> Tensor:
        """The label that a (calibrated) score stands for."""
        raise ValueError(f"loss={self.name} orders items and predicts no label")


class RankingLoss(Loss):
    """Base of the losses over positives, which may weigh each by its label.

    Args:
        weight_by: `none`, or `label`: each positive counts as much as its label says, for instance its watch ratio.
        max_weight: Largest such weight.
        monitor: Validation figure to watch.
        mode: `max` or `min`.
    """

    rows: Rows = "positives"

    def __init__(self, *, weight_by: str, max_weight: float, monitor: str, mode: str) -> None:
        super().__init__(monitor=monitor, mode=mode)
        if weight_by not in ("none", "label"):
            raise ValueError(f"loss.weight_by must be none or label, got {weight_by!r}")
        if max_weight <= 0.0:
            raise ValueError(f"loss.max_weight must be above 0, got {max_weight}")
        self.weight_by, self.max_weight = weight_by, max_weight

    def check(self, labels: LabelFacts, *, negatives_per_row: int) -> None:
        if self.weight_by == "none":
            return
        if labels.low < 0.0:
            raise ValueError(
                f"loss.weight_by=label: labels must not be negative, the lowest is {labels.low:g}; choose another "
                "label or loss.weight_by=none"
            )
        if labels.low == labels.high:
            raise ValueError(
                f"loss.weight_by=label: every label is {labels.low:g}, so all rows weigh the same; choose a graded "
                "label such as label=watch_ratio, or loss.weight_by=none"
            )

    def graded(self, scored: Scored, weight_B: Tensor) -> Tensor:
        """Weights that start with the rows of the log [num_rows, ...], times what the labels of these rows say."""
        if self.weight_by == "none":
            return weight_B
        grade_B = scored.label_B[: scored.num_rows].clamp(max=self.max_weight)
        return weight_B * (grade_B if weight_B.ndim == 1 else grade_B[:, None])


def weighted_mean(loss_B: Tensor, weight_B: Tensor, peers: Peers) -> Tensor:
    """Mean over the rows; weights of zero only (a batch of masked negatives) give zero, not NaN.

    Under several processes the mean of what they return is the mean over all rows, see `Peers`.
    """
    return (loss_B * weight_B).sum() / peers.mean(weight_B.sum()).clamp(min=1e-12)


def at_least_single(tensor: Tensor) -> Tensor:
    """Half precision widened to float32; float32 and float64 as they are."""
    return tensor.float() if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
