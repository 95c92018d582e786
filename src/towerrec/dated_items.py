"""Vectors of the items as they are served at a moment: as old as they are that day, with what the prior adds.

Shape letters: U users of a catalogue, B users of a chunk, b users of one day, I items, V width of the vectors.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from towerrec import freshness
from towerrec.config_prior import PriorConfig
from towerrec.data.catalogue import Catalogue
from towerrec.data.time import local_time
from towerrec.ragged import TopN, UserItems
from towerrec.retrieval.index import ItemIndex
from towerrec.retrieval.prior import with_column
from towerrec.retrieval.recommend import Searchable
from towerrec.schema import NO_TIMESTAMP
from towerrec.scoring import Moment, TowerScores

# Item vectors of so many bytes are kept, those of the days asked for last.
_KEPT_BYTES = 1 << 29
# Half-lives whose popularity is kept.
_KEPT_PRIORS = 16


class DatedItems:
    """The items of a model at any moment.

    Items change with the local day alone: their age is counted in days, and their popularity stays that at the end of
    training. So whoever asks on the same day is served by the same vectors, exactly.

    Args:
        scores: The model over the catalogue.
        catalogue: Items, their dates, and what was liked.
    """

    def __init__(self, scores: TowerScores, catalogue: Catalogue) -> None:
        self.scores, self.catalogue = scores, catalogue
        self._kept: OrderedDict[int | None, Tensor] = OrderedDict()
        self._popular: dict[float | None, Tensor] = {}

    def reads_age(self) -> bool:
        """Whether the item tower reads features of the moment."""
        return bool(self.catalogue.item_days) and reads(self.scores, "item", context=True)

    def by_day(self, dial: PriorConfig) -> bool:
        """Whether another day's items are others: the tower or the prior reads their age."""
        return self.reads_age() or (dial.weight != 0 and dial.of == "youth")

    def vectors(self, at_ms: int | None, dial: PriorConfig) -> Tensor:
        """Vectors of all items at a moment (None: the end of training), with the column of the prior, [I, V]."""
        vectors_IV = self.undialled(at_ms)
        if dial.weight == 0:
            return vectors_IV
        return with_column(vectors_IV, dial.weight * self._spread * self._prior(at_ms, dial).to(vectors_IV.device))

    def _prior(self, at_ms: int | None, dial: PriorConfig) -> Tensor:
        """The prior of every item; popularity is the same at any moment, so it is counted once."""
        if dial.of != "popularity":
            return freshness.item_prior(dial, self.catalogue, at_ms=at_ms)
        if dial.half_life_days not in self._popular:
            if len(self._popular) >= _KEPT_PRIORS:
                self._popular.clear()
            self._popular[dial.half_life_days] = freshness.item_prior(dial, self.catalogue)
        return self._popular[dial.half_life_days]

    def undialled(self, at_ms: int | None) -> Tensor:
        """The vectors of the model alone; those of the days asked for last are kept."""
        day = int(self._day(torch.tensor([at_ms]))[0]) if at_ms is not None and self.reads_age() else None
        if day in self._kept:
            self._kept.move_to_end(day)
            return self._kept[day]
        vectors_IV = self._kept[day] = self.scores.at(Moment(at_ms)).items()
        most = max(1, _KEPT_BYTES // max(1, vectors_IV.numel() * vectors_IV.element_size()))
        while len(self._kept) > most:
            self._kept.popitem(last=False)
        return vectors_IV

    def search(self, at_ms_U: Tensor | None, candidates_I: Tensor, dial: PriorConfig) -> Searchable:
        """Where the lists of users are searched who ask at these moments (None: at none).

        Args:
            at_ms_U: Moment of every user, `NO_TIMESTAMP` where there is none.
            candidates_I: Items that may be listed for somebody, bool.
            dial: The prior.
        """

        def index_at(at_ms: int | None) -> ItemIndex:
            return ItemIndex.of(self.vectors(at_ms, dial), candidates_I)

        if at_ms_U is None or not self.by_day(dial):
            return index_at(None)
        day_U, at_of = self.days(at_ms_U)
        return IndexByDay(day_U, lambda day: index_at(at_of[day]))

    def days(self, at_ms_N: Tensor) -> tuple[Tensor, dict[int, int | None]]:
        """The local day of every moment, int64 [N], and one moment of each of these days, ascending."""
        day_N = self._day(at_ms_N)
        days, first = np.unique(day_N.numpy(), return_index=True)
        moments = at_ms_N[torch.from_numpy(first)].tolist()
        at_of = {int(day): None if at == NO_TIMESTAMP else at for day, at in zip(days, moments, strict=True)}
        return day_N, at_of

    def _day(self, at_ms_N: Tensor) -> Tensor:
        return torch.from_numpy(local_time(at_ms_N.numpy(), self.catalogue.timezone).day.astype(np.int64))

    @cached_property
    def _spread(self) -> float:
        return freshness.spread_of(self.scores, self.catalogue)


def reads(scores: TowerScores, side: str, *, context: bool = False) -> bool:
    """Whether the tower of a side reads features of the table, or with `context` those of the moment."""
    tower = scores.model.user_tower if side == "user" else scores.model.item_tower
    return any(spec.context == context for spec in tower.features.specs)


@dataclass(frozen=True)
class IndexByDay:
    """The items as old as they are on the day on which a user asks.

    Args:
        day_U: The day of every user.
        of_day: The index of a day.
    """

    day_U: Tensor
    of_day: Callable[[int], ItemIndex]

    def search(
        self,
        user_BD: Tensor,
        *,
        n: int,
        user_idx_B: Tensor,
        exclude: UserItems | None,
        allowed: UserItems | None,
        memory_mb: float | None,
        precision: str,
    ) -> TopN:
        """Every user's list in the index of his day; arguments and rules as in `ItemIndex.search`."""
        day_B = self.day_U[user_idx_B.cpu()]
        items_Bn = torch.full((len(user_BD), n), -1, dtype=torch.int64, device=user_BD.device)
        scores_Bn = torch.full((len(user_BD), n), -torch.inf, device=user_BD.device)
        for day in day_B.unique().tolist():
            at_b = (day_B == day).nonzero()[:, 0].to(user_BD.device)
            found = self.of_day(day).search(
                user_BD[at_b],
                n=n,
                user_idx_B=user_idx_B[at_b],
                exclude=exclude,
                allowed=allowed,
                memory_mb=memory_mb,
                precision=precision,
            )
            items_Bn[at_b], scores_Bn[at_b] = found.items, found.scores
        return TopN(items_Bn, scores_Bn)
