"""Splits by who or what: two matrices, users never seen in training, items never seen in training."""

from __future__ import annotations

from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data import stable_hash
from towerrec.data.columns import require_columns
from towerrec.data.splits import (
    DROPPED,
    TEST,
    TRAIN,
    VAL,
    Codes,
    by_fraction,
    check_candidates,
    check_fractions,
    finished,
)
from towerrec.data.splits_time import times_of
from towerrec.schema import ITEM_ID, MATRIX, TIMESTAMP_MS, USER_ID

MS_PER_DAY = 86_400_000


class TwoMatrices:
    """Train on the log as it happened, judge on the fully observed matrix.

    Args:
        train_matrix: Value of `matrix` to train on (`big`; KuaiRand: `standard`).
        test_matrix: Value of `matrix` to judge on (`small`; KuaiRand: `random`).
        val: `users` sets aside a fraction of the test matrix's users by a salted hash; `time` takes the last days of
            the training matrix (rows without a time are left out).
        val_fraction: Fraction of the users, for `users`.
        val_days: Last days, for `time`.
        seed: Salt of the hash.
        candidates: `observed`: an unobserved cell is never a negative.
    """

    name = "two_matrices"

    def __init__(
        self,
        *,
        train_matrix: str = "big",
        test_matrix: str = "small",
        val: str = "users",
        val_fraction: float = 0.2,
        val_days: int = 7,
        seed: int = 0,
        candidates: str = "observed",
    ) -> None:
        if val not in ("users", "time"):
            raise ValueError(f"split.val must be users or time, got {val!r}")
        if not 0 <= val_fraction < 1:
            raise ValueError(f"split.val_fraction must be at least 0 and below 1, got {val_fraction}")
        if val_days < 1:
            raise ValueError(f"split.val_days must be at least 1, got {val_days}")
        if train_matrix == test_matrix:
            raise ValueError(f"split.train_matrix and split.test_matrix are both {train_matrix!r}: name two matrices")
        self.train_matrix, self.test_matrix, self.val = train_matrix, test_matrix, val
        self.val_fraction, self.val_days, self.seed = val_fraction, val_days, seed
        self.columns = (MATRIX, USER_ID) if val == "users" else (MATRIX, TIMESTAMP_MS)
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        how = {"val_fraction": self.val_fraction, "seed": self.seed} if self.val == "users" else {"days": self.val_days}
        return {"split": self.name, "train": self.train_matrix, "test": self.test_matrix, "val": self.val, **how}

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        require_columns(self.columns, frame.columns, "split=two_matrices: the log (use data=kuairec or data=kuairand)")
        matrix = frame[MATRIX].cast(pl.String)
        train, test = ((matrix == word).to_numpy() for word in (self.train_matrix, self.test_matrix))
        codes = np.select([train, test], [TRAIN, TEST], DROPPED).astype(np.uint8)
        if self.val == "users":
            coin = stable_hash.uniform(stable_hash.ids(frame[USER_ID]), seed=self.seed)
            codes[test & (coin < self.val_fraction)] = VAL
            return finished(codes, self.name)
        known, time_ms = times_of(frame, self.name)
        codes[train & ~known] = DROPPED
        if (train & known).any():
            first_ms = int(time_ms[train & known].max()) - self.val_days * MS_PER_DAY
            codes[train & known & (time_ms > first_ms)] = VAL
        return finished(codes, self.name)


class _ColdIds:
    """Whole users or whole items go to one split.

    Args:
        val: Fraction of the ids for validation.
        test: Fraction of the ids for test.
        seed: Equal seeds give equal splits.
        modulo: Instead of fractions: ids whose remainder by this number is `test_remainder` are tested, and so on.
        test_remainder: Remainder of test ids.
        val_remainder: Remainder of validation ids; null: no validation.
        candidates: `catalogue` or `observed`.
    """

    name: str
    columns: tuple[str, ...]

    def __init__(
        self,
        *,
        val: float = 0.1,
        test: float = 0.2,
        seed: int = 0,
        modulo: int | None = None,
        test_remainder: int = 0,
        val_remainder: int | None = 1,
        candidates: str = "catalogue",
    ) -> None:
        check_fractions(val, test)
        if modulo is not None and not (0 <= test_remainder < modulo and 0 <= (val_remainder or 0) < modulo):
            raise ValueError(f"split.modulo={modulo}: the remainders lie between 0 and {modulo - 1}")
        if modulo is not None and test_remainder == val_remainder:
            raise ValueError(f"split.test_remainder and split.val_remainder are both {test_remainder}: take two")
        self.val, self.test, self.seed, self.modulo = val, test, seed, modulo
        self.test_remainder, self.val_remainder = test_remainder, val_remainder
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        if self.modulo is None:
            return {"split": self.name, "val": self.val, "test": self.test, "seed": self.seed}
        return {
            "split": self.name,
            "modulo": self.modulo,
            "test_remainder": self.test_remainder,
            "val_remainder": self.val_remainder,
        }

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        require_columns(self.columns, frame.columns, f"split={self.name}: the log")
        column = frame[self.columns[0]]
        if self.modulo is not None:
            return finished(self._by_remainder(column, self.modulo), self.name)
        coin = stable_hash.uniform(stable_hash.ids(column), seed=self.seed)
        return finished(by_fraction(coin, val=self.val, test=self.test), self.name)

    def _by_remainder(self, column: pl.Series, modulo: int) -> Codes:
        if not column.dtype.is_integer():
            raise ValueError(
                f"split.modulo needs integer ids, but {column.name} holds {column.dtype}: leave split.modulo=null and "
                "use the fractions split.val and split.test"
            )
        remainder: NDArray[np.int64] = column.to_numpy() % modulo
        is_val = np.zeros_like(remainder, dtype=bool) if self.val_remainder is None else remainder == self.val_remainder
        return np.select([remainder == self.test_remainder, is_val], [TEST, VAL], TRAIN).astype(np.uint8)


class ColdUsers(_ColdIds):
    """Users that training has never seen; arguments as in `_ColdIds`."""

    name = "cold_users"
    columns = (USER_ID,)


class ColdItems(_ColdIds):
    """Items that training has never seen; arguments as in `_ColdIds`."""

    name = "cold_items"
    columns = (ITEM_ID,)
