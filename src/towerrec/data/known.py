"""A log beside what an earlier run knows of the days before it: seen, liked and shown items, but no rows to learn from.

Shape letters: P pairs of a user and an item, I items.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import torch
from torch import Tensor

from towerrec.data.history import UserHistory
from towerrec.data.row_order import sort_order
from towerrec.data.store import InteractionStore
from towerrec.ragged import UserItems
from towerrec.schema import NO_TIMESTAMP


@dataclass(frozen=True)
class Known:
    """What the days before the log hold, in the rows of its tables.

    Attributes:
        seen: Items of every user.
        liked_user: Users of the positives, int64 [P].
        liked_item: Their items, int64 [P].
        liked_ms: Their moments, int64 [P], `NO_TIMESTAMP` where there is none.
        shown: Items of every user with `values` 1 for a positive and 0 otherwise, as profiles of `rows` read them; None
            where the earlier run kept none: then the positives alone are known.
        in_log_I: Which items had a row, bool [I].
    """

    seen: UserItems
    liked_user: Tensor
    liked_item: Tensor
    liked_ms: Tensor
    shown: UserItems | None
    in_log_I: Tensor

    @property
    def liked(self) -> UserItems:
        """The positives as lists; `values` are 1."""
        return UserItems.from_pairs(
            self.liked_user,
            self.liked_item,
            num_users=self.seen.num_users,
            num_items=self.seen.num_items,
            values=torch.ones(len(self.liked_user)),
        )

    def also(self, user_R: Tensor, item_R: Tensor, time_ms_R: Tensor, *, is_positive: Tensor) -> Known:
        """With further rows."""
        size = {"num_users": self.seen.num_users, "num_items": self.seen.num_items}
        rows = UserItems.from_pairs(user_R, item_R, **size, values=is_positive.float())
        in_log_I = self.in_log_I.clone()
        in_log_I[item_R] = True
        return Known(
            seen=united(self.seen, rows),
            liked_user=torch.cat([self.liked_user, user_R[is_positive]]),
            liked_item=torch.cat([self.liked_item, item_R[is_positive]]),
            liked_ms=torch.cat([self.liked_ms, time_ms_R[is_positive]]),
            shown=None if self.shown is None else united(self.shown, rows),
            in_log_I=in_log_I,
        )


@dataclass(frozen=True)
class ContinuedStore(InteractionStore):
    """A store whose lists of users and items begin before its first row.

    Rows are those of the log alone. What is asked of training rows as lists (seen items, positives, profiles,
    histories) holds the earlier days too, so that a user's vector keeps what he did then and no item of then is new.
    """

    past: Known | None = None

    @classmethod
    def of(cls, store: InteractionStore, past: Known) -> ContinuedStore:
        """A store with what was before it."""
        return cls(**{field.name: getattr(store, field.name) for field in fields(InteractionStore)}, past=past)

    @property
    def alone(self) -> InteractionStore:
        """The rows of the log, with nothing before them."""
        return InteractionStore(**{field.name: getattr(self, field.name) for field in fields(InteractionStore)})

    def positives(self, split: str, rule: str) -> UserItems:
        own = super().positives(split, rule)
        return own if split != "train" or self.past is None else united(own, self.past.liked)

    def seen(self, *splits: str) -> UserItems:
        own = super().seen(*splits)
        return own if "train" not in splits or self.past is None else united(own, self.past.seen)

    def profiles(self, split: str, rule: str, *, positives_only: bool) -> UserItems:
        own = super().profiles(split, rule, positives_only=positives_only)
        if split != "train" or self.past is None:
            return own
        shown = None if positives_only else self.past.shown
        return united(own, self.past.liked if shown is None else shown)

    def in_log(self, side: str, *splits: str) -> Tensor:
        own = super().in_log(side, *splits)
        if self.past is None or (splits and "train" not in splits):
            return own
        return own | (self.past.in_log_I if side == "item" else self.past.seen.counts > 0)

    def history(self, rule: str) -> UserHistory:
        own = super().history(rule)
        if self.past is None:
            return own
        item, time_ms = own.rows()
        user = torch.repeat_interleave(torch.arange(self.num_users), own.first.diff())
        # Earlier ones first: of equal moments they were before in the file too.
        columns = [
            torch.cat(pair)
            for pair in ((self.past.liked_user, user), (self.past.liked_item, item), (self.past.liked_ms, time_ms))
        ]
        kept = _first_of_each(*columns)
        user, item, time_ms = (column[kept] for column in columns)
        order = sort_order(torch.ones(len(user), dtype=torch.uint8).numpy(), user.int().numpy(), time_ms.numpy())
        place = torch.from_numpy(order)
        return UserHistory.build(user[place], item[place], time_ms[place], num_users=self.num_users)


def first_moment(store: InteractionStore) -> int | None:
    """The first moment of any row of a log; None where no row has one."""
    known = [block[block != NO_TIMESTAMP] for block in store.blocks("timestamp_ms")]
    return min((int(block.min()) for block in known if len(block)), default=None)


def united(first: UserItems, second: UserItems) -> UserItems:
    """What stands in either of two lists of the same users and items; of two values the larger one stays."""
    user = torch.cat(
        [torch.repeat_interleave(torch.arange(lists.num_users), lists.counts) for lists in (first, second)]
    )
    values = None
    if first.values is not None and second.values is not None:
        values = torch.cat([first.values, second.values])
    return UserItems.from_pairs(
        user,
        torch.cat([first.items.long(), second.items.long()]),
        num_users=first.num_users,
        num_items=first.num_items,
        values=values,
    )


def _first_of_each(user: Tensor, item: Tensor, time_ms: Tensor) -> Tensor:
    """Places of the first of equal positives, ascending, int64; a positive without a time is that of its pair."""
    timed = time_ms != NO_TIMESTAMP
    moment = torch.unique(time_ms, return_inverse=True)[1] + 1
    rows = torch.stack([user, item, torch.where(timed, moment, 0)], dim=1)
    _, inverse = torch.unique(rows, dim=0, return_inverse=True)
    place = torch.arange(len(user))
    first = torch.full((int(inverse.max()) + 1 if len(user) else 0,), len(user))
    return first.scatter_reduce_(0, inverse, place, reduce="amin").sort().values
