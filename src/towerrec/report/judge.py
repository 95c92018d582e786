"""Lists against held-out rows: one number per user and metric, then means with intervals.

The rules, for every system alike:
  - A user counts when at least one relevant item may be listed for them. Relevant items that no list may hold (already
    seen, no candidates) are taken out first, by `retrieval.search.only_candidates`, and their number is reported.
  - Relevance is binary, but for graded NDCG. A list that ends early has missed the rest.
All rules in words: `metrics.definitions.RULES`.

Shape letters: B judged users, n length of the lists, K cut.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import polars as pl
from torch import Tensor

from towerrec.metrics.functional import coverage_at_k, hits_of, ranking_metrics
from towerrec.ragged import TopN, UserItems
from towerrec.report.beyond import Beyond
from towerrec.report.bootstrap import ends_of, intervals, resampled_means
from towerrec.report.per_user import figures, values_of

Summary = dict[str, dict[str, Any]]
"""`{"ndcg@20": {"mean": .., "low": .., "high": .., "users": ..}, ...}`; coverage has no interval (None)."""

USER_IDX = "user_idx"
NUM_RELEVANT = "num_relevant"

_USERS_AT_ONCE = 8192


@dataclass(frozen=True)
class Judged:
    """One system's result. `bound` marks what reads the judged rows and is no system."""

    name: str
    per_user: pl.DataFrame
    summary: Summary
    bound: bool = False
    facts: dict[str, Any] = field(default_factory=dict)


def judged_users(relevant: UserItems) -> Tensor:
    """Users with at least one relevant item, int64 [B], ascending."""
    return (relevant.counts > 0).nonzero()[:, 0]


def judge(
    lists: TopN,
    relevant: UserItems,
    user_idx_B: Tensor,
    ks: Sequence[int],
    *,
    user_ids: pl.Series | None = None,
) -> pl.DataFrame:
    """One row per user: `user_idx` (and `user_id`), `num_relevant`, and every ranking metric at every cut.

    Args:
        lists: One list per user of `user_idx_B`.
        relevant: Relevant items of every user, only those that may be listed.
        user_idx_B: Judged users; those without a relevant item are left out of the result.
        ks: Cuts.
        user_ids: Id of every row of the user table, to name users in the result.

    Raises:
        ValueError: If a cut is larger than the catalogue or than the lists, or the lists and users do not match.
    """
    _check_cuts(ks, lists.items.shape[1], relevant.num_items)
    if len(lists) != len(user_idx_B):
        raise ValueError(f"{len(lists)} lists for {len(user_idx_B)} users: give one list per user")
    parts = []
    for items_bn, user_idx_b in zip(lists.items.split(_USERS_AT_ONCE), user_idx_B.split(_USERS_AT_ONCE), strict=True):
        num_relevant_b = relevant.counts[user_idx_b]
        hits_bK = hits_of(items_bn[:, : max(ks)], relevant, user_idx_b)
        columns = {USER_IDX: user_idx_b, NUM_RELEVANT: num_relevant_b, **ranking_metrics(hits_bK, num_relevant_b, ks)}
        parts.append(pl.DataFrame({name: column.cpu().numpy() for name, column in columns.items()}))
    table = pl.concat(parts).filter(pl.col(NUM_RELEVANT) > 0)
    if user_ids is not None:
        table.insert_column(0, user_ids.gather(table[USER_IDX]).alias("user_id"))
    return table


def summarise(
    per_user: pl.DataFrame,
    *,
    lists: TopN | None = None,
    num_items: int | None = None,
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Summary:
    """Mean over users and 95 % bootstrap interval of every figure; with `lists` and `num_items` coverage too.

    A mean is over the users that have the figure (null and NaN are none); a figure that no user has is left out.

    Raises:
        ValueError: If no user was judged.
    """
    if per_user.height == 0:
        raise ValueError("no user has a relevant item that may be listed: check split, label and eval.positive")
    names = [name for name in figures(per_user) if not np.isnan(values_of(per_user, [name])).all()]
    values_UM = values_of(per_user, names)
    low_M, high_M = intervals(values_UM, num_resamples=num_resamples, seed=seed)
    mean_M, users_M = np.nanmean(values_UM, axis=0), (~np.isnan(values_UM)).sum(0)
    summary: Summary = {
        name: {"mean": float(mean), "low": float(low), "high": float(high), "users": int(users)}
        for name, mean, low, high, users in zip(names, mean_M, low_M, high_M, users_M, strict=True)
    }
    if lists is not None:
        assert num_items is not None
        for k in sorted({int(name.split("@")[1]) for name in names if "@" in name}):
            mean = float(coverage_at_k(lists.items, num_items, k))
            summary[f"coverage@{k}"] = {"mean": mean, "low": None, "high": None, "users": len(lists)}
    return summary


def judge_system(
    name: str,
    lists: TopN,
    relevant: UserItems,
    user_idx_B: Tensor,
    ks: Sequence[int],
    *,
    user_ids: pl.Series | None = None,
    num_candidates: int | None = None,
    num_resamples: int = 10_000,
    seed: int = 0,
    bound: bool = False,
    beyond: Beyond | None = None,
    more: Mapping[str, Tensor] | None = None,
) -> Judged:
    """`judge` and `summarise` in one; coverage is a share of `num_candidates`, by default of the whole catalogue. With
    `beyond`, whose users are all judged, the figures beyond accuracy too; `more` has further columns [B]."""
    per_user = judge(lists, relevant, user_idx_B, ks, user_ids=user_ids)
    if beyond is not None:
        assert per_user.height == len(user_idx_B), "users without a relevant item are no judged users"
        columns = {name: column_B.numpy() for name, column_B in beyond.per_user(lists.items, ks).items()}
        per_user = per_user.with_columns(pl.Series(name, column, nan_to_null=True) for name, column in columns.items())
    if more:
        assert per_user.height == len(user_idx_B), "users without a relevant item are no judged users"
        per_user = per_user.with_columns(
            pl.Series(n, column_B.numpy(), nan_to_null=True) for n, column_B in more.items()
        )
    base = relevant.num_items if num_candidates is None else num_candidates
    summary = summarise(per_user, lists=lists, num_items=base, num_resamples=num_resamples, seed=seed)
    if beyond is not None:
        found = {f"{name}@{k}": value for k in ks for name, value in beyond.of_all(lists.items, k).items()}
        summary |= {
            name: {"mean": value, "low": None, "high": None, "users": len(lists)} for name, value in found.items()
        }
    if "gauc" in summary:
        summary["gauc_weighted"] = weighted(per_user, "gauc", "num_rows", num_resamples=num_resamples, seed=seed)
    return Judged(name, per_user, summary, bound=bound)


def weighted(per_user: pl.DataFrame, name: str, weight: str, *, num_resamples: int, seed: int) -> dict[str, Any]:
    """Mean of a figure in which a user counts as often as `weight` says, with the interval of that ratio over users."""
    table = per_user.filter(pl.col(name).is_not_null())
    parts_U2 = np.stack([(table[name] * table[weight]).to_numpy(), table[weight].to_numpy().astype(np.float64)], 1)
    means_R2 = resampled_means(parts_U2, num_resamples=num_resamples, seed=seed)
    low, high = ends_of((means_R2[:, 0] / means_R2[:, 1])[:, None])[:, 0]
    mean = parts_U2[:, 0].sum() / parts_U2[:, 1].sum()
    return {"mean": float(mean), "low": float(low), "high": float(high), "users": table.height}


def _check_cuts(ks: Sequence[int], length: int, num_items: int) -> None:
    if not ks or min(ks) < 1:
        raise ValueError(f"eval.ks must hold cuts of at least 1, got {list(ks)}")
    if max(ks) > num_items:
        raise ValueError(f"eval.ks asks for the first {max(ks)}, but the catalogue has {num_items} items: lower it")
    if max(ks) > length:
        raise ValueError(f"eval.ks asks for the first {max(ks)}, but the lists were made with n={length}: raise n")
