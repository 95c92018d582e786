"""A few users as people can read them: what they liked, what is listed for them, and which of it was right."""

from __future__ import annotations

import polars as pl
import torch

from towerrec.data.artefacts import EncodedTables
from towerrec.data.history import UserHistory
from towerrec.protocol import Protocol
from towerrec.ragged import TopN
from towerrec.report.html import Example, Item

_LISTED = 10
_BEFORE = 5


def examples(
    tables: EncodedTables, history: UserHistory, protocol: Protocol, lists: TopN, *, num_examples: int, seed: int
) -> list[Example]:
    """Some judged users, drawn at random so that nobody chose the flattering ones.

    Args:
        tables: Who the users and what the items are.
        history: Training positives of the users.
        protocol: Who was judged, and by what.
        lists: One list per judged user.
        num_examples: How many users to show.
        seed: Of the draw.
    """
    generator = torch.Generator().manual_seed(seed)
    drawn = torch.randperm(len(protocol.users), generator=generator)[:num_examples].sort().values
    texts = item_texts(tables)
    shown = []
    for place in drawn.tolist():
        user = int(protocol.users[place])
        relevant = set(protocol.relevant.pairs_of(torch.tensor([user]))[1].tolist())
        listed = [i for i in lists.items[place, :_LISTED].tolist() if i >= 0]
        before = [i for i in history.latest(torch.tensor([user]), length=_BEFORE)[0].tolist() if i >= 0]
        found = sum(i in relevant for i in listed)
        shown.append(
            Example(
                user=str(tables.user_ids[user]),
                facts=f"{len(relevant):,} relevant items, {found} of the first {len(listed)} are among them",
                listed=[Item(texts[i], i in relevant) for i in listed],
                before=[Item(texts[i]) for i in before],
            )
        )
    return shown


def item_texts(tables: EncodedTables) -> pl.Series:
    """One line per item: its id and what is known of it."""
    columns = [c for c in tables.display.columns if c != "item_id"]
    parts = [pl.col(c).cast(pl.String).str.replace_all(r"\s+", " ").str.slice(0, 60) for c in columns]
    text = pl.concat_str([pl.col("item_id").cast(pl.String), *parts], separator=" · ", ignore_nulls=True)
    return tables.display.select(text.alias("text"))["text"]
