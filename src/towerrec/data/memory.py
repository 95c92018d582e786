"""How much memory a process may still take: what is free, and what limits were set for it."""

from __future__ import annotations

import resource
from pathlib import Path

_UNLIMITED = 1 << 60


def available_memory() -> int:
    """Bytes that this process can still allocate: the least of what the machine has free, what its control group
    leaves (pages of files do not count there: they give way) and `ulimit -d` and `-v`."""
    return max(min(_machine(), _control_group(), _process_limits()), 0)


def _machine() -> int:
    known = _fields(Path("/proc/meminfo"))
    return known.get("MemAvailable", _UNLIMITED >> 10) << 10


def _control_group() -> int:
    """Versions 1 and 2 of Linux's memory controller; the group of the process and all above it."""
    left = _UNLIMITED
    for line in _text(Path("/proc/self/cgroup")).splitlines():
        number, controllers, path = line.split(":", 2)
        if number != "0" and "memory" not in controllers.split(","):
            continue
        root = Path("/sys/fs/cgroup") if number == "0" else Path("/sys/fs/cgroup/memory")
        limit, anonymous = ("memory.max", "anon") if number == "0" else ("memory.limit_in_bytes", "total_rss")
        group = root / path.lstrip("/")
        for folder in (group, *group.parents):
            text = _text(folder / limit).strip()
            if text.isdigit():
                left = min(left, int(text) - _fields(folder / "memory.stat").get(anonymous, 0))
            if folder == root:
                break
    return left


def _process_limits() -> int:
    known = _fields(Path("/proc/self/status"))
    left = _UNLIMITED
    for kind, used in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY:
            left = min(left, soft - (known.get(used, 0) << 10))
    return left


def _fields(path: Path) -> dict[str, int]:
    """`name: number unit` or `name number` of every line."""
    lines = (line.replace(":", " ").split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
