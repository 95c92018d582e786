"""The least time that a training row can take on this machine: operations and bytes that no code can spare.

Per step of B rows: the towers of the distinct users and items forward and backward (6 operations a weight and row), the
vectors of the rows gathered and their gradients added up, the logits of a softmax forward and backward, and Adam over
every parameter (4 numbers read, 3 written). Both rates, of matrix products and of memory, are measured in the same run.
What a step really takes beyond that: exponentials and logarithms, the graph, Python, the trainer.

Shape letters: N, M, K sizes of a matrix product.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import torch


@dataclass(frozen=True)
class Machine:
    """Rates of the machine, all threads together."""

    operations_per_s: float
    bytes_per_s: float


@dataclass(frozen=True)
class Tower:
    """What a tower costs.

    Attributes:
        weights: Of its layers: each is multiplied once per row, forward, and twice backward.
        gathered: Numbers that a row looks up in tables.
        parameters: All numbers that the optimiser moves, tables included.
    """

    weights: int
    gathered: int
    parameters: int


def machine() -> Machine:
    """Measure a product of tower-like shape, and a copy that no cache holds."""
    a_NK, b_KM = torch.randn(4096, 256), torch.randn(256, 128)
    source = torch.randn(2**25)
    target = torch.empty_like(source)
    return Machine(
        operations_per_s=2 * a_NK.shape[0] * b_KM.numel() / _best(lambda: a_NK @ b_KM),
        bytes_per_s=2 * 4 * source.numel() / _best(lambda: target.copy_(source)),
    )


def two_tower(
    sizes: list[int], *, id_width: int = 64, feature_width: int = 8, hidden: int = 128, out: int = 64
) -> Tower:
    """Id and features concatenated, one hidden layer, one output."""
    gathered = id_width + feature_width * (len(sizes) - 1)
    weights = gathered * hidden + hidden * out
    return Tower(weights, gathered, weights + sizes[0] * id_width + sum(sizes[1:]) * feature_width)


def dense(width: int, layers: tuple[int, ...] = (256, 128)) -> Tower:
    """Numbers through dense layers."""
    weights = sum(a * b for a, b in zip((width, *layers), layers, strict=False))
    return Tower(weights, 0, weights)


def ids(num: int, width: int = 64) -> Tower:
    """A table."""
    return Tower(0, width, num * width)


def floor(
    user: np.ndarray,
    item: np.ndarray,
    *,
    batch: int,
    towers: tuple[Tower, Tower],
    width: int,
    softmax: bool,
    vectors_a_row: int,
    on: Machine,
) -> dict[str, Any]:
    """Rows a second that the machine could reach, and which part of a step would take how long.

    Args:
        user: Users of the rows of an epoch.
        item: Items of them.
        batch: Rows of a step.
        towers: Of users and of items.
        width: Of the vectors.
        softmax: Whether every distinct user meets every distinct item of the batch.
        vectors_a_row: How many vectors meet in a row: two, or three with a negative.
        on: Rates.
    """
    distinct = [np.mean([len(np.unique(b)) for b in _some_batches(side, batch)]) for side in (user, item)]
    operations = sum(6 * tower.weights * rows for tower, rows in zip(towers, distinct, strict=True))
    logits = 6 * width * distinct[0] * distinct[1] if softmax else 0.0
    # A vector is read forward; backward its gradient is written, and read and added to that of its distinct row.
    rows_bytes = 4 * width * batch * vectors_a_row * 4
    tables_bytes = sum(4 * 4 * tower.gathered * rows for tower, rows in zip(towers, distinct, strict=True))
    adam_bytes = 7 * 4 * sum(tower.parameters for tower in towers)
    seconds = {
        "towers": operations / on.operations_per_s,
        "logits": logits / on.operations_per_s,
        "rows": rows_bytes / on.bytes_per_s,
        "tables": tables_bytes / on.bytes_per_s,
        "adam": adam_bytes / on.bytes_per_s,
    }
    return {
        "rows_per_s": round(batch / sum(seconds.values())),
        "microseconds_a_step": {name: round(1e6 * s) for name, s in seconds.items()},
        "distinct_users": round(distinct[0]),
        "distinct_items": round(distinct[1]),
        "machine": {name: float(f"{rate:.3g}") for name, rate in asdict(on).items()},
    }


def _some_batches(column: np.ndarray, batch: int, number: int = 5) -> list[np.ndarray]:
    order = np.random.default_rng(0).permutation(len(column))
    return [column[order[i * batch : (i + 1) * batch]] for i in range(max(1, min(number, len(column) // batch)))]


def _best(work: Callable[[], object], times: int = 12) -> float:
    """The shortest of some times, s."""
    seconds = []
    for _ in range(times):
        started = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - started)
    return min(seconds)
