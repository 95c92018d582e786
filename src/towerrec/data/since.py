"""What users did after the training that a run knows: further rows on top of its catalogue.

They count as seen, and models that read histories or profiles read them: of users the run knows behind what it knows
of them, of new users alone.

Shape letters: B users of a catalogue, P further rows.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass, replace
from typing import Any

import polars as pl
import torch
from torch import Tensor

from towerrec.data.catalogue import Catalogue
from towerrec.data.id_files import Given, given_table, with_typed_ids
from towerrec.data.ids import rows_of
from towerrec.data.labels import LABEL_RAW
from towerrec.data.labels_saved import label_from_dict
from towerrec.data.sources.timestamps import SAMPLE_ROWS, timestamp_ms
from towerrec.positive import positive_mask
from towerrec.schema import ITEM_ID, LABEL, NO_TIMESTAMP, TIMESTAMP, TIMESTAMP_MS, USER_ID, FeatureTable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Since:
    """Further rows: `user_ids` [P], `item_idx_P` rows of the item table, `positive_P` bool, `timestamp_ms_P` int64."""

    user_ids: pl.Series
    item_idx_P: Tensor
    positive_P: Tensor
    timestamp_ms_P: Tensor

    def __len__(self) -> int:
        return len(self.user_ids)


def read_since(given: Given, catalogue: Catalogue, *, name: str) -> Since:
    """Read `user_id`, `item_id` and, where they are there, labels and times.

    A row is a positive where its label passes the run's rule. The label is the column `label`, or made of the columns
    that the run's own label reads (`watch_ratio`, for instance); without either every row is a positive. Times stand
    in `timestamp` (numbers, dates or ISO text, as in a log). All four columns may be called as they are in the log.
    Rows of items that the run does not know are passed over, in one line that names them.

    Raises:
        ValueError: If the file cannot be read, an id column is missing, or labels or times are none.
    """
    log_columns = catalogue.columns
    frame, where = given_table(given, column=USER_ID, like=catalogue.user_ids, name=name, log=log_columns)
    frame = with_typed_ids(frame, column=ITEM_ID, like=catalogue.item_ids, where=where, log=log_columns)
    item_idx = rows_of(catalogue.item_ids, frame[ITEM_ID])
    if (item_idx < 0).any():
        strange = frame.filter(item_idx < 0)[ITEM_ID]
        some = strange.unique(maintain_order=True).head(5).to_list()
        log.warning(
            f"{where}: {len(strange):,} of {frame.height:,} rows are passed over, of {strange.n_unique():,} items in "
            f"no table of the run (such as {some})"
        )
        frame, item_idx = frame.filter(item_idx >= 0), item_idx[item_idx >= 0]
    return Since(
        frame[USER_ID],
        torch.from_numpy(item_idx),
        torch.tensor(_positives(frame, catalogue, where).to_numpy(), dtype=torch.bool),
        torch.from_numpy(_moments(frame, catalogue, where).to_numpy().copy()),
    )


def with_rows(catalogue: Catalogue, since: Since) -> Catalogue:
    """The catalogue with further rows of its users; rows of other users are left out.

    Items that joined after the training stand in no history, whose vectors are those of the training's ids, and in
    profiles where they were positives.
    """
    user_P = torch.from_numpy(rows_of(catalogue.user_ids, since.user_ids))
    at_p = (user_P >= 0).nonzero()[:, 0]
    user_p, item_p = user_P[at_p], since.item_idx_P[at_p]
    positive_p, moment_p = since.positive_P[at_p], since.timestamp_ms_P[at_p]
    trained_p = item_p < catalogue.schema.num_items
    liked_p, shown_p = positive_p & trained_p, positive_p | trained_p
    profiles = catalogue.profiles
    if profiles is not None:
        profiles = profiles.with_pairs(user_p[shown_p], item_p[shown_p], positive_p[shown_p].float())
    return replace(
        catalogue,
        seen=catalogue.seen.with_pairs(user_p, item_p),
        history=catalogue.history.with_rows(user_p[liked_p], item_p[liked_p], moment_p[liked_p]),
        profiles=profiles,
    )


def of_users(catalogue: Catalogue, user_idx_B: Tensor) -> Catalogue:
    """The catalogue of some users alone, in their order, with all items."""
    columns = catalogue.users.gather(user_idx_B)
    return replace(
        catalogue,
        users=FeatureTable(columns, len(user_idx_B)),
        user_ids=catalogue.user_ids.gather(user_idx_B.numpy()),
        seen=catalogue.seen.take(user_idx_B),
        history=catalogue.history.take(user_idx_B),
        profiles=None if catalogue.profiles is None else catalogue.profiles.take(user_idx_B),
    )


def _positives(frame: pl.DataFrame, catalogue: Catalogue, where: str) -> pl.Series:
    saved: dict[str, Any] | None = catalogue.meta.get("label_fitted")
    label = None if saved is None else label_from_dict(saved)
    if (own := catalogue.columns.found(LABEL, frame.columns)) is not None:
        values = frame[own]
        if not (values.dtype.is_numeric() or values.dtype == pl.Boolean) or values.null_count():
            raise ValueError(f"{where}: column {own!r} needs a number in every row; without it every row is a positive")
        frame = frame.with_columns(values.alias(LABEL))
    if label is not None and LABEL_RAW in label.columns and LABEL in frame.columns:
        frame = frame.rename({LABEL: LABEL_RAW})
    if LABEL in frame.columns:
        return positive_mask(frame[LABEL].cast(pl.Float32), catalogue.positive)
    if label is not None and label.columns and set(label.columns) <= set(frame.columns):
        try:
            return positive_mask(label.apply(frame), catalogue.positive)
        except ValueError as error:
            raise ValueError(f"{where}: {error}") from error
    return pl.Series([True], dtype=pl.Boolean).new_from_index(0, frame.height)


def _moments(frame: pl.DataFrame, catalogue: Catalogue, where: str) -> pl.Series:
    """Milliseconds since 1970, `NO_TIMESTAMP` where not known."""
    own = catalogue.columns.found(TIMESTAMP, frame.columns) or TIMESTAMP
    name = TIMESTAMP_MS if TIMESTAMP_MS in frame.columns else own
    return moments_of(frame, name, timezone=catalogue.timezone, where=where)


def moments_of(frame: pl.DataFrame, name: str, *, timezone: str, where: str) -> pl.Series:
    """A column of times in any form of a log as milliseconds since 1970, Int64; `NO_TIMESTAMP` where there is none.

    Raises:
        ValueError: If a value is no time.
    """
    known = frame[name].drop_nulls() if name in frame.columns else pl.Series(name, [])
    if len(known) == 0:
        return pl.Series(TIMESTAMP_MS, [NO_TIMESTAMP], dtype=pl.Int64).new_from_index(0, frame.height)
    unit = "ms" if name == TIMESTAMP_MS else None
    read = timestamp_ms(known.head(SAMPLE_ROWS), timezone=timezone, unit=unit, where=f"{where}: column {name!r}")
    try:
        return frame.select(read.fill_null(NO_TIMESTAMP).alias(TIMESTAMP_MS)).to_series()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{where}: column {name!r} holds a value that is no time: {error}") from error
