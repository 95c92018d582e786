"""A look at the skeleton of a Parquet file before Polars reads it.

Polars catches nearly every damage, but believes the counts that pages give of themselves: one that is negative asks for
exabytes, and the process dies without a word. What is read here are the footer and the heads of the pages alone, in
Thrift's compact protocol (apache/parquet-format: Thrift, `parquet.thrift`; apache/thrift: compact protocol); a file
that is encrypted, or of a form not known here, is left to Polars.
"""

from __future__ import annotations

import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_Bytes = bytes | mmap.mmap
_MAGIC, _END = b"PAR1", 8
# Fields of FileMetaData, RowGroup, ColumnChunk and ColumnMetaData.
_ROW_GROUPS, _COLUMNS, _META = 4, 1, 3
_NUM_VALUES, _LENGTH, _DATA, _DICTIONARY = 5, 7, 9, 11
# Of PageHeader: type, both sizes, then one head by the type; of each of these the first is the number of values.
_TYPE, _UNPACKED, _PACKED, _HEADS = 1, 2, 3, {0: 5, 2: 7, 3: 8}
_STOP, _TRUE, _FALSE, _BYTE, _DOUBLE, _BINARY, _LIST, _SET, _MAP, _STRUCT = 0, 1, 2, 3, 7, 8, 9, 10, 11, 12
_DEEPEST = 16


def check(path: Path) -> None:
    """Refuse a file whose pages say of themselves what cannot be.

    Raises:
        ValueError: Naming the file.
        OSError: It cannot be read.
    """
    with path.open("rb") as file:
        if path.stat().st_size <= len(_MAGIC) + _END:
            return
        with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            try:
                found = _wrong(data)
            except (AttributeError, IndexError, KeyError, TypeError, ValueError):
                return  # no Parquet as it is known here, which Polars says better
    if found is not None:
        raise ValueError(f"{path} is damaged ({found}): copy it anew, or make it again")


def _wrong(data: _Bytes) -> str | None:
    footer = len(data) - _END - int.from_bytes(data[-_END:-4], "little")
    if data[-4:] != _MAGIC or footer < len(_MAGIC):
        return None
    for group in _Compact(data, footer).struct()[_ROW_GROUPS]:
        for chunk in group[_COLUMNS]:
            if (found := _wrong_pages(data, chunk[_META], footer)) is not None:
                return found
    return None


def _wrong_pages(data: _Bytes, meta: dict[int, Any], footer: int) -> str | None:
    start = meta[_DATA]
    if 0 < meta.get(_DICTIONARY, 0) < start:
        start = meta[_DICTIONARY]
    end, values = start + meta[_LENGTH], 0
    if meta[_NUM_VALUES] == 0:  # what there is then, and where, is told in several ways
        return None
    if not 0 < start <= end <= footer:
        return f"a column lies at bytes {start:,} to {end:,} of {footer:,}"
    for place, page in _pages(data, start, end):
        counts = page.get(_HEADS.get(page[_TYPE], -1), {1: 0})
        if min(page[_UNPACKED], page[_PACKED], *(n for n in counts.values() if type(n) is int)) < 0:
            return f"the page at byte {place:,} counts below zero"
        values += counts[1] if page[_TYPE] in (0, 3) else 0
    if values != meta[_NUM_VALUES]:
        return f"the pages from byte {start:,} on hold {values:,} values, not {meta[_NUM_VALUES]:,}"
    return None


def _pages(data: _Bytes, start: int, end: int) -> Iterator[tuple[int, dict[int, Any]]]:
    """Place and head of every page of a column."""
    while start < end:
        head = _Compact(data, start)
        page = head.struct()
        yield start, page
        start = head.place + page[_PACKED]


class _Compact:
    """Thrift's compact protocol from a place on: structs become their fields by number."""

    def __init__(self, data: _Bytes, place: int) -> None:
        self.data, self.place = data, place

    def struct(self, depth: int = 0) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        if depth > _DEEPEST:
            raise ValueError("nested too deep")
        while (head := self._byte()) != _STOP:
            number = number + (head >> 4) if head >> 4 else self._whole()
            kind = head & 15
            fields[number] = kind == _TRUE if kind in (_TRUE, _FALSE) else self._value(kind, depth)
        return fields

    def _value(self, kind: int, depth: int) -> Any:
        match kind:
            case _ if kind in (_TRUE, _FALSE, _BYTE):
                return self._byte()
            case 4 | 5 | 6:  # integers of 16, 32 and 64 bits
                return self._whole()
            case _ if kind == _DOUBLE:
                return self._skipped(8)
            case _ if kind == _BINARY:
                return self._skipped(self._varint())
            case _ if kind in (_LIST, _SET):
                head = self._byte()
                size = head >> 4 if head >> 4 < 15 else self._varint()
                return [self._value(head & 15, depth + 1) for _ in range(self._plausible(size))]
            case _ if kind == _MAP:
                raise ValueError("Parquet has no maps in its metadata")
            case _ if kind == _STRUCT:
                return self.struct(depth + 1)
        raise ValueError(f"type {kind} is not known")

    def _plausible(self, size: int) -> int:
        if size > len(self.data):
            raise ValueError("more entries than bytes")
        return size

    def _skipped(self, size: int) -> None:
        self.place += self._plausible(size)

    def _byte(self) -> int:
        self.place += 1
        return self.data[self.place - 1]

    def _varint(self) -> int:
        value, shift = 0, 0
        while (byte := self._byte()) >= 128:
            value |= (byte & 127) << shift
            shift += 7
            if shift > 63:
                raise ValueError("a number of more than 64 bits")
        return value | byte << shift

    def _whole(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
