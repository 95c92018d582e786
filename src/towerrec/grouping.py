"""Ways to put users or items into groups: by a number, by a yes or no, by a value.

Shape letters: N rows (users or items), L values of a row, V distinct values, G groups.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from towerrec.data.column_encoders import quantile_edges
from towerrec.report.slices import Groups
from towerrec.schema import Side


def bands(
    name: str,
    side: Side,
    value_N: Tensor,
    quantiles: int,
    among_N: Tensor | None = None,
    *,
    unit: str = "",
    apart: str | None = None,
) -> Groups:
    """Groups of about equally many rows by a number, equal numbers together, and one of those not known (NaN).

    Args:
        name: Of the slice.
        side: `user` or `item`.
        value_N: The numbers.
        quantiles: Groups at most.
        among_N: Rows whose quantiles are taken and whose numbers are named, bool; None: all.
        unit: Of the numbers, to be written behind them.
        apart: Label of a group of its own for the zeros; None: they are numbers like the others.
    """
    number_N = value_N.double().numpy()
    among = np.ones(len(number_N), dtype=bool) if among_N is None else among_N.numpy()
    zero_N = (number_N == 0) & (apart is not None)
    banded_N = ~np.isnan(number_N) & ~zero_N
    edges = quantile_edges(number_N[banded_N & among], quantiles)
    band_N = np.searchsorted(edges, number_N, side="right")
    labels, members = [], []
    for band in range(len(edges) + 1):
        member_N = banded_N & (band_N == band)
        inside = number_N[member_N & among]
        if len(inside):
            labels.append(_from_to(float(inside.min()), float(inside.max()), unit))
            members.append(member_N)
    for label, member_N in ((apart, zero_N), ("unknown", np.isnan(number_N))):
        if label is not None and member_N.any():
            place = 0 if label == apart else len(labels)
            labels.insert(place, label)
            members.insert(place, member_N)
    return Groups(name, side, labels, _table(members, len(number_N)))


def two(name: str, side: Side, is_N: Tensor, yes: str, no: str) -> Groups:
    """Rows of which something holds, and the others."""
    return Groups(name, side, [yes, no], torch.stack([is_N, ~is_N], 1))


def of_values(
    name: str, side: Side, member_NL: Tensor, labels: list[str], most: int, among_N: Tensor | None = None
) -> Groups:
    """The largest values as groups, then all other values together, then the rows without a value.

    Args:
        name: Of the slice.
        side: `user` or `item`.
        member_NL: Places in `labels` of the values of every row, filled up with -1.
        labels: Of the values.
        most: Values that are groups of their own.
        among_N: Rows by which the size of a value is counted, bool; None: all.
    """
    counted = member_NL if among_N is None else member_NL[among_N]
    size_V = torch.bincount(counted[counted >= 0], minlength=len(labels))
    largest = size_V.argsort(descending=True, stable=True)[:most]
    others = len(largest)
    group_V = torch.full((len(labels) + 1,), others)
    group_V[largest] = torch.arange(others)
    group_V[-1] = others + 1  # what -1 reads: no value, kept out below
    member_NG = torch.zeros(len(member_NL), others + 2, dtype=torch.bool).scatter_(1, group_V[member_NL], True)
    member_NG[:, -1] = (member_NL < 0).all(1)
    return Groups(name, side, [*(labels[v] for v in largest.tolist()), "others", "none"], member_NG)


def _table(members: list[np.ndarray], num_rows: int) -> Tensor:
    return torch.from_numpy(np.stack(members, 1) if members else np.zeros((num_rows, 0), dtype=bool))


def _from_to(low: float, high: float, unit: str) -> str:
    written = [f"{value:,.0f}" if value == round(value) or value >= 1000 else f"{value:.3g}" for value in (low, high)]
    return f"{written[0]}{unit}" if written[0] == written[1] else f"{written[0]} to {written[1]}{unit}"
