"""How much memory a process may still take: what is free, and what limits were set for it."""

from __future__ import annotations

import resource
from pathlib import Path

BYTES_PER_ROW = 64
"""What training in memory takes per training row: packed columns, their permutation, and lists of users."""

_UNLIMITED = 1 << 60


def memory_limit() -> int:
    """Bytes that this process may ever hold, whatever others take now: the same at every start on a machine."""
    machine = _fields(Path("/proc/meminfo")).get("MemTotal", _UNLIMITED >> 10) << 10
    return min(machine, *(limit for limit, _ in _control_groups()), *(limit for limit, _ in _process_limits()))


def available_memory() -> int:
    """Bytes that this process can still allocate: the least of what the machine has free, what its control group
    leaves (pages of files do not count there: they give way) and `ulimit -d` and `-v`."""
    machine = _fields(Path("/proc/meminfo")).get("MemAvailable", _UNLIMITED >> 10) << 10
    limits = [*_control_groups(), *_process_limits()]
    return max(min(machine, *(limit - used for limit, used in limits)), 0)


def _control_groups() -> list[tuple[int, int]]:
    """Limit and memory in use of the process's group and of all above it: versions 1 and 2 of Linux's controller."""
    found = [(_UNLIMITED, 0)]
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
                found.append((int(text), _fields(folder / "memory.stat").get(anonymous, 0)))
            if folder == root:
                break
    return found


def _process_limits() -> list[tuple[int, int]]:
    """Limit and use of `ulimit -d` and `-v`."""
    known = _fields(Path("/proc/self/status"))
    found = [(_UNLIMITED, 0)]
    for kind, used in ((resource.RLIMIT_DATA, "VmData"), (resource.RLIMIT_AS, "VmSize")):
        soft = resource.getrlimit(kind)[0]
        if soft != resource.RLIM_INFINITY:
            found.append((soft, known.get(used, 0) << 10))
    return found


def _fields(path: Path) -> dict[str, int]:
    """`name: number unit` or `name number` of every line."""
    lines = (line.replace(":", " ").split() for line in _text(path).splitlines())
    return {words[0]: int(words[1]) for words in lines if len(words) > 1 and words[1].isdigit()}


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except OSError:
        return ""
