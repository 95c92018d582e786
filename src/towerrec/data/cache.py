"""Folders that are either complete or not there, and know when one of their bytes has changed.

`complete.json` holds size and checksums of every file (`checksums`). A cache that is damaged is made again, and one
line says which file it was; whatever cannot be made again is refused by whoever opens it.
"""

from __future__ import annotations

import json
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from towerrec import checksums
from towerrec.data.locks import alone
from towerrec.files import restored, sweep, whole_directory, write_json

log = logging.getLogger(__name__)

MANIFEST = "complete.json"
CHECKED = "checked.json"
CHECKED_FOR_S = 3600
"""How long a cache whose files nobody has touched counts as checked. What was read a moment ago comes from memory when
it is read again: that would say nothing about the disk."""
_FORMAT = 2
_SAMPLE = 1 << 16


def cached(cache_dir: Path, key: str, build: Callable[[Path], None]) -> tuple[Path, bool]:
    """The directory `cache_dir/key`, built first where it is missing or damaged.

    Args:
        cache_dir: Holds one directory per key.
        key: Changes with everything that the content depends on.
        build: Fills an empty directory.

    Returns:
        The directory, and whether it was there already.

    Raises:
        OSError: If it cannot be written (disk full, no permission); then nothing is left behind.
    """
    final = cache_dir / key
    sweep(final)
    if _is_sound(final):
        return final, True
    with alone(final):
        # Whoever had to wait finds it built.
        if (found := damage(final)) is None:
            return final, True
        if final.exists():
            log.warning(f"{final}/{found}; preparing it again")
        # Not brought to the disk: what a loss of power spoils is found by its checksums, and made again.
        write_directory(final, build, durable=False)
        _note_checked(final)
    return final, False


def write_directory(final: Path, build: Callable[[Path], None], *, durable: bool = True) -> None:
    """Build a directory beside its place and rename it there; an older one gives way only to a complete one.

    Args:
        final: Its place.
        build: Fills an empty directory.
        durable: See `files.whole_directory`.

    Raises:
        OSError: If it cannot be written; then the older one is as it was.
    """
    with whole_directory(final, durable=durable) as filled:
        build(filled)
        names = sorted(str(path.relative_to(filled)) for path in filled.rglob("*") if path.is_file())
        (filled / MANIFEST).write_text(json.dumps(_manifest(filled, names), indent=1), encoding="utf-8")


def is_complete(directory: Path) -> bool:
    """Whether all files of the manifest are there, every byte as it was written."""
    return damage(directory) is None


def damage(directory: Path) -> str | None:
    """What is first found wrong with a directory, naming the file; None where it is complete and unchanged."""
    restored(directory)
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        if manifest.get("format") == _FORMAT:
            return checksums.damage(directory, manifest["files"])
        return _damage_of_ends(directory, manifest)
    except FileNotFoundError:
        return f"{MANIFEST} is missing, so it is not complete"
    except (OSError, ValueError, AttributeError, KeyError, TypeError, RecursionError) as error:
        return f"{MANIFEST} is damaged ({error})"


def _is_sound(directory: Path) -> bool:
    """Whether a cache is complete and was checked since any of its files changed, now or not long ago."""
    with suppress(OSError, ValueError, KeyError, TypeError, RecursionError):
        checked = json.loads((directory / CHECKED).read_text(encoding="utf-8"))
        if 0 <= time.time() - checked["at"] < CHECKED_FOR_S and checked["files"] == _identities(directory):
            return True
    if not is_complete(directory):
        return False
    _note_checked(directory)
    return True


def _note_checked(directory: Path) -> None:
    # A cache that may only be read is checked at every start.
    with suppress(OSError):
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        if manifest.get("format") != _FORMAT:  # of the first format: from now on every byte counts
            write_json(directory / MANIFEST, _manifest(directory, manifest))
        write_json(directory / CHECKED, {"at": time.time(), "files": _identities(directory)})


def _manifest(directory: Path, names: Iterable[str]) -> dict[str, Any]:
    return {"format": _FORMAT, "files": checksums.stamps(directory, names)}


def _identities(directory: Path) -> dict[str, list[int]]:
    """What changes whenever a file is written or replaced, of the manifest and all it names."""
    manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
    stats = {name: (directory / name).stat() for name in (MANIFEST, *manifest["files"])}
    return {name: [s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns] for name, s in stats.items()}


def _damage_of_ends(directory: Path, manifest: Mapping[str, Any]) -> str | None:
    """As `damage`, of a directory of the first format, which knows size and both ends of its files alone."""
    for name, (size, expected) in manifest.items():
        try:
            with (directory / name).open("rb") as file:
                found = os.fstat(file.fileno()).st_size
                checksum = zlib.crc32(file.read(_SAMPLE))
                file.seek(max(found - _SAMPLE, 0))
                checksum = zlib.crc32(file.read(_SAMPLE), checksum)
        except OSError as error:
            return f"{name} cannot be read ({error.strerror})"
        if [found, checksum] != [size, expected]:
            return f"{name} is damaged: it is not what was written"
    return None
