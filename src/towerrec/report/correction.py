"""p-values of many comparisons at once.

Shape letters: P comparisons of a family, M families.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float64]

CORRECTIONS = ("holm", "benjamini_hochberg", "none")
"""`holm` bounds the chance of one false finding or more, `benjamini_hochberg` the expected share of false ones."""

TITLES = {"holm": "Holm", "benjamini_hochberg": "Benjamini-Hochberg", "none": "no correction"}
"""The corrections as people write them."""


def adjusted(p_PM: Floats, correction: str) -> Floats:
    """p-values corrected for the number of comparisons, within every column, [P, M].

    Holm (Scandinavian Journal of Statistics 1979): the i-th smallest of P times P - i + 1, never below those before
    it. Benjamini and Hochberg (JRSS B 1995): the i-th smallest times P / i, never above those behind it. Neither is
    above 1; missing values (NaN) stay so and count for none.

    Raises:
        ValueError: If the correction is not known.
    """
    if correction not in CORRECTIONS:
        raise ValueError(f"eval.correction={correction} is not known: choose from {', '.join(CORRECTIONS)}")
    if correction == "none":
        return p_PM.copy()
    order = np.argsort(p_PM, axis=0, kind="stable")  # NaN last
    sorted_PM = np.take_along_axis(p_PM, order, axis=0)
    number_M = np.sum(~np.isnan(p_PM), axis=0)
    place_P1 = np.arange(len(p_PM))[:, None]
    if correction == "holm":
        found = np.maximum.accumulate(sorted_PM * (number_M - place_P1), axis=0)
    else:
        raised = sorted_PM * number_M / (place_P1 + 1)
        # From the largest down; fmin passes over the missing ones.
        found = np.where(np.isnan(sorted_PM), np.nan, np.fmin.accumulate(raised[::-1], axis=0)[::-1])
    result = np.empty_like(found)
    np.put_along_axis(result, order, np.minimum(found, 1.0), axis=0)
    return result
