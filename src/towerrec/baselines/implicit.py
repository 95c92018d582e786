"""Matrix factorisation by the library `implicit`, an optional extra: `pip install 'towerrec[implicit]'`.

On the CPU with one thread: its BPR gives the same factors again only so. Users and items without a positive have a zero
vector (ALS solves them to it, BPR sets them), so such users get the items in the order of their ids.

Shape letters: B users, U users, I items, F factors.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from towerrec.baselines.rows import TrainRows
from towerrec.retrieval.search import Scorer


@dataclass(frozen=True)
class ALS:
    """Weighted least squares on all cells (Hu, Koren, Volinsky, ICDM 2008); a positive weighs `alpha` times a blank.

    Args:
        factors: Width of the vectors.
        regularisation: Of both sides.
        alpha: Confidence of a positive.
        iterations: Sweeps over both sides.
        seed: Of the first vectors.
    """

    factors: int = 64
    regularisation: float = 300.0
    alpha: float = 40.0
    iterations: int = 15
    seed: int = 0

    name: ClassVar[str] = "als"

    def __post_init__(self) -> None:
        _check(factors=self.factors, iterations=self.iterations, regularisation=self.regularisation, alpha=self.alpha)

    def why_not(self, rows: TrainRows) -> str | None:
        return _lacks(rows)

    def fit(self, rows: TrainRows) -> Scorer:
        def model() -> Any:
            from implicit.cpu.als import AlternatingLeastSquares

            return AlternatingLeastSquares(
                factors=self.factors,
                regularization=self.regularisation,
                alpha=self.alpha,
                iterations=self.iterations,
                num_threads=1,
                random_state=self.seed,
            )

        return _fitted(model, rows)


@dataclass(frozen=True)
class BPR:
    """A positive above a random other item, by stochastic gradient steps (Rendle et al., UAI 2009), with item biases.

    Args:
        factors: Width of the vectors.
        learning_rate: Of the steps.
        regularisation: Of all parameters.
        iterations: Passes over the positives.
        seed: Of the first vectors and of the order.
    """

    factors: int = 64
    learning_rate: float = 0.01
    regularisation: float = 0.01
    iterations: int = 100
    seed: int = 0

    name: ClassVar[str] = "bpr"

    def __post_init__(self) -> None:
        _check(factors=self.factors, iterations=self.iterations, learning_rate=self.learning_rate)
        if self.regularisation < 0:
            raise ValueError(f"regularisation must be at least 0, got {self.regularisation}")

    def why_not(self, rows: TrainRows) -> str | None:
        return _lacks(rows)

    def fit(self, rows: TrainRows) -> Scorer:
        def model() -> Any:
            from implicit.cpu.bpr import BayesianPersonalizedRanking

            return BayesianPersonalizedRanking(
                factors=self.factors,
                learning_rate=self.learning_rate,
                regularization=self.regularisation,
                iterations=self.iterations,
                num_threads=1,
                random_state=self.seed,
            )

        return _fitted(model, rows)


def _check(**positive: float) -> None:
    for name, value in positive.items():
        if not value > 0:
            raise ValueError(f"{name} must be positive, got {value}")


def _lacks(rows: TrainRows) -> str | None:
    if find_spec("implicit") is None:
        return "needs the library implicit, which is not installed: pip install 'towerrec[implicit]'"
    return rows.lacks("rows", "positives")


def _fitted(model: Callable[[], Any], rows: TrainRows) -> Scorer:
    """Fit what `model()` makes on the distinct positives."""
    from scipy.sparse import csr_matrix
    from threadpoolctl import threadpool_limits

    liked = rows.liked_items()
    ones = np.ones(len(liked.items), dtype=np.float32)
    shape = (liked.num_users, liked.num_items)
    # The library refuses to share the cores with the threads of the linear algebra below it.
    with threadpool_limits(1, "blas"):
        made = model()
        made.fit(csr_matrix((ones, liked.items.numpy(), liked.offsets.numpy()), shape=shape), show_progress=False)
    user_UF, item_IF = (torch.from_numpy(np.asarray(f)) for f in (made.user_factors, made.item_factors))

    def score(user_idx_B: Tensor) -> Tensor:
        nonlocal user_UF, item_IF
        if user_UF.device != user_idx_B.device:
            user_UF, item_IF = user_UF.to(user_idx_B.device), item_IF.to(user_idx_B.device)
        return user_UF[user_idx_B] @ item_IF.T

    return score
