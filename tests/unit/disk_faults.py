"""Faults for tests: a disk that is full, a process that is killed at its n-th touch of the disk, a bit that flips."""

from __future__ import annotations

import os
import resource
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

# Audit events (PEP 578) of the calls that change a file system; each comes before its call.
_TOUCHES = ("open", "os.rename", "os.mkdir", "os.remove", "os.rmdir", "os.truncate", "shutil.rmtree", "ctypes.dlsym")


@contextmanager
def files_up_to(limit: int) -> Iterator[None]:
    """No file grows beyond `limit` bytes: a write that would fails, as on a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def in_child(work: Callable[[], object]) -> int:
    """Run in a forked process; its exit code: 0 well, 1 an exception, -9 killed."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def kills(work: Callable[[], object], *, most: int = 200) -> Iterator[int]:
    """Run `work` in one process after another, each killed (-9) before its next touch of the disk than the last one.

    Yields the number of the touch after each kill, until a process comes to its end.
    """
    for number in range(1, most):

        def killed(number: int = number) -> None:
            left = number

            def hook(event: str, arguments: object) -> None:
                nonlocal left
                if event in _TOUCHES:
                    left -= 1
                    if left == 0:
                        os.kill(os.getpid(), signal.SIGKILL)

            sys.addaudithook(hook)
            work()

        code = in_child(killed)
        if code == 0:
            return
        assert code == -signal.SIGKILL, f"touch {number}: exit code {code}"
        yield number
    raise AssertionError(f"{most} touches are not enough")


def flip_bit(path: Path, at: int) -> None:
    """Change one bit of the byte at a place (negative: from the end)."""
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)
