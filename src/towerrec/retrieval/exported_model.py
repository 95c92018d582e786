"""Exported towers behind the methods of a model, so that what serves a run serves an exported folder too.

Shape letters: N rows of a table, R rows encoded, P profile length, V width of the vectors.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor
from torch import device as Device

from towerrec.nn.profile import Profile
from towerrec.nn.programs import ProgramInput
from towerrec.retrieval.export_towers import Asked
from towerrec.schema import ITEM_ID, USER_ID, FeatureSchema, FeatureSpec, FeatureTable, Side


@dataclass(frozen=True)
class Columns:
    """Encoded rows of a table, as a program reads them."""

    columns: dict[str, Tensor]
    num_rows: int

    def gather(self, idx_R: Tensor) -> Columns:
        """Rows `idx_R`."""
        return Columns({name: column[idx_R] for name, column in self.columns.items()}, idx_R.shape[0])


@dataclass(frozen=True)
class Specs:
    """Features that a tower reads, its id apart."""

    specs: tuple[FeatureSpec, ...]


@dataclass(frozen=True)
class ExportedTower:
    """What can be asked of `nn.towers.Tower` about its inputs."""

    id_spec: FeatureSpec | None
    features: Specs

    @classmethod
    def of(cls, inputs: tuple[ProgramInput, ...]) -> ExportedTower:
        specs = [given.spec for given in inputs if given.spec is not None]
        ids = [spec for spec in specs if spec.name in (USER_ID, ITEM_ID)]
        return cls(ids[0] if ids else None, Specs(tuple(spec for spec in specs if spec not in ids)))

    @property
    def reads_context(self) -> bool:
        return any(spec.context for spec in self.features.specs)


@dataclass(frozen=True)
class ExportedModel:
    """The towers of an exported folder, with the methods of `nn.two_tower.TwoTower` that serving calls.

    Args:
        user: Program of the user tower.
        item: Program of the item tower.
        inputs: What each reads, in order.
        schema: Features of both.
        profile_kind: What the user tower reads of what a user did: `none`, `positives` or `rows`.
        profile_items: Rows of the item table that profiles may hold: the first so many.
        num_members: Models that the vectors stand side by side of.
        folds_bias: Whether two columns of each are what biases are folded into.
        device: Where the programs compute.
    """

    user: Asked
    item: Asked
    inputs: Mapping[Side, tuple[ProgramInput, ...]]
    schema: FeatureSchema
    profile_kind: str
    profile_items: int
    num_members: int
    folds_bias: bool
    device: torch.device

    @property
    def reads_history(self) -> bool:
        return any(given.role == "history" for given in self.inputs["user"])

    @property
    def user_tower(self) -> ExportedTower:
        return ExportedTower.of(self.inputs["user"])

    @property
    def item_tower(self) -> ExportedTower:
        return ExportedTower.of(self.inputs["item"])

    @property
    def profile(self) -> str | None:
        """The kind, None where no profile is read."""
        return None if self.profile_kind == "none" else self.profile_kind

    def to(self, device: Device) -> ExportedModel:
        """Itself: programs stay where they were loaded.

        Raises:
            ValueError: For another device than that.
        """
        if torch.device(device).type != self.device.type:
            raise ValueError(f"the exported towers were loaded for {self.device}: load the folder with device={device}")
        return self

    def eval(self) -> ExportedModel:
        """Itself: programs were traced in evaluation mode."""
        return self

    def pack(self, side: Side, table: FeatureTable) -> Columns:
        """The columns of a table that a program reads, in its types.

        Raises:
            ValueError: If one is missing, or holds an index that the schema does not allow.
        """
        columns = {}
        for given in self.inputs[side]:
            if given.spec is None or given.spec.context:
                continue
            if given.name not in table.columns:
                raise ValueError(
                    f"{side} feature {given.name!r} is missing: encode the {side}s with the same vocabularies"
                )
            columns[given.name] = _checked(given, table.columns[given.name])
        return Columns(columns, table.num_rows)

    def user_vectors(
        self,
        packed: Columns,
        *,
        context: Mapping[str, Tensor] | None = None,
        history_RH: Tensor | None = None,
        at_R: Tensor | None = None,
        profile: Profile | None = None,
    ) -> Tensor:
        """Vectors [R, V], as `TwoTower.user_vectors`; what is not given is unknown or empty."""
        given = {} if history_RH is None else {"history": history_RH}
        if profile is not None:
            self._check_profile(profile)
            given |= dict(zip(("profile", "profile_positive"), padded(profile), strict=True))
            if at_R is not None:
                given |= {role: given[role][at_R] for role in ("profile", "profile_positive")}
        return self.user(self._filled("user", packed, context, at_R, given))

    def item_vectors(
        self, packed: Columns, *, context: Mapping[str, Tensor] | None = None, at_R: Tensor | None = None
    ) -> Tensor:
        """Vectors [R, V], as `TwoTower.item_vectors`."""
        return self.item(self._filled("item", packed, context, at_R, {}))

    def _check_profile(self, profile: Profile) -> None:
        last = int(profile.item_P.max()) if len(profile.item_P) else -1
        if last >= self.profile_items:
            raise ValueError(
                f"a profile holds the item row {last}, but the exported user tower knows the first "
                f"{self.profile_items:,} items: export again with items=FILE, or leave new items out of profiles"
            )

    def _filled(
        self,
        side: Side,
        packed: Columns,
        context: Mapping[str, Tensor] | None,
        at_R: Tensor | None,
        by_role: Mapping[str, Tensor],
    ) -> dict[str, Tensor]:
        """All inputs of a program; what is not given is absent."""
        rows = packed if at_R is None else packed.gather(at_R)
        filled = {}
        for given in self.inputs[side]:
            if given.spec is None:
                column = by_role.get(given.role)
                # A program's histories and profiles have at least one place.
                column = None if column is None or column.shape[1] == 0 else column
            elif given.spec.context:
                column = (context or {}).get(given.name)
            else:
                column = rows.columns[given.name]
            if column is None:
                column = given.filled(rows.num_rows, dict.fromkeys(given.free.values(), 1)).to(self.device)
            filled[given.name] = column.to(getattr(torch, given.dtype)).contiguous()
        return filled


def padded(profile: Profile) -> tuple[Tensor, Tensor]:
    """Profiles as programs read them: items int64 [G, P] with -1 where empty, and which were positives, bool [G, P]."""
    group_P, num_groups = profile.group_P, profile.num_groups
    count_G = torch.bincount(group_P, minlength=num_groups)
    first_G = torch.cumsum(count_G, 0) - count_G
    place_P = torch.arange(len(group_P), device=group_P.device) - first_G[group_P]
    width = max(int(count_G.max()), 1) if num_groups else 1
    item_GP = torch.full((num_groups, width), -1, device=group_P.device)
    item_GP[group_P, place_P] = profile.item_P
    positive_GP = torch.zeros(num_groups, width, dtype=torch.bool, device=group_P.device)
    positive_GP[group_P, place_P] = profile.positive_P
    return item_GP, positive_GP


def _checked(given: ProgramInput, column: Tensor) -> Tensor:
    spec = given.spec
    assert spec is not None
    if given.dtype == "int64" and column.numel():
        low, high = int(column.min()), int(column.max())
        if low < 0 or high >= spec.cardinality:
            raise ValueError(
                f"{spec.side} feature {spec.name!r} holds the index {high if low >= 0 else low}, the schema allows "
                f"0..{spec.cardinality - 1}: encode the table with the vocabularies of the same folder"
            )
    return column.to(getattr(torch, given.dtype))
