"""What a user has done, as the sum of the vectors of his items.

A user's profile are the items of his training rows: positives, and where the model reads them also the items that were
shown to him and were no positives. It has no order and no end, unlike a history; in training it never holds the items
that the batch asks for.

Shape letters: G groups (distinct users), P pairs of groups and items, B rows of a batch, R rows that read a profile,
I items, D vector width, V width of the folded vectors.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch import device as Device

from towerrec.ragged import UserItems

KINDS = ("none", "positives", "rows")


@dataclass
class Profile:
    """Profiles of some users: `group_P` (ascending), `item_P` int64 [P] (ascending within a group), `positive_P` bool
    [P]; `item_IV` [I, V] are the vectors of the items without a context; `at_R` says whose profile each row reads
    (None: one row a group)."""

    group_P: Tensor
    item_P: Tensor
    positive_P: Tensor
    num_groups: int
    item_IV: Tensor
    at_R: Tensor | None = None

    def pairs(self) -> tuple[Tensor, Tensor]:
        """What stands in the profile of each row: rows (ascending) and items, each int64 [P']."""
        if self.at_R is None:
            return self.group_P, self.item_P
        end_G = torch.cumsum(torch.bincount(self.group_P, minlength=self.num_groups), 0)
        lists = UserItems(torch.cat([end_G.new_zeros(1), end_G]), self.item_P, self.item_IV.shape[0])
        row_P, item_P, _ = lists.pairs_of(self.at_R)
        return row_P, item_P

    def without(self, group_B: Tensor, item_idx_B: Tensor) -> Profile:
        """The same profiles without the items that a batch asks for: a model must not find its answer in its input."""
        if len(self.item_P) == 0:
            return self
        num_items = self.item_IV.shape[0]
        # Ascending, as the groups are and the items of a user: the few that are asked for look up their place.
        key_P, asked_B = self.group_P * num_items + self.item_P, group_B * num_items + item_idx_B
        place_B = torch.searchsorted(key_P, asked_B).clamp(max=len(key_P) - 1)
        kept_P = torch.ones_like(self.positive_P)
        kept_P[place_B[key_P[place_B] == asked_B]] = False
        at_p = kept_P.nonzero()[:, 0]
        return replace(self, group_P=self.group_P[at_p], item_P=self.item_P[at_p], positive_P=self.positive_P[at_p])

    def read_by(self, at_R: Tensor) -> Profile:
        """The same profiles, read by other rows: `at_R` are groups, or rows that read one already."""
        return replace(self, at_R=at_R if self.at_R is None else self.at_R[at_R])


@dataclass
class UserProfiles:
    """The profiles of all users: `rows.values` is 1 for a positive and 0 for what was only shown."""

    rows: UserItems

    def of(self, user_idx_G: Tensor, item_IV: Tensor) -> Profile:
        """Whole profiles, as they are read after training."""
        assert self.rows.values is not None
        group_P, item_P, place_P = self.rows.pairs_of(user_idx_G)
        return Profile(group_P, item_P, self.rows.values[place_P] > 0, len(user_idx_G), item_IV)

    def to(self, device: Device | str) -> UserProfiles:
        return UserProfiles(self.rows.to(device))


class ProfilePool(nn.Module):
    """Sum of the item vectors of a profile, over a power of their number; an empty profile is zero.

    A positive counts with the item's own vector, so that a user stands where his items stand (as in SLIM-like and
    history-aggregating models: Mao et al., SimpleX, CIKM 2021). What was shown and was no positive counts with a
    learned share of that vector plus a vector of its own: being shown says what the feed took the user for, not
    pleasing him says something else.

    Args:
        num_items: Rows of the item table.
        width: Width of the vectors.
        kind: `positives`, or `rows` for all that was shown.
        power: Of the number of items, which divides the sum: 0 sums, 1 averages.
    """

    def __init__(self, num_items: int, *, width: int, kind: str, power: float) -> None:
        super().__init__()
        if not 0.0 <= power <= 1.0:
            raise ValueError(f"model.profile_power must be in [0, 1], got {power}")
        self.kind, self.width, self.power = kind, width, power
        self.shown_share = self.shown_ID = None
        if kind == "rows":
            self.shown_share = nn.Parameter(torch.ones(()))
            self.shown_ID = nn.Parameter(torch.zeros(num_items, width))

    def forward(self, profile: Profile) -> Tensor:
        """Pooled profiles [G, D]."""
        item_ID = profile.item_IV[:, : self.width]
        if self.shown_ID is None:
            kept_P = profile.positive_P.nonzero()[:, 0]
            group_P, vector_PD = profile.group_P[kept_P], item_ID.index_select(0, profile.item_P[kept_P])
        else:
            assert self.shown_share is not None
            group_P, vector_PD = profile.group_P, item_ID.index_select(0, profile.item_P)
            only_shown_P = (~profile.positive_P).nonzero()[:, 0]
            # Items that joined after training have no vector of their own yet.
            own = _padded(self.shown_ID, len(item_ID)).index_select(0, profile.item_P[only_shown_P])
            change = (self.shown_share - 1) * vector_PD.index_select(0, only_shown_P) + own
            vector_PD = vector_PD.index_add(0, only_shown_P, change.to(vector_PD.dtype))
        sum_GD = vector_PD.new_zeros(profile.num_groups, self.width).index_add(0, group_P, vector_PD)
        count_G = torch.bincount(group_P, minlength=profile.num_groups).clamp(min=1)
        return sum_GD / count_G[:, None].to(sum_GD.dtype) ** self.power


def _padded(table_ID: Tensor, num_items: int) -> Tensor:
    if table_ID.shape[0] >= num_items:
        return table_ID
    return torch.cat([table_ID, table_ID.new_zeros(num_items - table_ID.shape[0], table_ID.shape[1])])
