"""What counts as a positive: rules such as `"> 0"` or `">= 2"`, read once and used on any array."""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable
from typing import Any

OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_RULE = re.compile(r"\s*(>=|<=|==|!=|>|<)\s*([-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?)\s*")


def parse_positive(rule: str) -> tuple[str, float]:
    """Split a rule into its comparison and its threshold: `">= 2"` gives `(">=", 2.0)`.

    Raises:
        ValueError: If the rule is not a comparison followed by a finite number.
    """
    match = _RULE.fullmatch(str(rule))
    try:
        threshold = float(match.group(2)) if match else math.nan
    except ValueError:
        threshold = math.nan
    if match is None or not math.isfinite(threshold):
        raise ValueError(
            f"positive rule {rule!r} is not understood: write a comparison ({', '.join(OPERATORS)}) and a number, "
            'such as "> 0" or ">= 2"'
        )
    return match.group(1), threshold


def positive_mask(labels: Any, rule: str) -> Any:
    """Which labels pass the rule: booleans of the same shape, for tensors, arrays, Polars series and expressions."""
    comparison, threshold = parse_positive(rule)
    return OPERATORS[comparison](labels, threshold)
