"""Random rows for exported towers, and what the model itself makes of them.

Shape letters: R rows, P profile length, I items, V width of the vectors.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor

from towerrec.nn.ensemble import Model
from towerrec.nn.profile import Profile
from towerrec.nn.programs import ProgramInput
from towerrec.schema import PAD, FeatureTable, Side

# Shares of rows whose lists are empty, and of places in the other lists that are.
_EMPTY_ROWS, _EMPTY_PLACES = 0.1, 0.2
# Share of numbers that are missing, and of indices that are unknown or padding beyond their own share.
_MISSING = 0.1


def drawn(
    inputs: tuple[ProgramInput, ...], num_rows: int, *, num_items: int, length: int, seed: int
) -> dict[str, Tensor]:
    """Inputs of a program: unknown ids, missing values, empty lists, histories and profiles among them.

    Args:
        inputs: Of the program.
        num_rows: How many.
        num_items: Items that histories and profiles may hold.
        length: Of histories and profiles.
        seed: Of the draw.
    """
    draw = torch.Generator().manual_seed(seed)

    def some(shape: tuple[int, ...], share: float) -> Tensor:
        return torch.rand(shape, generator=draw) < share

    def one(given: ProgramInput) -> Tensor:
        shape = tuple(num_rows if size == "rows" else length if isinstance(size, str) else size for size in given.shape)
        if given.dtype == "bool":
            return some(shape, 0.5)
        if given.dtype == "float32":
            return torch.randn(shape, generator=draw).masked_fill(some((num_rows, *shape[1:]), _MISSING), given.absent)
        if given.spec is None:
            items = torch.randint(num_items, shape, generator=draw)
            return items.masked_fill(some(shape, _EMPTY_PLACES) | some((num_rows, 1), _EMPTY_ROWS), int(given.absent))
        values = torch.randint(PAD, given.spec.cardinality, shape, generator=draw)
        return values.masked_fill(some((num_rows, *(1,) * (len(shape) - 1)), _MISSING), int(given.absent))

    return {given.name: one(given) for given in inputs}


@torch.no_grad()
def by_model(
    model: Model, side: Side, inputs: tuple[ProgramInput, ...], columns: Mapping[str, Tensor], item_IV: Tensor | None
) -> Tensor:
    """Vectors [R, V] by the model as it serves a run: checked, lists without padding, profiles as pairs."""
    table = {given.name: columns[given.name] for given in inputs if given.spec is not None and not given.spec.context}
    context = {given.name: columns[given.name] for given in inputs if given.spec is not None and given.spec.context}
    by_role = {given.role: columns[given.name] for given in inputs if given.spec is None}
    num_rows = len(next(iter(columns.values())))
    packed = model.pack(side, FeatureTable(table, num_rows))
    if side == "item":
        return model.item_vectors(packed, context=context)
    profile = None
    if "profile" in by_role:
        assert item_IV is not None
        group_P, place_P = (by_role["profile"] >= 0).nonzero().unbind(1)
        item_P, positive_P = by_role["profile"][group_P, place_P], by_role["profile_positive"][group_P, place_P]
        profile = Profile(group_P, item_P, positive_P, num_rows, item_IV)
    return model.user_vectors(packed, context=context, history_RH=by_role.get("history"), profile=profile)
