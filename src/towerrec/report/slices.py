"""Figures taken apart by groups of users and of items, with counts and 95 % intervals over users.

Groups of users: the mean of a ranking metric over the users of the group; its users alone are resampled.

Groups of items, over all judged users together:
  - `item_recall@k`: of the relevant items of the group, the share that stands among the first k of their user's list.
  - `share_of_exposure@k`: of the places that the lists fill up to k, the share held by items of the group.
  - `share_of_relevant` and `share_of_candidates`: the same of the relevant items and of the candidates; no system has a
    part in them, so `system` is null there.
All four are ratios of sums, and users are resampled: numerator and denominator of a user are drawn together (Cochran,
Sampling Techniques, 1977, ch. 6; Efron and Tibshirani 1993, ch. 10). Groups of one slice may overlap (tags).

Shape letters: B judged users, K places, I items, G groups of a slice, N rows of either table, C columns, R resamples.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from towerrec.metrics.beyond import candidate_sums, sums_over
from towerrec.metrics.functional import hits_of
from towerrec.ragged import UserItems
from towerrec.report.bootstrap import ends_of, intervals, resampled_means
from towerrec.report.judge import Judged
from towerrec.report.per_user import Floats, values_of
from towerrec.schema import Side

SMALL = 30
"""Groups of fewer users, or of fewer items, are marked: their figures say little."""

MOST_RESAMPLES = 1000
"""Resamples behind an interval of a group, at most: percentiles of so many are as steady as a chart shows."""

SCHEMA = {
    "side": pl.String,
    "slice": pl.String,
    "group": pl.String,
    "order": pl.Int64,
    "system": pl.String,
    "metric": pl.String,
    "users": pl.Int64,
    "items": pl.Int64,
    "mean": pl.Float64,
    "low": pl.Float64,
    "high": pl.Float64,
    "small": pl.Boolean,
}
TITLES = {
    "activity": "Users by training rows",
    "new_users": "New users",
    "history": "Users by training positives",
    "relevant": "Users by relevant items",
    "cold_items": "Cold items",
    "popularity": "Items by training positives",
    "duration": "Items by duration",
    "age": "Items by age at the end of training",
}


@dataclass(frozen=True)
class Groups:
    """One way to take users or items apart.

    Attributes:
        name: Of the slice.
        side: `user` (rows are the judged users) or `item` (rows are all items).
        labels: Of the groups, in the order they are shown.
        member_NG: Who belongs to which, bool; a row may belong to several or none.
    """

    name: str
    side: Side
    labels: list[str]
    member_NG: Tensor


@dataclass(frozen=True)
class Ranked:
    """What slices of items read of a judgement.

    Attributes:
        lists: Items of every system's lists in rank order, int64 [B, K], -1 where a list has ended.
        relevant: Relevant items of every user.
        users: Judged users, int64 [B].
        allowed: Candidates, as in `metrics.beyond.candidate_sums`.
        exclude: Items that are no candidates of a user.
        candidate_I: Items that could be listed for somebody, bool.
    """

    lists: Mapping[str, Tensor]
    relevant: UserItems
    users: Tensor
    allowed: Tensor | UserItems | None
    exclude: UserItems | None
    candidate_I: Tensor


def slice_title(name: str) -> str:
    """Heading of a slice; those of columns bear the column's name."""
    return TITLES.get(name, name)


def user_slices(
    systems: Sequence[Judged], groups: Sequence[Groups], metrics: Sequence[str], *, num_resamples: int, seed: int
) -> pl.DataFrame:
    """Means of some metrics over groups of users, `SCHEMA`.

    Args:
        systems: Judged on the same users in the same order.
        groups: Of these users; groups without a user are left out.
        metrics: Figures of the per-user tables, such as `ndcg@20`.
        num_resamples: Of the bootstrap, at most `MOST_RESAMPLES` are made.
        seed: Of the draws.
    """
    values_UC = np.concatenate([values_of(system.per_user, metrics) for system in systems], axis=1)
    named = [(system.name, metric) for system in systems for metric in metrics]
    rows: list[dict[str, Any]] = []
    for slice_ in groups:
        for order, label in enumerate(slice_.labels):
            kept_UC = values_UC[slice_.member_NG[:, order].numpy()]
            if len(kept_UC) == 0:
                continue
            low_C, high_C = intervals(kept_UC, num_resamples=min(num_resamples, MOST_RESAMPLES), seed=seed)
            facts = _facts(slice_, label, order, users=len(kept_UC), items=None)
            rows += [
                facts | {"system": system, "metric": metric, "mean": mean, "low": low, "high": high}
                for (system, metric), mean, low, high in zip(named, kept_UC.mean(0), low_C, high_C, strict=True)
            ]
    return pl.DataFrame(rows, schema=SCHEMA)


def item_slices(ranked: Ranked, groups: Sequence[Groups], k: int, *, num_resamples: int, seed: int) -> pl.DataFrame:
    """Recall and exposure of groups of items, `SCHEMA`; groups without a candidate are left out.

    Args:
        ranked: Lists of all systems and what they were made from.
        groups: Of items.
        k: Cut of the lists.
        num_resamples: Of the bootstrap, at most `MOST_RESAMPLES` are made.
        seed: Of the draws.
    """
    shown = {name: items_BK[:, :k] for name, items_BK in ranked.lists.items()}
    found = {name: hits_of(items_BK, ranked.relevant, ranked.users) for name, items_BK in shown.items()}
    rows: list[dict[str, Any]] = []
    for slice_ in groups:
        rows += _of_slice(slice_, ranked, shown, found, k, num_resamples=min(num_resamples, MOST_RESAMPLES), seed=seed)
    return pl.DataFrame(rows, schema=SCHEMA)


def _of_slice(
    slice_: Groups,
    ranked: Ranked,
    shown: Mapping[str, Tensor],
    found: Mapping[str, Tensor],
    k: int,
    *,
    num_resamples: int,
    seed: int,
) -> Iterator[dict[str, Any]]:
    # A last group of all items: its sums are the denominators of the shares.
    member_IG = F.pad(slice_.member_NG.float(), (0, 1), value=1.0)
    relevant_BG = sums_over(ranked.relevant, ranked.users, member_IG)
    candidate_BG = candidate_sums(ranked.allowed, ranked.exclude, ranked.users, member_IG)
    parts = [relevant_BG, candidate_BG]
    for name, items_BK in shown.items():
        parts += [_sums_of_lists(items_BK, member_IG), _sums_of_lists(items_BK.where(found[name], -1), member_IG)]
    all_UC = torch.cat(parts, 1).double().numpy()
    # Means of a resample and of all users: of a ratio both have the same number below, which cancels.
    mean_RC = np.concatenate([all_UC.mean(0)[None], resampled_means(all_UC, num_resamples=num_resamples, seed=seed)])
    relevant_RG, candidate_RG, *listed = np.split(mean_RC, len(parts), axis=1)
    ratios: list[tuple[str | None, str, Floats]] = [
        (None, "share_of_relevant", _ratio(relevant_RG, relevant_RG[:, -1:])),
        (None, "share_of_candidates", _ratio(candidate_RG, candidate_RG[:, -1:])),
    ]
    for name, exposed_RG, hit_RG in zip(shown, listed[::2], listed[1::2], strict=True):
        ratios.append((name, f"item_recall@{k}", _ratio(hit_RG, relevant_RG)))
        ratios.append((name, f"share_of_exposure@{k}", _ratio(exposed_RG, exposed_RG[:, -1:])))
    num_items_G = (slice_.member_NG & ranked.candidate_I[:, None]).sum(0)
    num_users_G = (relevant_BG > 0).sum(0)
    for order, label in enumerate(slice_.labels):
        if int(num_items_G[order]) == 0:
            continue
        facts = _facts(slice_, label, order, users=int(num_users_G[order]), items=int(num_items_G[order]))
        for system, metric, value_RG in ratios:
            mean = float(value_RG[0, order])
            if not np.isnan(mean):
                low, high = ends_of(value_RG[1:, order])
                yield facts | {"system": system, "metric": metric, "mean": mean, "low": float(low), "high": float(high)}


def _sums_of_lists(items_BK: Tensor, member_IG: Tensor) -> Tensor:
    """Places of each list that are held by each group, float32 [B, G]; -1 holds none."""
    # One more row, of zeros, is what -1 reads.
    table_IG = F.pad(member_IG, (0, 0, 0, 1))
    return F.embedding_bag(items_BK.where(items_BK >= 0, len(member_IG)), table_IG, mode="sum")


def _ratio(above: Floats, below: Floats) -> Floats:
    with np.errstate(invalid="ignore", divide="ignore"):  # 0 / 0: nobody who was drawn has one
        ratio: Floats = above / np.broadcast_to(below, above.shape)
    return ratio


def _facts(slice_: Groups, label: str, order: int, *, users: int, items: int | None) -> dict[str, Any]:
    small = users < SMALL or (items is not None and items < SMALL)
    counts = {"users": users, "items": items, "small": small}
    return {"side": slice_.side, "slice": slice_.name, "group": label, "order": order, **counts}
