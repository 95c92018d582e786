"""Weights over tables that have grown: old rows keep theirs, new rows begin as what was not known.

A value that the earlier model did not know it encoded as unknown (of a list: it left it out), so a new row of an
embedding table begins as the row of the unknown value, and a vector of features is at first what it was. That of an
unknown id is zero: a new user or item begins with exactly the vector of its features, and its own direction is learnt
from its own rows. Where a tower reads nothing but ids, a zero would stay one (the gradient of a product of two zeros)
or have no direction (a cosine): there new rows begin as any model's.

Shape letters: O rows of the earlier item table.
"""

from __future__ import annotations

import torch
from torch import Tensor

from towerrec.nn.embedding import FeatureEncoder
from towerrec.nn.ensemble import Model, members_of
from towerrec.nn.towers import Tower
from towerrec.nn.two_tower import TwoTower
from towerrec.schema import UNKNOWN


def grow(model: Model, old: Model, item_row_O: Tensor) -> None:
    """Give a model the weights of one over smaller tables.

    Args:
        model: As it was made: what nobody has learnt yet begins as it stands there.
        old: The same model over vocabularies that begin those of `model`.
        item_row_O: Rows of the larger item table that the rows of the earlier one have there, int64.
    """
    for new_member, old_member in zip(members_of(model), members_of(old), strict=True):
        _grow(new_member, old_member, item_row_O)


@torch.no_grad()
def _grow(model: TwoTower, old: TwoTower, item_row_O: Tensor) -> None:
    grown: dict[str, Tensor] = {}
    for side in ("user_tower", "item_tower"):
        ours, theirs = getattr(model, side), getattr(old, side)
        grown |= {f"{side}.{name}": table for name, table in _of_tower(ours, theirs).items()}
        grown |= {f"{side}.features.{name}": t for name, t in _of_features(ours.features, theirs.features).items()}
    history, before = model.user_tower.history, old.user_tower.history
    if history is not None and before is not None:
        if history.shared:
            grown["user_tower.history.table"] = grown["item_tower.id_vectors"]
        else:
            # Row 0 is no item. A new one adds nothing to a history before it has been learnt.
            table = torch.zeros_like(history.table)
            table[:1], table[item_row_O + 1] = before.table[:1], before.table[1:]
            grown["user_tower.history.table"] = table
    pool, pooled = model.profile, old.profile
    if pool is not None and pooled is not None and pool.shown_ID is not None and pooled.shown_ID is not None:
        grown["profile.shown_ID"] = pool.shown_ID.detach().clone()
        grown["profile.shown_ID"][item_row_O] = pooled.shown_ID
    same = {name: value for name, value in old.state_dict().items() if name not in grown}
    model.load_state_dict(same | grown)


def _of_tower(tower: Tower, old: Tower) -> dict[str, Tensor]:
    """Tables of the tower's own ids."""
    grown = {}
    for name in ("id_vectors", "id_biases"):
        table, before = getattr(tower, name), getattr(old, name)
        if table is not None:
            begins = table.detach() if name == "id_vectors" and tower.output is None else torch.zeros_like(table)
            grown[name] = torch.cat([before.detach(), begins[len(before) :]])
    return grown


def _of_features(encoder: FeatureEncoder, old: FeatureEncoder) -> dict[str, Tensor]:
    """Tables of the features: those of one width lie in one table, one block of rows each."""
    grown = {f"tables.{width}": table.detach().clone() for width, table in encoder.tables.items()}
    cardinality = {spec.name: spec.cardinality for spec in old.specs}
    for spec in encoder.specs:
        known = cardinality[spec.name]
        if spec.kind == "categorical":
            width, first, before = encoder.width_of[spec.name], encoder.offsets[spec.name], old.offsets[spec.name]
            rows = old.tables[str(width)].detach()[before : before + known]
            block = grown[f"tables.{width}"][first : first + spec.cardinality]
            block[:known], block[known:] = rows, rows[UNKNOWN]
        elif spec.kind == "multi":
            rows = old.list_tables[spec.name].detach()
            table = torch.zeros(spec.cardinality, rows.shape[1])
            table[:known], table[known:] = rows, rows[UNKNOWN]
            grown[f"list_tables.{spec.name}"] = table
    return grown
