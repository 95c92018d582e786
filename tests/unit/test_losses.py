"""Losses against slow references written from the definitions."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from towerrec.nn.losses import (
    BCE,
    BPR,
    MSE,
    FullSoftmax,
    Huber,
    InBatchSoftmax,
    LabelFacts,
    Loss,
    Poisson,
    Prediction,
    Quantile,
    Scored,
    predicted_label,
)
from towerrec.nn.negatives import Candidates, KnownPairs
from towerrec.nn.softmax import masked_logsumexp
from towerrec.ragged import UserItems

NUM_USERS, NUM_ITEMS, WIDTH = 5, 9, 3
NOBODY = KnownPairs(UserItems.empty(num_users=NUM_USERS, num_items=NUM_ITEMS))


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
        counts = torch.arange(1, NUM_ITEMS + 1)
        self.log_q = (24 * counts / counts.sum()).log()

    def scored(self, candidates: Candidates | None = None) -> Scored:
        user_idx, group = torch.unique(self.user, return_inverse=True)
        return Scored(
            user_GV=self.user_vectors[user_idx],
            user_idx_G=user_idx,
            group_B=group,
            item_KV=self.item_vectors[self.item],
            item_idx_B=self.item,
            label_B=self.label,
            weight_B=self.weight,
            num_rows=24,
            candidates=candidates,
        )

    def in_batch(self, *, corrected: bool) -> Candidates:
        idx, count = torch.unique(self.item, return_counts=True)
        return Candidates(self.item_vectors[idx], idx, self.log_q[idx] if corrected else None, count.float().log())

    def naive_in_batch(self, *, correction: str, mask_known: bool, temperature: float) -> Tensor:
        """Row by row over all 24 columns of the batch: the textbook form."""
        likes = self.known.mask_of(torch.arange(NUM_USERS))
        losses = []
        for i in range(24):
            logits, kept = [], []
            for j in range(24):
                score = self.user_vectors[self.user[i]] @ self.item_vectors[self.item[j]] / temperature
                if correction == "classic" or (correction == "refined" and j != i):
                    score = score - self.log_q[self.item[j]]
                hit = self.item[j] == self.item[i] or (mask_known and likes[self.user[i], self.item[j]])
                logits.append(score)
                kept.append(j == i or not bool(hit))
            row = torch.stack([logit for logit, keep in zip(logits, kept, strict=True) if keep])
            losses.append(torch.logsumexp(row, 0) - logits[i])
        return (torch.stack(losses) * self.weight).sum() / self.weight.sum()

    def mean(self, loss_B: Tensor) -> Tensor:
        return (loss_B * self.weight).sum() / self.weight.sum()


def gradients(case: Case, loss: Tensor) -> tuple[Tensor, ...]:
    return torch.autograd.grad(loss, (case.user_vectors, case.item_vectors))


@pytest.mark.parametrize("correction", ["none", "classic", "refined"])
@pytest.mark.parametrize("mask_known", [True, False])
@pytest.mark.parametrize("temperature", [1.0, 0.3])
def test_distinct_candidates_with_multiplicity_equal_the_naive_batch_columns(
    correction: str, mask_known: bool, temperature: float
):
    case = Case()
    loss = InBatchSoftmax(correction=correction, mask_known=mask_known, temperature=temperature)
    got = loss(case.scored(case.in_batch(corrected=correction != "none")), KnownPairs(case.known))
    want = case.naive_in_batch(correction=correction, mask_known=mask_known, temperature=temperature)
    torch.testing.assert_close(got, want)
    for one, other in zip(gradients(case, got), gradients(case, want), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_an_unknown_correction_is_refused():
    with pytest.raises(ValueError, match=r"loss.correction must be one of none, classic, refined, got 'logq'"):
        InBatchSoftmax(correction="logq")


def test_full_softmax_is_cross_entropy_over_the_catalogue():
    case = Case()
    candidates = Candidates(case.item_vectors, torch.arange(NUM_ITEMS))
    got = FullSoftmax()(case.scored(candidates), KnownPairs(case.known))
    logits = case.user_vectors[case.user] @ case.item_vectors.T
    want = case.mean(torch.nn.functional.cross_entropy(logits, case.item, reduction="none"))
    torch.testing.assert_close(got, want)
    for one, other in zip(gradients(case, got), gradients(case, want), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def slow_huber(error: float, delta: float) -> float:
    return error**2 / 2 if abs(error) <= delta else delta * (abs(error) - delta / 2)


def slow_pinball(error: float, tau: float) -> float:
    return tau * error if error >= 0 else (tau - 1) * error


def test_pointwise_losses_equal_their_definitions():
    case = Case()
    score = (case.user_vectors[case.user] * case.item_vectors[case.item]).sum(1).detach()
    errors = (case.label - score).tolist()
    p = score.sigmoid()
    for loss, rows in (
        (MSE(), (score - case.label) ** 2),
        (BCE(), -(case.label * p.log() + (1 - case.label) * (1 - p).log())),
        (Huber(delta=1.0), torch.tensor([slow_huber(e, 1.0) for e in errors])),
        (Huber(delta=0.3), torch.tensor([slow_huber(e, 0.3) for e in errors])),
        (Quantile(tau=0.5), torch.tensor([slow_pinball(e, 0.5) for e in errors])),
        (Quantile(tau=0.9), torch.tensor([slow_pinball(e, 0.9) for e in errors])),
        (
            Poisson(),
            torch.tensor([math.exp(z) - y * z for z, y in zip(score.tolist(), case.label.tolist(), strict=True)]),
        ),
    ):
        torch.testing.assert_close(loss(case.scored(), NOBODY).detach(), case.mean(rows))


@pytest.mark.parametrize(
    ("loss", "answer"),
    [
        (MSE(), 10 / 3),
        (Huber(delta=1e-4), 1.0),
        (Quantile(tau=0.5), 1.0),
        (Quantile(tau=0.8), 8.0),
        (Poisson(), math.log(10 / 3)),
    ],
    ids=["mse: mean", "huber: median", "quantile .5: median", "quantile .8", "poisson: log of the mean"],
)
def test_one_score_for_all_rows_becomes_what_the_loss_estimates(loss: Loss, answer: float):
    label = torch.tensor([0.0, 0.0, 0.0, 0.0, 1.0, 1.0, 8.0, 8.0, 12.0])
    score = torch.zeros(1, 1, requires_grad=True)
    optimizer = torch.optim.Adam([score], lr=0.1)
    zero, ones = torch.zeros(9, dtype=torch.int64), torch.ones(9)
    for step in range(2000):
        optimizer.param_groups[0]["lr"] = 0.1 * (1 - step / 2000)
        optimizer.zero_grad()
        loss(Scored(ones[:1, None], zero[:1], zero, score.expand(9, 1), zero, label, ones, 9), NOBODY).backward()
        optimizer.step()
    assert float(score.detach()) == pytest.approx(answer, abs=0.05)


def test_a_tau_outside_0_to_1_and_a_delta_of_0_are_refused():
    with pytest.raises(ValueError, match=r"loss.tau must lie between 0 and 1, got 1.0"):
        Quantile(tau=1.0)
    with pytest.raises(ValueError, match=r"loss.delta must be above 0, got 0.0"):
        Huber(delta=0.0)


def test_poisson_is_the_likelihood_of_a_count_up_to_what_the_score_does_not_move():
    score, count = torch.linspace(-2, 2, 9, dtype=torch.float64), torch.tensor(3.0, dtype=torch.float64)
    likelihood = torch.distributions.Poisson(score.exp()).log_prob(count)
    torch.testing.assert_close(Poisson().row_loss(score, count) + likelihood, -torch.lgamma(count + 1).expand(9))


def test_poisson_refuses_labels_below_0_and_labels_that_are_all_alike():
    Poisson().check(LabelFacts(0.9, 0.0, 5.0), negatives_per_row=0)
    with pytest.raises(ValueError, match=r"loss=poisson needs labels that are not negative, the lowest is -1.2"):
        Poisson().check(LabelFacts(0.1, -1.2, 3.0), negatives_per_row=0)
    with pytest.raises(ValueError, match="every training label is 1"):
        Poisson().check(LabelFacts(1.0, 1.0, 1.0), negatives_per_row=0)


def pairs_of(case: Case, weight: Tensor) -> Scored:
    """Each row with two negatives: the items one and two further on."""
    scored = case.scored()
    negative = torch.stack([(case.item + 1) % NUM_ITEMS, (case.item + 2) % NUM_ITEMS], 1)
    scored.group_B = torch.cat([scored.group_B, scored.group_B.repeat_interleave(2)])
    scored.item_KV = case.item_vectors[torch.cat([case.item, negative.reshape(-1)])]
    scored.label_B = torch.cat([case.label, torch.zeros(48)])
    scored.weight_B = torch.cat([case.weight, weight])
    return scored


@pytest.mark.parametrize("weight_by", ["none", "label"])
def test_bpr_is_minus_log_sigmoid_of_the_difference_over_all_pairs(weight_by: str):
    case = Case()
    weight = torch.arange(48.0) % 3  # every third pair counts nothing
    total, weights = torch.zeros(()), 0.0
    for i in range(24):
        user = case.user_vectors[case.user[i]]
        for k in range(2):
            negative = case.item_vectors[(case.item[i] + 1 + k) % NUM_ITEMS]
            pair = -torch.sigmoid(user @ case.item_vectors[case.item[i]] - user @ negative).log()
            w = float(weight[2 * i + k]) * (min(float(case.label[i]), 0.6) if weight_by == "label" else 1.0)
            total, weights = total + w * pair, weights + w
    got = BPR(weight_by=weight_by, max_weight=0.6)(pairs_of(case, weight), NOBODY)
    torch.testing.assert_close(got, total / weights)
    for one, other in zip(gradients(case, got), gradients(case, total / weights), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-6)


def test_bpr_without_negatives_is_refused():
    with pytest.raises(ValueError, match="loss=bpr compares with sampled negatives: choose negatives=uniform"):
        BPR().check(LabelFacts(1.0, 1.0, 1.0), negatives_per_row=0)


@pytest.mark.parametrize("loss", [InBatchSoftmax, FullSoftmax])
def test_a_positive_weighs_as_much_as_its_label_up_to_the_cut(loss: type[InBatchSoftmax] | type[FullSoftmax]):
    case = Case()
    candidates = case.in_batch(corrected=True)
    got = loss(weight_by="label", max_weight=0.6)(case.scored(candidates), NOBODY)
    case.weight = case.weight * case.label.clamp(max=0.6)
    torch.testing.assert_close(got, loss()(case.scored(candidates), NOBODY))
    case.weight = case.weight / case.label.clamp(max=0.6)
    assert got != loss()(case.scored(candidates), NOBODY)
    assert got != loss(weight_by="label", max_weight=0.9)(case.scored(candidates), NOBODY)


def test_weights_from_labels_that_are_negative_or_all_the_same_are_refused():
    graded = FullSoftmax(weight_by="label")
    graded.check(LabelFacts(1.0, 0.5, 4.0), negatives_per_row=0)
    with pytest.raises(ValueError, match="labels must not be negative, the lowest is -1"):
        graded.check(LabelFacts(0.0, -1.0, 1.0), negatives_per_row=0)
    with pytest.raises(ValueError, match="every label is 1, so all rows weigh the same"):
        graded.check(LabelFacts(1.0, 1.0, 1.0), negatives_per_row=0)
    with pytest.raises(ValueError, match="weight_by must be none or label, got 'ratio'"):
        BPR(weight_by="ratio")
    with pytest.raises(ValueError, match="max_weight must be above 0"):
        BPR(max_weight=0.0)


@pytest.mark.parametrize(("keep", "tile"), [(True, None), (False, None), (False, 1), (False, 4)])
@pytest.mark.parametrize("chunk", [1, 2, 3, 7, 100])
def test_chunks_change_neither_the_value_nor_the_gradients(chunk: int, keep: bool, tile: int | None):
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
    got = masked_logsumexp(user, item, bias, masks=masks, chunk=chunk, tile=tile, keep=keep)
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


class Largest(TorchDispatchMode):
    """Remembers the number of elements of the largest tensor that any operation gives."""

    elements = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in result if isinstance(result, tuple) else (result,):
            if isinstance(tensor, torch.Tensor):
                self.elements = max(self.elements, tensor.numel())
        return result


@pytest.mark.parametrize("num_items", [30_000, 300_000])
def test_a_softmax_that_keeps_nothing_needs_the_memory_of_its_vectors_and_a_tile(num_items: int):
    user, item = torch.randn(256, 2, requires_grad=True), torch.randn(num_items, 2, requires_grad=True)
    with Largest() as largest:
        masked_logsumexp(user, item, torch.zeros(num_items), masks=[], keep=False).sum().backward()
    assert largest.elements <= max(1 << 18, item.numel()) < 256 * num_items


@pytest.mark.parametrize("correction", ["none", "classic", "refined"])
def test_a_user_who_likes_every_candidate_costs_nothing_and_stays_finite(correction: str):
    case = Case()
    everything = UserItems.from_pairs(
        torch.arange(NUM_USERS).repeat_interleave(NUM_ITEMS),
        torch.arange(NUM_ITEMS).repeat(NUM_USERS),
        num_users=NUM_USERS,
        num_items=NUM_ITEMS,
    )
    candidates = case.in_batch(corrected=correction != "none")
    loss = InBatchSoftmax(correction=correction)(case.scored(candidates), KnownPairs(everything))
    assert loss == 0.0
    assert all(torch.isfinite(g).all() for g in gradients(case, loss))


def test_a_learned_temperature_gets_a_gradient_and_a_fixed_one_none():
    case = Case()
    for learned in (True, False):
        loss = InBatchSoftmax(temperature=0.5, learn_temperature=learned)
        assert float(loss.learned()["temperature"]) == pytest.approx(0.5)
        loss(case.scored(case.in_batch(corrected=True)), KnownPairs(case.known)).backward()
        assert (loss.log_temperature.grad is not None) == learned
    with pytest.raises(ValueError, match="temperature must be above 0"):
        InBatchSoftmax(temperature=0.0)


def test_start_of_the_global_bias_is_the_mean_in_the_space_of_the_score():
    labels = LabelFacts(0.2, 0.0, 1.0)
    for loss in (MSE(), Huber(), Quantile()):
        assert loss.initial_bias(labels, negatives_per_row=0) == pytest.approx(0.2)
    assert Poisson().initial_bias(labels, negatives_per_row=0) == pytest.approx(math.log(0.2))
    assert Poisson().initial_bias(labels, negatives_per_row=3) == pytest.approx(math.log(0.05))
    assert BCE().initial_bias(labels, negatives_per_row=0) == pytest.approx(math.log(0.25))
    assert BCE().initial_bias(labels, negatives_per_row=3) == pytest.approx(math.log(0.05 / 0.95))


def test_scores_become_labels_by_the_link_of_the_loss():
    score = torch.tensor([-1.0, 0.0, 2.0])
    for loss in (MSE(), Huber(), Quantile()):
        torch.testing.assert_close(predicted_label(loss.prediction(), score), score)
    torch.testing.assert_close(predicted_label(Poisson().prediction(), score), score.exp())
    torch.testing.assert_close(predicted_label(BCE().prediction(), score), score.sigmoid())
    torch.testing.assert_close(predicted_label(Prediction("bce", 2.0, -1.0), score), (2 * score - 1).sigmoid())
    for loss in (InBatchSoftmax(), FullSoftmax(), BPR()):
        assert predicted_label(loss.prediction(), score) is None
