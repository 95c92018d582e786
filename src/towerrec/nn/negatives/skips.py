"""Explicit skips: items that were shown to the very user and did not please.

Shape letters: B rows of a batch, M items drawn for each row.
"""

from __future__ import annotations

import math

import torch

from towerrec.nn.negatives.base import LogFacts, Negatives, Request, RowNegatives, at_least
from towerrec.ragged import UserItems


class Skips(Negatives):
    """Items shown to the user of the row and never positive in training, drawn uniformly, with replacement.

    A user without skips gets none.

    Under a corrected softmax the catalogue falls into two strata for every user: his skips, which only this source
    draws, each M / |skips| times in expectation, and all other items, which the shared sources draw; skips are left out
    of the shared candidates. Each stratum's sum is estimated without bias by dividing each draw by its own expectation
    (stratified importance sampling), so the sum of both estimates the sum over the catalogue, and `emphasis=1` teaches
    what the softmax over the catalogue teaches, with less noise where it matters most. A larger `emphasis` teaches more
    than that: a video that was shown and skipped is pushed down that many times as hard as one that was never shown.

    Args:
        per_row: Skips drawn for every row.
        emphasis: Weight of a skip against any other negative.
    """

    name = "skips"
    needs = frozenset({"skips"})

    def __init__(self, *, per_row: int = 1, emphasis: float = 1.0) -> None:
        self.per_row = at_least("per_row", per_row, 1)
        if emphasis <= 0.0:
            raise ValueError(f"negatives.emphasis must be above 0, got {emphasis}")
        self.emphasis = emphasis
        self._skips: UserItems | None = None

    def attach(self, facts: LogFacts) -> None:
        assert facts.skips is not None, "skips need the rows of every user that are no positives"
        if facts.skips.items.shape[0] == 0:
            raise ValueError("negatives=skips: no training row is without a positive label: choose negatives=uniform")
        self._skips = facts.skips

    def to(self, device: torch.device) -> None:
        self._skips = self.elsewhere.to(device)

    @property
    def elsewhere(self) -> UserItems:
        assert self._skips is not None, "attach the log before drawing"
        return self._skips

    def for_rows(self, request: Request) -> RowNegatives:
        skips = self.elsewhere
        start_B = skips.offsets[request.user_idx_B]
        count_B = skips.offsets[request.user_idx_B + 1] - start_B
        share_BM = torch.rand(count_B.shape[0], self.per_row, dtype=torch.float64, device=count_B.device)
        # A share next to 1 can round up to the end of the list.
        place_BM = torch.minimum((share_BM * count_B[:, None]).long(), count_B[:, None] - 1)
        place_BM = (start_B[:, None] + place_BM).clamp(min=0, max=skips.items.shape[0] - 1)
        weight_B = self.emphasis * (count_B > 0)
        log_q_B = math.log(self.per_row) - count_B.clamp(min=1).float().log()
        return RowNegatives(
            skips.items[place_BM],
            weight_BM=weight_B[:, None].expand_as(place_BM).float(),
            log_q_BM=log_q_B[:, None].expand_as(place_BM),
        )

    def own(self, request: Request) -> list[RowNegatives]:
        return [self.for_rows(request)]
