"""Checksums of all bytes of a folder's files, quick enough to be looked at whenever the folder is opened.

CRC-32 (ISO 3309; `zlib.crc32`) of every piece of 32 MiB, several pieces at once: reading and counting leave the
interpreter's lock alone. It finds every error of up to 32 bits in a row and misses one of 4 billion others; it is no
signature, for whoever changes a file can change its checksum too.
"""

from __future__ import annotations

import os
import threading
import zlib
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

PIECE = 1 << 25
_BUFFER = 1 << 20
_THREADS = 4
_kept = threading.local()

Stamp = list[Any]
"""Size of a file in bytes, then the checksums of its pieces: `[size, [crc, ...]]`."""


def stamps(directory: Path, names: Iterable[str]) -> dict[str, Stamp]:
    """Size and checksums of files below a folder, by name."""
    sizes = {name: (directory / name).stat().st_size for name in names}
    found = _checksums(directory, sizes)
    return {name: [size, found[name]] for name, size in sizes.items()}


def damage(directory: Path, expected: Mapping[str, Stamp]) -> str | None:
    """What is first found wrong with the files of a folder, naming the file; None where every byte is as it was."""
    for name, (size, _) in expected.items():
        try:
            found = (directory / name).stat().st_size
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if found != size:
            return f"{name} is damaged: it has {found:,} bytes, {size:,} were written"
    try:
        now = _checksums(directory, {name: size for name, (size, _) in expected.items()})
    except OSError as error:
        return f"{error.filename} cannot be read ({error.strerror or error})"
    for name, (size, written) in expected.items():
        for number, (before, after) in enumerate(zip(written, now[name], strict=True)):
            if before != after:
                last = min((number + 1) * PIECE, size)
                return f"{name} is damaged: bytes {number * PIECE:,} to {last:,} are not those that were written"
    return None


def _checksums(directory: Path, sizes: Mapping[str, int]) -> dict[str, list[int]]:
    pieces = [(name, at) for name, size in sizes.items() for at in range(0, size, PIECE)]
    with ThreadPoolExecutor(min(_THREADS, os.cpu_count() or 1)) as threads:
        found = threads.map(lambda piece: _checksum(directory / piece[0], piece[1]), pieces)
        of_file: dict[str, list[int]] = {name: [] for name in sizes}
        for (name, _), checksum in zip(pieces, found, strict=True):
            of_file[name].append(checksum)
    return of_file


def _checksum(path: Path, at: int) -> int:
    """Of one piece. It is read, not mapped: pages of a map would count as memory of the process."""
    if not hasattr(_kept, "buffer"):
        _kept.buffer = memoryview(bytearray(_BUFFER))
    checksum, end = 0, at + PIECE
    with path.open("rb", buffering=0) as file:
        file.seek(at)
        while at < end and (size := file.readinto(_kept.buffer[: min(_BUFFER, end - at)])):
            checksum, at = zlib.crc32(_kept.buffer[:size], checksum), at + size
    return checksum
