"""Rough scores in bfloat16, then float32: the same lists as the search in float32, and a bound that holds."""

import pytest
import torch
from test_search import random_lists, whole_numbers

from towerrec.ragged import UserItems
from towerrec.retrieval.candidates import Candidates
from towerrec.retrieval.rescoring import RoundedVectors
from towerrec.retrieval.search import top_n


def normal(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def unproven(user_BD: torch.Tensor, item_ID: torch.Tensor, *, n: int) -> torch.Tensor:
    plan = Candidates(len(item_ID), None, None, None)
    return RoundedVectors(user_BD, item_ID).top_n(torch.arange(len(user_BD)), plan, n=n, chunk=7)[1]


@pytest.mark.parametrize("high", [3, 1000])  # up to 3 all is exact and ties often; 1000 is far beyond 8 bits
@pytest.mark.parametrize(("n", "num_items"), [(1, 400), (10, 400), (100, 3000), (50, 40)])
def test_rough_scores_and_new_ones_give_the_lists_of_float32(n: int, num_items: int, high: int):
    # Products of whole numbers: float32 holds every score exactly, so the lists must be the same to the last tie.
    user_BD, item_ID = whole_numbers(40, 4, seed=1, high=high), whole_numbers(num_items, 4, seed=2, high=high)
    exclude = random_lists(40, num_items, 30 * 40, seed=3)
    for allowed in (None, torch.arange(num_items) % 3 > 0, random_lists(40, num_items, 40 * 20, seed=4)):
        wanted = top_n(user_BD, item_ID, n=n, exclude=exclude, allowed=allowed)
        got = top_n(user_BD, item_ID, n=n, exclude=exclude, allowed=allowed, precision="bfloat16", chunk=7)
        assert torch.equal(got.items, wanted.items)
        assert torch.equal(got.scores, wanted.scores)


def test_rough_scores_alone_would_list_other_items():
    user_BD, item_ID = normal(50, 32, seed=0), normal(5000, 32, seed=1)
    rough = (user_BD.bfloat16() @ item_ID.bfloat16().T).float().topk(20).indices
    wanted = top_n(user_BD, item_ID, n=20).items
    assert (rough != wanted).any(1).double().mean() > 0.5
    assert torch.equal(top_n(user_BD, item_ID, n=20, precision="bfloat16").items, wanted)


def test_most_lists_of_ordinary_vectors_are_proven():
    assert unproven(normal(200, 64, seed=0), normal(20_000, 64, seed=1), n=100).double().mean() < 0.05


def test_lists_that_cannot_be_proven_are_scored_in_full():
    # 3,000 items within one part in a thousand of each other: bfloat16 sees one item.
    user_BD, item_ID = torch.ones(5, 8), torch.ones(3000, 8)
    item_ID[:, 0] += torch.randperm(3000, generator=torch.Generator().manual_seed(0)) * 2.0**-20
    assert unproven(user_BD, item_ID, n=10).all()
    wanted = top_n(user_BD, item_ID, n=10)
    got = top_n(user_BD, item_ID, n=10, precision="bfloat16")
    assert torch.equal(got.items, wanted.items) and torch.equal(got.scores, wanted.scores)


@pytest.mark.parametrize("scale", [1e-3, 1.0, 300.0])
def test_no_rough_score_is_further_off_than_the_bound_says(scale: float):
    user_BD, item_ID = normal(60, 48, seed=0), normal(900, 48, seed=1) * scale
    item_ID[::50] *= 20  # some items far longer than the others
    rounded = RoundedVectors(user_BD, item_ID)
    rough_BI = (rounded.rounded_user_BD @ rounded.rounded_item_CD.T).float()
    exact_BI = user_BD.double() @ item_ID.double().T
    off_BI = (rough_BI - exact_BI).abs()
    assert (off_BI <= rounded.slack_B[:, None] + rough_BI.abs() * 2.0**-8).all()
    assert off_BI.max() > 0.01 * rounded.slack_B.max()  # the bound is no fiction either


def test_scores_that_are_not_numbers_are_refused_in_any_precision():
    user_BD = torch.ones(3, 1)
    user_BD[1] = torch.nan
    with pytest.raises(ValueError, match="not numbers"):
        top_n(user_BD, torch.ones(400, 1), n=2, precision="bfloat16")


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="precision=int8 is not known: choose float32 or bfloat16"):
        top_n(torch.ones(1, 1), torch.ones(1, 1), n=1, precision="int8")


def test_no_users_and_no_candidates_give_empty_lists():
    assert top_n(torch.ones(0, 2), torch.ones(3, 2), n=2, precision="bfloat16").items.shape == (0, 2)
    nobody = top_n(torch.ones(2, 1), torch.ones(3, 1), n=2, allowed=torch.zeros(3, dtype=bool), precision="bfloat16")
    assert nobody.items.tolist() == [[-1, -1], [-1, -1]]
    seen = UserItems.from_pairs(torch.zeros(3).long(), torch.arange(3), num_users=2, num_items=3)
    assert top_n(torch.ones(2, 1), torch.ones(3, 1), n=2, exclude=seen, precision="bfloat16").items.tolist() == [
        [-1, -1],
        [0, 1],
    ]
