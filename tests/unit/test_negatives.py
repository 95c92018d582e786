"""Sources of negatives draw what they say, and say how often."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from vectors import Vectors, batch_of, scorer_of

from towerrec.nn.losses import BCE, BPR, FullSoftmax, InBatchSoftmax
from towerrec.nn.negatives import (
    CrossBatch,
    Hard,
    InBatch,
    KnownPairs,
    LogFacts,
    Mixed,
    Negatives,
    NoNegatives,
    Popularity,
    Request,
    Skips,
    Uniform,
    distinct,
)
from towerrec.ragged import UserItems

CPU = torch.device("cpu")
USER, ITEM = torch.tensor([0, 0, 2]), torch.tensor([1, 1, 4])
NOBODY = UserItems.empty(num_users=3, num_items=6)
# What the users liked, and what they were shown and did not like; user 1 liked all that he saw.
KNOWN = UserItems.from_pairs(torch.tensor([0, 1, 2]), torch.tensor([1, 1, 4]), num_users=3, num_items=6)
SKIPS = UserItems.from_pairs(torch.tensor([0, 0, 2]), torch.tensor([2, 5, 3]), num_users=3, num_items=6)
VIEWS = torch.tensor([0, 4, 1, 1, 2, 8])
# Scores of three users (rows) for six items.
USERS, ITEMS = torch.eye(3), torch.arange(18.0).view(3, 6).T % 7


def request(known: UserItems = NOBODY) -> Request:
    return Request(USER, ITEM, 6, USERS, torch.arange(3), USER, KnownPairs(known), lambda idx: ITEMS[idx])


def attached(source: Negatives) -> Negatives:
    source.attach(LogFacts(KNOWN, VIEWS, SKIPS))
    return source


def rows_of(source: Negatives, known: UserItems = NOBODY) -> Tensor:
    drawn = attached(source).for_rows(request(known))
    assert drawn is not None
    return drawn.idx_BM


def test_known_pairs_are_found_and_no_others():
    known = KnownPairs(UserItems.from_pairs(torch.tensor([0, 2, 2]), torch.tensor([3, 0, 4]), num_users=3, num_items=5))
    user, item = torch.arange(3).repeat_interleave(5), torch.arange(5).repeat(3)
    assert known.contains(user, item).nonzero()[:, 0].tolist() == [3, 10, 14]
    assert known.contains(torch.arange(3)[:, None], torch.arange(5)).nonzero().tolist() == [[0, 3], [2, 0], [2, 4]]
    nobody = KnownPairs(UserItems.empty(num_users=3, num_items=5))
    assert not nobody.contains(user, item).any()


def test_distinct_equals_unique():
    idx = torch.tensor([5, 2, 5, 0, 2])
    for got, want in zip(distinct(idx, 7), torch.unique(idx, return_inverse=True), strict=True):
        assert torch.equal(got, want)


def test_lists_without_others_keep_the_rest():
    seen = UserItems.from_pairs(torch.tensor([0, 0, 1, 2]), torch.tensor([1, 2, 1, 0]), num_users=3, num_items=6)
    left = seen.without(KNOWN)
    assert left.offsets.tolist() == [0, 1, 1, 2] and left.items.tolist() == [2, 0]


def test_no_source_draws_nothing_and_in_batch_draws_as_the_batch_holds():
    torch.manual_seed(0)
    assert NoNegatives().for_rows(request()) is None and NoNegatives().for_batch(6, CPU) is None
    popular = rows_of(InBatch(per_row=200))
    assert set(popular.unique().tolist()) == {1, 4}
    assert (popular == 1).float().mean() == pytest.approx(2 / 3, abs=0.1)


@pytest.mark.parametrize(
    ("source", "share"),
    [
        (Uniform(per_row=4000, shared=12000), [1 / 6] * 6),
        (Popularity(alpha=1.0, per_row=4000, shared=12000), [0, 2 / 3, 0, 0, 1 / 3, 0]),
        (Popularity(of="views", alpha=1.0, per_row=4000, shared=12000), [0, 4 / 16, 1 / 16, 1 / 16, 2 / 16, 8 / 16]),
        (Popularity(of="views", alpha=0.0, per_row=4000, shared=12000), [1 / 6] * 6),
        (Popularity(of="views", alpha=0.5, per_row=4000, shared=12000), VIEWS.sqrt() / VIEWS.sqrt().sum()),
    ],
    ids=["uniform", "positives", "views", "power 0", "power .5"],
)
def test_a_shared_source_draws_every_item_as_often_as_it_says(source: Negatives, share: list[float]):
    torch.manual_seed(0)
    for drawn in (rows_of(source).reshape(-1), source.for_batch(6, CPU)):
        assert drawn is not None
        torch.testing.assert_close(
            torch.bincount(drawn, minlength=6) / 12000, torch.as_tensor(share), atol=0.015, rtol=0
        )
    expected = source.expected(6)
    assert expected is not None
    torch.testing.assert_close(expected.float(), 12000 * torch.as_tensor(share).float(), rtol=1e-5, atol=1e-3)


def test_skips_come_from_the_user_of_the_row_and_say_their_probability_given_the_user():
    torch.manual_seed(0)
    request_of_all = request()
    request_of_all.user_idx_B = torch.tensor([0, 1, 2])
    drawn = attached(Skips(per_row=1000, emphasis=2.0)).for_rows(request_of_all)
    assert drawn is not None and drawn.weight_BM is not None and drawn.log_q_BM is not None
    assert set(drawn.idx_BM[0].tolist()) == {2, 5} and set(drawn.idx_BM[2].tolist()) == {3}
    assert (drawn.idx_BM[0] == 2).float().mean() == pytest.approx(0.5, abs=0.06)
    assert drawn.weight_BM[:, 0].tolist() == [2.0, 0.0, 2.0]  # user 1 has none
    torch.testing.assert_close(drawn.log_q_BM[[0, 2], 0].exp(), torch.tensor([500.0, 1000.0]))


def test_hard_negatives_are_the_highest_scores_that_are_neither_known_nor_the_rows_own():
    # User 0 scores the items 0 1 2 3 4 5, user 2 scores them 5 6 0 1 2 3.
    assert rows_of(Hard(per_row=2, pool=6)).tolist() == [[5, 4], [5, 4], [1, 0]]
    more = UserItems.from_pairs(torch.tensor([0, 2]), torch.tensor([5, 1]), num_users=3, num_items=6)
    assert rows_of(Hard(per_row=2, pool=6), more).tolist() == [[4, 3], [4, 3], [0, 5]]
    everything = UserItems.from_pairs(
        torch.arange(3).repeat_interleave(6), torch.arange(6).repeat(3), num_users=3, num_items=6
    )
    drawn = Hard(per_row=2, pool=6).for_rows(request(everything))
    assert drawn.weight_BM is not None and not drawn.weight_BM.any()


def test_a_smaller_pool_is_less_hard():
    torch.manual_seed(0)
    many = [
        sum(float(ITEMS[rows_of(Hard(per_row=1, pool=pool))[:, 0], USER].mean()) for _ in range(50)) / 50
        for pool in (1, 3, 6)
    ]
    assert many[0] < many[1] < many[2]


def test_the_cache_holds_the_last_batches_and_prefers_present_vectors():
    cache = CrossBatch(num_batches=2)
    cache.attach(LogFacts(KNOWN))
    for step, items in enumerate(([0, 0, 1], [1, 2, 2], [3, 3, 3])):
        idx = torch.tensor(items).unique()
        cache.push(torch.tensor(items), idx, torch.full((len(idx), 1), float(step)))
    assert cache.num_rows == 6  # the first batch is forgotten
    fresh = torch.full((2, 1), 9.0, requires_grad=True)
    vectors, idx, count = cache.join(fresh, torch.tensor([2, 5]), torch.tensor([1.0, 1.0]))
    assert idx.tolist() == [2, 5, 1, 3] and count.tolist() == [3.0, 1.0, 1.0, 3.0]
    assert vectors[:, 0].tolist() == [9.0, 9.0, 1.0, 2.0]
    vectors.sum().backward()
    assert fresh.grad is not None and fresh.grad.tolist() == [[1.0], [1.0]]
    cache.start_epoch()
    assert cache.num_rows == 0 and cache.join(fresh, torch.tensor([2, 5]), torch.ones(2))[1].tolist() == [2, 5]


def test_a_mix_puts_rows_beside_each_other_and_adds_up_what_it_expects():
    torch.manual_seed(0)
    uniform, popular = Uniform(per_row=2, shared=12), Popularity(of="views", alpha=1.0, per_row=1, shared=16)
    mixed = attached(Mixed(sources={"a": uniform, "b": popular, "c": Skips(per_row=3), "gone": None}))
    assert mixed.per_row == 6 and mixed.needs == {"views", "skips"}
    drawn = mixed.for_rows(request())
    assert drawn is not None and drawn.idx_BM.shape == (3, 6) and drawn.weight_BM is not None
    assert set(drawn.idx_BM[0, 3:].tolist()) <= {2, 5}
    expected = mixed.expected(6)
    assert expected is not None
    torch.testing.assert_close(expected, 2.0 + VIEWS.double())
    shared = mixed.for_batch(6, CPU)
    assert shared is not None and len(shared) == 28
    assert len(mixed.own(request())) == 1 and mixed.elsewhere is not None and mixed.cache is None


def test_sampled_rows_that_the_user_likes_or_that_are_none_weigh_nothing():
    model = Vectors(torch.randn(3, 2), torch.randn(6, 2))
    negatives = Mixed(sources={"a": Skips(per_row=1, emphasis=2.0), "b": Uniform(per_row=20)})
    scorer = scorer_of(model, negatives, known=KNOWN, skips=SKIPS)
    user, item = torch.tensor([0, 1, 2]), torch.tensor([1, 1, 4])
    scored = scorer.scored(batch_of(user, item, weight=torch.tensor([1.0, 1.0, 3.0])), BCE())
    weight = scored.weight_B[3:].view(3, 21)
    assert weight[:, 0].tolist() == [2.0, 0.0, 6.0]
    liked = scored.item_idx_B[3:].view(3, 21)[:, 1:] == item[:, None]
    assert torch.equal(weight[:, 1:] == 0.0, liked) and liked.any()
    assert scored.num_rows == 3 and not scored.label_B[3:].any()
    torch.testing.assert_close(scored.score_B, (model.users @ model.items.T)[
        torch.cat([user, user.repeat_interleave(21)]), scored.item_idx_B
    ])  # fmt: skip


@pytest.mark.parametrize(
    "source", [Uniform(shared=64), Popularity(shared=64), Skips(per_row=3), Hard(per_row=2, pool=4), CrossBatch()],
    ids=lambda source: source.name,
)  # fmt: skip
@pytest.mark.parametrize("correction", ["none", "classic", "refined"])
def test_every_source_changes_a_softmax_under_every_correction(source: Negatives, correction: str):
    torch.manual_seed(0)
    model, loss = Vectors(torch.randn(3, 2), torch.randn(6, 2)), InBatchSoftmax(correction=correction)
    values = []
    for negatives in (NoNegatives(), source):
        scorer = scorer_of(model, negatives, known=KNOWN, skips=SKIPS, item_counts=VIEWS)
        first = batch_of(torch.tensor([0, 1, 2]), torch.tensor([2, 1, 4]))
        second = batch_of(torch.tensor([0, 2, 2]), torch.tensor([1, 4, 5]))
        values.append([float(loss(scorer.scored(batch, loss), scorer.known).detach()) for batch in (first, second)])
    assert values[0][1] != values[1][1]


@pytest.mark.parametrize(
    ("low", "high"),
    [
        (Uniform(per_row=1), Uniform(per_row=5)),
        (Popularity(of="views", per_row=3), Popularity(per_row=3)),
        (Popularity(of="views", per_row=3, alpha=0.0), Popularity(of="views", per_row=3, alpha=2.0)),
        (
            Mixed(sources={"a": Skips(emphasis=1.0), "b": Uniform()}),
            Mixed(sources={"a": Skips(emphasis=3.0), "b": Uniform()}),
        ),
        (Skips(per_row=1), Skips(per_row=5)),
        (Hard(per_row=1, pool=4), Hard(per_row=2, pool=4)),
        (Hard(per_row=1, pool=2), Hard(per_row=1, pool=6)),
        (InBatch(per_row=1), InBatch(per_row=3)),
    ],
    ids=lambda source: source.name,
)  # fmt: skip
def test_every_option_of_a_source_changes_a_pairwise_loss(low: Negatives, high: Negatives):
    values = []
    for negatives in (low, high):
        torch.manual_seed(1)
        model = Vectors(torch.randn(3, 2), torch.randn(6, 2))
        scorer = scorer_of(model, negatives, known=KNOWN, skips=SKIPS, views=VIEWS)
        batch = batch_of(torch.tensor([0, 1, 2]), torch.tensor([1, 1, 4]))
        values.append(float(BPR()(scorer.scored(batch, BPR()), scorer.known).detach()))
    assert values[0] != values[1]


def test_a_source_that_gives_a_loss_nothing_is_refused():
    for source in (Uniform(), Skips(), Mixed(sources={"a": NoNegatives(), "b": Hard()})):
        with pytest.raises(ValueError, match="changes nothing under loss=full_softmax: choose negatives=none"):
            source.check([FullSoftmax().compares], "full_softmax")
    with pytest.raises(ValueError, match="negatives=cross_batch changes nothing under loss=bce"):
        CrossBatch().check([BCE().compares], "bce")
    CrossBatch().check([InBatchSoftmax().compares], "in_batch_softmax")
    NoNegatives().check([FullSoftmax().compares], "full_softmax")


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: InBatch(per_row=0), "negatives.per_row must be at least 1, got 0"),
        (lambda: Uniform(shared=-1), "negatives.shared must be at least 0, got -1"),
        (lambda: Popularity(of="likes"), "negatives.of must be positives or views, got 'likes'"),
        (lambda: Popularity(alpha=-1.0), "negatives.alpha must be 0 or more"),
        (lambda: Skips(emphasis=0.0), "negatives.emphasis must be above 0"),
        (lambda: Hard(per_row=9, pool=8), "negatives.pool must be at least 9, got 8"),
        (lambda: CrossBatch(num_batches=0), "negatives.num_batches must be at least 1"),
        (lambda: Mixed(sources={"a": None}), "negatives=mixed has no source"),
        (lambda: Mixed(sources={"a": CrossBatch(), "b": CrossBatch()}), "takes one cross_batch"),
        (lambda: Mixed(sources={"a": Skips(), "b": Skips()}), "takes skips only once"),
        (lambda: Mixed(sources={"a": Mixed(sources={"b": Uniform()})}), "takes no mixed"),
    ],
)
def test_settings_out_of_range_are_refused(make: type[Negatives], words: str):
    with pytest.raises(ValueError, match=words):
        make()


def test_logs_without_what_a_source_draws_from_are_refused():
    with pytest.raises(ValueError, match="no training row is without a positive label: choose negatives=uniform"):
        Skips().attach(LogFacts(KNOWN, skips=NOBODY))
    with pytest.raises(ValueError, match="the training rows hold no positives to count"):
        Popularity().attach(LogFacts(NOBODY))


def test_candidates_of_several_processes_hold_the_shared_items_of_each():
    facts = LogFacts(UserItems.from_pairs(torch.tensor([0, 1]), torch.tensor([1, 3]), num_users=2, num_items=4))
    for source, per_process in (
        (Uniform(shared=8), 2.0),
        (Hard(pool=2, per_row=1), None),
        (Popularity(shared=6), None),
    ):
        source.attach(facts)
        one, three = source.expected(4), source.expected(4, processes=3)
        assert one is not None and three is not None
        # A pool of hard ones is drawn for the rows of a process, not for those of all.
        torch.testing.assert_close(three, one if isinstance(source, Hard) else 3 * one)
        assert per_process is None or one.tolist() == [per_process] * 4
