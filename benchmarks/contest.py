"""Programs that take turns: each is a process that loads, warms up and waits, and works while all others wait.

What they speak is in references/turns.py: a line `go` in, one JSON line per round out.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Contestant:
    """One program.

    Attributes:
        name: Under which it is reported.
        command: Its command line without the number of rounds; None: it cannot run here.
        why_not: Why, then.
    """

    name: str
    command: tuple[str, ...] | None
    why_not: str = ""


class _Running:
    """The process of a contestant."""

    def __init__(self, contestant: Contestant, rounds: int, work: Path) -> None:
        assert contestant.command is not None
        self.name = contestant.name
        self.errors = work / f"{contestant.name.replace(' ', '_').replace('/', '_')}.stderr"
        with self.errors.open("w", encoding="utf-8") as errors:
            self.process = subprocess.Popen(
                [*contestant.command, "--rounds", str(rounds)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=errors,
                text=True,
                env=os.environ | {"PYTHONUNBUFFERED": "1"},
            )

    def go(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()

    def read(self) -> dict[str, Any]:
        """The next line.

        Raises:
            RuntimeError: The program ended without one; the message has the end of what it said.
        """
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.process.wait()
            said = self.errors.read_text(encoding="utf-8", errors="replace")[-1500:]
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {said}")
        found: dict[str, Any] = json.loads(line)
        return found

    def stop(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


def contest(contestants: list[Contestant], *, rounds: int, work: Path) -> dict[str, dict[str, Any]]:
    """Let all of them work in turn, `rounds` times each; what each found, by name.

    Loading and warming up happen one after the other, before the first round. A program that fails or cannot run is
    reported as `not run`, the others go on.
    """
    work.mkdir(parents=True, exist_ok=True)
    found: dict[str, dict[str, Any]] = {c.name: {"not run": c.why_not} for c in contestants if c.command is None}
    running: list[_Running] = []
    lines: dict[str, list[dict[str, Any]]] = {}
    try:
        for contestant in (c for c in contestants if c.command is not None):
            one = _Running(contestant, rounds, work)
            running.append(one)
            lines[one.name] = []
            _next_line(one, running, lines, found)
        for _ in range(rounds):
            for one in list(running):
                one.go()
                _next_line(one, running, lines, found)
        for one in list(running):
            _next_line(one, running, lines, found)
    finally:
        for one in running:
            one.stop()
    found |= {one.name: _summary(lines[one.name]) for one in running}
    return {c.name: found[c.name] for c in contestants}


def _next_line(
    one: _Running, running: list[_Running], lines: dict[str, list[dict[str, Any]]], found: dict[str, dict[str, Any]]
) -> None:
    try:
        lines[one.name].append(one.read())
    except RuntimeError as error:
        running.remove(one)
        found[one.name] = {"not run": str(error)}


def _summary(lines: list[dict[str, Any]]) -> dict[str, Any]:
    ready, *timed, last = lines
    rates = [line["rows"] / line["seconds"] for line in timed]
    return {
        "rows_per_s": round(statistics.median(rates)),
        "rows_per_s_of_rounds": [round(rate) for rate in rates],
        "rows_of_a_round": timed[0]["rows"],
        "quality": last["quality"],
        "peak_memory_mib": last["peak_memory_mib"],
        "facts": ready["ready"],
    }
