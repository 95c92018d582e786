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
import torch.nn.functional as F
from torch import Tensor, nn
from torch import device as Device

from towerrec.nn.lookup import weighted_rows
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
class PaddedProfile:
    """One profile a row: `item_RP` int64 [R, P], -1 where empty, in any order, and `positive_RP` bool [R, P].

    Shapes hang on no value, so this can be traced; `item_IV` as in `Profile`.
    """

    item_RP: Tensor
    positive_RP: Tensor
    item_IV: Tensor


AnyProfile = Profile | PaddedProfile


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

    def forward(self, profile: AnyProfile) -> Tensor:
        """Pooled profiles [G, D]."""
        if isinstance(profile, PaddedProfile):
            return self._padded(profile)
        wide = torch.promote_types(profile.item_IV.dtype, torch.float32)
        item_ID = profile.item_IV[:, : self.width].to(wide)
        only_shown_P = ~profile.positive_P
        if self.shown_ID is None or self.shown_share is None:
            count_G, sum_GD = _sums(profile, item_ID, where_P=profile.positive_P)
        else:
            share_P = torch.where(only_shown_P, self.shown_share.to(wide), 1.0)
            count_G, sum_GD = _sums(profile, item_ID, weight_P=share_P)
            sum_GD = sum_GD + _sums(profile, self.shown_ID.to(wide), where_P=only_shown_P)[1]
        return sum_GD / count_G.clamp(min=1)[:, None].to(wide) ** self.power

    def _padded(self, profile: PaddedProfile) -> Tensor:
        """The same of padded profiles [R, D]."""
        place_RP, present_RP = profile.item_RP.clamp(min=0), profile.item_RP >= 0
        if self.shown_ID is None or self.shown_share is None:
            present_RP = present_RP & profile.positive_RP
            total_RD = weighted_rows(profile.item_IV[:, : self.width], place_RP, present_RP.float())
        else:
            shown_RP = (present_RP & ~profile.positive_RP).float()
            own_RP = present_RP.float() + shown_RP * (self.shown_share - 1.0)
            total_RD = weighted_rows(profile.item_IV[:, : self.width], place_RP, own_RP)
            # Items that joined after training have no vector of their own here.
            num_items = self.shown_ID.shape[0]
            shown_RP = shown_RP * (place_RP < num_items)
            total_RD = total_RD + weighted_rows(self.shown_ID, place_RP.clamp(max=num_items - 1), shown_RP)
        return total_RD / present_RP.sum(1, keepdim=True).clamp(min=1).to(total_RD.dtype) ** self.power


def _sums(
    profile: Profile, table_ID: Tensor, *, where_P: Tensor | None = None, weight_P: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """Number [G] and (weighted) sum [G, D] of the rows of a table that the pairs of every group name.

    No vector is copied per pair: profiles of a thousand users with a thousand items each would need half a gigabyte.
    """
    group_P, item_P = profile.group_P, profile.item_P
    if where_P is not None:
        at_p = where_P.nonzero()[:, 0]
        group_P, item_P = group_P[at_p], item_P[at_p]
    count_G = torch.bincount(group_P, minlength=profile.num_groups)
    first_G = torch.cumsum(count_G, 0) - count_G
    return count_G, F.embedding_bag(item_P, table_ID, first_G, mode="sum", per_sample_weights=weight_P)
