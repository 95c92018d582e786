"""Features that go on: vocabularies grow at their end, what was measured stays, and rows that a log lacks are kept.

Weights were trained on the meaning of every index and of every standardised number. So old values keep their indices;
means, deviations, bucket edges and clocks stay those of the first run, however the days have changed: a number that
moved under trained weights would say something else.

Shape letters: N rows of the grown table, O rows of the earlier one, L values of a list.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from towerrec.data.column_encoders import Categorical, ColumnEncoder
from towerrec.data.columns import missing_column
from towerrec.data.declarations import Declaration
from towerrec.data.encoders import COMPUTED_KINDS, CONTEXT_KINDS, ContextEncoder, Encoders, columns_read
from towerrec.data.features import Columns, FeatureChoice
from towerrec.data.list_encoders import Multi, Text
from towerrec.schema import PAD, FeatureTable

_ANEW = "or train anew without continue_from"


def declared_as_before(
    old: Encoders, found: Sequence[Declaration], choice: FeatureChoice, columns: Columns
) -> list[Declaration]:
    """The features of an earlier run over the columns of a log that goes on after it.

    What `features.auto` inferred then is read the same way now, whatever a few new rows look like.

    Args:
        old: The earlier run's.
        found: What the settings and columns of this log give.
        choice: These settings.
        columns: These columns.

    Raises:
        ValueError: A feature more, fewer, or of another kind; the first one is named.
    """
    now = {feature.name: feature for feature in found}
    made = []
    for kind, encoder in _all(old):
        feature = now.pop(encoder.name, None)
        if _is_inferred(encoder.name, encoder.group, choice) and kind not in (*COMPUTED_KINDS, *CONTEXT_KINDS, "id"):
            feature = _as_inferred(kind, encoder, feature)
            _check_columns(feature, columns)
        if feature is None:
            raise ValueError(
                f"continue_from: the run reads the feature {encoder.name!r}, which this log or its settings leave out: "
                f"leave features.drop and features.use as they were and give the data what the feature needs, {_ANEW}"
            )
        reads, before = _sources(feature), _read_before(encoder)
        if (feature.kind, feature.side, reads) != (kind, encoder.side, before):
            raise ValueError(
                f"continue_from: the feature {encoder.name!r} was {_said(kind, encoder.side, before)} where the run "
                f"was trained and is {_said(feature.kind, feature.side, reads)} here: declare it as it was, {_ANEW}"
            )
        made.append(feature)
    read = {(encoder.side, column) for _, encoder in _all(old) for column in _read_before(encoder)}
    for name, feature in now.items():
        if name not in choice.declared and {(feature.side, column) for column in _sources(feature)} <= read:
            continue  # a column that was read as something else when there was more of it
        raise ValueError(
            f"continue_from: the run knows no feature {name!r}, which this log and its settings give: leave it out "
            f"with features.drop=[{name}], {_ANEW}"
        )
    return made


def refuse_counted(declared: Sequence[Declaration]) -> None:
    """Refuse features that are counted over all days, for a log of some days.

    Raises:
        ValueError: Naming the first of them.
    """
    for feature in declared:
        if feature.kind in ("statistic", "recent"):
            raise ValueError(
                f"continue_from: the feature {feature.name!r} is counted over all training rows, but this log holds "
                "the new days alone: give the old days with the new ones, or train a first run without it "
                f"(features.drop=[{feature.group or feature.name}])"
            )


def grown(
    old: Encoders,
    declared: Sequence[Declaration],
    *,
    users: pl.DataFrame,
    items: pl.DataFrame,
    train_users: pl.Series,
    train_items: pl.Series,
) -> Encoders:
    """Encoders that know the values of a later log besides.

    Args:
        old: The earlier run's.
        declared: Its features, in its order (`declared_as_before`).
        users: One row per user with all columns that the features read.
        items: The same of items.
        train_users: Which users occur in training rows, Boolean; no value is learnt from the others.
        train_items: The same of items.
    """
    frames = {"user": users.filter(train_users), "item": items.filter(train_items)}
    of_name = {feature.name: feature for feature in declared}
    encoders = tuple((kind, _grown(e, of_name[e.name], frames[e.side])) for kind, e in old.encoders)
    return Encoders(encoders, old.context, users.height, items.height, old.timezone)


def _grown(encoder: ColumnEncoder, feature: Declaration, train: pl.DataFrame) -> ColumnEncoder:
    if isinstance(encoder, Categorical):
        return replace(
            encoder, vocabulary=encoder.vocabulary.grown(train[encoder.columns[0]], min_count=feature.min_count)
        )
    if isinstance(encoder, Multi | Text):
        return encoder.grown(feature, train)
    return encoder


def with_old_rows(
    new: FeatureTable,
    old: FeatureTable,
    row_O: NDArray[np.int32],
    described_N: NDArray[np.bool_],
    *,
    but: Collection[str] = (),
) -> FeatureTable:
    """A grown table in which those that the side table of the log does not describe stay as they were.

    Args:
        new: The grown table as this log's side table gives it.
        old: The earlier run's, by the same encoders as they were then.
        row_O: Rows of `new` that the rows of `old` have there.
        described_N: Which rows of `new` the side table describes.
        but: Columns that do not come from it.
    """
    kept_O = torch.from_numpy(~described_N[row_O])
    place = torch.from_numpy(row_O).long()[kept_O]
    columns = dict(new.columns)
    for name in new.columns.keys() - set(but):
        column = new.columns[name]
        was = _widened(old.columns[name], column)
        columns[name] = column.clone().index_copy_(0, place, was[kept_O].to(column.dtype))
    return FeatureTable(columns, new.num_rows)


def kept_rows(new: NDArray[Any], old: NDArray[Any], row_O: NDArray[np.int32], described_N: NDArray[np.bool_]) -> Any:
    """`with_old_rows` of one column [N]."""
    kept_O = ~described_N[row_O]
    made = new.copy()
    made[row_O[kept_O]] = old[kept_O]
    return made


def described(ids: pl.Series, side: pl.DataFrame | None) -> NDArray[np.bool_]:
    """Which ids a side table describes, bool [N]; without one, none."""
    if side is None:
        return np.zeros(len(ids), dtype=bool)
    return ids.is_in(side[ids.name].cast(ids.dtype).implode()).to_numpy()


def _widened(column: Tensor, like: Tensor) -> Tensor:
    if column.ndim < 2 or column.shape[1] == like.shape[1]:
        return column
    return F.pad(column, (0, like.shape[1] - column.shape[1]), value=PAD)


def _all(old: Encoders) -> list[tuple[str, ColumnEncoder | ContextEncoder]]:
    return [*old.encoders, *((encoder.kind, encoder) for encoder in old.context)]


def _is_inferred(name: str, group: str, choice: FeatureChoice) -> bool:
    """Whether a feature is one that the columns themselves declare, and that nobody has left out."""
    used = choice.use == "all" or bool({name, group} & set(choice.use))
    return choice.auto and name not in choice.declared and used and not {name, group} & set(choice.drop)


def _read_before(encoder: ColumnEncoder | ContextEncoder) -> tuple[str, ...]:
    if isinstance(encoder, ColumnEncoder):
        return encoder.columns
    return (encoder.column,) if encoder.kind == "age_days" else ()


def _sources(feature: Declaration) -> tuple[str, ...]:
    return feature.sources if feature.kind in CONTEXT_KINDS else columns_read(feature)


def _as_inferred(kind: str, encoder: ColumnEncoder | ContextEncoder, now: Declaration | None) -> Declaration:
    """What was inferred from the columns then, with what only a declaration says from now where it is of that kind."""
    columns = _read_before(encoder)
    if now is not None and now.kind == kind:
        return replace(now, column=columns[0], columns=columns if kind == "text" else ())
    common: dict[str, Any] = {"name": encoder.name, "side": encoder.side, "kind": kind, "group": encoder.group}
    common |= {"column": columns[0], "columns": columns if kind == "text" else ()}
    if isinstance(encoder, Text):
        common |= {"ngrams": encoder.lengths, "buckets": encoder.buckets, "max_length": max(encoder.width, 128)}
    # As `inference` has it: what occurs once says nothing.
    return Declaration(**common, min_count=2 if kind in ("categorical", "text") else 1)


def _check_columns(feature: Declaration, columns: Columns) -> None:
    there = columns.of(feature.side)
    for name in feature.sources:
        if name not in there:
            missing = missing_column(name, there, f"the {feature.side} table")
            raise ValueError(
                f"continue_from: the run reads the feature {feature.name!r}: {missing}. Give the {feature.side}s their "
                f"table (data.{feature.side}s=FILE), {_ANEW}"
            )


def _said(kind: str, side: str, columns: tuple[str, ...]) -> str:
    return f"{kind} of the {side}" + (f" over {', '.join(columns)}" if columns else "")
