"""Lists for users, lists of similar items and scores of pairs, from requests that were looked up.

Shape letters: B users or items of a chunk, I items, V width of the vectors, D without biases, P pairs, p some of them.
"""

from __future__ import annotations

import math

import polars as pl
import torch
import torch.nn.functional as F
from torch import Tensor

from towerrec import progress
from towerrec.asking import Request
from towerrec.config_prior import PriorConfig
from towerrec.dated_items import DatedItems
from towerrec.nn.ensemble import without_biases
from towerrec.nn.peers import Peers
from towerrec.ragged import UserItems
from towerrec.recommending import Lists
from towerrec.retrieval.index import ItemIndex
from towerrec.retrieval.prior import with_column
from towerrec.retrieval.recommend import lists_schema, recommend
from towerrec.schema import ITEM_ID, USER_ID
from towerrec.scoring import TowerScores

SIMILAR_ITEM_ID = "similar_item_id"
# Pairs scored at once.
_PAIRS = 1 << 16


def user_lists(
    items: DatedItems,
    asked: Request,
    dial: PriorConfig,
    *,
    n: int,
    batch_users: int,
    memory_mb: float | None,
    precision: str,
    peers: Peers,
) -> Lists:
    """The lists of a request, a chunk of users at a time, in the order of the users' ids."""
    catalogue, scores = asked.catalogue, _of_request(items, asked)
    rows = _in_order(asked.user_idx_B, catalogue.user_ids, peers)

    def encode(user_idx_B: Tensor) -> Tensor:
        at_ms_B = None if asked.at_ms_U is None else asked.at_ms_U[user_idx_B.cpu()]
        return _dialled(scores.users(user_idx_B, at_ms_B), dial)

    rules = asked.allowed
    tables = recommend(
        encode,
        items.search(asked.at_ms_U, rules.candidates, dial),
        rows.to(scores.device),
        user_ids=catalogue.user_ids,
        item_ids=catalogue.item_ids,
        n=n,
        exclude=None if rules.never is None else rules.never.to(scores.device),
        allowed=None if rules.only is None else rules.only.to(scores.device),
        batch_users=batch_users,
        memory_mb=memory_mb,
        precision=precision,
    )
    shown = progress.each(tables, "recommending", math.ceil(len(rows) / batch_users))
    return Lists(shown, lists_schema(catalogue.user_ids.dtype, catalogue.item_ids.dtype), num_lists=len(rows), n=n)


def item_lists(
    items: DatedItems,
    item_idx: Tensor,
    candidates_I: Tensor,
    *,
    at_ms: int | None,
    n: int,
    batch_items: int,
    memory_mb: float | None,
    precision: str,
    peers: Peers,
) -> Lists:
    """Items by the cosine of what the item tower says of them, biases left out, in the order of the items' ids.

    Args:
        items: All items.
        item_idx: Those whose lists are asked for, int64, each once.
        candidates_I: Items that may be listed, bool.
        at_ms: When.
        n: Length of the lists.
        batch_items: Lists made at once.
        memory_mb: Bound on the scores held at once, as in `search.top_n`.
        precision: Of the first scores, as in `search.top_n`.
        peers: The processes that share the lists.
    """
    item_ids, device = items.catalogue.item_ids, items.scores.device
    directions_ID = F.normalize(without_biases(items.scores.model, items.undialled(at_ms)), dim=1)
    rows = _in_order(item_idx, item_ids, peers)
    every = torch.arange(len(item_ids) + 1, device=device)
    tables = recommend(
        lambda item_idx_B: directions_ID[item_idx_B],
        ItemIndex.of(directions_ID, candidates_I),
        rows.to(device),
        user_ids=item_ids,
        item_ids=item_ids,
        n=n,
        exclude=UserItems(every, every[:-1], len(item_ids)),  # nothing is similar to itself
        batch_users=batch_items,
        memory_mb=memory_mb,
        precision=precision,
    )
    names = {USER_ID: ITEM_ID, ITEM_ID: SIMILAR_ITEM_ID}
    columns = lists_schema(item_ids.dtype, item_ids.dtype).items()
    schema = pl.Schema({names.get(name, name): dtype for name, dtype in columns})
    shown = progress.each(tables, "looking for similar items", math.ceil(len(rows) / batch_items))
    return Lists((table.rename(names) for table in shown), schema, num_lists=len(rows), n=n, of="items")


def pair_scores(
    items: DatedItems, asked: Request, dial: PriorConfig, *, user_idx_P: Tensor, item_idx_P: Tensor, at_ms_P: Tensor
) -> Tensor:
    """Scores of pairs as they stand in lists, float32 [P].

    Args:
        items: All items.
        asked: The users, to whose rows `user_idx_P` points.
        dial: The prior.
        user_idx_P: Users, int64.
        item_idx_P: Items, int64.
        at_ms_P: When each user asks, `NO_TIMESTAMP` where nobody says.
    """
    scores = _of_request(items, asked)
    day_P, at_of = items.days(at_ms_P) if items.by_day(dial) else (torch.zeros_like(at_ms_P), {0: None})
    score_P = torch.zeros(len(user_idx_P))
    for day, at_ms in at_of.items():
        vectors_IV = items.vectors(at_ms, dial)
        for at_p in (day_P == day).nonzero()[:, 0].split(_PAIRS):
            users_pV = _dialled(scores.users(user_idx_P[at_p], at_ms_P[at_p]), dial)
            score_P[at_p] = (users_pV * vectors_IV[item_idx_P[at_p].to(scores.device)]).sum(1).cpu()
    return score_P


def _of_request(items: DatedItems, asked: Request) -> TowerScores:
    """The model over those who ask."""
    own = asked.catalogue is items.catalogue
    return items.scores if own else items.scores.for_users(asked.catalogue)


def _dialled(user_BV: Tensor, dial: PriorConfig) -> Tensor:
    """What meets the column of the prior."""
    return user_BV if dial.weight == 0 else with_column(user_BV, 1.0)


def _in_order(rows: Tensor, ids: pl.Series, peers: Peers) -> Tensor:
    """Rows of a table by their ids; of several processes each gets its part."""
    by_id = torch.from_numpy(ids.gather(rows.numpy()).arg_sort().to_numpy().copy()).long()
    return rows[by_id[peers.share(len(rows))]]
