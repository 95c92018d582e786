"""What figures beyond accuracy know of the items of a prepared log, from training rows and the item table alone.

Shape letters: B judged users, I items, C columns, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from torch import Tensor

from towerrec.config_eval import FactsConfig
from towerrec.data.prepare import Prepared
from towerrec.data.store import InteractionStore
from towerrec.item_columns import FactColumns, ages_in_days, durations, fact_columns, tag_column, together
from towerrec.metrics.beyond import candidate_sums, percentile, self_information, sums_over
from towerrec.protocol import Protocol
from towerrec.ragged import UserItems
from towerrec.report.beyond import AGE, DURATION, NOVELTY, POPULARITY, TAGS, VECTORS, Beyond

# Marks of pairs held at once by `users_of_items`, four bytes each.
_MARKS = 1 << 25


def facts_beyond(
    prepared: Prepared, rules: Protocol, config: FactsConfig, *, directions_ID: Tensor | None = None
) -> Beyond:
    """Everything that figures beyond accuracy read, gathered once for all systems.

    Args:
        prepared: The log.
        rules: Who is judged, and among which candidates.
        config: Which columns of the item table to read.
        directions_ID: Item vectors of the judged model, by which the variety of all lists is measured.

    Raises:
        ValueError: If a column that the config names is not there or holds something else.
    """
    columns = fact_columns(prepared.side("item"), config)
    candidate_I = candidates_of_all(rules)
    values, absent = item_values(prepared, columns, candidate_I)
    tags_IL = together([tag_column(prepared.side("item"), name) for name in columns.tags])
    if tags_IL is None:
        absent[TAGS] = _missing(prepared, "of lists or categories", "tags")
    if directions_ID is None:
        absent[VECTORS] = "only a trained model has vectors, and none is judged here"
    sums = _values_and_known(values)
    of_candidates = _ratios(values, candidate_sums(rules.allowed, rules.exclude, rules.users, sums))
    of_relevant = _ratios(values, sums_over(rules.relevant, rules.users, sums))
    less = {DURATION: of_candidates[DURATION]} if DURATION in values else {}
    return Beyond(
        candidate_I=candidate_I,
        values=values,
        less=less,
        tags_IL=tags_IL,
        vectors_ID=None if directions_ID is None else directions_ID.cpu(),
        absent=absent,
        columns=_described(columns),
        references={
            "candidates": _means(of_candidates, less),
            "relevant": _means(of_relevant, less),
        },
    )


def item_values(
    prepared: Prepared, columns: FactColumns, candidate_I: Tensor
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Value of every item by figure, float64 [I], and the figures that the log cannot have: name -> why.

    Percentiles are those among the candidates, bool [I].

    Durations are logarithms to the base of 2: they spread over a hundredfold, so a mean of plain ones would tell of the
    few longest, and a ratio of such means is no mean over users. Twice as long and half as long are 1 and -1.
    """
    store, items = prepared.store, prepared.side("item")
    likes_I = store.item_counts("train", rule=prepared.positive)
    values = {
        NOVELTY: self_information(users_of_items(store), int(store.in_log("user", "train").sum())),
        POPULARITY: percentile(likes_I, candidate_I),
    }
    absent: dict[str, str] = {}
    if columns.duration is None:
        absent[DURATION] = _missing(prepared, "called duration_ms", "duration")
    else:
        values[DURATION] = torch.log2(durations(items, columns.duration))
    if columns.date is None:
        absent[AGE] = _missing(prepared, "of dates", "date")
    elif prepared.as_of_ms is None:
        absent[AGE] = "the training rows have no times, so nothing has an age at their end"
    else:
        values[AGE] = ages_in_days(items, columns.date, as_of_ms=prepared.as_of_ms, timezone=prepared.timezone)
    for name, value_I in list(values.items()):
        if bool(value_I[candidate_I].isnan().all()):
            absent[name] = "no candidate has a value in that column"
            del values[name]
    return values, absent


def users_of_items(store: InteractionStore) -> Tensor:
    """Training users that saw each item, each once, int64 [I]."""
    if store.on_disk:
        return torch.bincount(store.seen("train").items, minlength=store.num_items)
    rows = store.rows("train")
    user_R, item_R = rows.user_idx.numpy(), rows.item_idx.numpy()
    # Every row writes its number where its pair is marked: the one that finds it again is the only one of its pair.
    # A quarter of the time of sorting the pairs; rows come sorted by user, and memory is that of some users.
    at_once = max(1, _MARKS // store.num_items)
    bounds = np.searchsorted(user_R, np.arange(0, store.num_users + at_once, at_once))
    writer = np.empty(at_once * store.num_items, dtype=np.int32)
    once_R = np.empty(len(user_R), dtype=bool)
    for part, (start, end) in enumerate(pairwise(bounds.tolist())):
        pair = (user_R[start:end].astype(np.int64) - part * at_once) * store.num_items + item_R[start:end]
        number = np.arange(end - start, dtype=np.int32)
        writer[pair] = number
        once_R[start:end] = writer[pair] == number
    return torch.from_numpy(np.bincount(item_R[once_R], minlength=store.num_items))


def candidates_of_all(rules: Protocol) -> Tensor:
    """Items that could be listed for somebody, bool [I]."""
    if isinstance(rules.allowed, UserItems):
        candidate_I = torch.zeros(rules.allowed.num_items, dtype=torch.bool)
        candidate_I[rules.allowed.items.long()] = True
        return candidate_I
    return torch.ones(rules.relevant.num_items, dtype=torch.bool) if rules.allowed is None else rules.allowed


def _values_and_known(values: Mapping[str, Tensor]) -> Tensor:
    """Every value, 0 where it is not known, and whether it is known, float64 [I, C]."""
    table_IV = torch.stack(list(values.values()), 1)
    return torch.cat([table_IV.nan_to_num(0.0), (~table_IV.isnan()).double()], 1)


def _ratios(names: Iterable[str], sums_BC: Tensor) -> dict[str, Tensor]:
    """Mean of each value over the items of known value, float64 [B] by name; NaN where there is none."""
    total_BV, number_BV = sums_BC.tensor_split(2, dim=1)
    mean_BV = torch.where(number_BV > 0.5, total_BV / number_BV, torch.nan)
    return dict(zip(names, mean_BV.T, strict=True))


def _means(of_users: Mapping[str, Tensor], less: Mapping[str, Tensor]) -> dict[str, float]:
    compared = {name: value_B - less[name] if name in less else value_B for name, value_B in of_users.items()}
    return {name: float(value_B.nanmean()) for name, value_B in compared.items() if not bool(value_B.isnan().all())}


def _described(columns: FactColumns) -> dict[str, Any]:
    return {"duration": columns.duration, "date": columns.date, "tags": list(columns.tags)}


def _missing(prepared: Prepared, what: str, key: str) -> str:
    if prepared.side("item").width == 1:
        return "the log has no item table"
    return f"the item table has no column {what} (eval.facts.{key} names one)"
