"""The dial of freshness on a trained model: its prior from the catalogue alone, and the curve that it draws.

Shape letters: B judged users, I items, n length of the lists.
"""

from __future__ import annotations

import torch
from torch import Tensor

from towerrec import progress
from towerrec.config_prior import PriorConfig
from towerrec.data.catalogue import Catalogue, catalogue_of, item_ages
from towerrec.data.prepare import Prepared
from towerrec.decay import decayed_counts, latest
from towerrec.item_facts import candidates_of_all
from towerrec.metrics.beyond import percentile
from towerrec.metrics.functional import coverage_at_k
from towerrec.protocol import Protocol
from towerrec.ragged import TopN
from towerrec.report.dial import Curve, DialPoint
from towerrec.report.judge import judge
from towerrec.retrieval.prior import popularity_prior, score_spread, youth_prior
from towerrec.retrieval.search import top_n
from towerrec.scoring import Moment, TowerScores

# Users whose scores tell the spread: a mean over so many is steady, and large logs stay quick.
_SPREAD_USERS = 4096


def item_prior(prior: PriorConfig, catalogue: Catalogue, *, at_ms: int | None = None) -> Tensor:
    """The prior of every item, mean 0 and deviation 1 over the items of the log, float32 [I].

    Args:
        prior: Which one, and its half-life.
        catalogue: Training positives with their times, and days of the items.
        at_ms: Moment of the request for `youth`; None: the last training moment. Shares of decayed popularity are the
            same at any moment after training.

    Raises:
        ValueError: If the run has no times, or knows no dates of items.
    """
    if prior.of == "youth":
        age_I = item_ages(catalogue, at_ms)
        if age_I is None:
            raise ValueError(
                "prior.of=youth needs the dates of the items: the run has no feature of kind age_days or no times; "
                "train with one, or take prior.of=popularity"
            )
        return youth_prior(age_I, catalogue.in_log)
    return popularity_prior(_recent(prior.half_life_days, catalogue), catalogue.in_log)


def dialled(
    scores: TowerScores,
    prior: PriorConfig,
    catalogue: Catalogue,
    *,
    at_ms: int | None = None,
    spread: float | None = None,
) -> TowerScores:
    """The scores of a model with the prior at the weight it has; at 0 the very same scores.

    `spread` is what `spread_of` gives, for who knows it already.
    """
    if prior.weight == 0:
        return scores
    spread = spread_of(scores, catalogue) if spread is None else spread
    return scores.with_dial(prior.weight * spread * item_prior(prior, catalogue, at_ms=at_ms).to(scores.device))


def spread_of(scores: TowerScores, catalogue: Catalogue) -> float:
    """What a weight of 1 adds to the score of an item one deviation above the mean: the spread of the users' scores
    over the items of the log. Of no moment, so that it is the same for all who ask."""
    num_users, still = len(catalogue.user_ids), scores.at(Moment())
    some = torch.arange(0, num_users, max(1, -(-num_users // _SPREAD_USERS)))
    return score_spread(still.users(some), still.items(), catalogue.in_log.to(scores.device))


def curve(prior: PriorConfig, weights: list[float], scores: TowerScores, prepared: Prepared, rules: Protocol) -> Curve:
    """Judge the lists at every value of the dial by the same rules."""
    catalogue = catalogue_of(prepared)
    unit_I = spread_of(scores, catalogue) * item_prior(prior, catalogue).to(scores.device)
    age_I = item_ages(catalogue, None)
    place_I = percentile(_recent(None, catalogue), candidates_of_all(rules))
    k = min(rules.ks, key=lambda cut: (abs(cut - 20), cut))
    points = []
    for weight in sorted(set(weights) | {0.0}):
        lists = lists_of(scores if weight == 0 else scores.with_dial(weight * unit_I), rules)
        points.append(_point(weight, lists, rules, k, place_I, age_I))
    return Curve(on=rules.on, k=k, of=prior.of, half_life_days=prior.half_life_days, points=points)


def lists_of(scores: TowerScores, rules: Protocol) -> TopN:
    """The model's lists for the judged users, on the CPU."""
    items_ID = scores.items()
    exclude = None if rules.exclude is None else rules.exclude.to(scores.device)
    allowed = None if rules.allowed is None else rules.allowed.to(scores.device)

    def lists(user_idx_b: Tensor) -> TopN:
        users_b = user_idx_b.to(scores.device)
        # Also without users, which some of many processes may have, the vectors have a width.
        vectors_bD = torch.cat([items_ID[:0], *(scores.users(part) for part in users_b.split(4096) if len(part))])
        return top_n(vectors_bD, items_ID, n=max(rules.ks), user_idx_B=users_b, exclude=exclude, allowed=allowed)

    with progress.bar("ranking", 1) as ranked:
        ranked.step(f"{len(rules.users):,} users")
        return rules.shared(lists)


def _recent(half_life_days: float | None, catalogue: Catalogue) -> Tensor:
    """Training positives of every item as of the last training moment, float64 [I]."""
    item_idx, timestamp_ms = catalogue.history.rows()
    num_items = len(catalogue.item_ids)
    if half_life_days is None:
        return torch.bincount(item_idx, minlength=num_items).double()
    as_of_ms = latest(timestamp_ms)
    if as_of_ms is None:
        raise ValueError("prior.half_life_days needs the times of the rows, the log has none: set it to null")
    return decayed_counts(item_idx, timestamp_ms, num_items=num_items, as_of_ms=as_of_ms, half_life_days=half_life_days)


def _point(weight: float, lists: TopN, rules: Protocol, k: int, place_I: Tensor, age_I: Tensor | None) -> DialPoint:
    shown = lists.items[:, :k]
    shown = shown[shown >= 0]
    age = None
    if age_I is not None and bool((age_I[shown] >= 0).any()):
        known = age_I[shown]
        age = float(known[known >= 0].double().mean())
    return DialPoint(
        weight=weight,
        per_user=judge(lists, rules.relevant, rules.users, [k]),
        coverage=float(coverage_at_k(lists.items, rules.num_candidates, k)),
        popularity=float(place_I[shown].mean()),
        age_days=age,
    )
