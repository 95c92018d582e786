"""Freshness at retrieval as a config says it."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any

from towerrec.config_types import closest


@dataclass
class PriorConfig:
    """Freshness at retrieval, see `retrieval.prior`.

    Args:
        weight: The dial: how far the prior moves the scores, in units of their own spread; 0 leaves them as they are,
            below 0 it pushes what is popular (or young) down.
        of: `popularity` (recent training positives) or `youth` (days since the item's date).
        half_life_days: After so many days a positive counts half; null counts all alike.
    """

    weight: float = 0.0
    of: str = "popularity"
    half_life_days: float | None = 3.0


@dataclass
class PriorCurveConfig(PriorConfig):
    """The prior in `evaluate.py`.

    Args:
        curve: Values of the dial for the accuracy-coverage curve; empty draws none.
    """

    curve: list[float] = field(default_factory=list)


def check_prior(config: PriorConfig) -> None:
    """Refuse a dial that says nothing.

    Raises:
        ValueError: Naming the key and the rule.
    """
    if config.of not in ("popularity", "youth"):
        raise ValueError(f"prior.of={config.of} is not known{closest(config.of, ['popularity', 'youth'])}")
    dials = [config.weight, *(config.curve if isinstance(config, PriorCurveConfig) else [])]
    if not all(math.isfinite(weight) for weight in dials):
        raise ValueError(f"prior.weight and prior.curve must hold finite numbers, got {dials}")
    if config.half_life_days is not None and not config.half_life_days > 0:
        raise ValueError(f"prior.half_life_days must be positive (or null: no forgetting), got {config.half_life_days}")


def prior_of(given: PriorConfig | Mapping[str, Any] | None) -> PriorConfig:
    """A prior as code says it: None is none, a mapping holds keys of `PriorConfig`.

    Raises:
        ValueError: As `check_prior` does, or for a key that is none.
    """
    if isinstance(given, Mapping):
        known = [key.name for key in fields(PriorConfig)]
        for key in given:
            if key not in known:
                raise ValueError(f"prior has no key {key!r}{closest(str(key), known)}")
        given = PriorConfig(**given)
    prior = PriorConfig() if given is None else given
    check_prior(prior)
    return prior
