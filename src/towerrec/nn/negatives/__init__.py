"""What a positive is compared with: sources of negatives, each with its own proposal probability."""

from towerrec.nn.negatives.base import (
    Candidates,
    InBatch,
    LogFacts,
    Negatives,
    NoNegatives,
    OwnCandidates,
    Request,
    RowNegatives,
)
from towerrec.nn.negatives.cross_batch import CrossBatch
from towerrec.nn.negatives.hard import Hard
from towerrec.nn.negatives.known import KnownPairs, distinct
from towerrec.nn.negatives.mixed import Mixed
from towerrec.nn.negatives.shared import Popularity, Uniform
from towerrec.nn.negatives.skips import Skips

__all__ = [
    "Candidates",
    "CrossBatch",
    "Hard",
    "InBatch",
    "KnownPairs",
    "LogFacts",
    "Mixed",
    "Negatives",
    "NoNegatives",
    "OwnCandidates",
    "Popularity",
    "Request",
    "RowNegatives",
    "Skips",
    "Uniform",
    "distinct",
]
