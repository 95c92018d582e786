"""Which system is which on a page: its order, its colour and shape, and who the strongest rival is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

from towerrec.report.charts import shortened
from towerrec.report.interpret import main_metric
from towerrec.report.judge import Judged
from towerrec.report.style import NUM_COLOURS

BOUND_NOTE = "* reads the judged rows: a bound for lists that are the same for everybody, not a system"


@dataclass(frozen=True)
class Cast:
    """The systems of a page, the judged one first."""

    systems: Sequence[Judged]

    @property
    def judged(self) -> Judged:
        return self.systems[0]

    @cached_property
    def metric(self) -> str:
        """The figure that is named first."""
        return main_metric(self.judged.summary)

    @property
    def k(self) -> int:
        """Its cut."""
        return int(self.metric.split("@")[1])

    @cached_property
    def ordered(self) -> list[Judged]:
        """The judged one, bounds, then the others from the strongest down: the order of the colours."""
        others = [s for s in self.systems[1:] if not s.bound]
        others.sort(key=lambda s: s.summary[self.metric]["mean"], reverse=True)
        return [self.judged, *(s for s in self.systems[1:] if s.bound), *others]

    @cached_property
    def drawn(self) -> list[Judged]:
        """Those with a colour of their own: a chart of lines holds no more."""
        return self.ordered[:NUM_COLOURS]

    @property
    def undrawn(self) -> int:
        return len(self.ordered) - len(self.drawn)

    @cached_property
    def rival(self) -> Judged | None:
        """The strongest of the others that is a system; None where there is none."""
        others = [s for s in self.ordered[1:] if not s.bound]
        return others[0] if others else None

    def series(self, name: str) -> int:
        """The number of a system's colour and shape."""
        return next(place for place, system in enumerate(self.ordered) if system.name == name)

    def label(self, system: Judged, letters: int = 60) -> str:
        """Its name as charts and tables write it; bounds have a star."""
        return f"{shortened(system.name, letters - 2)} *" if system.bound else shortened(system.name, letters)

    @property
    def has_bound(self) -> bool:
        return any(s.bound for s in self.systems)
