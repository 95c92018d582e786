"""The rows that the benchmark wrote for every reference alike, and the quality of what it learned. NumPy only.

Shape letters: R rows, U users, I items, F categorical features, T tags, V vector width.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.generic]


@dataclass
class Data:
    """A prepared log as plain arrays.

    Attributes:
        user: Of every training row, int64 [R]; `item` and `label` (float32) alike, and `test_*` of the test rows.
        users: Categories of every user, int64 [U, F]; the first column is the id.
        items: The same of every item, [I, F].
        user_sizes: Number of categories of every column, [F].
        item_sizes: The same.
        tags: Flags of every item, float32 [I, T] (T may be 0).
    """

    user: Array
    item: Array
    label: Array
    test_user: Array
    test_item: Array
    test_label: Array
    users: Array
    items: Array
    user_sizes: Array
    item_sizes: Array
    tags: Array

    @property
    def positives(self) -> Array:
        """Numbers of the training rows with a label above 0."""
        return np.flatnonzero(self.label > 0)

    def save(self, path: Path) -> None:
        np.savez(path, **{field.name: getattr(self, field.name) for field in fields(self)})

    @classmethod
    def load(cls, path: Path) -> Data:
        with np.load(path) as held:
            return cls(**{field.name: held[field.name] for field in fields(cls)})


def arguments(doc: str | None) -> argparse.ArgumentParser:
    """What every reference is told."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="the file that training_vs_peers.py wrote")
    parser.add_argument("--batch", type=int, required=True)
    parser.add_argument("--rounds", type=int, required=True, help="timed ones; one more comes before them")
    parser.add_argument("--part", type=float, default=1.0, help="of an epoch in a round")
    parser.add_argument("--lr", type=float, default=1e-3)
    return parser


def judge(data: Data, users_UV: Array, items_IV: Array, *, label: str) -> dict[str, float]:
    """Quality on the test rows, by the dot product of the vectors.

    Args:
        data: The log.
        users_UV: Vectors of all users.
        items_IV: Vectors of all items.
        label: What the score is: `ratio` (its RMSE), `logit` (binary cross-entropy and NDCG@20) or `rank` (NDCG@20).
    """
    score_R = np.concatenate(
        [
            np.einsum("rv,rv->r", users_UV[u], items_IV[i])
            for u, i in zip(np.array_split(data.test_user, 32), np.array_split(data.test_item, 32), strict=True)
        ]
    ).astype(np.float64)
    label_R = data.test_label.astype(np.float64)
    if label == "ratio":
        return {"rmse": round(float(np.sqrt(np.mean((score_R - label_R) ** 2))), 4)}
    found = {"ndcg@20": round(ndcg_at_20(data.test_user, label_R > 0, score_R), 4)}
    if label == "logit":
        found["bce"] = round(float(np.mean(np.logaddexp(0.0, score_R) - label_R * score_R)), 5)
    return found


def ndcg_at_20(user_R: Array, relevant_R: Array, score_R: Array) -> float:
    """Mean over users with a relevant test row, each ranking the own test rows."""
    order = np.lexsort((-score_R, user_R))
    user_R, relevant_R = user_R[order], relevant_R[order]
    starts = np.flatnonzero(np.r_[True, user_R[1:] != user_R[:-1]])
    place_R = np.arange(len(user_R)) - np.repeat(starts, np.diff(np.r_[starts, len(user_R)]))
    gain_R = np.where(relevant_R & (place_R < 20), 1 / np.log2(place_R + 2.0), 0.0)
    relevant_U = np.add.reduceat(relevant_R.astype(np.int64), starts)
    best = np.cumsum(1 / np.log2(np.arange(20) + 2.0))
    judged = relevant_U > 0
    ideal_U = best[np.minimum(relevant_U[judged], 20) - 1]
    return float(np.mean(np.add.reduceat(gain_R, starts)[judged] / ideal_U))
