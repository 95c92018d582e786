"""What figures beyond accuracy know of the items of a prepared log, from training rows and the item table alone.

Shape letters: B judged users, I items, C columns, D width of a vector.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from towerrec.config_eval import FactsConfig
from towerrec.data.prepare import Prepared
from towerrec.item_columns import FactColumns, ages_in_days, durations, fact_columns, tag_column, together
from towerrec.metrics.beyond import candidate_sums, percentile, self_information, sums_over
from towerrec.protocol import Protocol
from towerrec.ragged import UserItems
from towerrec.report.beyond import AGE, DURATION, NOVELTY, POPULARITY, TAGS, VECTORS, Beyond


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
    values, absent = item_values(prepared, rules, columns)
    tags_IL = together([tag_column(prepared.side("item"), name) for name in columns.tags])
    if tags_IL is None:
        absent[TAGS] = _missing(prepared, "a list or a category", "tags")
    if directions_ID is None:
        absent[VECTORS] = "only a trained model has vectors, and none is judged here"
    of_candidates = {name: _of_candidates(rules, value_I) for name, value_I in values.items()}
    less = {DURATION: of_candidates[DURATION]} if DURATION in values else {}
    return Beyond(
        candidate_I=candidates_of_all(rules),
        values=values,
        less=less,
        tags_IL=tags_IL,
        vectors_ID=None if directions_ID is None else directions_ID.cpu(),
        absent=absent,
        columns=_described(columns),
        references={
            "candidates": _means(of_candidates, less),
            "relevant": _means({n: _of_sets(rules.relevant, rules.users, v) for n, v in values.items()}, less),
        },
    )


def item_values(prepared: Prepared, rules: Protocol, columns: FactColumns) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Value of every item by figure, float64 [I], and the figures that the log cannot have: name -> why.

    Durations are logarithms to the base of 2: they spread over a hundredfold, so a mean of plain ones would tell of the
    few longest, and a ratio of such means is no mean over users. Twice as long and half as long are 1 and -1.
    """
    store, items = prepared.store, prepared.side("item")
    seen = store.seen("train")
    users_I = torch.bincount(seen.items, minlength=seen.num_items)
    likes_I = store.item_counts("train", rule=prepared.positive)
    values = {
        NOVELTY: self_information(users_I, int((seen.counts > 0).sum())),
        POPULARITY: percentile(likes_I, candidates_of_all(rules)),
    }
    absent: dict[str, str] = {}
    if columns.duration is None:
        absent[DURATION] = _missing(prepared, "duration_ms", "duration")
    else:
        values[DURATION] = torch.log2(durations(items, columns.duration))
    if columns.date is None:
        absent[AGE] = _missing(prepared, "dates", "date")
    elif prepared.as_of_ms is None:
        absent[AGE] = "the training rows have no times, so nothing has an age at their end"
    else:
        values[AGE] = ages_in_days(items, columns.date, as_of_ms=prepared.as_of_ms, timezone=prepared.timezone)
    for name, value_I in list(values.items()):
        if bool(value_I[candidates_of_all(rules)].isnan().all()):
            absent[name] = "no candidate has a value in that column"
            del values[name]
    return values, absent


def candidates_of_all(rules: Protocol) -> Tensor:
    """Items that could be listed for somebody, bool [I]."""
    if isinstance(rules.allowed, UserItems):
        candidate_I = torch.zeros(rules.allowed.num_items, dtype=torch.bool)
        candidate_I[rules.allowed.items.long()] = True
        return candidate_I
    return torch.ones(rules.relevant.num_items, dtype=torch.bool) if rules.allowed is None else rules.allowed


def _of_candidates(rules: Protocol, value_I: Tensor) -> Tensor:
    """Mean over each user's candidates of known value, float64 [B]."""
    return _ratio(candidate_sums(rules.allowed, rules.exclude, rules.users, _value_and_known(value_I)))


def _of_sets(sets: UserItems, user_idx_B: Tensor, value_I: Tensor) -> Tensor:
    return _ratio(sums_over(sets, user_idx_B, _value_and_known(value_I)))


def _value_and_known(value_I: Tensor) -> Tensor:
    known_I = ~value_I.isnan()
    return torch.stack([torch.where(known_I, value_I, 0.0), known_I.double()], 1)


def _ratio(sums_B2: Tensor) -> Tensor:
    return torch.where(sums_B2[:, 1] > 0.5, sums_B2[:, 0] / sums_B2[:, 1], torch.nan)


def _means(of_users: Mapping[str, Tensor], less: Mapping[str, Tensor]) -> dict[str, float]:
    compared = {name: value_B - less[name] if name in less else value_B for name, value_B in of_users.items()}
    return {name: float(value_B.nanmean()) for name, value_B in compared.items() if not bool(value_B.isnan().all())}


def _described(columns: FactColumns) -> dict[str, Any]:
    return {"duration": columns.duration, "date": columns.date, "tags": list(columns.tags)}


def _missing(prepared: Prepared, what: str, key: str) -> str:
    if prepared.side("item").width == 1:
        return "the log has no item table"
    return f"the item table has no column of {what} (eval.facts.{key} names one)"
