"""Per-user tables: which columns are figures, and several tables side by side.

Shape letters: U users, S tables, M figures.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
import numpy.typing as npt
import polars as pl

Floats = npt.NDArray[np.float64]

KEYS = ("system", "user_id", "user_idx", "num_relevant", "num_rows", "runs")
"""Columns of a per-user table that are no figures."""


def figures(table: pl.DataFrame) -> list[str]:
    """Names of the figures: every column that does not name or count something."""
    return [name for name in table.columns if name not in KEYS]


def common_figures(tables: Sequence[pl.DataFrame]) -> list[str]:
    """The figures that all tables have, in the order of the first.

    Raises:
        ValueError: If there is none.
    """
    names = [name for name in figures(tables[0]) if all(name in table.columns for table in tables)]
    if not names:
        raise ValueError("the per-user tables share no figure: judge with the same eval.ks")
    return names


def values_of(table: pl.DataFrame, names: Sequence[str]) -> Floats:
    """Figures as numbers [U, M], NaN where a user has no such figure."""
    return np.stack([table[name].cast(pl.Float64).to_numpy() for name in names], axis=1)


def stacked(
    tables: Sequence[pl.DataFrame], names: Sequence[str], *, users: Literal["common", "all"] = "common"
) -> Floats:
    """The same figures of several tables, user by user, [U, S, M].

    Args:
        tables: One row per user each; users are known by `user_id` where all tables have it, otherwise by `user_idx`.
        names: Figures that all tables have.
        users: `common` keeps the users that every table has, `all` those of any, NaN where a table lacks them.

    Raises:
        ValueError: If a table lacks a figure or has a user twice, or no user is left.
    """
    for table in tables:
        missing = [name for name in names if name not in table.columns]
        if missing:
            raise ValueError(f"the per-user table has no {missing[0]!r}; it has {', '.join(table.columns)}")
    key = "user_id" if all("user_id" in table.columns for table in tables) else "user_idx"
    for table in tables:
        if table[key].n_unique() != table.height:
            raise ValueError(f"a per-user table has a {key} twice: it must have one row per user")
    same = all(table[key].equals(tables[0][key], check_dtypes=True) for table in tables[1:])
    if not same:
        order = _users(tables, key, users)
        tables = [order.join(table, on=key, how="left", maintain_order="left") for table in tables]
    if tables[0].height == 0:
        raise ValueError("the systems were judged on different users: there is nothing to compare")
    return np.stack([values_of(table, names) for table in tables], axis=1)


def num_common_users(tables: Sequence[pl.DataFrame]) -> int:
    """Users that every table has."""
    key = "user_id" if all("user_id" in table.columns for table in tables) else "user_idx"
    return _users(tables, key, "common").height


def _users(tables: Sequence[pl.DataFrame], key: str, which: Literal["common", "all"]) -> pl.DataFrame:
    counted = pl.concat([table.select(key) for table in tables]).group_by(key, maintain_order=True).len("tables")
    return counted.filter(pl.col("tables") == len(tables) if which == "common" else pl.lit(True)).select(key)
