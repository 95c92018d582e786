"""One process at a time makes what all of them want; the others wait, and say for whom."""

from __future__ import annotations

import errno
import fcntl
import logging
import os
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from towerrec.files import make_folder, unwritable

log = logging.getLogger(__name__)

SAYS_AFTER_S = 3.0
"""Seconds of waiting after which a process says for whom it waits."""
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL)


@contextmanager
def alone(final: Path) -> Iterator[None]:
    """One process at a time makes what is to lie at `final`; the others wait here.

    The lock is the kernel's (flock): it goes with its process, however that ends. Where the file system has none, a
    line says so and nobody waits: everybody makes the same, and each whole (`files`).

    Raises:
        OSError: The lock cannot be written beside it.
    """
    path = final.parent / f".lock-{final.name}"
    lock: TextIO | None = None
    try:
        make_folder(path.parent)
        lock = _locked(path, final)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise unwritable(final, error) from error
        log.warning(f"{path.parent}: this file system has no locks, so processes that start together do the same work")
    try:
        yield
    finally:
        if lock is not None:
            path.unlink(missing_ok=True)
            lock.close()


def _locked(path: Path, final: Path) -> TextIO:
    """The file, locked until it is closed or the process ends, however it ends."""
    while True:
        lock = path.open("a+", encoding="utf-8")
        try:
            _wait(lock, final)
        except BaseException:
            lock.close()
            raise
        with suppress(FileNotFoundError):
            # Otherwise it was removed while we waited, and guards nothing any more.
            if os.path.samestat(os.fstat(lock.fileno()), path.stat()):
                _sign(lock)
                return lock
        lock.close()


def _wait(lock: TextIO, final: Path) -> None:
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return
    except BlockingIOError:
        pass
    said = threading.Timer(SAYS_AFTER_S, _say, (lock, final))
    said.daemon = True
    said.start()
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    finally:
        said.cancel()


def _sign(lock: TextIO) -> None:
    # On a full disk nobody knows the name; what is guarded is guarded all the same.
    with suppress(OSError):
        lock.truncate(0)
        lock.write(f"process {os.getpid()} on {socket.gethostname()}")
        lock.flush()


def _say(lock: TextIO, final: Path) -> None:
    lock.seek(0)
    holder = lock.read() or "another process"
    log.info(f"waiting for {holder}, which prepares {final}; if it hangs, end it: this one then goes on in its place")
