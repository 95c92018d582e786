"""Adagrad whose tables keep one number per row: next to no optimiser state for tables of millions of rows.

Shape letters: N rows of a table, W its width.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from towerrec.optim import Adagrad, is_table


class RowwiseAdagrad(Adagrad):
    """Adagrad; a row of a table shrinks its steps by what the row has received as a whole (Mudigere et al., ISCA 2022,
    arXiv 2104.05158, section 4.1).

    With W numbers in a row, the state of a table is 1/W of its weights, where Adam's is twice the weights. Everything
    that is no table is trained as under `Adagrad`, whose arguments it takes.
    """

    def build(self, named: Iterable[tuple[str, nn.Parameter]]) -> Optimizer:
        """The optimiser over named parameters."""
        every = list(named)
        self._tables = {id(parameter) for name, parameter in every if is_table(name, parameter)}
        return super().build(every)

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        for group in groups:
            group["by_row"] = all(id(parameter) in self._tables for parameter in group["params"])
        return _RowwiseAdagrad(groups, lr=self.lr, start=self.initial_accumulator, eps=self.eps)


class _RowwiseAdagrad(Optimizer):
    """Groups with `by_row` keep a sum per row [N], the others one per number."""

    def __init__(self, groups: list[dict[str, Any]], *, lr: float, start: float, eps: float) -> None:
        super().__init__(groups, {"lr": lr, "weight_decay": 0.0, "start": start, "eps": eps, "by_row": False})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """One step of every parameter that has a gradient."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is not None:
                    self._step(parameter, parameter.grad, group)
        return loss

    def _step(self, parameter: Tensor, gradient: Tensor, group: dict[str, Any]) -> None:
        state, by_row = self.state[parameter], group["by_row"]
        if not state:
            shape = parameter.shape[:1] if by_row else parameter.shape
            state["sum"] = torch.full(shape, group["start"], dtype=parameter.dtype, device=parameter.device)
        if group["weight_decay"] != 0.0:
            gradient = gradient.add(parameter, alpha=group["weight_decay"])
        if not by_row:
            state["sum"].addcmul_(gradient, gradient)
            parameter.addcdiv_(gradient, state["sum"].sqrt().add_(group["eps"]), value=-group["lr"])
            return
        # Norms, not squares and their mean: nothing as large as the table is made on the way.
        state["sum"].add_(torch.linalg.vector_norm(gradient, dim=1).square_().div_(gradient.shape[1]))
        factor_N1 = state["sum"].sqrt().add_(group["eps"]).reciprocal_()[:, None]
        parameter.addcmul_(gradient, factor_N1, value=-group["lr"])
