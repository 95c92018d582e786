"""Text to hashed character n-grams, without a tokenizer: works for any script.

Shape letters: C characters of all texts together, N texts.
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
    row = np.cumsum(codes == 0)
    stop = (codes == 0) | (codes == _SPACE)
    frames = []
    for order, length in enumerate(sorted(set(lengths), reverse=True)):
        start = np.flatnonzero(_inside_a_word(stop, length))
        grams = pl.DataFrame({"row": row[start], "bucket": _hash(codes, start, length) % np.uint64(buckets)})
        frames.append(grams.with_columns(order=order, start=pl.Series(start)).cast(pl.Int64))
    everything = (
        pl.concat(frames).sort("row", "start", "order").unique(["row", "bucket"], keep="first", maintain_order=True)
    )
    return everything.select("row", "bucket")


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
