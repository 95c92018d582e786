"""Several sources at once.

Shape letters: B rows of a batch, M items drawn for each row, I items.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from towerrec.nn.negatives.base import LogFacts, Negatives, Request, RowNegatives
from towerrec.nn.negatives.cross_batch import CrossBatch
from towerrec.ragged import UserItems


class Mixed(Negatives):
    """Several sources at once.

    A pointwise or pairwise loss gets the negatives of all, one beside the other. In a softmax the expected draws of
    the shared sources and of the batch add up, and every draw is corrected by that sum, wherever it came from: the
    deterministic mixture of Bengio and Senecal 2003 (the balance heuristic of importance sampling). A mix of the batch
    and `uniform` is the mixed negative sampling of Yang et al., WWW 2020.

    Args:
        sources: The sources under names of your choice; null leaves one out.

    Raises:
        ValueError: No source is left, or two of a kind of which there can be only one.
    """

    name = "mixed"

    def __init__(self, *, sources: Mapping[str, Negatives | None]) -> None:
        self.sources = [source for source in sources.values() if source is not None]
        if not self.sources:
            raise ValueError("negatives=mixed has no source: give negatives.sources, or choose negatives=none")
        for single in (CrossBatch, Mixed):
            if sum(isinstance(source, single) for source in self.sources) > (1 if single is CrossBatch else 0):
                raise ValueError(f"negatives=mixed takes {'one' if single is CrossBatch else 'no'} {single.name}")
        if sum("skips" in source.needs for source in self.sources) > 1:
            raise ValueError("negatives=mixed takes skips only once: raise per_row instead")
        self.per_row = sum(source.per_row for source in self.sources)
        self.serves = frozenset().union(*(source.serves for source in self.sources))
        self.needs = frozenset().union(*(source.needs for source in self.sources))

    @property
    def cache(self) -> CrossBatch | None:
        return next((source.cache for source in self.sources if source.cache is not None), None)

    @property
    def elsewhere(self) -> UserItems | None:
        return next((source.elsewhere for source in self.sources if source.elsewhere is not None), None)

    def check(self, compares: Sequence[str], loss: str) -> None:
        for source in self.sources:
            source.check(compares, loss)

    def attach(self, facts: LogFacts) -> None:
        for source in self.sources:
            source.attach(facts)

    def to(self, device: torch.device) -> None:
        for source in self.sources:
            source.to(device)

    def start_epoch(self) -> None:
        for source in self.sources:
            source.start_epoch()

    def running_state(self) -> dict[str, Any]:
        return {"sources": [source.running_state() for source in self.sources]}

    def load_running_state(self, state: Mapping[str, Any]) -> None:
        for source, of_source in zip(self.sources, state["sources"], strict=True):
            source.load_running_state(of_source)

    def for_rows(self, request: Request) -> RowNegatives | None:
        drawn = [rows for source in self.sources if (rows := source.for_rows(request)) is not None]
        if not drawn:
            return None
        weights = [
            torch.ones_like(d.idx_BM, dtype=torch.float32) if d.weight_BM is None else d.weight_BM for d in drawn
        ]
        return RowNegatives(torch.cat([d.idx_BM for d in drawn], 1), torch.cat(weights, 1))

    def for_batch(self, num_items: int, device: torch.device) -> Tensor | None:
        drawn = [idx for source in self.sources if (idx := source.for_batch(num_items, device)) is not None]
        return torch.cat(drawn) if drawn else None

    def own(self, request: Request) -> list[RowNegatives]:
        return [rows for source in self.sources for rows in source.own(request)]

    def expected(self, num_items: int, *, processes: int = 1) -> Tensor | None:
        parts = [e for s in self.sources if (e := s.expected(num_items, processes=processes)) is not None]
        return torch.stack([part.cpu() for part in parts]).sum(0) if parts else None
