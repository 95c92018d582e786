"""Groups of users and items of a prepared log, as the config asks for them, and the table of their figures.

Shape letters: B judged users, I items, N rows of either table, G groups, L tags of an item.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec.config_eval import EvalConfig, SlicesConfig
from towerrec.data.columns import missing_column
from towerrec.data.inference import FEW_VALUES
from towerrec.data.prepare import Prepared
from towerrec.grouping import bands, of_values, two
from towerrec.item_columns import FactColumns, TagColumn, ages_in_days, durations, fact_columns, tag_column
from towerrec.item_facts import candidates_of_all
from towerrec.positive import positive_mask
from towerrec.protocol import Protocol
from towerrec.report.by_group import members
from towerrec.report.interpret import main_metric
from towerrec.report.judge import Judged
from towerrec.report.slices import Groups, Ranked, item_slices, user_slices
from towerrec.schema import Side


def sliced(
    config: EvalConfig,
    prepared: Prepared,
    rules: Protocol,
    systems: Sequence[Judged],
    lists: Mapping[str, Tensor],
    *,
    seed: int,
) -> tuple[pl.DataFrame, pl.DataFrame, dict[str, str]]:
    """The table of all slices (`report.slices.SCHEMA`), who belongs to which group of users
    (`report.by_group.members`), and the slices that this log does not have: name -> why.

    Args:
        config: Which slices, and how fine.
        prepared: The log.
        rules: Who is judged, and among which candidates.
        systems: All systems, judged.
        lists: Their lists, int64 [B, K] by name.
        seed: Of the resamples.

    Raises:
        ValueError: If a column of the config is not in the user table.
    """
    k = config.slices.k or int(main_metric(systems[0].summary).split("@")[1])
    of_users, no_users = user_groups(config.slices, prepared, rules)
    of_items, no_items = item_groups(config, prepared, rules)
    ranked = Ranked(lists, rules.relevant, rules.users, rules.allowed, rules.exclude, candidates_of_all(rules))
    metrics = [f"{name}@{k}" for name in config.slices.metrics]
    drawn = {"num_resamples": config.num_resamples, "seed": seed}
    tables = [user_slices(systems, of_users, metrics, **drawn), item_slices(ranked, of_items, k, **drawn)]
    return pl.concat(tables), members(of_users, systems[0].per_user), no_users | no_items


def check_columns(config: EvalConfig, prepared: Prepared) -> None:
    """Find out early whether the columns that a config names are there and can be read.

    Raises:
        ValueError: Naming the key and the column.
    """
    items = prepared.side("item")
    columns = fact_columns(items, config.facts)
    if columns.duration is not None:
        durations(items, columns.duration)
    if columns.date is not None:
        ages_in_days(items, columns.date, as_of_ms=0, timezone=prepared.timezone)
    for name in columns.tags:
        tag_column(items, name)
    for name in config.slices.user_columns:
        _column("user", name, prepared)
    for name in config.slices.item_columns or []:
        _column("item", name, prepared)


def user_groups(config: SlicesConfig, prepared: Prepared, rules: Protocol) -> tuple[list[Groups], dict[str, str]]:
    """Groups of the judged users, and the slices that say nothing here: name -> why."""
    rows_B = _rows_of_users(prepared, None)[rules.users]
    made: dict[str, Callable[[], Groups]] = {
        "activity": lambda: bands("activity", "user", rows_B, config.quantiles, apart="no training row"),
        "new_users": lambda: two("new_users", "user", rows_B == 0, "new (no training row)", "known"),
        "history": lambda: bands(
            "history", "user", _rows_of_users(prepared, prepared.positive)[rules.users], config.quantiles, apart="none"
        ),
        "relevant": lambda: bands("relevant", "user", rules.relevant.counts[rules.users], config.quantiles),
    }
    groups, left_out = _told_apart([made[name]() for name in config.users], "all judged users are in one group")
    return groups + [
        _of_column(name, prepared, rules, most=config.max_groups) for name in config.user_columns
    ], left_out


def item_groups(config: EvalConfig, prepared: Prepared, rules: Protocol) -> tuple[list[Groups], dict[str, str]]:
    """Groups of the items, cut at quantiles of the candidates, and the slices that the log does not have."""
    slices, items = config.slices, prepared.side("item")
    columns, among_I = fact_columns(items, config.facts), candidates_of_all(rules)
    groups: list[Groups] = []
    left_out: dict[str, str] = {}
    if "cold_items" in slices.items:
        cold_I = prepared.store.item_counts("train") == 0
        groups.append(two("cold_items", "item", cold_I, "cold (no training row)", "known"))
    if "popularity" in slices.items:
        likes_I = prepared.store.item_counts("train", rule=prepared.positive)
        groups.append(bands("popularity", "item", likes_I, slices.popularity_quantiles, among_I))
    for name, value_I, unit in _numbers(slices, prepared, columns, items, left_out):
        groups.append(bands(name, "item", value_I, slices.quantiles, among_I, unit=unit))
    for name in columns.tags if slices.item_columns is None else slices.item_columns:
        tags = _column("item", name, prepared)
        if slices.item_columns is None and len(tags.labels) > FEW_VALUES:
            left_out[name] = (
                f"its {len(tags.labels):,} values are many; eval.slices.item_columns=[{name}] shows the largest"
            )
        else:
            groups.append(of_values(name, "item", tags.member_IL, tags.labels, slices.max_groups, among_I))
    kept, alike = _told_apart(groups, "all candidates are in one group", among_I)
    return kept, left_out | alike


def _numbers(
    slices: SlicesConfig, prepared: Prepared, columns: FactColumns, items: pl.DataFrame, left_out: dict[str, str]
) -> list[tuple[str, Tensor, str]]:
    """Slices by a number of the item table: name, value of every item, unit."""
    found = []
    if "duration" in slices.items:
        if columns.duration is None:
            left_out["duration"] = "the item table has no column of durations"
        elif columns.duration.endswith("_ms"):
            found.append(("duration", durations(items, columns.duration) / 1000, " s"))
        else:
            found.append(("duration", durations(items, columns.duration), ""))
    if "age" in slices.items:
        if columns.date is None or prepared.as_of_ms is None:
            left_out["age"] = "the log has no dates of items, or no times"
        else:
            age_I = ages_in_days(items, columns.date, as_of_ms=prepared.as_of_ms, timezone=prepared.timezone)
            found.append(("age", age_I, " days"))
    return found


def _of_column(name: str, prepared: Prepared, rules: Protocol, *, most: int) -> Groups:
    """The judged users by the values of a column of the user table."""
    column = _column("user", name, prepared)
    return of_values(name, "user", column.member_IL[rules.users], column.labels, most)


def _column(side: Side, name: str, prepared: Prepared) -> TagColumn:
    """The values of a column of the user or item table that `eval.slices` names."""
    table, where = prepared.side(side), f"eval.slices.{side}_columns"
    if name not in table.columns:
        raise missing_column(name, table.columns[1:], f"{where}: the {side} table")
    return tag_column(table, name, where=where)


def _rows_of_users(prepared: Prepared, rule: str | None) -> Tensor:
    """Training rows of every user, int64 [U]; with `rule` those whose label passes it."""
    store = prepared.store
    total = np.zeros(store.num_users, dtype=np.int64)
    for user_idx, label in zip(store.blocks("user_idx", "train"), store.blocks("label", "train"), strict=True):
        kept = user_idx if rule is None else user_idx[positive_mask(label, rule)]
        total += np.bincount(kept, minlength=store.num_users)
    return torch.from_numpy(total)


def _told_apart(
    groups: list[Groups], why_not: str, among_N: Tensor | None = None
) -> tuple[list[Groups], dict[str, str]]:
    """The slices with two groups or more, and why the others are left out."""
    kept, left_out = [], {}
    for slice_ in groups:
        there = slice_.member_NG if among_N is None else slice_.member_NG[among_N]
        if int(there.any(0).sum()) > 1:
            kept.append(slice_)
        else:
            left_out[slice_.name] = why_not
    return kept, left_out
