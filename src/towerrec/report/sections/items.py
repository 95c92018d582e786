"""A map of the items: their vectors in two dimensions, coloured by category or by popularity.

Shape letters: I items, N sampled items, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from towerrec.report.charts_points import cloud_chart
from towerrec.report.page import Section, figure, note
from towerrec.report.style import NUM_COLOURS

MOST_ITEMS = 2000
NEIGHBOURS = 10


@dataclass(frozen=True)
class ItemMap:
    """Some items on a plane.

    Attributes:
        places: Both coordinates, float64 [N, 2].
        groups: What each item is coloured by, texts [N]; null where not known.
        by: What that is: a column, or popularity.
        ordered: The groups in the order of the colours; those that are not named here are «other».
        variance: Shares of the variance that the two directions hold.
        alike: Share of the nearest items that are of the item's own group, and the same by chance.
        num_items: How many items the sample is of.
    """

    places: Tensor
    groups: pl.Series
    by: str
    ordered: Sequence[str]
    variance: tuple[float, float]
    alike: tuple[float, float]
    num_items: int


def item_map(
    vectors_ID: Tensor, groups: pl.Series, *, by: str, ordered: Sequence[str] | None = None, seed: int = 0
) -> ItemMap | None:
    """Principal components of the directions of at most 2,000 items; None where fewer than three differ.

    Components are exact (eigenvectors of the covariance of the sample), each with its largest weight positive, so equal
    vectors give equal maps.

    Args:
        vectors_ID: Vectors of the items that shall be shown.
        groups: What to colour by, [I].
        by: What that is.
        ordered: Groups with a colour in their order; None: the largest five.
        seed: Of the sample.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn_N = torch.randperm(len(vectors_ID), generator=generator)[:MOST_ITEMS].sort().values
    # As directions: neighbours are found by angle, and a few long vectors would press all others into a corner.
    sample_ND = F.normalize(vectors_ID[drawn_N].double().cpu(), dim=1)
    centred_ND = sample_ND - sample_ND.mean(0)
    total = float(centred_ND.square().sum())
    if len(drawn_N) < 3 or sample_ND.shape[1] < 2 or total <= 1e-12:
        return None
    values, directions = torch.linalg.eigh(centred_ND.T @ centred_ND)
    two_D2 = directions[:, -2:].flip(1)
    largest = two_D2.abs().argmax(0)
    two_D2 = two_D2 * two_D2[largest, torch.arange(2)].sign()
    shown = groups.gather(drawn_N.numpy()).cast(pl.String)
    sizes = shown.drop_nulls().value_counts(sort=True)
    largest_groups = sizes.sort(["count", sizes.columns[0]], descending=[True, False])[sizes.columns[0]]
    return ItemMap(
        places=centred_ND @ two_D2,
        groups=shown,
        by=by,
        ordered=list(ordered) if ordered is not None else largest_groups.head(NUM_COLOURS - 1).to_list(),
        variance=(float(values[-1]) / total, float(values[-2]) / total),
        alike=_alike(sample_ND, shown),
        num_items=len(vectors_ID),
    )


def map_section(found: ItemMap) -> Section:
    """The map, how much of the vectors it shows, and what the colours have to do with it."""
    first, second = found.variance
    own, chance = found.alike
    times = f" ({own / chance:.1f} times as many)" if chance > 0 else ""
    words = (
        f"{len(found.groups):,} of {found.num_items:,} items by the direction of their vectors, on the two axes of "
        f"largest variance ({first:.0%} and {second:.0%} of all). Of the {NEIGHBOURS} nearest items of an item "
        f"(by angle on all axes) {own:.0%} share its {found.by}; by chance {chance:.0%} would{times}."
    )
    body = figure(f"Items by {found.by}", map_chart(found))
    return Section("Map of the items", note(words) + f'<div class="large">{body}</div>')


def map_chart(found: ItemMap) -> str:
    """The items as dots; groups without a colour are one grey."""
    label = found.groups.to_list()
    named = {name: place for place, name in enumerate(found.ordered)}
    places = found.places.tolist()
    rest = [(a, b) for (a, b), group in zip(places, label, strict=True) if group not in named]
    groups: list[tuple[str, int | None, Sequence[tuple[float, float]]]] = (
        [("other or not known", None, rest)] if rest else []
    )
    for name, place in reversed(named.items()):
        groups.append((name, place, [(a, b) for (a, b), group in zip(places, label, strict=True) if group == name]))
    return cloud_chart(groups, title=f"Item vectors in two dimensions, coloured by {found.by}")


def _alike(sample_ND: Tensor, groups: pl.Series) -> tuple[float, float]:
    """How often the nearest items (vectors have length 1) are of an item's own group, and how often any is."""
    code_N = torch.from_numpy(groups.rank("dense").fill_null(0).to_numpy().astype("int64").copy())
    known_N = code_N > 0
    unit_ND = sample_ND[known_N].float()
    code_N = code_N[known_N]
    if len(code_N) <= NEIGHBOURS:
        return 0.0, 0.0
    close_NN = unit_ND @ unit_ND.T
    close_NN.fill_diagonal_(-torch.inf)
    nearest = close_NN.topk(NEIGHBOURS, dim=1).indices
    size = torch.bincount(code_N).double()
    own = (code_N[nearest] == code_N[:, None]).double().mean()
    chance = ((size * (size - 1)).sum() / (len(code_N) * (len(code_N) - 1))).item()
    return float(own), chance
