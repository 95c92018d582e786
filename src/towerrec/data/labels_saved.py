"""A label with what it learnt, as plain builtins: kept with the prepared log and with every run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towerrec.data.labels import Column, Implicit, Label, Liked, WatchRatio
from towerrec.data.labels_debiased import Debiased, DebiasedRank
from towerrec.data.labels_residual import DebiasedResidual

LABELS = {kind.name: kind for kind in (WatchRatio, Liked, Column, Implicit, Debiased, DebiasedRank, DebiasedResidual)}


def label_to_dict(label: Label) -> dict[str, Any]:
    """Name, settings and what `fit` learnt, for JSON."""
    settings = {key: value for key, value in label.settings().items() if key != "label"}
    return {"name": label.name, "settings": settings, "fitted": label.fitted()}


def label_from_dict(plain: Mapping[str, Any]) -> Label:
    """The label that `label_to_dict` wrote: `apply` labels further rows as those of the prepared log were.

    Raises:
        ValueError: If no label has this name.
    """
    if plain["name"] not in LABELS:
        raise ValueError(f"there is no label {plain['name']!r}: choose from {', '.join(sorted(LABELS))}")
    label: Label = LABELS[plain["name"]](**plain["settings"])
    return label.restore(plain["fitted"])
