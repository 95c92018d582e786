"""Features that are hidden in training look like features that are missing.

Shape letters: R rows, F features, X width of all dense features of a row together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from towerrec.schema import FeatureSpec

# Ending of the name of the feature that says whether a number is missing (`data.column_encoders.Numeric`).
INDICATOR = "_missing"

Hidden = Callable[[int], Tensor]
"""`hidden(F)` says which of F features are hidden in which row: bool [R, F], or [R, 1] for all of a row."""


class MissingValues(nn.Module):
    """What features are packed as where they are missing; no checkpoint needs to know.

    Args:
        unknown: By embedding width, the index of the unknown value of every categorical feature of that width.
        dense: Numeric and vector features in the order they are packed. A missing one is zero (what the encoders
            give), and where a number has an indicator of its absence, that is raised and goes with it.
    """

    feature_X: Tensor
    missing_X: Tensor

    def __init__(self, unknown: dict[int, list[int]], dense: Sequence[FeatureSpec]) -> None:
        super().__init__()
        for width, index_F in unknown.items():
            self.register_buffer(f"unknown_{width}", torch.tensor(index_F), persistent=False)
        place = {spec.name: place for place, spec in enumerate(dense)}
        feature: list[int] = []
        missing: list[float] = []
        for spec in dense:
            number = spec.name.removesuffix(INDICATOR)
            is_indicator = number != spec.name and number in place
            feature += [place[number if is_indicator else spec.name]] * spec.width
            missing += [float(is_indicator)] * spec.width
        self.num_dense = len(dense)
        self.register_buffer("feature_X", torch.tensor(feature, dtype=torch.int64), persistent=False)
        self.register_buffer("missing_X", torch.tensor(missing), persistent=False)

    def hide_index(self, index_RF: Tensor, hidden: Hidden, *, width: int) -> Tensor:
        """Categorical features of one embedding width, the hidden ones unknown."""
        return torch.where(hidden(index_RF.shape[1]), self.get_buffer(f"unknown_{width}"), index_RF)

    def hide_dense(self, dense_RX: Tensor, hidden: Hidden) -> Tensor:
        """Numbers and vectors, the hidden ones zero and their indicators one."""
        hidden_RF = hidden(self.num_dense).expand(-1, self.num_dense)
        return torch.where(hidden_RF.index_select(1, self.feature_X), self.missing_X, dense_RX)
