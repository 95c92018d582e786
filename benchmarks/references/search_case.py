"""The vectors and seen items that every search reads, and the lists it leaves; NumPy only.

Shape letters: B users, I items, D vector width, n length of the lists, P seen (user, item) pairs.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """One search: the `n` best items for every user, each leaving out what the user has seen.

    `seen_items[seen_offsets[u] : seen_offsets[u + 1]]` are the seen items of user u, ascending.
    """

    user_BD: Floats
    item_ID: Floats
    seen_offsets: Ints
    seen_items: Ints
    n: int

    @classmethod
    def random(cls, *, users: int, items: int, width: int, seen: int, n: int, seed: int = 0) -> Case:
        """Normal vectors, `seen` items drawn for each user."""
        generator = np.random.default_rng(seed)
        user_BD = generator.standard_normal((users, width), dtype=np.float32)
        item_ID = generator.standard_normal((items, width), dtype=np.float32)
        drawn = generator.integers(0, items, (users, seen)) + np.arange(users)[:, None] * items
        key = np.unique(drawn)
        offsets = np.zeros(users + 1, dtype=np.int64)
        np.cumsum(np.bincount(key // items, minlength=users), out=offsets[1:])
        return cls(user_BD, item_ID, offsets, key % items, n)

    def save(self, path: Path) -> None:
        np.savez(path, **self.__dict__)

    @classmethod
    def load(cls, path: Path) -> Case:
        with np.load(path) as file:
            return cls(
                **{name: file[name] for name in ("user_BD", "item_ID", "seen_offsets", "seen_items")}, n=int(file["n"])
            )


def take_turns(search: Callable[[Case], Ints], **facts: str) -> None:
    """Search as often as asked for; the lists of the last turn are written beside the case."""
    import turns  # here, for it takes standard output from whoever imports it

    parser = argparse.ArgumentParser()
    parser.add_argument("--case", type=Path, required=True)
    parser.add_argument("--lists", type=Path, required=True)
    parser.add_argument("--rounds", type=int, required=True)
    asked = parser.parse_args()
    case = Case.load(asked.case)
    few = Case(
        case.user_BD[:64], case.item_ID, case.seen_offsets[:65], case.seen_items[: case.seen_offsets[64]], case.n
    )
    search(few)
    turns.ready(**facts)
    for _ in range(asked.rounds):
        since = turns.wait()
        lists = search(case)
        turns.report(since, rows=len(lists))
    np.save(asked.lists, lists)
    turns.finish()
