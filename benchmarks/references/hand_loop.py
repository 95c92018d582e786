"""The training loop that one writes by hand over tensors in memory: a permutation, `index_select`, towers, loss, step.

No Lightning, no loader, no logging. `--towers rows` runs the towers for every row of a batch; `--towers distinct` once
for every distinct user and item, which is what towerrec does and what an expert would do by hand.

Shape letters: B rows, F features, G distinct users or items, V vector width.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
import turns
from rows import Data, arguments, judge
from torch import Tensor, nn
from towers_torch import NotebookTower, Tower, in_batch_softmax

LABEL = {"bce": "logit", "softmax": "rank", "bpr": "rank", "mse": "ratio"}


@dataclass
class Side:
    """The tower of users or of items, and the features of all of them, [N, F]."""

    tower: nn.Module
    features_NF: Tensor
    distinct: bool

    def vectors(self, idx_B: Tensor) -> Tensor:
        """Vectors [B, V] of some rows."""
        if not self.distinct:
            return self.tower(self.features_NF.index_select(0, idx_B))
        # One pass over a table of flags: faster than torch.unique, which sorts.
        present_N = torch.zeros(len(self.features_NF), dtype=torch.bool)
        present_N[idx_B] = True
        idx_G = present_N.nonzero()[:, 0]
        place_N = torch.empty(len(self.features_NF), dtype=torch.int64)
        place_N[idx_G] = torch.arange(len(idx_G))
        return self.tower(self.features_NF.index_select(0, idx_G)).index_select(0, place_N.index_select(0, idx_B))


def sides(data: Data, *, loss: str, distinct: bool) -> tuple[Side, Side]:
    """Both towers: over categories, over ids alone (BPR), or over the notebook's numbers (MSE)."""
    users, items = torch.from_numpy(data.users), torch.from_numpy(data.items)
    if loss == "mse":
        numbers, tags = users[:, 1:].float(), torch.from_numpy(data.tags)
        return (
            Side(NotebookTower(numbers.shape[1]), numbers, distinct),
            Side(NotebookTower(tags.shape[1]), tags, distinct),
        )
    if loss == "bpr":
        ids = [nn.Embedding(len(table), 64) for table in (users, items)]
        for table in ids:
            nn.init.xavier_normal_(table.weight)
        return (
            Side(ids[0], torch.arange(len(users)), distinct=False),
            Side(ids[1], torch.arange(len(items)), distinct=False),
        )
    return (
        Side(Tower(data.user_sizes.tolist(), by_index_select=True), users, distinct),
        Side(Tower(data.item_sizes.tolist(), by_index_select=True), items, distinct),
    )


def loss_of(name: str, data: Data, user: Side, item: Side, bias: Tensor) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """The loss of a batch of users, items and labels [B]."""
    counts = torch.bincount(torch.from_numpy(data.item[data.positives]), minlength=len(data.items))
    log_q = (counts / counts.sum()).clamp(min=1e-12).log()

    def of_batch(user_B: Tensor, item_B: Tensor, label_B: Tensor) -> Tensor:
        user_BV, item_BV = user.vectors(user_B), item.vectors(item_B)
        if name == "softmax":
            return in_batch_softmax(user_BV, item_BV, item_B, log_q)
        if name == "bpr":
            drawn_BV = item.vectors(torch.randint(len(data.items), item_B.shape))
            return -F.logsigmoid((user_BV * (item_BV - drawn_BV)).sum(1)).mean()
        score_B = (user_BV * item_BV).sum(1)
        if name == "mse":
            return F.mse_loss(score_B, label_B)
        return F.binary_cross_entropy_with_logits(score_B + bias, label_B)

    return of_batch


def main() -> None:
    parser = arguments(__doc__)
    parser.add_argument("--loss", choices=list(LABEL), required=True)
    parser.add_argument("--towers", choices=("rows", "distinct"), default="distinct")
    asked = parser.parse_args()
    torch.manual_seed(0)
    data = Data.load(asked.data)
    chosen = data.positives if asked.loss in ("softmax", "bpr") else slice(None)
    rows_R = [torch.from_numpy(column[chosen]) for column in (data.user, data.item, data.label)]
    user, item = sides(data, loss=asked.loss, distinct=asked.towers == "distinct")
    bias = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.Adam([*user.tower.parameters(), *item.tower.parameters(), bias], lr=asked.lr, fused=True)
    loss_of_batch = loss_of(asked.loss, data, user, item, bias)
    num_rows = round(asked.part * len(rows_R[0]))

    def epoch() -> None:
        order = torch.randperm(len(rows_R[0]))[:num_rows]
        for at in order.split(asked.batch):
            optimizer.zero_grad()
            loss_of_batch(*(column.index_select(0, at) for column in rows_R)).backward()
            optimizer.step()

    epoch()
    turns.ready(torch=torch.__version__)
    for _ in range(asked.rounds):
        since = turns.wait()
        epoch()
        turns.report(since, rows=num_rows)
    with torch.inference_mode():
        users_UV, items_IV = user.tower(user.features_NF), item.tower(item.features_NF)
        if asked.loss == "bce":
            users_UV = torch.cat([users_UV, bias.expand(len(users_UV), 1)], dim=1)
            items_IV = torch.cat([items_IV, torch.ones(len(items_IV), 1)], dim=1)
    turns.finish(**judge(data, users_UV.numpy(), items_IV.numpy(), label=LABEL[asked.loss]))


if __name__ == "__main__":
    main()
