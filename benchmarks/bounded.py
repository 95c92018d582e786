"""A command in a control group with a hard limit of memory, and the most it held there.

A limit on the address space (`ulimit -v`) counts what is merely mapped, and one on data (`ulimit -d`) counts neither
the pages of mapped files nor what the kernel caches for the process. A control group counts both, as a machine of that
size would: pages of files are dropped when others are needed, and a process whose own memory does not fit is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path

V1 = Path("/sys/fs/cgroup/memory")
V2 = Path("/sys/fs/cgroup")


@dataclass(frozen=True)
class Outcome:
    """What a bounded command did.

    Attributes:
        code: Exit status; -9 where the kernel killed it for memory.
        said: Standard output and error.
        seconds: From start to end.
        peak_bytes: The most memory of its own (pages of files apart) in the group at once, sampled every 20 ms.
        killed: Processes killed for memory.
        reclaims: How often the limit was hit and pages of files were dropped for others (version 1 only).
    """

    code: int
    said: str
    seconds: float
    peak_bytes: int
    killed: int
    reclaims: int | None


def run(command: list[str], *, limit_bytes: int, folder: Path, environment: dict[str, str]) -> Outcome:
    """Run a command with at most so many bytes of memory, caches of files included.

    Raises:
        OSError: If this machine lets nobody make a control group (root is needed, or a delegated group).
    """
    group = _made(limit_bytes)
    said = folder / "said.txt"
    try:
        started = time.perf_counter()
        with said.open("w+", encoding="utf-8") as out:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f'echo $$ > {group / "cgroup.procs"} && exec "$@"', "sh", *command],
                stdout=out,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )
            peak = 0
            while process.poll() is None:
                peak = max(peak, _own_memory(group))
                time.sleep(0.02)
        seconds = time.perf_counter() - started
        return Outcome(
            process.returncode, said.read_text(encoding="utf-8"), seconds, peak, _killed(group), _reclaims(group)
        )
    finally:
        _end(group)


def _made(limit_bytes: int) -> Path:
    if (V1 / "memory.limit_in_bytes").is_file():
        group = V1 / f"bounded-{os.getpid()}"
        group.mkdir()
        (group / "memory.limit_in_bytes").write_text(str(limit_bytes))
        return group
    group = V2 / f"bounded-{os.getpid()}"
    group.mkdir()
    (group / "memory.max").write_text(str(limit_bytes))
    (group / "memory.swap.max").write_text("0")
    return group


def _own_memory(group: Path) -> int:
    return _fields(group / "memory.stat").get("total_rss" if group.parent == V1 else "anon", 0)


def _killed(group: Path) -> int:
    return _fields(group / ("memory.oom_control" if group.parent == V1 else "memory.events")).get("oom_kill", 0)


def _reclaims(group: Path) -> int | None:
    return int((group / "memory.failcnt").read_text()) if group.parent == V1 else None


def _fields(path: Path) -> dict[str, int]:
    try:
        lines = (line.split() for line in path.read_text(encoding="utf-8").splitlines())
        return {words[0]: int(words[1]) for words in lines if len(words) == 2}
    except OSError:
        return {}


def _end(group: Path) -> None:
    for pid in (group / "cgroup.procs").read_text().split():
        os.kill(int(pid), signal.SIGKILL)
    for _ in range(100):
        try:
            group.rmdir()
            return
        except OSError:
            time.sleep(0.05)
