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
    prefix, rest = [0] * len(places), list(places)
    for shift in range(bits - _DIGIT, -1, -_DIGIT):
        counts = _counted(blocks, set(prefix), shift, bits)
        for i, known in enumerate(prefix):
            before = np.cumsum(counts[known])
            digit = int(np.searchsorted(before, rest[i], side="right"))
            rest[i] -= int(before[digit - 1]) if digit else 0
            prefix[i] = (known << _DIGIT) | digit
    return [_number(key, dtype) for key in prefix]


def _counted(blocks: Blocks, prefixes: set[int], shift: int, bits: int) -> dict[int, NDArray[np.int64]]:
    """How often each next digit occurs, by the digits before it."""
    counts = {prefix: np.zeros(1 << _DIGIT, dtype=np.int64) for prefix in prefixes}
    first = shift + _DIGIT >= bits
    for block in blocks():
        key = _ordered(block)
        digit = ((key >> np.array(shift, key.dtype)) & np.array((1 << _DIGIT) - 1, key.dtype)).astype(np.int64)
        for prefix, table in counts.items():
            inside = digit if first else digit[key >> np.array(shift + _DIGIT, key.dtype) == prefix]
            table += np.bincount(inside, minlength=1 << _DIGIT)
    return counts


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
    return np.array(key, dtype=np.dtype(f"u{dtype.itemsize}")).view(dtype).item()  # type: ignore[no-any-return]
