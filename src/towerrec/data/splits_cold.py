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
from towerrec.data.splits_time import moment_ms, moments_at, times_of
from towerrec.schema import ITEM_ID, MATRIX, TIMESTAMP_MS, USER_ID

MS_PER_DAY = 86_400_000


class TwoMatrices:
    """Train on the log as it happened, judge on the fully observed matrix.

    Args:
        train_matrix: Value of `matrix` to train on (`big`; KuaiRand: `standard`).
        test_matrix: Value of `matrix` to judge on (`small`; KuaiRand: `random`).
        val: `users` sets aside a fraction of the test matrix's users by a salted hash; `time` takes rows of the
            training matrix: those from `train_until` on, or the last days (rows without a time are left out).
        val_fraction: Fraction of the users, for `users`; 0: nothing validates.
        val_days: Last days, for `time` where `train_until` is null.
        train_until: First moment of the training matrix that is not trained on: a day such as `2020-08-30`, or the
            share of its timed rows that lie before; null: all of it is.
        timezone: In which such a day is read (KuaiRec: Asia/Shanghai).
        leave_out_val_users: For `time`: leave the users out of the test that `users` would set aside, so that the test
            is the same whichever of the two validates.
        seed: Salt of the hash.
        candidates: `observed`: an unobserved cell is never a negative; `held_out`: every item of the test matrix that
            the user has not seen; `catalogue`: every item.
    """

    name = "two_matrices"
    apart: str | None = None

    def __init__(
        self,
        *,
        train_matrix: str = "big",
        test_matrix: str = "small",
        val: str = "users",
        val_fraction: float = 0.2,
        val_days: int = 7,
        train_until: float | str | None = None,
        timezone: str = "UTC",
        leave_out_val_users: bool = False,
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
        if isinstance(train_until, str):
            moment_ms(train_until, timezone)
        elif train_until is not None and not 0 < train_until < 1:
            raise ValueError(f"split.train_until must be a day, or a share of the rows between 0 and 1: {train_until}")
        if leave_out_val_users and val != "time":
            raise ValueError(
                "split.leave_out_val_users=true is for split.val=time: split.val=users tests on the others"
            )
        self.train_matrix, self.test_matrix, self.val = train_matrix, test_matrix, val
        self.val_fraction, self.val_days, self.seed = val_fraction, val_days, seed
        self.train_until, self.timezone, self.leave_out_val_users = train_until, timezone, leave_out_val_users
        self.time_order = "validation" if val == "time" else "none"
        needs_time = val == "time" or train_until is not None
        self.hashes_users = val == "users" or leave_out_val_users
        self.columns = (MATRIX, *([USER_ID] if self.hashes_users else []), *([TIMESTAMP_MS] if needs_time else []))
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        until = [self.val_days] if self.train_until is None else [self.train_until, self.timezone]
        return {
            "split": self.name,
            "train": self.train_matrix,
            "test": self.test_matrix,
            "val": self.val,
            "until": None if self.val == "users" and self.train_until is None else until,
            "users": [self.val_fraction, self.seed, self.leave_out_val_users] if self.hashes_users else None,
        }

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        require_columns(self.columns, frame.columns, "split=two_matrices: the log (use data=kuairec or data=kuairand)")
        matrix = frame[MATRIX].cast(pl.String)
        train, test = ((matrix == word).to_numpy() for word in (self.train_matrix, self.test_matrix))
        codes = np.select([train, test], [TRAIN, TEST], DROPPED).astype(np.uint8)
        if self.hashes_users:
            coin = stable_hash.uniform(stable_hash.ids(frame[USER_ID].filter(pl.Series(test))), seed=self.seed)
            codes[np.flatnonzero(test)[coin < self.val_fraction]] = VAL if self.val == "users" else DROPPED
        if TIMESTAMP_MS in self.columns:
            known, time_ms = times_of(frame, self.name)
            codes[train & ~known] = DROPPED
            if (train & known).any():
                later = train & known & (time_ms >= self._until_ms(time_ms[train & known]))
                codes[later] = VAL if self.val == "time" else DROPPED
        return finished(codes, self.name)

    def _until_ms(self, time_ms: NDArray[np.int64]) -> int:
        """The first moment that is not trained on."""
        if isinstance(self.train_until, str):
            return moment_ms(self.train_until, self.timezone)
        if self.train_until is not None:
            return moments_at(time_ms, [self.train_until])[0]
        return int(time_ms.max()) - self.val_days * MS_PER_DAY + 1


class _ColdIds:
    """Whole users or whole items go to one split.

    Args:
        val: Fraction of the ids for validation.
        test: Fraction of the ids for test.
        seed: Equal seeds give equal splits.
        modulo: Instead of fractions: ids whose remainder by this number is `test_remainder` are tested, and so on.
        test_remainder: Remainder of test ids.
        val_remainder: Remainder of validation ids; null: no validation.
        candidates: `catalogue`, `observed` or `held_out`.
    """

    name: str
    columns: tuple[str, ...]
    time_order = "none"
    apart: str | None

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
    apart = USER_ID
    columns = (USER_ID,)


class ColdItems(_ColdIds):
    """Items that training has never seen; arguments as in `_ColdIds`."""

    name = "cold_items"
    apart = ITEM_ID
    columns = (ITEM_ID,)
