"""Splits: which rows teach, which tune and which judge. This file: by row, by given files, by expression."""

from __future__ import annotations

import math
from typing import Any, Protocol

import numpy as np
import polars as pl
from numpy.typing import NDArray

from towerrec.data.columns import require_columns
from towerrec.data.conditions import condition, passing
from towerrec.schema import SPLIT

DROPPED, TRAIN, VAL, TEST = 0, 1, 2, 3
CANDIDATES = ("catalogue", "observed", "held_out")
WORDS = {"train": TRAIN, "val": VAL, "valid": VAL, "validation": VAL, "test": TEST}
Codes = NDArray[np.uint8]


class Split(Protocol):
    """A rule that gives every row a code: 0 dropped, 1 train, 2 val, 3 test.

    Attributes:
        name: Short name for reports.
        candidates: What evaluation ranks unless told otherwise: `catalogue`, `observed` or `held_out`.
        columns: Columns of the interaction table that `assign` reads.
        time_order: What it promises of time: `moments` (training ends before validation begins, and that before test),
            `users` (the same of the rows of each user), `validation` (of training and validation alone), or `none`.
        apart: The column whose values it promises to keep in one split each, None where it does not.
    """

    name: str
    candidates: str
    columns: tuple[str, ...]
    time_order: str
    apart: str | None

    def settings(self) -> dict[str, Any]: ...

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8.

        Raises:
            ValueError: If no row is left to train on or to test on.
        """
        ...


def finished(codes: Codes, name: str) -> pl.Series:
    """The codes as a series, once there is something to train on and something to judge by."""
    check_counts(np.bincount(codes, minlength=4), name)
    return pl.Series(SPLIT, codes, dtype=pl.UInt8)


def check_counts(counts: NDArray[np.int64], name: str) -> None:
    """Refuse a split that leaves no training or no test rows, by its rows per code [4]."""
    for code, word in ((TRAIN, "train"), (TEST, "test")):
        if counts[code] == 0:
            raise ValueError(
                f"split={name} leaves no {word} rows (train {counts[TRAIN]:,}, val {counts[VAL]:,}, "
                f"test {counts[TEST]:,}, dropped {counts[DROPPED]:,}): change its settings"
            )


def check_candidates(candidates: str) -> str:
    """The word itself, if it is one of `CANDIDATES`."""
    if candidates not in CANDIDATES:
        raise ValueError(f"split.candidates must be one of {', '.join(CANDIDATES)}, got {candidates!r}")
    return candidates


def check_fractions(val: float, test: float) -> None:
    """Both in [0, 1), test above 0, and something left for training."""
    if not (0 <= val < 1 and 0 < test < 1 and val + test < 1):
        raise ValueError(
            f"split.val={val}, split.test={test}: both are fractions of the whole, test above 0, together below 1"
        )


def by_fraction(coin: NDArray[np.float64], *, val: float, test: float) -> Codes:
    """Test below `test`, validation in the next `val`, training above."""
    return np.select([coin < test, coin < test + val], [TEST, VAL], TRAIN).astype(np.uint8)


def permuted(num_rows: int, *, val: float, test: float, seed: int) -> Codes:
    """Test rows are the first of a random permutation, validation rows the next.

    The permutation is NumPy's legacy one and test is rounded up, so the test rows are those of scikit-learn's
    `train_test_split(test_size=test, random_state=seed)`, and figures can be compared row for row.
    """
    order = np.random.RandomState(seed).permutation(num_rows)
    num_test = math.ceil(num_rows * test)
    codes = np.full(num_rows, TRAIN, dtype=np.uint8)
    codes[order[:num_test]] = TEST
    codes[order[num_test : num_test + round(num_rows * val)]] = VAL
    return codes


class RandomRows:
    """Rows drawn at random, as scikit-learn's `train_test_split` draws them.

    Args:
        val: Fraction of validation rows.
        test: Fraction of test rows.
        seed: Equal seeds give equal splits on any machine (`random_state` of scikit-learn).
        candidates: `catalogue`, `observed` or `held_out`.
    """

    name = "random"
    time_order = "none"
    apart: str | None = None
    columns: tuple[str, ...] = ()

    def __init__(self, *, val: float = 0.1, test: float = 0.2, seed: int = 0, candidates: str = "catalogue") -> None:
        check_fractions(val, test)
        self.val, self.test, self.seed = val, test, seed
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        return {"split": self.name, "val": self.val, "test": self.test, "seed": self.seed}

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        return finished(permuted(frame.height, val=self.val, test=self.test, seed=self.seed), self.name)


class FirstRows:
    """The first rows of the log, after cleaning, split at random; the rest is left out (as the KuaiRec notebook does).

    Args:
        num_rows: Rows kept; all where the log is shorter.
        val: Fraction of validation rows.
        test: Fraction of test rows.
        seed: As in `RandomRows`.
        candidates: `catalogue`, `observed` or `held_out`.
    """

    name = "first_rows"
    time_order = "none"
    apart: str | None = None
    columns: tuple[str, ...] = ()

    def __init__(
        self,
        *,
        num_rows: int = 1_000_000,
        val: float = 0.0,
        test: float = 0.2,
        seed: int = 0,
        candidates: str = "catalogue",
    ) -> None:
        check_fractions(val, test)
        if num_rows < 2:
            raise ValueError(f"split.num_rows must be at least 2, got {num_rows}")
        self.num_rows, self.val, self.test, self.seed = num_rows, val, test, seed
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        return {
            "split": self.name,
            "num_rows": self.num_rows,
            "val": self.val,
            "test": self.test,
            "seed": self.seed,
        }

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        codes = np.zeros(frame.height, dtype=np.uint8)
        first = min(self.num_rows, frame.height)
        codes[:first] = permuted(first, val=self.val, test=self.test, seed=self.seed)
        return finished(codes, self.name)


class Given:
    """The split that the data brings: a `split` column of words or codes, or one file each (`data.train=`, ...).

    Args:
        val: Share of the training rows that becomes validation, drawn at random, where the data brings none.
        seed: Of that draw.
        candidates: `catalogue`, `observed` or `held_out`.
    """

    name = "given"
    time_order = "none"
    apart: str | None = None
    columns = (SPLIT,)

    def __init__(self, *, val: float = 0.0, seed: int = 0, candidates: str = "catalogue") -> None:
        if not 0.0 <= val < 1.0:
            raise ValueError(
                f"split.val (split.val_of_train under split=auto) is a share of the training rows in [0, 1), got {val}"
            )
        self.val, self.seed = val, seed
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        return {"split": self.name, "val": self.val, "seed": self.seed}

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]; rows whose `split` is null are dropped."""
        require_columns(self.columns, frame.columns, "split=given: the log (name one file per split with data.train=)")
        code_N = self.codes(frame)
        if self.val > 0.0 and not (code_N == VAL).any():
            code_N[(code_N == TRAIN) & (np.random.default_rng(self.seed).random(len(code_N)) < self.val)] = VAL
        return finished(code_N, self.name)

    def codes(self, frame: pl.DataFrame) -> Codes:
        """Codes [N] as the data brings them."""
        column = frame[SPLIT]
        if column.dtype.is_integer():
            unknown = sorted(set(column.drop_nulls().unique().to_list()) - {DROPPED, TRAIN, VAL, TEST})
            codes = column
        else:
            words = column.cast(pl.String).str.to_lowercase()
            unknown = sorted(set(words.drop_nulls().unique().to_list()) - set(WORDS))
            codes = words.replace_strict(WORDS, default=DROPPED, return_dtype=pl.UInt8)
        if unknown:
            raise ValueError(
                f"split=given: column 'split' holds {unknown[:5]}; it may hold train, val and test "
                "(or 1, 2, 3, and 0 for rows left out)"
            )
        return codes.fill_null(DROPPED).cast(pl.UInt8).to_numpy().copy()


class Where:
    """SQL conditions over the columns of the log, such as `fold < 480`; rows that pass none are left out.

    Args:
        train: Condition of training rows.
        val: Condition of validation rows, or null.
        test: Condition of test rows.
        candidates: `catalogue`, `observed` or `held_out`.
    """

    name = "where"
    time_order = "none"
    apart: str | None = None

    def __init__(
        self,
        *,
        train: str | None = None,
        val: str | None = None,
        test: str | None = None,
        candidates: str = "catalogue",
    ) -> None:
        self.conditions = {"train": train, "val": val, "test": test}
        self.expressions = {
            word: _sql(word, text) for word, text in self.conditions.items() if text is not None or word != "val"
        }
        names = [name for e in self.expressions.values() for name in e.meta.root_names()]
        self.columns = tuple(dict.fromkeys(names))
        self.candidates = check_candidates(candidates)

    def settings(self) -> dict[str, Any]:
        return {"split": self.name, **self.conditions}

    def assign(self, frame: pl.DataFrame) -> pl.Series:
        """Codes of all rows, UInt8 [N]."""
        require_columns(self.columns, frame.columns, "split=where: the log")
        return finished(self.codes(frame), self.name)

    def codes(self, frame: pl.DataFrame) -> Codes:
        """Codes [N] by the conditions."""
        codes = np.zeros(frame.height, dtype=np.uint8)
        for code, word in ((TRAIN, "train"), (VAL, "val"), (TEST, "test")):
            if word not in self.expressions:
                continue
            passed = self._passed(frame, word)
            if (both := int((codes[passed] != DROPPED).sum())) > 0:
                raise ValueError(
                    f"split=where: {both:,} rows pass split.{word}={self.conditions[word]!r} and an earlier condition "
                    "as well; a row belongs to one split, so make the conditions exclude each other"
                )
            codes[passed] = code
        return codes

    def _passed(self, frame: pl.DataFrame, word: str) -> NDArray[np.bool_]:
        return passing(frame, self.expressions[word], key=f"split.{word}", text=str(self.conditions[word]))


def _sql(word: str, text: str | None) -> pl.Expr:
    if text is None:
        raise ValueError(
            f"split=where needs split.{word}: a SQL condition over the log's columns, such as "
            f"'split.{word}=\"fold < 480\"' (the inner quotes are Hydra's)"
        )
    return condition(f"split.{word}", text)
