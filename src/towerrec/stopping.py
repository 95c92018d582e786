"""Signals that ask a command to stop: the first one is heard between two batches, a second one at once.

SIGINT (ctrl-C) and SIGTERM (`kill`, a cluster that wants its machine back) mean the same. Only where a training could
write down first where it is, it is allowed to finish the batch.
"""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

_asked: list[int] = []
_at_batches: list[bool] = [False]


def listen(*, at_batches: bool) -> None:
    """Take the signals from now on.

    Args:
        at_batches: Whether somebody looks at `asked` soon; otherwise a signal raises `KeyboardInterrupt` at once.
    """
    _at_batches[0] = at_batches
    if threading.current_thread() is threading.main_thread():
        for number in SIGNALS:
            # Not where it was said that there is none to hear it (nohup).
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, _heard)


@contextmanager
def heard() -> Iterator[None]:
    """Listen as long as a command runs."""
    _asked.clear()
    before = {number: signal.getsignal(number) for number in SIGNALS}
    listen(at_batches=False)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, handler)


def asked() -> bool:
    """Whether a signal has come."""
    return bool(_asked)


def exit_code() -> int:
    """What a shell expects of a process that was stopped: 128 and the number of the signal."""
    return 128 + (_asked[0] if _asked else signal.SIGINT)


def _heard(number: int, frame: FrameType | None) -> None:
    first = not _asked
    _asked.append(number)
    if not (_at_batches[0] and first):
        raise KeyboardInterrupt
