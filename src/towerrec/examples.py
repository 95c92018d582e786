"""A few users as people can read them: what they watched, what is listed for them, and which of it was right."""

from __future__ import annotations

from dataclasses import dataclass

import polars as pl
import torch

from towerrec.data.labels_saved import label_from_dict
from towerrec.data.prepare import Prepared
from towerrec.data.store import InteractionStore
from towerrec.naming import item_categories, item_titles
from towerrec.positive import positive_mask
from towerrec.protocol import Protocol
from towerrec.ragged import TopN
from towerrec.report.sections.people import Example, Item
from towerrec.schema import WATCH_RATIO

_LISTED = 10
_BEFORE = 6


def examples(prepared: Prepared, protocol: Protocol, lists: TopN, *, num_examples: int, seed: int) -> list[Example]:
    """Some judged users, drawn at random so that nobody chose the flattering ones.

    Args:
        prepared: The log: who the users and what the items are, and what they did.
        protocol: Who was judged, and by what.
        lists: One list per judged user.
        num_examples: How many users to show.
        seed: Of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(protocol.users), generator=generator)[:num_examples].sort().values
    words = _Words.of(prepared)
    return [_example(prepared, protocol, lists, place, words) for place in drawn.tolist()]


@dataclass(frozen=True)
class _Words:
    """What is printed of items and rows."""

    ids: pl.Series
    titles: pl.Series
    categories: pl.Series | None
    grade: str | None

    @classmethod
    def of(cls, prepared: Prepared) -> _Words:
        found = item_categories(prepared)
        return cls(
            ids=prepared.item_ids,
            titles=item_titles(prepared),
            categories=None if found is None else found.of,
            grade=label_from_dict(prepared.meta["label_fitted"]).grade,
        )

    def item(self, item: int, outcome: str = "", *, hit: bool | None = None) -> Item:
        """An item by its title, or by its id where it has none."""
        title = self.titles[item]
        category = None if self.categories is None else self.categories[item]
        known = [f"item {self.ids[item]}"] if title is not None else []
        facts = " · ".join([*known, *([str(category)] if category is not None else [])])
        return Item(str(title) if title is not None else f"item {self.ids[item]}", facts, outcome, hit)

    def watched(self, grade: float) -> str:
        """How much of the item was watched, where the log says."""
        return f"watched {grade:.0%} of its length" if self.grade == WATCH_RATIO else ""

    def outcome(self, liked: bool, grade: float) -> str:
        """What a judged row says the user did."""
        verdict = "relevant" if liked else "not relevant"
        watched = self.watched(grade)
        return f"{watched}, {verdict}" if watched else verdict


@dataclass(frozen=True)
class _UserRows:
    """Rows of one user, in the order of time."""

    items: list[int]
    liked: list[bool]
    grades: list[float]

    @classmethod
    def of(cls, store: InteractionStore, on: str, user: int, rule: str) -> _UserRows:
        """Found by two searches: rows are sorted by user."""
        rows = store.rows(on)
        ends = torch.searchsorted(rows.user_idx, torch.tensor([user, user + 1], dtype=rows.user_idx.dtype))
        part = slice(int(ends[0]), int(ends[1]))
        liked = positive_mask(rows.label[part], rule)
        return cls(rows.item_idx[part].tolist(), liked.tolist(), store.grades(on)[part].tolist())


def _example(prepared: Prepared, protocol: Protocol, lists: TopN, place: int, words: _Words) -> Example:
    user = int(protocol.users[place])
    relevant = set(protocol.relevant.pairs_of(torch.tensor([user]))[1].tolist())
    held_out = _UserRows.of(prepared.store, protocol.on, user, protocol.positive)
    rows = zip(held_out.items, held_out.liked, held_out.grades, strict=True)
    done = {item: words.outcome(liked, grade) for item, liked, grade in rows}
    listed = [i for i in lists.items[place, :_LISTED].tolist() if i >= 0]
    found = sum(i in relevant for i in listed)
    train = _UserRows.of(prepared.store, "train", user, prepared.positive)
    title, before = _before(train, words, "last in training" if prepared.as_of_ms is not None else "in training")
    return Example(
        user=str(prepared.user_ids[user]),
        facts=(
            f"{len(train.items):,} training rows, {sum(train.liked):,} of them positive; {len(relevant):,} relevant "
            f"items in the {protocol.on} rows, {found} of them among the first {len(listed)} listed"
        ),
        listed=[words.item(i, done.get(i, ""), hit=i in relevant) for i in listed],
        before=before,
        before_title=title,
    )


def _before(train: _UserRows, words: _Words, when: str) -> tuple[str, list[Item]]:
    """The user's latest positives in training, most recent first, or the latest rows where there is no positive."""
    places = [place for place, liked in enumerate(train.liked) if liked]
    title = f"Liked {when}"
    if not places:
        places, title = list(range(len(train.items))), f"Watched {when}, nothing liked"
    chosen = places[::-1][:_BEFORE]
    return title, [words.item(train.items[p], words.watched(train.grades[p])) for p in chosen]
