"""Input that was made to do harm: how many attacks were tried, how many were refused or came to nothing.

The attacks are those of the tests; one survived if its test passes: refused by name or shown as it stands, nothing run,
nothing written elsewhere, the input as it was.

    python benchmarks/faults_hostile.py --json benchmarks/results/faults_hostile.json
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from conditions import conditions

ROOT = Path(__file__).parents[1]
ATTACKS = {
    "archives: names, links, bombs, clashes, lies": "tests/unit/test_archive_hostile.py",
    "checkpoints and arrays that would run code": "tests/unit/test_hostile_checkpoint.py",
    "configs of runs that would run code": "tests/unit/test_config_of_run.py",
    "formulas, HTML and terminal codes in names": "tests/integration/test_hostile_output.py",
    "names in leaderboards and comparisons": "tests/unit/test_hostile_markdown.py",
    "Parquet files that would end the process": "tests/unit/test_parquet_pages.py",
    "control characters in messages and logs": "tests/unit/test_wording.py",
    "places with strange names": "tests/integration/test_strange_paths.py",
}


class Counted:
    """Counts the tests of each file that ran, and those that passed."""

    def __init__(self) -> None:
        self.tried: Counter[str] = Counter()
        self.passed: Counter[str] = Counter()

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Called by pytest for each phase of each test."""
        file = report.nodeid.partition("::")[0]
        if report.when == "call":
            self.tried[file] += not report.skipped
            self.passed[file] += report.passed
        elif report.failed:
            self.tried[file] += report.when == "setup"


def main() -> None:
    """Run the attacks, print a line for each kind, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, help="where the table is written")
    given = parser.parse_args()
    written = None if given.json is None else given.json.resolve()
    os.chdir(ROOT)
    counted = Counted()
    pytest.main(["-q", "-p", "no:cacheprovider", "-m", "slow or not slow", *ATTACKS.values()], plugins=[counted])
    faults = [
        {
            "fault": fault,
            "kind": "hostile input",
            "tried": counted.tried[file],
            "survived": counted.passed[file],
            "lost": counted.tried[file] - counted.passed[file],
        }
        for fault, file in ATTACKS.items()
    ]
    for row in faults:
        print(json.dumps(row))
    if written is not None:
        table = {"conditions": conditions(), "faults": faults}
        written.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    sys.exit(any(row["lost"] or not row["tried"] for row in faults))


if __name__ == "__main__":
    main()
