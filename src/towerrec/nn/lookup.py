"""Embeddings read by values that never change: the features of all users or all items.

Which places read a row of an embedding table is then known once and for all, and the gradient of the row is the sum
over them: one pass in a fixed order, where adding up row by row what is scattered takes five times as long on a CPU
(and needs atomic additions, in any order, on a GPU).

Shape letters: K places that read a row, V rows of an embedding table, W width, N lists, P values of all lists, R lists
that are picked, L values of the longest list.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch import device as Device
from torch.autograd.function import once_differentiable

from towerrec.schema import PAD


@dataclass
class Readers:
    """Who reads each row of an embedding table: `reader_K[first_V[v] : first_V[v + 1]]`, ascending."""

    reader_K: Tensor
    first_V: Tensor

    @classmethod
    def of(cls, index_K: Tensor, num_rows: int, *, reader_K: Tensor | None = None) -> Readers:
        """Of a table with `num_rows`, of which place k reads row `index_K[k]` for `reader_K[k]` (None: for k)."""
        order_K = torch.argsort(index_K, stable=True)
        # Not bincount: on an accelerator the host waits for its length.
        count_V = index_K.new_zeros(num_rows).index_add_(0, index_K, torch.ones_like(index_K))
        return cls(order_K if reader_K is None else reader_K[order_K], torch.cumsum(count_V, 0) - count_V)

    def summed(self, grad: Tensor) -> Tensor:
        """Gradient [V, W] of the table, from that of its readers."""
        return F.embedding_bag(self.reader_K, grad.contiguous(), self.first_V, mode="sum")


def add_rows_(table_VW: Tensor, index_K: Tensor, rows_KW: Tensor) -> Tensor:
    """Add rows to those of a table, on one thread.

    With several, torch sorts the index with all of them, and at the sizes of a batch their waiting for one another
    takes several times as long as the work: 1.0 ms instead of 0.1 ms for 8,192 rows of width 8 on two busy cores.
    """
    threads = torch.get_num_threads()
    if threads == 1 or table_VW.device.type != "cpu":
        return table_VW.index_add_(0, index_K, rows_KW)
    torch.set_num_threads(1)
    try:
        return table_VW.index_add_(0, index_K, rows_KW)
    finally:
        torch.set_num_threads(threads)


class _Read(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_VW: Tensor, index_K: Tensor, readers: Readers | None) -> Tensor:
        ctx.readers, ctx.num_rows = readers, table_VW.shape[0]
        ctx.save_for_backward(*(() if readers is not None else (index_K,)))
        return table_VW.index_select(0, index_K)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_KW: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.readers is not None:
            return ctx.readers.summed(grad_KW), None, None
        (index_K,) = ctx.saved_tensors
        return add_rows_(grad_KW.new_zeros(ctx.num_rows, grad_KW.shape[1]), index_K, grad_KW), None, None


def read(table_VW: Tensor, index_K: Tensor, readers: Readers | None = None) -> Tensor:
    """Rows `index_K` of a table [K, W]; `readers` are those of `index_K`, where they are known."""
    rows_KW: Tensor = _Read.apply(table_VW, index_K, readers)
    return rows_KW


@dataclass
class Lists:
    """Values of a list feature without their padding: `value_P[first_N[n] : first_N[n + 1]]`, int64.

    `kept_N1` is 0 where a list is hidden, and `width` bounds the length.
    """

    value_P: Tensor
    first_N: Tensor
    count_N: Tensor
    width: int
    kept_N1: Tensor | None = None
    _readers: Readers | None = field(default=None, repr=False, compare=False)

    @classmethod
    def of(cls, list_NL: Tensor) -> Lists:
        """Of lists padded with `PAD`, wherever it stands."""
        filled_NL = list_NL != PAD
        count_N = filled_NL.sum(1)
        return cls(list_NL[filled_NL].long(), torch.cumsum(count_N, 0) - count_N, count_N, list_NL.shape[1])

    @property
    def padded(self) -> Tensor:
        """The lists with padding behind them [N, L]; a hidden one is empty."""
        place_L = torch.arange(self.width, device=self.count_N.device)
        filled_NL = place_L < self.count_N[:, None]
        if self.kept_N1 is not None:
            filled_NL &= self.kept_N1.bool()
        if len(self.value_P) == 0:
            return torch.full_like(filled_NL, PAD, dtype=torch.int64)
        place_NL = (self.first_N[:, None] + place_L).clamp(max=len(self.value_P) - 1)
        return self.value_P[place_NL].masked_fill(~filled_NL, PAD)

    def hidden(self, hidden_N1: Tensor) -> Lists:
        """The same lists, some of them empty."""
        return replace(self, kept_N1=(~hidden_N1).float(), _readers=None)

    def gather(self, idx_R: Tensor) -> Lists:
        """Lists `idx_R`."""
        first_R, count_R = self.first_N.index_select(0, idx_R), self.count_N.index_select(0, idx_R)
        if self.value_P.device.type != "cpu":
            # Equally many values a list, most of them padding: the host would wait for their number.
            picked = Lists(self.value_P, first_R, count_R, self.width)
            start_R = torch.arange(len(idx_R), device=idx_R.device) * self.width
            return Lists(picked.padded.reshape(-1), start_R, count_R, self.width)
        start_R = torch.cumsum(count_R, 0) - count_R
        num_values = int(count_R.sum())
        place_P = torch.repeat_interleave(first_R - start_R, count_R, output_size=num_values)
        place_P += torch.arange(num_values)
        return Lists(self.value_P.index_select(0, place_P), start_R, count_R, self.width)

    def readers(self, num_rows: int) -> Readers:
        """Which lists hold each value below `num_rows`; found once."""
        if self._readers is None:
            row_P = torch.repeat_interleave(
                torch.arange(len(self.count_N), device=self.count_N.device), self.count_N, output_size=len(self.value_P)
            )
            self._readers = Readers.of(self.value_P, num_rows, reader_K=row_P)
        return self._readers

    def to(self, device: Device | str) -> Lists:
        assert self.kept_N1 is None, "what is hidden is hidden for a batch"
        return Lists(self.value_P.to(device), self.first_N.to(device), self.count_N.to(device), self.width)


class _Sums(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, table_VW: Tensor, lists: Lists, readers: Readers | None) -> Tensor:
        ctx.lists, ctx.readers, ctx.num_rows = lists, readers, table_VW.shape[0]
        return F.embedding_bag(lists.value_P, table_VW, lists.first_N, mode="sum")

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_NW: Tensor) -> tuple[Tensor | None, ...]:
        if ctx.readers is not None:
            return ctx.readers.summed(grad_NW), None, None
        lists: Lists = ctx.lists
        row_P = torch.repeat_interleave(torch.arange(len(lists.count_N)), lists.count_N, output_size=len(lists.value_P))
        grad_VW = grad_NW.new_zeros(ctx.num_rows, grad_NW.shape[1])
        return add_rows_(grad_VW, lists.value_P, grad_NW.index_select(0, row_P)), None, None


def pooled(table_VW: Tensor, lists: Lists, pooling: str, *, constant: bool = False) -> Tensor:
    """Embeddings of lists [N, W]; padding never contributes, an empty list is zero.

    Args:
        table_VW: Embedding table.
        lists: Of values below V.
        pooling: `mean`, `sum`, or `sqrt` (sum over root of the length).
        constant: Whether the same lists will be pooled again in every step.
    """
    if constant or lists.value_P.device.type == "cpu":
        total_NW = _Sums.apply(table_VW, lists, lists.readers(table_VW.shape[0]) if constant else None)
    else:
        total_NW = F.embedding_bag(lists.value_P, table_VW, lists.first_N, mode="sum", padding_idx=PAD)
    factor_N1 = lists.kept_N1
    if pooling != "sum":
        own_N1 = _share(lists.count_N[:, None], pooling, total_NW)
        factor_N1 = own_N1 if factor_N1 is None else factor_N1 * own_N1
    return total_NW if factor_N1 is None else total_NW * factor_N1


def pooled_padded(table_VW: Tensor, list_NL: Tensor, pooling: str) -> Tensor:
    """The same of lists as they are written, padded with `PAD` [N, L]: shapes hang on no value, so it can be traced."""
    filled_NL = list_NL != PAD
    total_NW = weighted_rows(table_VW, list_NL, filled_NL.to(table_VW.dtype))
    return total_NW if pooling == "sum" else total_NW * _share(filled_NL.sum(1, keepdim=True), pooling, total_NW)


def weighted_rows(table_VW: Tensor, index_NL: Tensor, weight_NL: Tensor) -> Tensor:
    """Sums of rows by weights [N, W], without `embedding_bag`, which is no operator of ONNX."""
    row_NLW = table_VW.index_select(0, index_NL.reshape(-1)).view(*index_NL.shape, -1)
    return (weight_NL[:, None] @ row_NLW)[:, 0]


def _share(count_N1: Tensor, pooling: str, like: Tensor) -> Tensor:
    """What the sum of so many vectors is multiplied by, for their `mean` or `sqrt`."""
    length_N1 = count_N1.clamp(min=1).to(like.dtype)
    return length_N1.reciprocal() if pooling == "mean" else length_N1.rsqrt()
