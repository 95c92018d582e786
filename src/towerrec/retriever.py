"""A trained run that answers: lists for users, items like an item, scores of pairs.

`recommend.py` asks it too, so the command line and Python cannot differ.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from towerrec import asking
from towerrec.allowing import allowed, for_nobody
from towerrec.answering import item_lists, pair_scores, user_lists
from towerrec.asked_pairs import read_pairs
from towerrec.asking import Request, moment
from towerrec.config_prior import PriorConfig, prior_of
from towerrec.data.catalogue import Catalogue, with_items
from towerrec.data.id_files import Given, given_table, known_or_refused
from towerrec.data.ids import rows_of
from towerrec.dated_items import DatedItems, reads
from towerrec.nn.peers import ALONE, Peers
from towerrec.recommending import Lists
from towerrec.retrieval.recommend import SCORE
from towerrec.schema import ITEM_ID, USER_ID
from towerrec.scoring import TowerScores, torch_device
from towerrec.trained import opened

log = logging.getLogger(__name__)

Prior = PriorConfig | Mapping[str, Any] | None


class Retriever:
    """Towers over the tables of a run; `load` makes one.

    Args:
        scores: The model over the catalogue.
        catalogue: Users, items, and what is known of them.
        name: What it is and where it came from, for people.
    """

    def __init__(self, scores: TowerScores, catalogue: Catalogue, name: str) -> None:
        self.scores, self.catalogue, self.name = scores, catalogue, name
        self.items = DatedItems(scores, catalogue)

    @classmethod
    def load(cls, directory: str | Path, checkpoint: str = "best", device: str = "auto") -> Retriever:
        """From what `train.py` left, or `recommend.py export=` (then by the exported towers).

        Args:
            directory: Run directory, or exported folder.
            checkpoint: `best` or `last`; an exported folder holds one model only.
            device: `auto`, `cpu`, `cuda`, `cuda:1`, ...

        Raises:
            ValueError: If the directory is no finished run, something in it is damaged, or the device is not there.
        """
        return cls(*opened(directory, checkpoint=checkpoint, device=torch_device(device)))

    def __repr__(self) -> str:
        users, items = len(self.user_ids), len(self.item_ids)
        listed = int(self.catalogue.in_log.sum())
        return f"<Retriever: {self.name}, {users:,} users, {listed:,} of {items:,} items to list, {self.scores.device}>"

    @property
    def user_ids(self) -> pl.Series:
        """Users of the log."""
        return self.catalogue.user_ids

    @property
    def item_ids(self) -> pl.Series:
        """Items of the log, of its side tables, and those that were added."""
        return self.catalogue.item_ids

    def recommend(
        self,
        users: Given | None = None,
        n: int = 20,
        *,
        exclude_seen: bool = True,
        allow: Given | None = None,
        deny: Given | None = None,
        at: datetime | str | None = None,
        history: Given | None = None,
        prior: Prior = None,
        batch_users: int = 1024,
        memory_mb: float | None = None,
        precision: str = "float32",
    ) -> pl.DataFrame:
        """The best items for some users: `user_id`, `item_id`, `rank` (from 1), `score`; sorted by user and rank.

        Users and lists of items are ids, a polars DataFrame, or the path of a file (see `recommend.py`). Everybody gets
        n items where so many may be listed; equal scores are ordered by the place of the item in the table.

        Args:
            users: Ids; rows with feature columns serve users that the run does not know, a column `at` says when each
                user asks. None: all users of the log, and those of the history.
            n: Length of every list.
            exclude_seen: Leave out what a user saw in training and validation, and in the history.
            allow: Items that may be listed; with a column `user_id` for single users, others then get nothing.
            deny: Items that may not be listed, likewise; it wins over `allow`.
            at: Moment of the request, for models that read hour, weekday or the age of items.
            history: `user_id`, `item_id` and, if known, `label` and `timestamp`: what users did since the training, or
                new users ever. Read by models with histories or profiles, and counted as seen.
            prior: Freshness at retrieval: a `PriorConfig`, or its keys such as `{"weight": 0.5}`.
            batch_users: Users encoded at once.
            memory_mb: Megabytes of scores held at once; None takes 128 on the CPU and 2,048 on an accelerator.
            precision: `float32`, or `bfloat16` for accelerators: rough scores first, with the same lists.

        Raises:
            ValueError: If a file or table is bad or empty, an id is unknown and nothing is known of it, or a value is
                out of its range.
        """
        asked = self.request(
            users, exclude_seen=exclude_seen, allow=allow, deny=deny, at=at, history=history, prior=prior
        )
        lists = self.lists(asked, n=n, prior=prior, batch_users=batch_users, memory_mb=memory_mb, precision=precision)
        return _told(lists)

    def similar(
        self,
        items: Given | None = None,
        n: int = 20,
        *,
        allow: Given | None = None,
        deny: Given | None = None,
        at: datetime | str | None = None,
    ) -> pl.DataFrame:
        """The items most like some items: `item_id`, `similar_item_id`, `rank` (from 1), `score`; sorted by item, rank.

        The score is the cosine of what the item tower says of both, biases left out: 1 is the same direction of taste,
        whatever the popularity. No item is similar to itself.

        Args:
            items: Ids; None: all candidates of the log.
            n: Length of every list.
            allow: Items that may be listed; None: those of the log, and those that were added.
            deny: Items that may not be listed.
            at: Moment of the request, for models that read the age of items.

        Raises:
            ValueError: If a file or table is bad or empty, or an id is unknown.
        """
        return _told(self.similar_lists(items, n=n, allow=allow, deny=deny, at=at))

    def score(
        self,
        pairs: pl.DataFrame | str | Path,
        *,
        users: Given | None = None,
        at: datetime | str | None = None,
        history: Given | None = None,
        prior: Prior = None,
    ) -> pl.DataFrame:
        """The scores of pairs, in their order: `user_id`, `item_id`, `score`, as they stand in lists.

        Args:
            pairs: `user_id` and `item_id`, and perhaps `at`, when the user asks.
            users: Rows with the feature columns of users that the run does not know, as in `recommend`; then of all
                such users of the pairs.
            at: Moment of the pairs whose row names none.
            history: As in `recommend`.
            prior: As in `recommend`.

        Raises:
            ValueError: If an id is unknown or a column is missing.
        """
        read = read_pairs(self.catalogue, pairs, users=users, at=at)
        asked = self.request(read.users, history=history)
        user_P = torch.from_numpy(rows_of(asked.catalogue.user_ids, read.ids[USER_ID]))
        score_P = pair_scores(
            self.items, asked, prior_of(prior), user_idx_P=user_P, item_idx_P=read.item_idx_P, at_ms_P=read.at_ms_P
        )
        return read.ids.with_columns(pl.Series(SCORE, score_P.numpy()))

    def with_items(self, items: pl.DataFrame | str | Path) -> Retriever:
        """Another retriever, whose candidates are joined by new items, without any training; this one stays as it is.

        Args:
            items: `item_id` and the columns that the item features read; a column may hold gaps.

        Raises:
            ValueError: If an id is known already or occurs twice, or a column is missing.
        """
        frame, where = self._items_of(items)
        lacking = self.catalogue.encoders.missing_columns("item", frame.columns)
        if lacking:
            raise ValueError(f"{where} lacks the feature columns {', '.join(lacking)}: add them; they may hold gaps")
        if not reads(self.scores, "item"):
            log.warning(
                f"{where}: the model reads nothing of an item but its id, so {frame.height:,} new items all get one "
                "vector, that of an unknown item"
            )
        catalogue = with_items(self.catalogue, frame)
        return Retriever(self.scores.for_items(catalogue), catalogue, name=self.name)

    def request(
        self,
        users: Given | None = None,
        *,
        exclude_seen: bool = True,
        allow: Given | None = None,
        deny: Given | None = None,
        at: datetime | str | None = None,
        history: Given | None = None,
        prior: Prior = None,
    ) -> Request:
        """What `recommend` asks for, looked up; says what the model cannot make use of."""
        asked = asking.request(
            self.catalogue,
            users=users,
            exclude_seen=exclude_seen,
            allow=allow,
            deny=deny,
            at=at,
            history=history,
        )
        model = self.scores.model
        reads_rows = model.reads_history or model.profile is not None
        if history is not None and not reads_rows:
            log.warning("history: the model reads neither histories nor profiles, so these rows only count as seen")
        if asked.num_new and not reads(self.scores, "user") and not reads_rows:
            log.warning(
                f"users: the model reads nothing of a user but his id, so {asked.num_new:,} new users all have one "
                "vector, that of an unknown user"
            )
        moving = reads(self.scores, "user", context=True) or self.items.by_day(prior_of(prior))
        if asked.at_ms_U is not None and not moving:
            log.warning("at: the model reads neither hour and weekday nor the age of items, so it changes nothing")
        return asked

    def lists(
        self,
        asked: Request,
        *,
        n: int,
        prior: Prior = None,
        batch_users: int = 1024,
        memory_mb: float | None = None,
        precision: str = "float32",
        peers: Peers = ALONE,
    ) -> Lists:
        """The lists of a request, a chunk of users at a time, in the order of the users' ids.

        Of several processes each makes those of its part of the users.
        """
        return user_lists(
            self.items,
            asked,
            prior_of(prior),
            n=n,
            batch_users=batch_users,
            memory_mb=memory_mb,
            precision=precision,
            peers=peers,
        )

    def similar_lists(
        self,
        items: Given | None = None,
        *,
        n: int,
        allow: Given | None = None,
        deny: Given | None = None,
        at: datetime | str | None = None,
        batch_items: int = 1024,
        memory_mb: float | None = None,
        precision: str = "float32",
        peers: Peers = ALONE,
    ) -> Lists:
        """The lists of `similar`, a chunk of items at a time, in the order of the items' ids."""
        for name, given in (("allow", allow), ("deny", deny)):
            for_nobody(given, self.catalogue, name=name)
        rules = allowed(self.catalogue, self.user_ids, allow=allow, deny=deny, exclude_seen=False)
        if at is not None and not self.items.reads_age():
            log.warning("at: the model does not read the age of items, so it changes nothing")
        return item_lists(
            self.items,
            self._asked_items(items),
            rules.candidates,
            at_ms=moment(at, self.catalogue.timezone),
            n=n,
            batch_items=batch_items,
            memory_mb=memory_mb,
            precision=precision,
            peers=peers,
        )

    def _asked_items(self, items: Given | None) -> Tensor:
        if items is None:
            return self.catalogue.in_log.nonzero()[:, 0]
        frame, where = self._items_of(items)
        ids = frame[ITEM_ID].unique(maintain_order=True)
        if len(ids) == 0:
            raise ValueError(f"{where} holds no items: leave it out to ask for all items of the log")
        known_or_refused(ids, self.item_ids, where, remedy="add them as new items")
        return torch.from_numpy(rows_of(self.item_ids, ids))

    def _items_of(self, given: Given) -> tuple[pl.DataFrame, str]:
        return given_table(given, column=ITEM_ID, like=self.item_ids, name="items", log=self.catalogue.columns)


def _told(lists: Lists) -> pl.DataFrame:
    """The lists as one table; one line where some ended early."""
    table = lists.table()
    said = lists.written(table.height).shortage(lists)
    if said:
        log.info(said)
    return table
