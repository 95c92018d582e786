"""What this process has cost so far."""

from __future__ import annotations

import resource
import sys
import time
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path


@dataclass
class _Bill:
    """Of one run, in this process and in those that worked on it before."""

    seconds_before: float = 0.0
    peak_before: int = 0
    began: float = field(default_factory=time.monotonic)


_bill = [_Bill()]


def begin() -> None:
    """A run begins, or goes on: what it costs is counted from now on."""
    _bill[0] = _Bill()


def spent(seconds: float, peak: int) -> None:
    """Add what an earlier process had spent on the run where this one takes it up; of several figures the largest.

    Args:
        seconds: From its start on.
        peak: Its largest resident size, bytes.
    """
    bill = _bill[0]
    bill.seconds_before, bill.peak_before = max(bill.seconds_before, seconds), max(bill.peak_before, peak)


def total_seconds() -> float:
    """Of the run so far, over all processes that worked on it; what they did and was lost is not counted."""
    return _bill[0].seconds_before + time.monotonic() - _bill[0].began


def peak_memory_bytes() -> int:
    """Largest resident size of this process so far, or of one that worked on the same run before."""
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return max(peak if sys.platform == "darwin" else peak * 1024, _bill[0].peak_before)


def forget_peak() -> None:
    """Let the peak begin anew, where the system can do that (Linux): jobs that share a process have one each."""
    with suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5", encoding="utf-8")
