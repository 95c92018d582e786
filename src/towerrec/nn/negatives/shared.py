"""Sources that draw from one distribution over the catalogue, the same for every user.

Shape letters: B rows of a batch, M items drawn for each row, I items, N shared items.
"""

from __future__ import annotations

import torch
from torch import Tensor

from towerrec.nn.negatives.base import LogFacts, Negatives, Request, RowNegatives, at_least


class Uniform(Negatives):
    """Items drawn uniformly from the catalogue, with replacement.

    Args:
        per_row: Negatives of every row under a pointwise or pairwise loss.
        shared: Items that join the candidates of every row under a softmax.
    """

    name = "uniform"

    def __init__(self, *, per_row: int = 4, shared: int = 1024) -> None:
        self.per_row = at_least("per_row", per_row, 0)
        self.shared = at_least("shared", shared, 0)

    def for_rows(self, request: Request) -> RowNegatives | None:
        if self.per_row == 0:
            return None
        shape = (request.item_idx_B.shape[0], self.per_row)
        return RowNegatives(torch.randint(request.num_items, shape, device=request.item_idx_B.device))

    def for_batch(self, num_items: int, device: torch.device) -> Tensor | None:
        return torch.randint(num_items, (self.shared,), device=device) if self.shared else None

    def expected(self, num_items: int, *, processes: int = 1) -> Tensor | None:
        return torch.full((num_items,), processes * self.shared / num_items, dtype=torch.float64)


class Popularity(Negatives):
    """Items drawn with a probability proportional to their count to the power `alpha`, with replacement.

    The power of 0.75 comes from Mikolov et al., NeurIPS 2013, section 2.2. An item that was never counted is never
    drawn: where such items must be pushed down too, mix with `uniform` (Yang et al., WWW 2020, section 3.2).

    Args:
        of: What is counted: the users who like an item (`positives`), or the rows that show it (`views`).
        alpha: Power of the count; 0 draws uniformly from all items.
        per_row: Negatives of every row under a pointwise or pairwise loss.
        shared: Items that join the candidates of every row under a softmax.
    """

    name = "popularity"

    def __init__(self, *, of: str = "positives", alpha: float = 0.75, per_row: int = 4, shared: int = 1024) -> None:
        if of not in ("positives", "views"):
            raise ValueError(f"negatives.of must be positives or views, got {of!r}")
        if alpha < 0.0:
            raise ValueError(f"negatives.alpha must be 0 or more, got {alpha}")
        self.of, self.alpha = of, alpha
        self.needs = frozenset({"views"} if of == "views" else set())
        self.per_row = at_least("per_row", per_row, 0)
        self.shared = at_least("shared", shared, 0)
        self._q_I: Tensor | None = None

    def attach(self, facts: LogFacts) -> None:
        counts_I = facts.views_I
        if self.of == "positives":
            counts_I = torch.bincount(facts.known.items, minlength=facts.known.num_items)
        assert counts_I is not None, "popularity of views needs the rows of every item"
        power_I = counts_I.double().pow(self.alpha)
        if not power_I.sum() > 0.0:
            raise ValueError(f"negatives=popularity: the training rows hold no {self.of} to count")
        self._q_I = power_I / power_I.sum()
        self._cumulated_I = self._q_I.cumsum(0)

    def to(self, device: torch.device) -> None:
        self._q_I, self._cumulated_I = self.q_I.to(device), self._cumulated_I.to(device)

    @property
    def q_I(self) -> Tensor:
        """Probability of every item, float64 [I]."""
        assert self._q_I is not None, "attach the log before drawing"
        return self._q_I

    def for_rows(self, request: Request) -> RowNegatives | None:
        if self.per_row == 0:
            return None
        num_rows = request.item_idx_B.shape[0]
        return RowNegatives(self._draw(num_rows * self.per_row).view(num_rows, self.per_row))

    def for_batch(self, num_items: int, device: torch.device) -> Tensor | None:
        return self._draw(self.shared) if self.shared else None

    def expected(self, num_items: int, *, processes: int = 1) -> Tensor | None:
        return processes * self.shared * self.q_I

    def _draw(self, number: int) -> Tensor:
        # In place of multinomial: that takes a pass over the catalogue per call and refuses more than 2^24 items.
        place = torch.rand(number, dtype=torch.float64, device=self.q_I.device) * self._cumulated_I[-1]
        drawn = torch.searchsorted(self._cumulated_I, place, right=True)
        return drawn.clamp(max=self.q_I.shape[0] - 1)
