"""The correction for sampling, where the right answer is known: every source, their mixes, and the refined form."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor
from vectors import Vectors, batch_of, scorer_of

from towerrec.nn.losses import InBatchSoftmax
from towerrec.nn.negatives import CrossBatch, Hard, Mixed, Negatives, NoNegatives, Popularity, Skips, Uniform
from towerrec.ragged import UserItems

# 20 items, the first of which is shown most; one user, whose scores of them are drawn once.
COUNTS = torch.arange(20, 0, -1).double()
SCORES = torch.randn(20, generator=torch.Generator().manual_seed(4)).double()
POSITIVE = 3
SKIPPED = torch.tensor([0, 5, 11, 12, 19])
SKIPS = UserItems.from_pairs(torch.zeros(5, dtype=torch.int64), SKIPPED, num_users=1, num_items=20)


def sources(**sources: Negatives) -> Mixed:
    return Mixed(sources=sources)


def sum_of_the_others(negatives: Negatives, *, num_rows: int, times: int, emphasis: float = 1.0) -> float:
    """Mean over many draws of what the first row of a batch takes for the sum over all items but its own.

    Under the refined correction its loss is log(1 + sum / e^score of the positive).
    """
    torch.manual_seed(0)
    scorer = scorer_of(
        Vectors(torch.ones(1, 1).double(), SCORES[:, None]), negatives, item_counts=COUNTS, views=COUNTS, skips=SKIPS
    )
    loss = InBatchSoftmax(correction="refined", mask_known=False)
    weight = torch.zeros(num_rows)
    weight[0] = 1.0
    user, total = torch.zeros(num_rows, dtype=torch.int64), 0.0
    with torch.no_grad():
        for _ in range(times):
            item = torch.multinomial(COUNTS, num_rows, replacement=True)
            item[0] = POSITIVE
            value = loss(scorer.scored(batch_of(user, item, weight=weight), loss), scorer.known)
            total += float(value.exp() - 1.0)
            if negatives.cache is not None:
                # The positive of the first row is fixed here; the queue shows what the log shows.
                negatives.start_epoch()
                old = torch.multinomial(COUNTS, num_rows, replacement=True)
                negatives.cache.push(old, torch.arange(20), SCORES[:, None])
    return total / times * math.exp(SCORES[POSITIVE])


@pytest.mark.parametrize(
    ("negatives", "num_rows"),
    [
        (NoNegatives(), 32),
        (Uniform(shared=32), 1),
        (Popularity(of="views", alpha=1.0, shared=32), 1),
        (Popularity(of="views", alpha=0.5, shared=32), 1),
        (Hard(per_row=8, pool=8), 1),
        (CrossBatch(num_batches=2), 32),
        (Uniform(shared=16), 16),
        (sources(a=Uniform(shared=8), b=Popularity(of="views", shared=24)), 8),
        (sources(a=Uniform(shared=16), b=Skips(per_row=4)), 1),
        (sources(a=Hard(per_row=8, pool=8), b=Skips(per_row=4)), 16),
        (sources(a=Hard(per_row=6, pool=6), b=Uniform(shared=8), c=Skips(per_row=3), d=CrossBatch()), 8),
    ],
    ids=lambda value: (
        "+".join(s.name for s in getattr(value, "sources", [value])) if not isinstance(value, int) else ""
    ),
)
def test_what_any_source_or_mix_draws_estimates_the_sum_over_the_catalogue_without_bias(
    negatives: Negatives, num_rows: int
):
    want = float(SCORES.exp().sum() - SCORES[POSITIVE].exp())
    assert sum_of_the_others(negatives, num_rows=num_rows, times=500) == pytest.approx(want, rel=0.04)


def test_skips_weigh_by_their_emphasis_and_all_other_items_once():
    negatives = sources(a=Uniform(shared=16), b=Skips(per_row=4, emphasis=3.0))
    others = SCORES.exp().sum() - SCORES[POSITIVE].exp()
    want = float(others + 2.0 * SCORES[SKIPPED].exp().sum())
    assert sum_of_the_others(negatives, num_rows=1, times=500) == pytest.approx(want, rel=0.04)


def test_a_pool_of_which_only_the_hardest_stay_underestimates_the_sum_by_what_is_left_out():
    want = float(SCORES.exp().sum() - SCORES[POSITIVE].exp())
    half = sum_of_the_others(Hard(per_row=6, pool=12), num_rows=1, times=400)
    assert 0.6 * want < half < 0.97 * want


# --- the sign: items that are liked nine times as often must end log 9 higher ----------------------------------------


def learned_gap(negatives: Negatives, correction: str) -> float:
    """Mean score of 20 items liked nine times as often, less that of 20 others, after training on users all alike."""
    torch.manual_seed(0)
    liked = torch.tensor([9] * 20 + [1] * 20)
    item = torch.arange(40).repeat_interleave(liked).repeat(4)
    user = torch.arange(len(item))
    skipped = (item[:, None] + torch.arange(1, 4)) % 40
    skips = UserItems.from_pairs(user.repeat_interleave(3), skipped.reshape(-1), num_users=len(user), num_items=40)
    known = UserItems.from_pairs(user, item, num_users=len(user), num_items=40)
    model = Vectors(torch.ones(len(user), 1), torch.zeros(40, 1))
    model.users.requires_grad_(False)
    scorer = scorer_of(model, negatives, item_counts=liked, known=known, views=liked, skips=skips)
    loss = InBatchSoftmax(correction=correction)
    optimizer = torch.optim.Adam([model.items], lr=0.05)
    for step in range(250):
        optimizer.param_groups[0]["lr"] = 0.05 * (1 - step / 250)
        row = torch.randperm(len(user))[:128]
        optimizer.zero_grad()
        loss(scorer.scored(batch_of(user[row], item[row]), loss), scorer.known).backward()
        optimizer.step()
    return float((model.items[:20].mean() - model.items[20:].mean()).detach())


MIXES = {
    "in_batch": NoNegatives,
    "uniform": lambda: Uniform(shared=128),
    "popularity": lambda: Popularity(alpha=1.0, shared=128),
    "skips": lambda: Skips(per_row=4),
    "hard": lambda: Hard(per_row=16, pool=16),
    "cross_batch": lambda: CrossBatch(num_batches=2),
    "all": lambda: sources(
        a=Uniform(shared=64), b=Popularity(shared=64), c=Skips(), d=Hard(per_row=8, pool=8), e=CrossBatch()
    ),
}


@pytest.mark.parametrize(
    "source", [s if s in ("in_batch", "all") else pytest.param(s, marks=pytest.mark.slow) for s in MIXES]
)
@pytest.mark.parametrize("correction", ["classic", "refined"])
def test_with_the_correction_popular_items_end_as_high_as_they_are_liked(source: str, correction: str):
    assert learned_gap(MIXES[source](), correction) == pytest.approx(math.log(9), abs=0.35)


@pytest.mark.parametrize("source", ["in_batch", "popularity", "cross_batch"])
def test_without_the_correction_popularity_is_lost(source: str):
    assert learned_gap(MIXES[source](), "none") == pytest.approx(0.0, abs=0.3)


# --- the refined form ------------------------------------------------------------------------------------------------


NUM_BATCHES = 600


def papers_loss(scores_I: Tensor, item_B: Tensor, q_I: Tensor) -> Tensor:
    """Khrylchenko et al. 2025, row by row: sg(1 - P) (log sum of e^(f - log q') over the draws - f_p).

    The mean over the draws takes their expected number (B - 1)(1 - q(p)) for the number.
    """
    rows = []
    for b, p in enumerate(item_B.tolist()):
        draws = torch.tensor([i for j, i in enumerate(item_B.tolist()) if j != b and i != p])
        log_sum = (scores_I[draws] - (q_I[draws] / (1 - q_I[p])).log()).logsumexp(0)
        mean = log_sum.exp() / ((len(item_B) - 1) * (1 - q_I[p]))
        certainty = scores_I[p].exp() / (scores_I[p].exp() + mean)
        rows.append((1 - certainty).detach() * (log_sum - scores_I[p]))
    return torch.stack(rows).mean()


def test_the_refined_form_has_the_gradient_of_the_paper():
    torch.manual_seed(1)
    item = torch.multinomial(COUNTS, 12, replacement=True)
    model = Vectors(torch.ones(1, 1).double(), SCORES[:, None].clone())
    scorer = scorer_of(model, item_counts=COUNTS)
    loss = InBatchSoftmax(correction="refined", mask_known=False)
    loss(scorer.scored(batch_of(torch.zeros(12, dtype=torch.int64), item), loss), scorer.known).backward()
    scores = SCORES.clone().requires_grad_()
    papers_loss(scores, item, COUNTS / COUNTS.sum()).backward()
    assert model.items.grad is not None and scores.grad is not None
    torch.testing.assert_close(model.items.grad[:, 0], scores.grad, rtol=1e-5, atol=1e-8)


def test_the_expected_gradient_of_refined_is_closest_to_the_full_softmax_and_that_of_none_farthest():
    # Four kinds of users with tastes of their own. Were all users alike, the positive would be drawn as the others of
    # the batch are, and the classic correction, which takes it for one of them, would be as good.
    kind, item = torch.arange(4)[:, None], torch.arange(20)
    likes = COUNTS * torch.where(item % 4 == kind, 12.0, 1.0)
    likes = likes / likes.sum(1, keepdim=True)
    scores = 0.8 * likes.log()  # a model that knows most of it
    full = (scores.softmax(1) - likes).T / 4  # expected over kinds and their positives
    distance = {}
    for correction in ("none", "classic", "refined"):
        torch.manual_seed(0)
        model = Vectors(torch.eye(4).double(), scores.T.clone())
        scorer = scorer_of(model, item_counts=likes.mean(0))
        loss = InBatchSoftmax(correction=correction, mask_known=False)
        for _ in range(NUM_BATCHES):
            user = torch.randint(4, (64,))
            liked = torch.multinomial(likes[user], 1)[:, 0]
            loss(scorer.scored(batch_of(user, liked), loss), scorer.known).backward()
        assert model.items.grad is not None
        distance[correction] = float((model.items.grad / NUM_BATCHES - full).norm() / full.norm())
    assert distance["refined"] < 0.6 * distance["classic"] < 0.6 * distance["none"], distance
