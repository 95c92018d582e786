"""What a user has done, as the sum of the vectors of his items.

A user's profile are the items of his training rows: positives, and where the model reads them also the items that were
shown to him and were no positives. It has no order and no end, unlike a history; in training it never holds the items
that the batch asks for.

Shape letters: G groups (distinct users), P pairs of groups and items, B rows of a batch, I items, D vector width,
V width of the folded vectors.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch import device as Device

from towerrec.ragged import UserItems

KINDS = ("none", "positives", "rows")


@dataclass
class Profile:
    """Profiles of some users: `group_P` (ascending), `item_P` int64 [P], `positive_P` bool [P]; `item_IV` [I, V] are
    the vectors of the items without a context."""

    group_P: Tensor
    item_P: Tensor
    positive_P: Tensor
    num_groups: int
    item_IV: Tensor


@dataclass
class UserProfiles:
    """The profiles of all users: `rows.values` is 1 for a positive and 0 for what was only shown."""

    rows: UserItems

    def of(self, user_idx_G: Tensor, item_IV: Tensor) -> Profile:
        """Whole profiles, as they are read after training."""
        assert self.rows.values is not None
        group_P, item_P, place_P = self.rows.pairs_of(user_idx_G)
        return Profile(group_P, item_P, self.rows.values[place_P] > 0, len(user_idx_G), item_IV)

    def without(self, user_idx_G: Tensor, item_IV: Tensor, *, group_B: Tensor, item_idx_B: Tensor) -> Profile:
        """Profiles without the items that a batch asks for: a model must not find its answer in its input."""
        whole = self.of(user_idx_G, item_IV)
        asked_B = torch.sort(group_B * self.rows.num_items + item_idx_B).values
        key_P = whole.group_P * self.rows.num_items + whole.item_P
        place_P = torch.searchsorted(asked_B, key_P).clamp(max=max(len(asked_B) - 1, 0))
        kept_P = (asked_B[place_P] != key_P).nonzero()[:, 0]
        return Profile(whole.group_P[kept_P], whole.item_P[kept_P], whole.positive_P[kept_P], whole.num_groups, item_IV)

    def resized(self, *, num_users: int, num_items: int) -> UserProfiles:
        """The same profiles in larger tables; new users have an empty one."""
        return UserProfiles(self.rows.resized(num_users=num_users, num_items=num_items))

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
