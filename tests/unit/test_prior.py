"""The prior of retrieval against its formula, and the dial against lists worked by hand."""

import math

import numpy as np
import pytest
import torch

from towerrec.retrieval.prior import popularity_prior, score_spread, with_column, youth_prior
from towerrec.retrieval.search import top_n

EVERY = torch.tensor([True, True, True, True, False])


def standardised(values: list[float], among: list[int]) -> list[float]:
    known = np.array([values[i] for i in among])
    return [(v - known.mean()) / known.std() for v in values]


def test_the_popularity_prior_is_the_standardised_log_of_popularity_beside_its_mean():
    recent = torch.tensor([0.0, 1.0, 3.0, 12.0, 500.0]).double()
    logs = [math.log(1 + r / 4) for r in recent.tolist()]  # the mean of the four candidates is 4
    got = popularity_prior(recent, EVERY)
    assert got.tolist() == pytest.approx(standardised(logs, [0, 1, 2, 3]), abs=1e-6)
    # An old log, of which little is left: the same prior.
    assert torch.allclose(popularity_prior(recent * 1e-30, EVERY), got)


def test_the_youth_prior_falls_with_age_and_says_nothing_of_items_without_a_date():
    ages = torch.tensor([0, 9, 99, -1, 5])
    values = [-math.log(1 + a) for a in (0, 9, 99, 0, 5)]
    expected = standardised(values, [0, 1, 2])
    assert youth_prior(ages, EVERY).tolist() == pytest.approx([*expected[:3], 0.0, expected[4]], abs=1e-6)


def test_a_prior_without_differences_is_zero():
    assert popularity_prior(torch.full((5,), 3.0).double(), EVERY).tolist() == [0.0] * 5
    assert popularity_prior(torch.zeros(5).double(), EVERY).tolist() == [0.0] * 5
    assert youth_prior(torch.full((5,), -1), EVERY).tolist() == [0.0] * 5


def test_the_spread_is_the_deviation_of_a_users_scores_in_the_mean_over_users():
    generator = torch.Generator().manual_seed(0)
    users, items = torch.randn(30, 4, generator=generator), torch.randn(5, 4, generator=generator) + 3
    scores = (users @ items.T)[:, EVERY].double().numpy()
    assert score_spread(users, items, EVERY) == pytest.approx(math.sqrt(scores.var(axis=1).mean()), rel=1e-5)


def test_one_more_column_adds_the_prior_to_every_score_of_the_one_dot_product():
    users, items = torch.tensor([[1.0, 0.0], [0.0, 1.0]]), torch.tensor([[3.0, 1.0], [2.0, 2.0], [1.0, 3.0]])
    prior = torch.tensor([0.0, 0.0, 2.5])
    wider = with_column(users, 1.0), with_column(items, prior)
    assert (wider[0] @ wider[1].T).tolist() == (users @ items.T + prior).tolist()
    assert top_n(users, items, n=3).items.tolist() == [[0, 1, 2], [2, 1, 0]]
    assert top_n(*wider, n=3).items.tolist() == [[2, 0, 1], [2, 1, 0]]
