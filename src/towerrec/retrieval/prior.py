"""Freshness as a prior of retrieval: what is popular now, or young, moves up by as much as a dial says.

The score of an item becomes `score + weight * spread * prior(item)`, where `prior` has mean 0 and deviation 1 over the
candidates and `spread` is the deviation of a user's scores over them, in the mean over users. So a weight of 1 lets
the prior say as much as the model does, whatever the unit of its scores. It is one more column of the item vectors,
met by a column of ones in those of the users: retrieval stays one dot product.

Shape letters: B users, I items, V width of the vectors.
"""

from __future__ import annotations

import torch
from torch import Tensor


def popularity_prior(recent_I: Tensor, candidates_I: Tensor) -> Tensor:
    """log(1 + recent / mean recent), standardised over the candidates, float32 [I].

    Relative to the mean, so that an old log, of which little is left after many half-lives, gives the same prior.

    Args:
        recent_I: Training positives, decayed.
        candidates_I: Items that may be listed, bool.
    """
    mean = recent_I[candidates_I].mean().clamp(min=torch.finfo(recent_I.dtype).tiny)
    return _standardised(torch.log1p(recent_I / mean), candidates_I)


def youth_prior(age_days_I: Tensor, candidates_I: Tensor) -> Tensor:
    """-log(1 + age in days), standardised over the candidates whose age is known (not -1); 0 for the others, [I]."""
    known_I = age_days_I >= 0
    youth_I = -torch.log1p(age_days_I.clamp(min=0).double())
    return _standardised(youth_I, candidates_I & known_I).masked_fill(~known_I, 0.0)


def score_spread(user_BV: Tensor, item_IV: Tensor, candidates_I: Tensor) -> float:
    """Root of the mean over users of the variance of their scores over the candidates.

    The variance of `u . v` over items is `u' C u` with C the covariance of the item vectors, so no score is computed.
    """
    items = item_IV[candidates_I].double()
    items = items - items.mean(0)
    covariance_VV = items.T @ items / len(items)
    moment_VV = user_BV.double().T @ user_BV.double() / len(user_BV)
    return float((covariance_VV * moment_VV).sum().clamp(min=0).sqrt())


def with_column(vectors: Tensor, column: Tensor | float) -> Tensor:
    """Vectors with one more column: the dialled prior for items, ones for users."""
    last = torch.as_tensor(column, dtype=vectors.dtype, device=vectors.device).expand(len(vectors))
    return torch.cat([vectors, last[:, None]], dim=1)


def _standardised(value_I: Tensor, among_I: Tensor) -> Tensor:
    among = value_I[among_I]
    if among.numel() == 0:
        return torch.zeros(value_I.shape)
    deviation = among.std(correction=0)
    # Where all are alike the prior has nothing to say.
    scale = deviation if float(deviation) > 1e-12 else torch.ones_like(deviation)
    return ((value_I - among.mean()) / scale).float()
