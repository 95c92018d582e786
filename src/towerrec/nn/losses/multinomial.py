"""The multinomial likelihood: every user draws his items from one softmax over the catalogue.

Shape letters: B rows, G groups (distinct users), I items, P pairs of groups and items.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from towerrec.nn.losses.base import Compares, Loss, Rows, Scored, at_least_single, weighted_mean
from towerrec.nn.negatives import KnownPairs
from towerrec.nn.softmax import masked_logsumexp


class Multinomial(Loss):
    """Cross-entropy of a user's items under one exact softmax per user (Liang et al., WWW 2018, equation 2).

    All positives of a user share their softmax: the catalogue is scored once per user and batch, not once per row, and
    with `loader.unit=users` a batch holds a share of all rows of its users. Where the model reads a profile, the items
    in it are no candidates: the question is which items come beside them. An item in a context (its age at that moment)
    competes in the place of itself without one.

    In a log that also shows what did not please, the shown items are weak positives here: that the feed chose an item
    for a user says more about his taste than that he did not like it that time. Retrieval ranks the catalogue, most of
    which he would never be shown.

    Args:
        temperature: Scores are divided by it.
        learn_temperature: Whether it is learned from there.
        shown_weight: Weight of a row that is no positive; 0 reads positives only.
        monitor: Validation figure to watch.
        mode: `max` or `min`.

    Raises:
        ValueError: A temperature that is not above 0, or a weight outside [0, 1].
    """

    name = "multinomial"
    compares: Compares = "catalogue"

    def __init__(
        self,
        *,
        temperature: float = 1.0,
        learn_temperature: bool = False,
        shown_weight: float = 0.5,
        monitor: str = "val/ndcg@20",
        mode: str = "max",
    ) -> None:
        super().__init__(monitor=monitor, mode=mode)
        if temperature <= 0.0:
            raise ValueError(f"loss.temperature must be above 0, got {temperature}")
        if not 0.0 <= shown_weight <= 1.0:
            raise ValueError(f"loss.shown_weight must be in [0, 1], got {shown_weight}")
        self.shown_weight = shown_weight
        self.rows: Rows = "all" if shown_weight > 0.0 else "positives"
        self.log_temperature = nn.Parameter(torch.tensor(temperature).log(), requires_grad=learn_temperature)

    @property
    def temperature(self) -> Tensor:
        return self.log_temperature.exp()

    def learned(self) -> dict[str, Tensor]:
        return {"temperature": self.temperature.detach()}

    def initial_item_bias(self, item_counts_I: Tensor) -> Tensor:
        """Popularity: the scores that are right before anything is known of a user, [I]."""
        log_I = (item_counts_I.float() + 1.0).log()
        return (log_I - log_I.mean()) * self.temperature.detach().to(log_I.device)

    def forward(self, scored: Scored, known: KnownPairs) -> Tensor:
        candidates, positive_B = scored.candidates, scored.positive_B
        assert candidates is not None and positive_B is not None, "it compares with the catalogue"
        user_GV = at_least_single(scored.user_GV) / self.temperature
        masks = [] if scored.profile is None else [scored.profile.pairs()]
        none_I = torch.zeros(candidates.vectors_CV.shape[0], device=user_GV.device)
        all_G = masked_logsumexp(user_GV, candidates.vectors_CV, none_I, masks=masks)
        all_B, own_B = all_G.index_select(0, scored.group_B), at_least_single(scored.score_B) / self.temperature
        loss_B = all_B - own_B
        if scored.in_context:
            # Among all, the row's item stands without its context: a score that knows it could outgrow them forever.
            own_IV = candidates.vectors_CV.index_select(0, scored.item_idx_B)
            known_B = (user_GV.index_select(0, scored.group_B) * own_IV).sum(1)
            others_B = all_B + torch.log1p(-(known_B - all_B).exp().clamp(max=1.0 - 1e-6))
            loss_B = F.softplus(others_B - own_B)
        weight_B = scored.weight_B * torch.where(positive_B, 1.0, self.shown_weight)
        return weighted_mean(loss_B, weight_B, scored.peers)
