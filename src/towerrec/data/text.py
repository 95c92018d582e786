"""Text to hashed character n-grams, without a tokenizer: works for any script.

Shape letters: C characters of all texts together, N texts, K lengths.
"""

from __future__ import annotations

import numpy as np
import polars as pl
from numpy.typing import NDArray

# Odd 64-bit constants: of the polynomial hash and of its finaliser (splitmix64, Steele et al., OOPSLA 2014).
_BASE = np.uint64(0x9E3779B97F4A7C15)
_MIX = (np.uint64(0xBF58476D1CE4E5B9), np.uint64(0x94D049BB133111EB))
_SPACE = 32
# What tables write where they have no text.
_NOTHING = ("unknown", "none", "null", "nan", "na")


def normalised(column: pl.Series) -> pl.Series:
    """Compatibility form, lower case, every run of white space or punctuation one space; null and UNKNOWN are empty."""
    text = column.cast(pl.String).fill_null("").str.normalize("NFKC").str.to_lowercase()
    words = text.str.replace_all(r"[^\p{L}\p{N}\p{M}\p{S}]+", " ").str.strip_chars()
    return words.set(words.is_in(_NOTHING), "")


def joined(frame: pl.DataFrame, columns: tuple[str, ...]) -> pl.Series:
    """The texts of several columns as one, separated by spaces; lists of texts are joined too."""
    parts = []
    for name in columns:
        column = frame[name]
        if isinstance(column.dtype, pl.List | pl.Array):
            column = column.cast(pl.List(pl.String)).list.join(" ", ignore_nulls=True)
        parts.append(normalised(column).alias(name))
    return pl.DataFrame(parts).select(pl.concat_str(columns, separator=" ").str.strip_chars().alias("text")).to_series()


def ngrams(texts: pl.Series, *, lengths: tuple[int, ...], buckets: int) -> pl.DataFrame:
    """Hash buckets of all n-grams: columns `row` and `bucket` (Int64), distinct, in the order of the text.

    N-grams do not reach over spaces. The hash is fixed by the characters alone: the same on every machine.
    """
    codes = np.frombuffer("\0".join(texts.to_list()).encode("utf-32-le"), dtype=np.uint32).astype(np.uint64)
    row_C = np.cumsum(codes == 0)
    stop_C = (codes == 0) | (codes == _SPACE)
    ordered = sorted(set(lengths), reverse=True)
    # At every character the n-grams that begin there, long ones first: read row by row, they are in order.
    begins_CK = np.zeros((len(codes), len(ordered)), dtype=bool)
    bucket_CK = np.zeros(begins_CK.shape, dtype=np.int64)
    for place, length in enumerate(ordered):
        start = np.flatnonzero(_inside_a_word(stop_C, length))
        begins_CK[start, place] = True
        bucket_CK[start, place] = _hash(codes, start, length) % np.uint64(buckets)
    return distinct(pl.DataFrame({"row": row_C[np.nonzero(begins_CK)[0]], "bucket": bucket_CK[begins_CK]}))


def distinct(pairs: pl.DataFrame) -> pl.DataFrame:
    """The first of each pair of two columns of whole numbers from 0 on, in their order."""
    if pairs.height == 0:
        return pairs
    row, value = pairs.get_columns()
    span = int(value.max()) + 1  # type: ignore[arg-type]
    if (int(row.max()) + 1) * span >= 2**63:  # type: ignore[arg-type]
        return pairs.unique(keep="first", maintain_order=True)
    # One number per pair: a quarter of the time of a hash over two columns.
    return pairs.filter((row * span + value).is_first_distinct())


def _inside_a_word(stop: NDArray[np.bool_], length: int) -> NDArray[np.bool_]:
    """Which positions begin a window of `length` characters without a separator."""
    if len(stop) < length:
        return np.zeros(0, dtype=bool)
    stops = np.concatenate([[0], np.cumsum(stop)])
    return stops[length:] == stops[:-length]


def _hash(codes: NDArray[np.uint64], start: NDArray[np.int64], length: int) -> NDArray[np.uint64]:
    with np.errstate(over="ignore"):
        value = np.full(len(start), length, dtype=np.uint64)
        for i in range(length):
            value = value * _BASE + codes[start + i]
        value = (value ^ (value >> np.uint64(30))) * _MIX[0]
        value = (value ^ (value >> np.uint64(27))) * _MIX[1]
        return value ^ (value >> np.uint64(31))
