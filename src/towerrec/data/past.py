"""What an earlier run hands on to a log that goes on after it: encoders that grow, and what its users did.

Shape letters: U users and I items of the earlier run, P pairs, R rows of a log.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerrec.data import growth
from towerrec.data.artefacts import EncodedTables, load_tensors, save_tensors
from towerrec.data.cache import damage, write_directory
from towerrec.data.declarations import Declaration
from towerrec.data.features import Columns, FeatureChoice
from towerrec.data.history import UserHistory
from towerrec.data.ids import index_of
from towerrec.data.known import Known
from towerrec.data.labels import Label
from towerrec.data.store import InteractionStore
from towerrec.positive import positive_mask
from towerrec.ragged import UserItems
from towerrec.schema import NO_TIMESTAMP, fingerprint

# Pairs are marked in a table of all of them where it takes no more bytes than this.
_MOST_PAIRS = 1 << 30


@dataclass(frozen=True)
class HeldOut:
    """Rows that a run was not trained on: of days that are over once a log goes on after it.

    Attributes:
        user_idx: Rows of its user table, int32 [R].
        item_idx: The same of items.
        is_positive: Whether the label passes the run's rule, bool [R].
        timestamp_ms: Their moments, int64 [R].
    """

    user_idx: Tensor
    item_idx: Tensor
    is_positive: Tensor
    timestamp_ms: Tensor

    @classmethod
    def of(cls, store: InteractionStore, positive: str) -> HeldOut:
        """Those of a prepared log that have a moment."""
        rows = [store.rows(split) for split in ("val", "test")]
        label = torch.cat([part.label for part in rows])
        columns = [torch.cat([getattr(part, name) for part in rows]) for name in ("user_idx", "item_idx")]
        time_ms = torch.cat([part.timestamp_ms for part in rows])
        timed = time_ms != NO_TIMESTAMP
        return cls(*(column[timed] for column in (*columns, positive_mask(label, positive), time_ms)))

    @classmethod
    def load(cls, directory: Path) -> HeldOut:
        """Read what `save` wrote.

        Raises:
            ValueError: It is missing or damaged.
        """
        if (found := damage(directory)) is not None:
            raise ValueError(f"{directory}/{found}; copy the whole run directory anew")
        return cls(**load_tensors(directory / "rows"))

    def save(self, directory: Path) -> None:
        """Write a folder that knows when one of its bytes has changed."""
        write_directory(directory, lambda folder: save_tensors(self.__dict__, folder / "rows"))

    def before(self, moment_ms: int) -> HeldOut:
        """Those earlier than a moment."""
        earlier = self.timestamp_ms < moment_ms
        return HeldOut(*(column[earlier] for column in self.__dict__.values()))


@dataclass(frozen=True)
class Past:
    """An earlier run, as far as preparing a log reads it.

    Args:
        tables: Its users and items, encoded, with the encoders.
        seen: Items of every user in its training and validation rows.
        history: Its training positives.
        profiles: Its training rows by user, where its model reads them.
        in_log: Which of its items had a row, bool [I].
        key: Sixteen hexadecimal digits that change with any of it.
        held_out: Its validation and test rows; None where they are not known.
    """

    tables: EncodedTables
    seen: UserItems
    history: UserHistory
    profiles: UserItems | None
    in_log: Tensor
    key: str
    held_out: HeldOut | None = None

    def rows_in(self, user_ids: pl.Series, item_ids: pl.Series) -> tuple[NDArray[np.int32], NDArray[np.int32]]:
        """Rows of other tables that its users [U] and items [I] have there."""
        return index_of(user_ids, self.tables.user_ids), index_of(item_ids, self.tables.item_ids)

    def known_in(self, user_ids: pl.Series, item_ids: pl.Series, *, before_ms: int | None = None) -> Known:
        """What its users did, in the rows of larger tables; with a moment, what was held out before it too."""
        user_U, item_I = (torch.from_numpy(rows).long() for rows in self.rows_in(user_ids, item_ids))
        size = {"num_users": len(user_ids), "num_items": len(item_ids)}

        def moved(lists: UserItems) -> UserItems:
            user_P = torch.repeat_interleave(user_U, lists.counts)
            return UserItems.from_pairs(user_P, item_I[lists.items.long()], **size, values=lists.values)

        item_P, time_ms_P = self.history.rows()
        in_log_I = torch.zeros(len(item_ids), dtype=torch.bool)
        in_log_I[item_I] = self.in_log
        known = Known(
            seen=moved(self.seen),
            liked_user=torch.repeat_interleave(user_U, self.history.first.diff()),
            liked_item=item_I[item_P.long()],
            liked_ms=time_ms_P,
            shown=None if self.profiles is None else moved(self.profiles),
            in_log_I=in_log_I,
        )
        if self.held_out is None or before_ms is None:
            return known
        rows = self.held_out.before(before_ms)
        user_R, item_R = user_U[rows.user_idx.long()], item_I[rows.item_idx.long()]
        return known.also(user_R, item_R, rows.timestamp_ms, is_positive=rows.is_positive)

    def kept(self, made: EncodedTables, *, users: pl.DataFrame | None, items: pl.DataFrame | None) -> EncodedTables:
        """The tables of a later log, in which users and items that its side tables do not describe are as they were."""
        old = self.tables
        user_U, item_I = self.rows_in(made.user_ids, made.item_ids)
        told_u, told_i = growth.described(made.user_ids, users), growth.described(made.item_ids, items)
        # What was counted is of the log's rows, and not of its side tables.
        counted = {spec.name for kind, e in made.encoders.encoders if kind == "statistic" for spec in e.specs()}
        shown = [made.display.filter(told_i), old.display.filter(~told_i[item_I])]
        texts = pl.concat(shown, how="diagonal_relaxed")
        return replace(
            made,
            users=growth.with_old_rows(made.users, old.users, user_U, told_u, but=counted),
            items=growth.with_old_rows(made.items, old.items, item_I, told_i, but=counted),
            item_days={
                name: growth.kept_rows(days, old.item_days[name], item_I, told_i)
                for name, days in made.item_days.items()
            },
            display=made.item_ids.to_frame().join(texts, on="item_id", how="left", maintain_order="left"),
        )

    def is_within(
        self,
        user_idx_R: NDArray[np.int32],
        item_idx_R: NDArray[np.int32],
        user_ids: pl.Series,
        item_ids: pl.Series,
    ) -> bool:
        """Whether a log holds every pair of a user and an item that the run has seen: the old days with the new ones.

        Args:
            user_idx_R: Users of the log's rows, as rows of its table.
            item_idx_R: The same of items.
            user_ids: Ids of its users.
            item_ids: Ids of its items.
        """
        user_U, item_I = self.rows_in(user_ids, item_ids)
        num_items = len(item_ids)
        key_P = user_U.astype(np.int64).repeat(self.seen.counts.numpy()) * num_items + item_I[self.seen.items.numpy()]
        key_R = user_idx_R.astype(np.int64) * num_items + item_idx_R
        if len(user_ids) * num_items > _MOST_PAIRS:
            return bool(np.isin(key_P, key_R).all())
        there = np.zeros(len(user_ids) * num_items, dtype=bool)
        there[key_R] = True
        return bool(there[key_P].all())

    def declared(self, found: Sequence[Declaration], choice: FeatureChoice, columns: Columns) -> list[Declaration]:
        """The features of the run over the columns of a log, see `growth.declared_as_before`."""
        return growth.declared_as_before(self.tables.encoders, found, choice, columns)

    def restore(self, label: Label) -> None:
        """Hand a label what the run's label learnt: labels of new rows mean what those of old rows did.

        Raises:
            ValueError: It is another label.
        """
        then = self.tables.meta["label_fitted"]
        now = {key: value for key, value in label.settings().items() if key != "label"}
        if label.name != then["name"] or fingerprint(now) != fingerprint(then["settings"]):
            raise ValueError(
                f"continue_from: the run was trained on label={then['name']} with {then['settings']}, here it is "
                f"label={label.name} with {now}: leave label out, which takes the run's, or train anew"
            )
        label.restore(then["fitted"])

    def joined_ids(self, user_ids: pl.Series, item_ids: pl.Series) -> tuple[pl.Series, pl.Series]:
        """Ids of its tables and of a log's together, ascending.

        Raises:
            ValueError: If ids are numbers in one and text in the other.
        """
        return _joined(self.tables.user_ids, user_ids), _joined(self.tables.item_ids, item_ids)

    def meta(self, *, is_within: bool) -> dict[str, Any]:
        """What the tables of a log say of it (`EncodedTables.meta`)."""
        return {"continued": {"key": self.key, "as_of_ms": self.tables.as_of_ms, "holds_old_days": is_within}}


def _joined(old: pl.Series, new: pl.Series) -> pl.Series:
    if old.dtype.is_integer() != new.dtype.is_integer():
        text = "" if old.dtype.is_integer() else ", or have those of CSV files read as text (data.text_ids=true)"
        raise ValueError(
            f"continue_from: column {new.name!r} holds {new.dtype} here and {old.dtype} where the run was trained, so "
            f"no id of one would be found in the other: write the ids as they were{text}"
        )
    return pl.concat([old, new.cast(old.dtype)]).unique().sort().alias(new.name)
