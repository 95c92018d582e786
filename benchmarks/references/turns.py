"""What every reference speaks with the benchmark: it waits for its turn, works for one round, prints one JSON line.

Standard library only, so that it runs in any environment. Whatever else prints to standard output is sent to standard
error. By hand:

    printf 'go\ngo\n' | python benchmarks/references/hand_loop.py --data FILE.npz --rounds 2 ...
"""

from __future__ import annotations

import json
import os
import sys
import time
from typing import Any

_said = os.fdopen(os.dup(1), "w")
os.dup2(2, 1)


def ready(**facts: Any) -> None:
    """Everything is loaded, built and warmed up: the first turn may come. `facts`: versions, sizes."""
    _say({"ready": facts})


def wait() -> float:
    """Wait for the turn; returns the moment it began.

    Raises:
        SystemExit: The benchmark is gone.
    """
    if sys.stdin.readline().strip() != "go":
        sys.exit("no further turn was given")
    return time.perf_counter()


def report(since: float, *, rows: int, **figures: Any) -> None:
    """One timed round: how many rows (or positives) it trained on, from `since` to now."""
    _say({"seconds": time.perf_counter() - since, "rows": rows, **figures})


def finish(**quality: float) -> None:
    """The last line: how good the model is after all rounds."""
    _say({"quality": quality, "peak_memory_mib": _peak_memory_mib()})


def _say(line: dict[str, Any]) -> None:
    _said.write(json.dumps(line) + "\n")
    _said.flush()


def _peak_memory_mib() -> int:
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
