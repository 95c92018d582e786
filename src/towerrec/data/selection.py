"""Order statistics of columns that do not fit into memory: exact, by counting digits from the highest down.

Every pass counts one digit of 16 bits among the values that share the digits found so far (a radix selection: Knuth,
TAOCP 3, §5.2.5), so memory is a table of counts per wanted place, whatever the number of rows. The order is that of the
bits: whole and floating numbers are mapped to unsigned ones that compare alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

Blocks = Callable[[], Iterable[NDArray[np.generic]]]
"""Gives the column from its beginning, in pieces of equal type, each time it is called."""

_DIGIT = 16
# Values that may be held in memory to be sorted.
_FEW = 1 << 20


def at_places(blocks: Blocks, places: Sequence[int]) -> list[float]:
    """The values that would stand at these places of the sorted column (0 is the smallest).

    NaN counts as larger than every number. Whole numbers of up to 64 bits come back exactly where Python's float can
    hold them.
    """
    wanted = sorted(set(places))
    found = dict(zip(wanted, _selected(blocks, wanted), strict=True))
    return [found[place] for place in places]


def _selected(blocks: Blocks, places: list[int]) -> list[float]:
    dtype = next((block.dtype for block in blocks()), np.dtype(np.float64))
    bits = dtype.itemsize * 8
    assert bits >= _DIGIT, "values of one byte are counted directly"
    # Per wanted place: the digits found so far, and its place among the values that share them.
    prefix, rest, sharing = [0] * len(places), list(places), [0] * len(places)
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        known = sorted(set(prefix))
        counts = _counted(blocks, np.array(known, dtype=np.uint64), shift, bits)
        for i, digits in enumerate(prefix):
            before = np.cumsum(counts[known.index(digits)])
            digit = int(np.searchsorted(before, rest[i], side="right"))
            rest[i] -= int(before[digit - 1]) if digit else 0
            sharing[i] = int(counts[known.index(digits), digit])
            prefix[i] = (digits << _DIGIT) | digit
        if shift and sum(dict(zip(prefix, sharing, strict=True)).values()) <= _FEW:
            return [_number(key, dtype) for key in _sorted_out(blocks, prefix, rest, shift)]
    return [_number(key, dtype) for key in prefix]


def _counted(blocks: Blocks, known: NDArray[np.uint64], shift: int, bits: int) -> NDArray[np.int64]:
    """How often each next digit occurs, by the digits before it [prefixes, digits]."""
    counts = np.zeros(len(known) << _DIGIT, dtype=np.int64)
    for block in blocks():
        key, place = _ordered(block), np.zeros((), dtype=np.int64)
        if shift + _DIGIT < bits:
            key, place = _sharing(key, known, shift + _DIGIT)
        digit = (key >> _as(shift, key)) & _as((1 << _DIGIT) - 1, key)
        counts += np.bincount((place << _DIGIT) + digit.astype(np.int64), minlength=len(counts))
    return counts.reshape(len(known), -1)


def _sorted_out(blocks: Blocks, prefix: list[int], rest: list[int], shift: int) -> list[int]:
    """The wanted keys, once so few values share their digits that these can be sorted."""
    known = np.array(sorted(set(prefix)), dtype=np.uint64)
    found = [_sharing(_ordered(block), known, shift) for block in blocks()]
    key, place = (np.concatenate(parts) for parts in zip(*found, strict=True))
    key_of = {int(digits): np.sort(key[place == i]) for i, digits in enumerate(known)}
    return [int(key_of[digits][at]) for digits, at in zip(prefix, rest, strict=True)]


def _sharing(
    key: NDArray[np.unsignedinteger], known: NDArray[np.uint64], shift: int
) -> tuple[NDArray[np.unsignedinteger], NDArray[np.int64]]:
    """The keys whose digits from `shift` on are known, and which of the known ones they have."""
    high, among = key >> _as(shift, key), known.astype(key.dtype)
    place = np.searchsorted(among, high).clip(max=len(among) - 1)
    kept = among[place] == high
    return key[kept], place[kept]


def _as(number: int, like: NDArray[np.unsignedinteger]) -> NDArray[np.unsignedinteger]:
    return np.array(number, like.dtype)


def _ordered(values: NDArray[np.generic]) -> NDArray[np.unsignedinteger]:
    """Unsigned numbers that compare as the values do."""
    values = np.ascontiguousarray(values)
    bits = values.dtype.itemsize * 8
    unsigned = np.dtype(f"u{values.dtype.itemsize}")
    key = values.view(unsigned)
    top = np.array(1 << (bits - 1), unsigned)
    if values.dtype.kind == "u":
        return key
    if values.dtype.kind == "i":
        return key ^ top
    # A negative number has its top bit set and compares the wrong way round.
    return np.where(key & top, ~key, key | top)


def _number(key: int, dtype: np.dtype[np.generic]) -> float:
    bits = dtype.itemsize * 8
    top = 1 << (bits - 1)
    if dtype.kind == "i":
        key ^= top
    elif dtype.kind == "f":
        key = key ^ top if key & top else ~key & ((1 << bits) - 1)
    return np.array(key, dtype=np.dtype(f"u{dtype.itemsize}")).view(dtype).item()
