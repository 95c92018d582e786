"""Who belongs to which group of users, and what the differences between systems are within each."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import polars as pl

from towerrec.report.correction import adjusted
from towerrec.report.paired import Pair, paired_table
from towerrec.report.slices import MOST_RESAMPLES, SMALL, Groups

MEMBERS = {"slice": pl.String, "group": pl.String, "order": pl.Int64}
"""Columns of the table of members, beside the key of the users."""


def members(groups: Sequence[Groups], per_user: pl.DataFrame) -> pl.DataFrame:
    """A row per judged user and group: `MEMBERS`, and the user's id (`user_idx` where there are no ids).

    Args:
        groups: Of the judged users.
        per_user: Figures of the judged users, in the same order.
    """
    users = per_user["user_id" if "user_id" in per_user.columns else "user_idx"]
    parts = [pl.DataFrame(schema={**MEMBERS, users.name: users.dtype})]
    for slice_ in groups:
        for order, label in enumerate(slice_.labels):
            named = {"slice": slice_.name, "group": label, "order": order}
            chosen = users.filter(pl.Series(slice_.member_NG[:, order].numpy()))
            parts.append(
                chosen.to_frame().select(*(pl.lit(v, MEMBERS[n]).alias(n) for n, v in named.items()), users.name)
            )
    return pl.concat(parts)


def by_group(
    tables: Mapping[str, pl.DataFrame],
    pairs: Sequence[Pair],
    members: pl.DataFrame,
    metric: str,
    *,
    correction: str,
    num_resamples: int,
    seed: int,
) -> pl.DataFrame | None:
    """The differences of a figure within each group of users; None where there is no group.

    Columns: `slice`, `group`, `order`, those of `paired.paired_table` and `small` (fewer than 30 users). `family` are
    all pairs in all groups: whoever looks through many groups finds one that differs.

    Args:
        tables: Per-user tables by the name of their system.
        pairs: Who is compared with whom.
        members: Groups of the users (`members`); users without a figure in every table count nowhere.
        metric: The figure.
        correction: Of p-values (`correction.adjusted`).
        num_resamples: Bootstrap resamples and random flips, at most 1,000 are made.
        seed: Of both.
    """
    key = next(name for name in members.columns if name not in MEMBERS)
    if not all(key in table.columns for table in tables.values()):
        return None
    known = pl.concat([table.filter(pl.col(metric).is_not_nan()).select(key) for table in tables.values()])
    common = known.group_by(key).len().filter(pl.col("len") == len(tables))[key]
    chosen = members.filter(pl.col(key).is_in(common.implode()))
    drawn = {"num_resamples": min(num_resamples, MOST_RESAMPLES), "seed": seed}
    parts = []
    for named, users in chosen.group_by("slice", "order", "group", maintain_order=True):
        own = {name: users.select(key).join(table, on=key, maintain_order="left") for name, table in tables.items()}
        found = paired_table(own, pairs, [metric], correction="none", **drawn)
        columns = zip(("slice", "order", "group"), named, strict=True)
        parts.append(found.with_columns(pl.lit(value, MEMBERS[name]).alias(name) for name, value in columns))
    if not parts:
        return None
    table = pl.concat(parts)
    corrected = adjusted(table["p_value"].to_numpy()[:, None], correction)[:, 0]
    return table.select(*MEMBERS, pl.exclude(*MEMBERS)).with_columns(
        p_adjusted=pl.Series(np.ascontiguousarray(corrected)),
        correction=pl.lit(correction),
        family=pl.lit(table.height),
        small=pl.col("users") < SMALL,
    )
