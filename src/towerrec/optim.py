"""Optimisers and schedules as settings: what a config says, built once the parameters and the steps are known."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR

# Parameters that hold a row per id or per value; the biases of ids are apart.
_ID_VECTORS = ("id_vectors",)
_TABLES = (".tables.", ".list_tables.", "history.table")
_ID_BIASES = ("id_biases",)


class OptimizerSettings:
    """Base of the optimisers: parameters in groups, each with its own decay.

    Tables (a row per id or value), the biases of ids, and weights are decayed apart, and if wanted the vectors of ids,
    which learn taste from a few rows each, apart from the embeddings of features, which many rows share. Other biases,
    norms, scales and temperatures are never decayed.

    Args:
        lr: Learning rate.
        embedding_lr: Of embedding tables and the biases of ids; None takes `lr`. Their rows are seen seldom, and a
            step of Adam is as long as its learning rate: at 1e-3 a bias needs an epoch or ten to arrive.
        weight_decay: Of the weights of layers.
        embedding_decay: Of embedding tables.
        id_decay: Of the vectors of ids; None takes `embedding_decay`.
        bias_decay: Of the biases of ids.
    """

    def __init__(
        self,
        *,
        lr: float,
        embedding_lr: float | None,
        weight_decay: float,
        embedding_decay: float,
        id_decay: float | None,
        bias_decay: float,
    ) -> None:
        for name, rate in (("lr", lr), ("embedding_lr", embedding_lr)):
            if rate is not None and not rate > 0.0:
                raise ValueError(f"optimizer.{name} must be above 0, got {rate}")
        for name, decay in (
            ("weight_decay", weight_decay),
            ("embedding_decay", embedding_decay),
            ("id_decay", id_decay),
            ("bias_decay", bias_decay),
        ):
            if decay is not None and decay < 0.0:
                raise ValueError(f"optimizer.{name} must not be negative, got {decay}")
        self.lr = lr
        self.embedding_lr = lr if embedding_lr is None else embedding_lr
        self.weight_decay, self.embedding_decay, self.bias_decay = weight_decay, embedding_decay, bias_decay
        self.id_decay = embedding_decay if id_decay is None else id_decay

    def build(self, named: Iterable[tuple[str, nn.Parameter]]) -> Optimizer:
        """The optimiser over named parameters."""
        of_kind = {
            "tables": {"lr": self.embedding_lr, "weight_decay": self.embedding_decay},
            "id_vectors": {"lr": self.embedding_lr, "weight_decay": self.id_decay},
            "id_biases": {"lr": self.embedding_lr, "weight_decay": self.bias_decay},
            "weights": {"lr": self.lr, "weight_decay": self.weight_decay},
            "rest": {"lr": self.lr, "weight_decay": 0.0},
        }
        groups: dict[str, list[nn.Parameter]] = {kind: [] for kind in of_kind}
        for name, parameter in named:
            if parameter.requires_grad:
                groups[_kind(name, parameter)].append(parameter)
        filled = [{"params": p, "name": kind, **of_kind[kind]} for kind, p in groups.items() if p]
        return self._make(filled)

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        raise NotImplementedError(f"{type(self).__name__} must define _make")


class Adam(OptimizerSettings):
    """Adam with decay as an L2 penalty (Kingma and Ba 2015); see `OptimizerSettings` for the decays.

    Args:
        lr: Learning rate.
        embedding_lr: Of embedding tables and the biases of ids; None takes `lr`.
        weight_decay: Of the weights of layers.
        embedding_decay: Of embedding tables.
        id_decay: Of the vectors of ids; None takes `embedding_decay`.
        bias_decay: Of the biases of ids.
        beta1: Decay of the mean of gradients.
        beta2: Decay of the mean of their squares.
        eps: Added to the root of that mean.
        fused: One kernel for all parameters; off where gradient clipping meets 16-bit mixed precision.
    """

    def __init__(
        self,
        *,
        lr: float = 1e-3,
        embedding_lr: float | None = None,
        weight_decay: float = 0.0,
        embedding_decay: float = 0.0,
        id_decay: float | None = None,
        bias_decay: float = 0.0,
        beta1: float = 0.9,
        beta2: float = 0.999,
        eps: float = 1e-8,
        fused: bool = True,
    ) -> None:
        super().__init__(
            lr=lr,
            embedding_lr=embedding_lr,
            weight_decay=weight_decay,
            embedding_decay=embedding_decay,
            id_decay=id_decay,
            bias_decay=bias_decay,
        )
        self.betas, self.eps, self.fused = (beta1, beta2), eps, fused

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        return torch.optim.Adam(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=self.fused)


class AdamW(Adam):
    """Adam with decoupled decay (Loshchilov and Hutter 2019); arguments as of `Adam`."""

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        return torch.optim.AdamW(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=self.fused)


class SGD(OptimizerSettings):
    """Stochastic gradient descent.

    Args:
        lr: Learning rate.
        embedding_lr: Of embedding tables and the biases of ids; None takes `lr`.
        weight_decay: Of the weights of layers.
        embedding_decay: Of embedding tables.
        id_decay: Of the vectors of ids; None takes `embedding_decay`.
        bias_decay: Of the biases of ids.
        momentum: Share of the last step that is taken again.
        nesterov: Look ahead along the momentum.
        fused: One kernel for all parameters.
    """

    def __init__(
        self,
        *,
        lr: float = 0.1,
        embedding_lr: float | None = None,
        weight_decay: float = 0.0,
        embedding_decay: float = 0.0,
        id_decay: float | None = None,
        bias_decay: float = 0.0,
        momentum: float = 0.0,
        nesterov: bool = False,
        fused: bool = True,
    ) -> None:
        super().__init__(
            lr=lr,
            embedding_lr=embedding_lr,
            weight_decay=weight_decay,
            embedding_decay=embedding_decay,
            id_decay=id_decay,
            bias_decay=bias_decay,
        )
        if nesterov and momentum <= 0.0:
            raise ValueError("optimizer.nesterov needs optimizer.momentum above 0")
        self.momentum, self.nesterov, self.fused = momentum, nesterov, fused

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        return torch.optim.SGD(groups, lr=self.lr, momentum=self.momentum, nesterov=self.nesterov, fused=self.fused)


class Adagrad(OptimizerSettings):
    """Adagrad: steps shrink with what a parameter has received, so rare rows keep learning (Duchi et al. 2011).

    Args:
        lr: Learning rate.
        embedding_lr: Of embedding tables and the biases of ids; None takes `lr`.
        weight_decay: Of the weights of layers.
        embedding_decay: Of embedding tables.
        id_decay: Of the vectors of ids; None takes `embedding_decay`.
        bias_decay: Of the biases of ids.
        initial_accumulator: Squared gradient that is assumed at the start.
        eps: Added to the root of the accumulator.
    """

    def __init__(
        self,
        *,
        lr: float = 0.05,
        embedding_lr: float | None = None,
        weight_decay: float = 0.0,
        embedding_decay: float = 0.0,
        id_decay: float | None = None,
        bias_decay: float = 0.0,
        initial_accumulator: float = 0.0,
        eps: float = 1e-10,
    ) -> None:
        super().__init__(
            lr=lr,
            embedding_lr=embedding_lr,
            weight_decay=weight_decay,
            embedding_decay=embedding_decay,
            id_decay=id_decay,
            bias_decay=bias_decay,
        )
        self.initial_accumulator, self.eps = initial_accumulator, eps

    def _make(self, groups: list[dict[str, Any]]) -> Optimizer:
        return torch.optim.Adagrad(
            groups, lr=self.lr, initial_accumulator_value=self.initial_accumulator, eps=self.eps, foreach=True
        )


class Schedule:
    """Base of the schedules: a linear warm-up, then a shape.

    Args:
        warmup_steps: Steps in which the learning rate grows from nearly 0.
        final: Share of the learning rate left at the last step.
    """

    needs_total = True

    def __init__(self, *, warmup_steps: int, final: float) -> None:
        if warmup_steps < 0:
            raise ValueError(f"scheduler.warmup_steps must be at least 0, got {warmup_steps}")
        if not 0.0 <= final <= 1.0:
            raise ValueError(f"scheduler.final must be in [0, 1], got {final}")
        self.warmup_steps, self.final = warmup_steps, final

    @property
    def is_constant(self) -> bool:
        """Whether the learning rate never changes."""
        return not self.needs_total and self.warmup_steps == 0

    def shape(self, done: float) -> float:
        """Factor between 1 and 0 when the share `done` in [0, 1] of the steps after the warm-up is over."""
        raise NotImplementedError(f"{type(self).__name__} must define shape")

    def factor(self, total_steps: float) -> Callable[[int], float]:
        """Factor of the learning rate by step."""

        def of_step(step: int) -> float:
            if step < self.warmup_steps:
                return (step + 1) / (self.warmup_steps + 1)
            if not self.needs_total:
                return 1.0
            done = (step - self.warmup_steps) / max(1.0, total_steps - self.warmup_steps)
            return self.final + (1 - self.final) * self.shape(min(done, 1.0))

        return of_step

    def build(self, optimizer: Optimizer, total_steps: float) -> LambdaLR:
        """The scheduler, to be stepped after every optimiser step.

        Raises:
            ValueError: The shape needs the number of steps and training has no end.
        """
        if self.needs_total and math.isinf(total_steps):
            raise ValueError("this scheduler needs an end of training: set trainer.max_epochs or trainer.max_steps")
        return LambdaLR(optimizer, self.factor(total_steps))


class Constant(Schedule):
    """The learning rate stays.

    Args:
        warmup_steps: Steps in which it grows from nearly 0.
    """

    needs_total = False

    def __init__(self, *, warmup_steps: int = 0) -> None:
        super().__init__(warmup_steps=warmup_steps, final=1.0)

    def shape(self, done: float) -> float:
        return 1.0


class Cosine(Schedule):
    """Half a cosine down to `final` (Loshchilov and Hutter 2017).

    Args:
        warmup_steps: Steps in which the learning rate grows from nearly 0.
        final: Share left at the last step.
    """

    def __init__(self, *, warmup_steps: int = 0, final: float = 0.0) -> None:
        super().__init__(warmup_steps=warmup_steps, final=final)

    def shape(self, done: float) -> float:
        return (1 + math.cos(math.pi * done)) / 2


class Linear(Schedule):
    """A straight line down to `final`.

    Args:
        warmup_steps: Steps in which the learning rate grows from nearly 0.
        final: Share left at the last step.
    """

    def __init__(self, *, warmup_steps: int = 0, final: float = 0.0) -> None:
        super().__init__(warmup_steps=warmup_steps, final=final)

    def shape(self, done: float) -> float:
        return 1 - done


def is_table(name: str, parameter: nn.Parameter) -> bool:
    """Whether a parameter holds a vector per id or per value."""
    return _kind(name, parameter) in ("id_vectors", "tables")


def _kind(name: str, parameter: nn.Parameter) -> str:
    dotted = f".{name}."
    if any(part in dotted for part in _ID_BIASES):
        return "id_biases"
    if any(part in dotted for part in _ID_VECTORS):
        return "id_vectors"
    if any(part in dotted for part in _TABLES):
        return "tables"
    return "weights" if parameter.ndim >= 2 else "rest"
