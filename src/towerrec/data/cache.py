"""Directories that are either complete or not there: built beside their place, then renamed."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import shutil
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

MANIFEST = "complete.json"
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
    if is_complete(final):
        return final, True
    with alone(final):
        # Whoever had to wait finds it built.
        if is_complete(final):
            return final, True
        write_directory(final, build)
    return final, False


@contextmanager
def alone(final: Path) -> Iterator[None]:
    """One process at a time makes what is to lie at `final`; the others wait here.

    Raises:
        OSError: The lock cannot be written beside it.
    """
    path = final.parent / f".lock-{final.name}"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = _locked(path)
    except OSError as error:
        raise _readable(error, final) from error
    with lock:
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _locked(path: Path) -> TextIO:
    """The file, locked until it is closed or the process ends, however it ends."""
    while True:
        lock = path.open("w", encoding="utf-8")
        fcntl.flock(lock, fcntl.LOCK_EX)
        with contextlib.suppress(FileNotFoundError):
            # Otherwise it was removed while we waited, and guards nothing any more.
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                return lock
        lock.close()


def write_directory(final: Path, build: Callable[[Path], None]) -> None:
    """Build a directory beside its place and rename it there; an older one gives way only to a complete one."""
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _readable(error, final) from error
    _sweep(final)
    temporary = final.parent / f".building-{final.name}-{os.getpid()}"
    try:
        temporary.mkdir()
        build(temporary)
        _write_manifest(temporary)
        _put(temporary, final)
    except OSError as error:
        raise _readable(error, final) from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_complete(directory: Path) -> bool:
    """Whether all files of the manifest are there with the size, beginning and end they were written with."""
    try:
        manifest = json.loads((directory / MANIFEST).read_text(encoding="utf-8"))
        return isinstance(manifest, dict) and all(_stamp(directory / name) == stamp for name, stamp in manifest.items())
    except (OSError, ValueError):
        return False


def _write_manifest(directory: Path) -> None:
    files = sorted(path for path in directory.rglob("*") if path.is_file())
    manifest = {str(path.relative_to(directory)): _stamp(path) for path in files}
    with (directory / MANIFEST).open("w", encoding="utf-8") as file:
        json.dump(manifest, file, indent=1)
        file.flush()
        os.fsync(file.fileno())


def _stamp(path: Path) -> list[int]:
    """Size and checksum of both ends: a cut or half-written file shows, without reading gigabytes at each start."""
    size = path.stat().st_size
    with path.open("rb") as file:
        check = zlib.crc32(file.read(_SAMPLE))
        file.seek(max(size - _SAMPLE, 0))
        check = zlib.crc32(file.read(_SAMPLE), check)
    return [size, check]


def _put(temporary: Path, final: Path) -> None:
    if is_complete(final):
        # Another process was faster, or an equal one is replaced: swap, so that a reader never finds a gap for long.
        old = final.parent / f".old-{final.name}-{os.getpid()}"
        final.rename(old)
        temporary.rename(final)
        shutil.rmtree(old, ignore_errors=True)
        return
    shutil.rmtree(final, ignore_errors=True)
    temporary.rename(final)


def _sweep(final: Path) -> None:
    """Remove what killed processes left of this directory."""
    for left in final.parent.glob(f".building-{final.name}-*"):
        pid = left.name.rsplit("-", 1)[1]
        if pid.isdigit() and not _alive(int(pid)):
            shutil.rmtree(left, ignore_errors=True)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _readable(error: OSError, final: Path) -> OSError:
    text = f"cannot write {final}: {error.strerror or error}. Free some space, or choose another folder"
    return OSError(error.errno, text) if error.errno is not None else OSError(text)
