"""Several two-tower models that are one: the same settings, different starting points, the mean of their scores.

Their vectors stand side by side, so what serves them still needs nothing but a dot product:
`[u_1, ..., u_M] / M . [v_1, ..., v_M]` is the mean of the members' scores. What the members agree on stays, what each
made of its own chance averages out (Hansen and Salamon 1990); on small logs this is worth more than width.

Shape letters: R rows encoded, V width of the vectors of all members together.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Protocol

import torch
from torch import Tensor, nn

from towerrec.nn.embedding import PackedFeatures
from towerrec.nn.profile import AnyProfile
from towerrec.nn.towers import Tower
from towerrec.nn.two_tower import TwoTower, build_two_tower
from towerrec.schema import FeatureSchema, FeatureTable, Side


class Ensemble(nn.Module):
    """Members that are trained side by side, each with its own loss, and read as one model.

    Args:
        members: Models over the same schema with the same settings.
    """

    def __init__(self, members: list[TwoTower]) -> None:
        super().__init__()
        assert len(members) > 1, "one member is a TwoTower"
        self.members = nn.ModuleList(members)

    @property
    def all(self) -> list[TwoTower]:
        return [member for member in self.members if isinstance(member, TwoTower)]

    @property
    def num_members(self) -> int:
        return len(self.members)

    @property
    def folds_bias(self) -> bool:
        return self.all[0].folds_bias

    @property
    def schema(self) -> FeatureSchema:
        return self.all[0].schema

    @property
    def user_tower(self) -> Tower:
        """The first member's, for what all members share: which inputs it reads."""
        return self.all[0].user_tower

    @property
    def item_tower(self) -> Tower:
        """The first member's, as `user_tower`."""
        return self.all[0].item_tower

    @property
    def profile(self) -> nn.Module | None:
        """Pool of the first member, None where profiles are not read."""
        return self.all[0].profile

    @property
    def reads_history(self) -> bool:
        return self.all[0].reads_history

    @property
    def profile_kind(self) -> str:
        return self.all[0].profile_kind

    @property
    def device(self) -> torch.device:
        return self.all[0].device

    def pack(self, side: Side, table: FeatureTable) -> PackedFeatures:
        """See `TwoTower.pack`: every member learns what it must know of the table."""
        packed = [member.pack(side, table) for member in self.all]
        return packed[0]

    def user_vectors(
        self,
        packed: PackedFeatures,
        *,
        context: Mapping[str, Tensor] | None = None,
        history_RH: Tensor | None = None,
        at_R: Tensor | None = None,
        profile: AnyProfile | None = None,
    ) -> Tensor:
        """Vectors [R, V], see `TwoTower.user_vectors`."""
        own: list[AnyProfile | None] = [None] * len(self.members)
        if profile is not None:
            # Each member reads its own part of the items' vectors.
            own = [replace(profile, item_IV=part) for part in profile.item_IV.tensor_split(len(own), dim=1)]
        parts = [
            member.user_vectors(packed, context=context, history_RH=history_RH, at_R=at_R, profile=part)
            for member, part in zip(self.all, own, strict=True)
        ]
        return torch.cat(parts, dim=1) / len(parts)

    def item_vectors(
        self, packed: PackedFeatures, *, context: Mapping[str, Tensor] | None = None, at_R: Tensor | None = None
    ) -> Tensor:
        """Vectors [R, V], see `TwoTower.item_vectors`."""
        return torch.cat([member.item_vectors(packed, context=context, at_R=at_R) for member in self.all], dim=1)


Model = TwoTower | Ensemble


def members_of(model: Model) -> list[TwoTower]:
    """The models that are trained: the members, or the one there is."""
    return model.all if isinstance(model, Ensemble) else [model]


class Folded(Protocol):
    """What is known of vectors: how many models they stand side by side of, and whether biases are folded into each."""

    @property
    def num_members(self) -> int: ...

    @property
    def folds_bias(self) -> bool: ...


def without_biases(model: Folded, vectors_RV: Tensor) -> Tensor:
    """Vectors of users or items without the columns that biases are folded into, [R, V'].

    What is left are directions of taste, and the lengths that go with them.
    """
    if not model.folds_bias:
        return vectors_RV
    return torch.cat([part_RV[:, :-2] for part_RV in vectors_RV.tensor_split(model.num_members, dim=1)], dim=1)


def build_model(schema: FeatureSchema, model: Mapping[str, Any]) -> Model:
    """The model that a config describes: `name`, `members` and the keywords of `TwoTower`.

    Raises:
        ValueError: A keyword `TwoTower` does not take, a value it refuses, or fewer than one member.
    """
    number = model.get("members", 1)
    if number < 1:
        raise ValueError(f"model.members must be at least 1, got {number}")
    keywords = {key: value for key, value in model.items() if key != "members"}
    members = [build_two_tower(schema, keywords) for _ in range(number)]
    return members[0] if number == 1 else Ensemble(members)
