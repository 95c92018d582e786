"""What the held-out rows themselves say of a system: the scores it gives them, and how much each was worth.

Cells without a row have no part in any of it.

Shape letters: B judged users, K length of the lists, I items, R judged rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from towerrec.data.labels_saved import label_from_dict
from towerrec.data.prepare import Prepared
from towerrec.metrics.auc import user_auc
from towerrec.metrics.graded import gain_of, gains_of, graded_ndcg_at_k, ideal_gains
from towerrec.positive import positive_mask
from towerrec.protocol import Protocol
from towerrec.ragged import UserItems
from towerrec.retrieval.candidates import only_candidates
from towerrec.retrieval.one_ranking import SameForAll
from towerrec.retrieval.search import Scorer
from towerrec.schema import WATCH_RATIO

LARGEST_WATCH_RATIO = 5.0
"""Gain of a watch ratio where `eval.gain_clip` says nothing: the tail, up to 573 in KuaiRec, is one video left running,
which would outweigh a hundred that were watched to the end."""


@dataclass(frozen=True)
class JudgedRows:
    """The held-out rows of the judged users, by user: `place_R` among the judged users, `item_R`, `positive_R`.

    `kept_R` are their places among all held-out rows; `first_B` is where the rows of every judged user begin (one more
    than users).
    """

    kept_R: Tensor
    place_R: Tensor
    item_R: Tensor
    positive_R: Tensor
    first_B: Tensor

    @classmethod
    def of(cls, prepared: Prepared, protocol: Protocol) -> JudgedRows:
        rows = prepared.store.rows(protocol.on)
        place_U = torch.full((prepared.store.num_users,), -1, dtype=torch.int64)
        place_U[protocol.users] = torch.arange(len(protocol.users))
        place = place_U[rows.user_idx.long()]
        kept = (place >= 0).nonzero()[:, 0]  # rows are sorted by user, and so are the judged users
        count_B = torch.bincount(place[kept], minlength=len(protocol.users))
        return cls(
            kept_R=kept,
            place_R=place[kept],
            item_R=rows.item_idx[kept].long(),
            positive_R=positive_mask(rows.label[kept], protocol.positive),
            first_B=torch.cat([torch.zeros(1, dtype=torch.int64), count_B.cumsum(0)]),
        )

    def auc(self, score_R: Tensor) -> dict[str, Tensor]:
        """`gauc` float64 [B], NaN for users whose rows are of one class, and the number of their rows."""
        return {
            "num_rows": self.first_B.diff(),
            "gauc": user_auc(score_R, self.positive_R, self.place_R, len(self.first_B) - 1),
        }


@dataclass
class RowScores:
    """A scorer that remembers what it said of the judged rows, so that no score is computed twice.

    Give it users in the order of `protocol.users`, as lists are made; `of_rows` then has the scores of their rows.
    """

    scorer: Scorer
    rows: JudgedRows
    users: Tensor
    parts: list[Tensor] = field(default_factory=list)

    def __call__(self, user_idx_b: Tensor) -> Tensor:
        scores_bI = self.scorer(user_idx_b)
        first, end = torch.searchsorted(self.users, user_idx_b[[0, -1]])
        part = slice(int(self.rows.first_B[first]), int(self.rows.first_B[end + 1]))
        self.parts.append(scores_bI[self.rows.place_R[part] - first, self.rows.item_R[part]])
        return scores_bI

    def of_rows(self) -> Tensor:
        """Scores of the rows of all users asked for so far, float [R']; those of one ranking for all need no asking."""
        if isinstance(self.scorer, SameForAll):
            return self.scorer.score_I[self.rows.item_R]
        return torch.cat(self.parts) if self.parts else torch.zeros(0)


@dataclass(frozen=True)
class Grading:
    """How much the user's candidates are worth: `values` of `items` are gains.

    Attributes:
        items: Graded candidates of every user; None where the log has nothing graded.
        gain: `linear` or `exponential`.
        clip: Values above it count as this one; None: no clip.
        of: The column that was graded.
        why_not: Why there is nothing, where there is nothing.
        ideal_BK: The largest gains of every judged user, best first, the same for all systems.
    """

    items: UserItems | None
    gain: str
    clip: float | None
    of: str | None
    why_not: str | None = None
    ideal_BK: Tensor | None = None

    def per_user(self, items_BK: Tensor, user_idx_B: Tensor, ks: Sequence[int]) -> dict[str, Tensor]:
        """`{"graded_ndcg@10": float64 [B], ...}`, NaN for users whose candidates are all worth nothing."""
        if self.items is None or self.ideal_BK is None:
            return {}
        gain_BK = gains_of(items_BK[:, : max(ks)], self.items, user_idx_B)
        return {f"graded_ndcg@{k}": graded_ndcg_at_k(gain_BK, self.ideal_BK, k) for k in ks}

    def to_dict(self) -> dict[str, str | float | None]:
        """What a file says of it, plain builtins."""
        return {"of": self.of, "gain": self.gain, "clip": self.clip, "why_not": self.why_not}


def grading(prepared: Prepared, protocol: Protocol, *, gain: str, clip: float | None) -> Grading:
    """Gains of the judged rows that may be listed.

    Of several rows of a pair the largest grade counts, as for relevance.

    Args:
        prepared: The prepared log.
        protocol: Whose candidates.
        gain: `linear` (the grade) or `exponential` (2 to the grade, less 1).
        clip: Largest grade, inf for none; None: 5 for a watch ratio, none for another grade.

    Raises:
        ValueError: As `metrics.graded.gain_of`.
    """
    column = label_from_dict(prepared.meta["label_fitted"]).grade
    clip = LARGEST_WATCH_RATIO if clip is None and column == WATCH_RATIO else clip
    rows, grade_R = prepared.store.rows(protocol.on), prepared.store.grades(protocol.on)
    if bool(((grade_R == 0) | (grade_R == 1)).all()):
        reason = f"the judged rows have no grades, only 0 and 1 (label={prepared.label_name}): NDCG says it all"
        return Grading(None, gain, clip, column, f"graded_ndcg: {reason}")
    graded = UserItems.from_pairs(
        rows.user_idx,
        rows.item_idx,
        num_users=prepared.store.num_users,
        num_items=prepared.store.num_items,
        values=gain_of(grade_R, kind=gain, clip=clip),
    )
    if protocol.candidates != "observed":  # there all rows are candidates
        graded, _ = only_candidates(graded, exclude=protocol.exclude, allowed=protocol.allowed)
    ideal_BK = ideal_gains(graded, protocol.users, max(protocol.ks))
    return Grading(graded, gain, clip, column or prepared.label_name, ideal_BK=ideal_BK)
