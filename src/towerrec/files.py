"""Files and folders that appear whole or not at all, whatever happens while they are written.

They are written under a temporary name in the folder of the target, brought to the disk (fsync), and renamed. After a
full disk, a `kill -9` or a loss of power the name holds what it held before, or all of what is new. What killed
processes leave beside it (`.<name>.<host>-<pid>-<hex>`) goes when the same name is written next.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import re
import shutil
import socket
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# renameat2(2): of two names each gets what the other had, at one moment.
_EXCHANGE, _HERE = 2, -100
_NO_EXCHANGE = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)
# What an unfinished file of another machine's is given before it counts as left behind.
_FORGOTTEN_S = 7 * 86_400
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_NO_RIGHT = (errno.EACCES, errno.EPERM, errno.EROFS)
# How libraries that are written in Rust, Polars for one, put an error of the disk in words.
_IN_WORDS = re.compile(r"\(os error (\d+)\)")
# What Polars says where the end of a Parquet file finds no room, and nothing of why.
_LITTLE_ROOM = 1 << 20
_NO_END = "thrift: transport error"
# Names of the temporary folders that this process has open.
_mine: set[str] = set()


class Unwritable(OSError):
    """Something could not be written; the message names it and says what to do."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Yield a temporary path to write; it takes the name `path` when the block ends well and vanishes otherwise.

    Where `path` is a symbolic link, what it points to is replaced and the link stays.

    Raises:
        OSError: If the file cannot be written (full disk, no permission, no such place), naming `path`.
    """
    target = Path(os.path.realpath(path))
    with _beside(path, target) as directory:
        if target.exists() and not target.is_file():
            raise IsADirectoryError(errno.EISDIR, "it is a folder or a device, not a file")
        written = directory / target.name
        yield written
        to_disk(written)
        written.replace(target)
        to_disk(target.parent)


@contextmanager
def whole_directory(path: Path, *, marker: str | None = None, durable: bool = True) -> Iterator[Path]:
    """Yield a temporary folder to fill; it takes the name `path`, in place of what stood there, if all went well.

    There is no moment without a whole folder: old and new change places. On a file system that cannot do that the old
    one is away for a moment; `restored` brings it back after a process that was killed just then.

    Args:
        path: The folder.
        marker: Pattern of a name that tells a folder of ours, `manifest.json` say: one that holds other things and
            nothing of this name is not replaced. None: every folder is.
        durable: Bring it to the disk before it gets its name. False for what is checked when it is read and can be
            made again.

    Raises:
        OSError: If it cannot be written, naming `path`, or a folder that is not ours stands there.
    """
    target = Path(os.path.realpath(path))
    with _beside(path, target) as directory:
        restored(target)
        if marker is not None and target.is_dir() and any(target.iterdir()) and not any(target.glob(marker)):
            held = min(place.name for place in target.iterdir())
            raise FileExistsError(errno.EEXIST, f"it is there and holds other things, such as {held}")
        filled = directory / "new"
        filled.mkdir()
        yield filled
        if durable:
            for place in sorted(filled.rglob("*"), reverse=True):  # what is inside before the folder around it
                to_disk(place)
            to_disk(filled)
        _put(filled, target, aside=directory / "old")
        to_disk(target.parent)


def restored(path: Path) -> None:
    """Bring a folder back that a process, killed at the wrong moment, had moved aside (`whole_directory`)."""
    if path.exists():
        return
    for left in _left_behind(path):
        if (left / "old").is_dir():
            with suppress(OSError):
                (left / "old").rename(path)
            return


def sweep(path: Path) -> None:
    """Remove what killed processes left beside a file or folder while they wrote it."""
    for left in _left_behind(path):
        if not (left / "old").exists() or path.exists():  # which otherwise is to be `restored`
            shutil.rmtree(left, ignore_errors=True)


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` as indented JSON, whole or not at all."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False, default=str) + "\n")


def write_text(path: Path, text: str) -> None:
    """Write a text (UTF-8), whole or not at all."""
    with whole_file(path) as written:
        written.write_text(text, encoding="utf-8")


def read_json(path: Path) -> Any:
    """What a JSON file holds.

    Raises:
        ValueError: If it is damaged, naming it.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is damaged, it is not JSON ({error}): copy it anew, or make it again") from error


def read_object(path: Path) -> dict[str, Any]:
    """The keys and values of a JSON file.

    Raises:
        ValueError: If it is damaged or holds anything else, naming it.
    """
    content = read_json(path)
    if not isinstance(content, dict):
        raise ValueError(f"{path} is damaged, it holds no keys with values: copy it anew, or make it again")
    return content


def to_disk(path: Path) -> None:
    """Wait until a file or the names in a folder are on the disk itself, not only on their way there (fsync)."""
    try:
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
    except OSError:
        # Some file systems have no fsync for folders, and a folder that may be written need not be readable. Its files
        # are safe by then.
        if not path.is_dir():
            raise


def make_folder(path: Path) -> None:
    """Make a folder and those above it where they are missing; a file in its place is an error that says so."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(errno.ENOTDIR, f"{path} is a file, not a folder") from error


def unwritable(path: Path, error: OSError) -> Unwritable:
    """An error of the disk in words that name what was to be written."""
    remedy = "choose another place"
    if error.errno in _NO_ROOM:
        remedy = "free some space or choose another place"
    elif error.errno in _NO_RIGHT:
        remedy = "get the right to write there or choose another place"
    text = f"could not write {path} ({error.strerror or error}): {remedy}; nothing was changed"
    return Unwritable(error.errno, text) if error.errno is not None else Unwritable(text)


@contextmanager
def _beside(path: Path, target: Path) -> Iterator[Path]:
    """A temporary folder beside the target; errors of the disk in words that name `path`."""
    directory = target.parent / f"{_prefix(target)}{socket.gethostname()}-{os.getpid()}-{os.urandom(4).hex()}"
    try:
        make_folder(target.parent)
        sweep(target)
        directory.mkdir()
        _mine.add(directory.name)
    except OSError as error:
        raise unwritable(path, error) from error
    try:
        yield directory
    except Exception as error:
        reason = _of_disk(error, target.parent)
        if isinstance(error, Unwritable) and error.errno is not None and str(directory) in str(error):
            reason = OSError(error.errno, os.strerror(error.errno))  # of a part, by a name that goes with this folder
        if reason is None:
            raise
        raise unwritable(path, reason) from error
    finally:
        shutil.rmtree(directory, ignore_errors=True)
        _mine.discard(directory.name)


def _prefix(target: Path) -> str:
    # File systems allow 255 bytes, and a character may take four.
    return f".{target.name[:40]}."


def _left_behind(target: Path) -> list[Path]:
    """Temporary folders beside a target whose processes are gone."""
    pattern = re.compile(re.escape(_prefix(target)) + r"(?P<host>.+)-(?P<pid>\d+)-[0-9a-f]{8}")
    with suppress(OSError):  # a folder may be writable and not readable
        named = [(place, found) for place in target.parent.iterdir() if (found := pattern.fullmatch(place.name))]
        return [place for place, found in named if _is_left(place, found)]
    return []


def _is_left(place: Path, named: re.Match[str]) -> bool:
    if named["host"] != socket.gethostname():
        return time.time() - place.stat().st_mtime > _FORGOTTEN_S
    pid = int(named["pid"])
    # A container gives the same numbers at every start.
    return place.name not in _mine if pid == os.getpid() else not _alive(pid)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _put(new: Path, target: Path, *, aside: Path) -> None:
    """Give `new` the name of the target; a folder that has it ends up in the temporary folder, to go with it."""
    try:
        new.rename(target)  # nothing stands there, or an empty folder
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
            raise
        if not _exchanged(new, target):
            target.rename(aside)
            try:
                new.rename(target)
            except OSError:
                aside.rename(target)
                raise


def _exchanged(one: Path, other: Path) -> bool:
    """Let two names change places at once; False where the system or the file system cannot."""
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except AttributeError:
        return False
    if rename(_HERE, os.fsencode(one), _HERE, os.fsencode(other), _EXCHANGE) == 0:
        return True
    number = ctypes.get_errno()
    if number in _NO_EXCHANGE:
        return False
    raise OSError(number, os.strerror(number), str(other))


def _of_disk(error: Exception, folder: Path) -> OSError | None:
    """The error of the disk that an error is, or that a library put in words.

    None where it is about something else: an input that cannot be read, a connection, a file that is named already.
    """
    if isinstance(error, Unwritable | ConnectionError | TimeoutError):
        return None
    said = _IN_WORDS.search(str(error))
    if said is None and _NO_END in str(error) and not isinstance(error, ValueError):  # of ours, about an input
        number = errno.EIO if shutil.disk_usage(folder).free > _LITTLE_ROOM else errno.ENOSPC
        return OSError(number, os.strerror(number))
    if isinstance(error, OSError) and (error.errno is not None or said is None):
        elsewhere = error.filename is not None and not Path(os.fsdecode(error.filename)).is_relative_to(folder)
        return None if elsewhere else error
    return OSError(int(said[1]), os.strerror(int(said[1]))) if said else None
