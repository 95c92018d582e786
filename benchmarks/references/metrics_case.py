"""The scores, seen and relevant items that every program judges, and what it must find; NumPy only.

Shape letters: U users, I items, n length of the lists.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

KS = (10, 20, 50, 100)

Figures = dict[str, float]


@dataclass(frozen=True)
class Case:
    """Every user has a relevant item; relevant items are never seen ones. Scores float32, the others bool, [U, I]."""

    score_UI: npt.NDArray[np.float32]
    seen_UI: npt.NDArray[np.bool_]
    relevant_UI: npt.NDArray[np.bool_]

    @classmethod
    def random(cls, *, users: int, items: int, seed: int = 0) -> Case:
        """A tenth seen, a twentieth of the rest relevant; what is relevant scores somewhat higher."""
        generator = np.random.default_rng(seed)
        seen_UI = generator.random((users, items)) < 0.1
        relevant_UI = (generator.random((users, items)) < 0.05) & ~seen_UI
        relevant_UI[np.arange(users), np.argmin(seen_UI, axis=1)] = True
        score_UI = generator.standard_normal((users, items), dtype=np.float32) + relevant_UI.astype(np.float32)
        return cls(score_UI, seen_UI, relevant_UI)

    def save(self, path: Path) -> None:
        np.savez(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path) -> Case:
        with np.load(path) as file:
            return cls(file["score_UI"], file["seen_UI"], file["relevant_UI"])

    def top(self) -> npt.NDArray[np.int64]:
        """The lists by NumPy, for programs that do not rank: unseen items by score, [U, n]."""
        score_UI = np.where(self.seen_UI, np.float32(-np.inf), self.score_UI)
        n = max(KS)
        best = np.argpartition(score_UI, -n, axis=1)[:, -n:]
        order = np.argsort(-np.take_along_axis(score_UI, best, axis=1), axis=1)
        return np.take_along_axis(best, order, axis=1)


def take_turns(judge: Callable[[], Figures], asked: argparse.Namespace, num_users: int, **facts: str) -> None:
    """Judge as often as asked for: one turn is from the score matrix to the averages."""
    import turns  # here, for it takes standard output from whoever imports it

    judge()
    turns.ready(**facts)
    figures: Figures = {}
    for _ in range(asked.rounds):
        since = turns.wait()
        figures = judge()
        turns.report(since, rows=num_users)
    turns.finish(**figures)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("--case", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    parser.add_argument("--resamples", type=int, default=0, help="bootstrap intervals too, where the program has them")
    return parser.parse_args()
