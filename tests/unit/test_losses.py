"""Losses and candidates against slow references written from the definitions, and the sign of the correction."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from towerrec.nn.losses import BCE, MSE, FullSoftmax, InBatchSoftmax, LabelFacts, Scored
from towerrec.nn.negatives import Candidates, InBatch, KnownPairs, NoNegatives, Uniform, distinct, log_q
from towerrec.nn.softmax import masked_logsumexp
from towerrec.ragged import UserItems

NUM_USERS, NUM_ITEMS, WIDTH = 5, 9, 3


class Case:
    """A batch of 24 rows with repeated users and items, and what the users are known to like."""

    def __init__(self) -> None:
        draw = torch.Generator().manual_seed(3)
        self.user_vectors = torch.randn(NUM_USERS, WIDTH, generator=draw, dtype=torch.float64).float().requires_grad_()
        self.item_vectors = torch.randn(NUM_ITEMS, WIDTH, generator=draw, dtype=torch.float64).float().requires_grad_()
        self.user = torch.randint(NUM_USERS, (24,), generator=draw)
        self.item = torch.randint(NUM_ITEMS - 2, (24,), generator=draw)
        self.weight = torch.rand(24, generator=draw) + 0.5
        self.label = torch.rand(24, generator=draw)
        more_user, more_item = torch.tensor([0, 1, 4]), torch.tensor([8, 0, 2])
        self.known = UserItems.from_pairs(
            torch.cat([self.user, more_user]),
            torch.cat([self.item, more_item]),
            num_users=NUM_USERS,
            num_items=NUM_ITEMS,
        )
        self.log_q = log_q(torch.arange(1, NUM_ITEMS + 1), batch_size=24, shared=0)

    def scored(self, candidates: Candidates | None = None) -> Scored:
        user_idx, group = torch.unique(self.user, return_inverse=True)
        return Scored(
            user_GV=self.user_vectors[user_idx],
            user_idx_G=user_idx,
            group_B=group,
            item_BV=self.item_vectors[self.item],
            item_idx_B=self.item,
            label_B=self.label,
            weight_B=self.weight,
            candidates=candidates,
        )

    def in_batch(self, *, corrected: bool) -> Candidates:
        idx, count = torch.unique(self.item, return_counts=True)
        return Candidates(self.item_vectors[idx], idx, self.log_q[idx] if corrected else None, count.float().log())

    def naive_in_batch(self, *, corrected: bool, mask_known: bool, temperature: float) -> Tensor:
        """Row by row over all 24 columns of the batch: the textbook form."""
        likes = self.known.mask_of(torch.arange(NUM_USERS))
        losses = []
        for i in range(24):
            logits, kept = [], []
            for j in range(24):
                score = self.user_vectors[self.user[i]] @ self.item_vectors[self.item[j]] / temperature
                if corrected:
                    score = score - self.log_q[self.item[j]]
                hit = self.item[j] == self.item[i] or (mask_known and likes[self.user[i], self.item[j]])
                logits.append(score)
                kept.append(j == i or not bool(hit))
            row = torch.stack([logit for logit, keep in zip(logits, kept, strict=True) if keep])
            losses.append(torch.logsumexp(row, 0) - logits[i])
        return (torch.stack(losses) * self.weight).sum() / self.weight.sum()


def gradients(case: Case, loss: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, (case.user_vectors, case.item_vectors))


@pytest.mark.parametrize("corrected", [True, False])
@pytest.mark.parametrize("mask_known", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_distinct_candidates_with_multiplicity_equal_the_naive_batch_columns(
    corrected: bool, mask_known: bool, temperature: float
):
    case = Case()
    loss = InBatchSoftmax(logq=corrected, mask_known=mask_known, temperature=temperature)
    got = loss(case.scored(case.in_batch(corrected=corrected)), KnownPairs(case.known))
    want = case.naive_in_batch(corrected=corrected, mask_known=mask_known, temperature=temperature)
    torch.testing.assert_close(got, want)
    for one, other in zip(gradients(case, got), gradients(case, want), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_full_softmax_is_cross_entropy_over_the_catalogue():
    case = Case()
    candidates = Candidates(case.item_vectors, torch.arange(NUM_ITEMS))
    got = FullSoftmax()(case.scored(candidates), KnownPairs(case.known))
    logits = case.user_vectors[case.user] @ case.item_vectors.T
    rows = torch.nn.functional.cross_entropy(logits, case.item, reduction="none")
    want = (rows * case.weight).sum() / case.weight.sum()
    torch.testing.assert_close(got, want)
    for one, other in zip(gradients(case, got), gradients(case, want), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_pointwise_losses_equal_their_definitions():
    case = Case()
    score = (case.user_vectors[case.user] * case.item_vectors[case.item]).sum(1)
    squared = (score - case.label) ** 2
    p = score.sigmoid()
    entropy = -(case.label * p.log() + (1 - case.label) * (1 - p).log())
    for loss, rows in ((MSE(), squared), (BCE(), entropy)):
        want = (rows * case.weight).sum() / case.weight.sum()
        torch.testing.assert_close(loss(case.scored(), KnownPairs(case.known)), want)


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_chunks_change_neither_the_value_nor_the_gradients(chunk: int, keep: bool):
    draw = torch.Generator().manual_seed(0)
    user, item = (
        torch.randn(7, 4, generator=draw, requires_grad=True),
        torch.randn(6, 4, generator=draw, requires_grad=True),
    )
    bias = torch.randn(6, generator=draw, requires_grad=True)
    # Every candidate of row 5 is masked.
    row, column = torch.tensor([0, 3, *[5] * 6, 6]), torch.tensor([2, 0, *range(6), 1])
    masks = [(row[:4], column[:4]), (row[4:], column[4:])]
    upstream = torch.randn(7, generator=draw)
    upstream[5] = 0.0
    got = masked_logsumexp(user, item, bias, masks=masks, chunk=chunk, keep=keep)
    mask = torch.zeros(7, 6, dtype=torch.bool)
    mask[row, column] = True
    keep = torch.arange(7) != 5
    want = torch.logsumexp((user @ item.T + bias).masked_fill(mask, -torch.inf)[keep], 1)
    assert got[5] == -torch.inf
    torch.testing.assert_close(got[keep], want)
    got_grads = torch.autograd.grad(got, (user, item, bias), upstream)
    want_grads = torch.autograd.grad(want, (user, item, bias), upstream[keep])
    for one, other in zip(got_grads, want_grads, strict=True):
        torch.testing.assert_close(one, other)


def test_a_user_who_likes_every_candidate_costs_nothing_and_stays_finite():
    case = Case()
    everything = UserItems.from_pairs(
        torch.arange(NUM_USERS).repeat_interleave(NUM_ITEMS),
        torch.arange(NUM_ITEMS).repeat(NUM_USERS),
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
    )
    loss = InBatchSoftmax()(case.scored(case.in_batch(corrected=True)), KnownPairs(everything))
    assert loss == 0.0
    assert all(torch.isfinite(g).all() for g in gradients(case, loss))


@pytest.mark.parametrize("corrected", [True, False])
def test_without_the_correction_popularity_is_lost_and_with_it_the_right_order_is_learned(corrected: bool):
    # The first 50 items are liked nine times as often as the last 50, by users all alike: the right scores, those of
    # a softmax over the catalogue, differ by log 9.
    draw = torch.Generator().manual_seed(0)
    counts = torch.tensor([9.0] * 50 + [1.0] * 50)
    scores = torch.zeros(100, requires_grad=True)
    optimizer = torch.optim.Adam([scores], lr=0.05)
    known = KnownPairs(UserItems.empty(num_users=1, num_items=100))
    loss = InBatchSoftmax(logq=corrected, mask_known=False)
    log_q_I = log_q(counts, batch_size=256, shared=0)
    one, zero = torch.ones(256, 1), torch.zeros(256, dtype=torch.int64)
    for _ in range(300):
        item = torch.multinomial(counts, 256, replacement=True, generator=draw)
        idx, count = torch.unique(item, return_counts=True)
        candidates = Candidates(scores[idx, None], idx, log_q_I[idx] if corrected else None, count.float().log())
        scored = Scored(one[:1], zero[:1], zero, scores[item, None], item, one[:, 0], one[:, 0], candidates)
        optimizer.zero_grad()
        loss(scored, known).backward()
        optimizer.step()
    gap = float((scores[:50].mean() - scores[50:].mean()).detach())
    assert gap == pytest.approx(math.log(9) if corrected else 0.0, abs=0.3)


def test_log_q_counts_batch_and_shared_draws():
    got = log_q(torch.tensor([30, 10, 0]), batch_size=8, shared=6)
    torch.testing.assert_close(got.exp(), torch.tensor([8.0, 4.0, 2.0]))
    assert torch.isfinite(log_q(torch.tensor([1, 0]), batch_size=8, shared=0)).all()


def test_known_pairs_are_found_and_no_others():
    known = KnownPairs(UserItems.from_pairs(torch.tensor([0, 2, 2]), torch.tensor([3, 0, 4]), num_users=3, num_items=5))
    user, item = torch.arange(3).repeat_interleave(5), torch.arange(5).repeat(3)
    assert known.contains(user, item).nonzero()[:, 0].tolist() == [3, 10, 14]
    nobody = KnownPairs(UserItems.empty(num_users=3, num_items=5))
    assert not nobody.contains(user, item).any()


def test_distinct_equals_unique():
    idx = torch.tensor([5, 2, 5, 0, 2])
    for got, want in zip(distinct(idx, 7), torch.unique(idx, return_inverse=True), strict=True):
        assert torch.equal(got, want)


def test_sources_sample_what_they_say():
    torch.manual_seed(0)
    item = torch.tensor([1, 1, 4])
    assert NoNegatives().for_rows(item, 6) is None and NoNegatives().for_batch(6, item.device) is None
    popular = InBatch(per_row=200).for_rows(item, 6)
    assert popular is not None and set(popular.unique().tolist()) == {1, 4}
    assert (popular == 1).float().mean() == pytest.approx(2 / 3, abs=0.1)
    uniform = Uniform(per_row=300, shared=50)
    drawn = uniform.for_rows(item, 6)
    assert drawn is not None and set(drawn.unique().tolist()) == set(range(6)) and drawn.shape == (3, 300)
    shared = uniform.for_batch(6, item.device)
    assert shared is not None and shared.shape == (50,)
    with pytest.raises(ValueError, match=r"negatives.per_row must be at least 1, got 0"):
        InBatch(per_row=0)


def test_a_learned_temperature_gets_a_gradient_and_a_fixed_one_none():
    case = Case()
    for learned in (True, False):
        loss = InBatchSoftmax(temperature=0.5, learn_temperature=learned)
        assert float(loss.temperature.detach()) == pytest.approx(0.5)
        loss(case.scored(case.in_batch(corrected=True)), KnownPairs(case.known)).backward()
        assert (loss.log_temperature.grad is not None) == learned
    with pytest.raises(ValueError, match="temperature must be above 0"):
        InBatchSoftmax(temperature=0.0)


def test_start_of_the_global_bias_is_the_mean_in_the_space_of_the_score():
    labels = LabelFacts(0.2, 0.0, 1.0)
    assert MSE().initial_bias(labels, negatives_per_row=0) == pytest.approx(0.2)
    assert BCE().initial_bias(labels, negatives_per_row=0) == pytest.approx(math.log(0.25))
    assert BCE().initial_bias(labels, negatives_per_row=3) == pytest.approx(math.log(0.05 / 0.95))
