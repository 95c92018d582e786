"""Signals that ask a command to stop: the first one is heard between two batches, a second one at once.

All of `SIGNALS` mean the same: ctrl-C, `kill`, a cluster that wants its machine back, a warning before the time is up
(`sbatch --signal=USR1@120`), a terminal that was closed. Only where a training could write down first where it is, it
is allowed to finish the batch.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1, signal.SIGUSR2)

ECHO = 1.0
"""Seconds in which a second signal is the first once more: a launcher passes on what its processes have heard."""
LEAVING = 5.0
"""Seconds in which processes that stop together end, one of them first: a launcher tells the others then."""


@dataclass
class _Ears:
    """What has been heard, and what is to follow from it."""

    asked: int = 0
    at_batches: bool = False
    together: bool = False
    deaf_until: float = 0.0


_ears = _Ears()


def listen(*, at_batches: bool, together: bool = False) -> None:
    """Take the signals from now on.

    Args:
        at_batches: Whether somebody looks at `asked` soon; otherwise a signal raises `KeyboardInterrupt` at once.
        together: Whether several processes stop together, to which a launcher may say everything twice.
    """
    _ears.at_batches, _ears.together = at_batches, together
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            # Not where it was said that there is none to hear it (nohup).
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _heard)


@contextmanager
def heard() -> Iterator[None]:
    """Listen as long as a command runs."""
    _ears.asked, _ears.deaf_until = 0, 0.0
    before = {number: signal.getsignal(number) for number in SIGNALS}
    listen(at_batches=False)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)
        _ears.asked, _ears.deaf_until = 0, 0.0


def asked() -> int:
    """The first signal that has come; 0: none."""
    return _ears.asked


def leave(number: int) -> None:
    """All processes stop now, for a signal that one of them has heard: what a launcher says meanwhile is known."""
    _ears.asked = number
    _ears.deaf_until = time.monotonic() + LEAVING


def exit_code() -> int:
    """What a shell expects of a process that was stopped: 128 and the number of the signal."""
    return 128 + (_ears.asked or signal.SIGINT)


def _heard(number: int, frame: FrameType | None) -> None:
    now = time.monotonic()
    if now < _ears.deaf_until:
        return
    first = _ears.asked == 0
    _ears.asked = _ears.asked or number
    if _ears.together:
        _ears.deaf_until = now + ECHO
    if not (_ears.at_batches and first):
        raise KeyboardInterrupt
