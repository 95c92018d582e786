"""Hashes that are the same on every machine and in every version: the coins of random splits, names of sets of rows."""

from __future__ import annotations

import hashlib

import numpy as np
import polars as pl
from numpy.typing import NDArray

Uint64s = NDArray[np.uint64]
# Keys hashed at once: their intermediates stay in the processor's cache.
_CHUNK = 1 << 16


def uniform(keys: Uint64s, *, seed: int) -> NDArray[np.float64]:
    """A number in [0, 1) per key, fixed by key and seed (splitmix64 finaliser, Steele et al., OOPSLA 2014)."""
    coin = np.empty(len(keys), dtype=np.float64)
    with np.errstate(over="ignore"):
        salt = _splitmix(np.asarray([seed % 2**64], dtype=np.uint64))
        for start in range(0, len(keys), _CHUNK):
            hashed = _splitmix(keys[start : start + _CHUNK] ^ salt)
            coin[start : start + _CHUNK] = (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53
    return coin


def ids(column: pl.Series) -> Uint64s:
    """One key per row of an id column; text is hashed once per distinct id."""
    if column.dtype.is_integer():
        return column.cast(pl.Int64).to_numpy().astype(np.int64, copy=False).view(np.uint64)
    distinct = column.unique()
    digests = [hashlib.blake2b(str(value).encode(), digest_size=8).digest() for value in distinct.to_list()]
    keys = pl.Series(np.frombuffer(b"".join(digests), dtype="<u8").astype(np.uint64))
    return column.replace_strict(distinct, keys, return_dtype=pl.UInt64).to_numpy()


def of_pairs(first_N: Uint64s, second_N: Uint64s) -> str:
    """One name, 16 hexadecimal digits, for a set of pairs of keys, in whatever order they come."""
    total = 0
    with np.errstate(over="ignore"):
        for start in range(0, len(first_N), _CHUNK):
            part = slice(start, start + _CHUNK)
            total += int(_splitmix(_splitmix(first_N[part]) + second_N[part]).sum(dtype=np.uint64))
    return f"{total % 2**64:016x}"


def _splitmix(state: Uint64s) -> Uint64s:
    mixed = state + np.uint64(0x9E3779B97F4A7C15)
    mixed = (mixed ^ (mixed >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    mixed = (mixed ^ (mixed >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return mixed ^ (mixed >> np.uint64(31))
