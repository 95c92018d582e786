"""Losses: what the towers said of a batch, to one number."""

from towerrec.nn.losses.base import LabelFacts, Loss, Prediction, Scored
from towerrec.nn.losses.multi import Multi
from towerrec.nn.losses.multinomial import Multinomial
from towerrec.nn.losses.pairwise import BPR
from towerrec.nn.losses.pointwise import BCE, MSE, Huber, Poisson, Quantile, predicted_label
from towerrec.nn.losses.softmax import FullSoftmax, InBatchSoftmax

__all__ = [
    "BCE",
    "BPR",
    "MSE",
    "FullSoftmax",
    "Huber",
    "InBatchSoftmax",
    "LabelFacts",
    "Loss",
    "Multi",
    "Multinomial",
    "Poisson",
    "Prediction",
    "Quantile",
    "Scored",
    "predicted_label",
]
