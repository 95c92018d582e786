"""Figures beyond accuracy for one system's lists: what `metrics.beyond` computes, put together and named.

Shape letters: B judged users, K length of the lists, I items, D width of a vector, L tags of an item, C cuts.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from towerrec.metrics.beyond import exposure, gini, list_means, tag_diversity, vector_diversity

NOVELTY, POPULARITY, DURATION, AGE = "novelty", "popularity_percentile", "duration_bias", "age_days"
TAGS, VECTORS, GINI = "tag_diversity", "vector_diversity", "gini"
PER_USER = (NOVELTY, POPULARITY, TAGS, VECTORS, DURATION, AGE)
"""Figures with a value per user, in the order they are shown; in results the cut is added: `novelty@20`."""


@dataclass(frozen=True)
class Beyond:
    """What is known of the items, in the form that the figures read it.

    Attributes:
        candidate_I: Items that could be listed for somebody, bool.
        values: Value of every item by figure, float64 [I], NaN where not known; a list has the mean of its items.
        less: By figure what each user's mean is compared with (subtracted), float64 [B].
        tags_IL: Tags of every item, filled up with -1; None where the log has none.
        vectors_ID: Item vectors of the judged model, the same for all systems; None where no model is judged.
        absent: Figures that this log cannot have, and why.
        columns: The columns of the item table that were read: `duration`, `date`, `tags`.
        references: The same figures of what the lists are made from: `candidates` and `relevant`, means over users.
    """

    candidate_I: Tensor
    values: dict[str, Tensor]
    less: dict[str, Tensor] = field(default_factory=dict)
    tags_IL: Tensor | None = None
    vectors_ID: Tensor | None = None
    absent: dict[str, str] = field(default_factory=dict)
    columns: dict[str, Any] = field(default_factory=dict)
    references: dict[str, dict[str, float]] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """What a file says of them, plain builtins."""
        return {"columns": self.columns, "absent": self.absent, "references": self.references}

    def per_user(self, items_BK: Tensor, ks: Sequence[int]) -> dict[str, Tensor]:
        """Every figure at every cut, `{"novelty@10": float64 [B], ...}`, NaN for a list that has none."""
        tables = {name: list_means(value_I, items_BK, ks) for name, value_I in self.values.items()}
        tables |= {name: tables[name] - less_B[:, None] for name, less_B in self.less.items()}
        if self.tags_IL is not None:
            tables[TAGS] = tag_diversity(items_BK, self.tags_IL, ks)
        if self.vectors_ID is not None:
            tables[VECTORS] = vector_diversity(items_BK, self.vectors_ID, ks)
        return {f"{name}@{k}": tables[name][:, i] for name in PER_USER if name in tables for i, k in enumerate(ks)}

    def of_all(self, items_BK: Tensor, k: int) -> dict[str, float]:
        """Figures of all lists together: `gini`, NaN where all lists are empty."""
        return {GINI: gini(exposure(items_BK, len(self.candidate_I), k)[self.candidate_I])}
