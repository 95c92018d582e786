"""Checks of what a model's config says; every message names the key, the rule and the value."""

from __future__ import annotations

import difflib
from collections.abc import Collection, Mapping

from towerrec.schema import FeatureSchema


def check_least(key: str, value: int, least: int) -> None:
    """Refuse a number below `least`."""
    if value < least:
        raise ValueError(f"model.{key} must be at least {least}, got {value}")


def check_share(key: str, share: float) -> None:
    """Refuse what is no share of rows, units or features that could be dropped."""
    if not 0.0 <= share < 1.0:
        raise ValueError(f"model.{key} must be in [0, 1), got {share}")


def check_one_of(key: str, value: str, choices: Collection[str]) -> None:
    """Refuse a name that is not among `choices`."""
    if value not in choices:
        *others, last = choices
        raise ValueError(f"model.{key} must be {', '.join(others)} or {last}, got {value!r}")


def check_widths(widths: Mapping[str, int], schema: FeatureSchema) -> None:
    """Refuse embedding widths of features that have none, or below 1."""
    embedded = [spec.name for spec in schema.features if spec.kind in ("categorical", "multi")]
    for name, width in widths.items():
        if name not in embedded:
            near = difflib.get_close_matches(name, embedded, n=1)
            raise ValueError(
                f"model.feature_dims names {name!r}, which is no embedded feature of the schema"
                + (f": did you mean {near[0]!r}?" if near else "")
            )
        if width < 1:
            raise ValueError(f"model.feature_dims: the width of {name!r} must be at least 1, got {width}")
