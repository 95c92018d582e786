"""The towers as programs of their own: plain tensors in, vectors out, nothing of the tables inside.

A program takes one tensor per feature, encoded as the vocabularies say, and runs the very `forward` that training ran;
only what looks at values (checks, lists without padding) stays outside, so that it can be traced for any number of
rows.

Shape letters: R rows, L values of a list, D width of a vector feature, H history length, P profile length, I items,
V width of the vectors.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from towerrec.nn.ensemble import Model, members_of
from towerrec.nn.missing import INDICATOR
from towerrec.nn.profile import PaddedProfile
from towerrec.schema import PAD, UNKNOWN, FeatureSpec, Side

ROWS = "rows"
"""Name of the number of rows in the shapes of inputs: any from 1 on."""
EMPTY = -1
"""Stands in a history or a profile where there is no item."""


@dataclass(frozen=True)
class ProgramInput:
    """One input of a program.

    Args:
        name: Its name, unique among the inputs of the program.
        role: `feature`, `history`, `profile` (items) or `profile_positive` (which of them were positives).
        spec: The feature, where it is one.
        dtype: `int64`, `float32` or `bool`.
        shape: Sizes; those that may be any have names.
        absent: What stands for a missing value.
    """

    name: str
    role: str
    spec: FeatureSpec | None
    dtype: str
    shape: tuple[str | int, ...]
    absent: int | float

    @property
    def free(self) -> dict[int, str]:
        """Axes whose size may be any, with their names."""
        return {axis: size for axis, size in enumerate(self.shape) if isinstance(size, str)}

    def filled(self, num_rows: int, sizes: Mapping[str, int]) -> Tensor:
        """`absent` everywhere, for so many rows; `sizes` says how long what may be any length is."""
        shape = [num_rows if size == ROWS else sizes[size] if isinstance(size, str) else size for size in self.shape]
        return torch.full(shape, self.absent, dtype=getattr(torch, self.dtype))


def program_inputs(model: Model, side: Side) -> tuple[ProgramInput, ...]:
    """What the program of a tower reads, in order: the id, features of the table, context, history, profile."""
    tower = model.user_tower if side == "user" else model.item_tower
    specs = [*([] if tower.id_spec is None else [tower.id_spec]), *tower.features.ordered]
    taken = {spec.name for spec in specs}
    inputs = [_of_feature(spec, is_indicator=_number_of(spec.name) in taken) for spec in specs]
    if side == "user" and model.reads_history:
        inputs.append(_of_items("history", "history", taken))
    if side == "user" and model.profile is not None:
        inputs.append(_of_items("profile", "profile", taken))
        inputs.append(_of_items("profile_positive", "profile", taken))
    return tuple(inputs)


class UserProgram(nn.Module):
    """Vectors [R, V] of users from the inputs that `program_inputs` lists, by their names.

    Args:
        model: In evaluation mode; the program shares its weights and holds none of the item tower's that it can do
            without.
        item_IV: Vectors of all items without a context, which profiles are sums of; None where none are read.
        history_length: Items of a history that count, the most recent ones.
    """

    item_IV: Tensor

    def __init__(self, model: Model, item_IV: Tensor | None = None, *, history_length: int) -> None:
        super().__init__()
        assert (item_IV is None) == (model.profile is None), "profiles are sums of item vectors"
        self.history_length = history_length
        self.inputs = program_inputs(model, "user")
        self.model = _without(model, "item_tower")
        if item_IV is not None:
            self.register_buffer("item_IV", item_IV)

    def forward(self, columns: dict[str, Tensor]) -> Tensor:
        """Vectors [R, V]."""
        by_role = {given.role: columns[given.name] for given in self.inputs if given.spec is None}
        features, num_rows = _features(self.inputs, columns)
        profile: Any = None
        if "profile" in by_role:
            profile = PaddedProfile(by_role["profile"], by_role["profile_positive"], self.item_IV)
        history_RH = by_role.get("history")
        if history_RH is not None:
            # As `scoring` hands them over: the last so many, and no items that joined after the training.
            late_H = torch.arange(history_RH.shape[1], device=history_RH.device) >= self.history_length
            history_RH = history_RH.masked_fill(late_H | (history_RH >= self.model.schema.num_items), EMPTY)
        packed = self.model.user_tower.pack(features, num_rows=num_rows, device=self.model.device, traced=True)
        return self.model.user_vectors(packed, context=features, history_RH=history_RH, profile=profile)


class ItemProgram(nn.Module):
    """Vectors [R, V] of items; see `UserProgram`."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.inputs = program_inputs(model, "item")
        self.model = _without(model, "user_tower", "profile", "global_bias")

    def forward(self, columns: dict[str, Tensor]) -> Tensor:
        """Vectors [R, V]."""
        features, num_rows = _features(self.inputs, columns)
        packed = self.model.item_tower.pack(features, num_rows=num_rows, device=self.model.device, traced=True)
        return self.model.item_vectors(packed, context=features)


def _number_of(name: str) -> str:
    """The number whose absence a feature of this name tells, if it is one that does."""
    return name.removesuffix(INDICATOR) if name.endswith(INDICATOR) else ""


def _of_feature(spec: FeatureSpec, *, is_indicator: bool) -> ProgramInput:
    if spec.kind == "categorical":
        return ProgramInput(spec.name, "feature", spec, "int64", (ROWS,), UNKNOWN)
    if spec.kind == "multi":
        return ProgramInput(spec.name, "feature", spec, "int64", (ROWS, spec.width), PAD)
    shape = (ROWS,) if spec.kind == "numeric" else (ROWS, spec.width)
    return ProgramInput(spec.name, "feature", spec, "float32", shape, float(is_indicator))


def _of_items(role: str, length: str, taken: set[str]) -> ProgramInput:
    """A list of items of any length; a feature of the same name keeps its own."""
    name = role
    while name in taken:
        name += "_items"
    is_flag = role == "profile_positive"
    return ProgramInput(name, role, None, "bool" if is_flag else "int64", (ROWS, length), 0 if is_flag else EMPTY)


def _features(inputs: tuple[ProgramInput, ...], columns: dict[str, Tensor]) -> tuple[dict[str, Tensor], int]:
    features = {given.name: columns[given.name] for given in inputs if given.spec is not None}
    return features, columns[inputs[0].name].shape[0]


def _without(model: Model, *parts: str) -> Model:
    """The model with the same weights less some parts: a program would carry them along."""
    kept = {id(tensor): tensor for tensor in (*model.parameters(), *model.buffers())}
    copied = copy.deepcopy(model, kept)
    for member in members_of(copied):
        for part in parts:
            setattr(member, part, None)
    return copied.requires_grad_(False)
