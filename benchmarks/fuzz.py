"""Every reader against hostile input: how many worked, how many were refused by name, and whether anything broke.

The readers and generators are those of the tests (`tests/property/`); here they run longer and with another seed.

    python benchmarks/fuzz.py --json benchmarks/results/fuzz.json
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from conditions import conditions

TESTS = Path(__file__).parents[1] / "tests"
sys.path[:0] = [str(TESTS / "property"), str(TESTS / "unit"), str(TESTS)]

from artefact_readers import CONFIGS, MADE, RUNS  # noqa: E402
from config_readers import READERS as WORDS  # noqa: E402
from fuzzing import Reader, fuzz  # noqa: E402
from table_readers import PREPARED, READERS  # noqa: E402

# Of a thousand inputs so many go to each reader, as many as take about equally long.
SHARES = {
    "interactions": 200,
    "side tables": 60,
    "kuairec": 60,
    "kuairand": 60,
    "id files": 150,
    "list files": 120,
    "prepared logs": 20,
    "run directories": 40,
    "configs of runs": 20,
    "SQL conditions": 100,
    "positive rules": 80,
    "config nodes": 25,
    "commands": 5,
    "checkpoints": 12,
    "catalogues": 5,
    "item indices": 15,
    "judgements": 8,
    "archives": 20,
}


def readers(place: Path) -> Iterator[Reader]:
    """All of them; what reads artefacts has some made first."""
    yield from (*READERS, PREPARED, *WORDS, RUNS, CONFIGS)
    for make in MADE:
        folder = place / make.__name__
        folder.mkdir()
        yield make(folder)


def main() -> None:
    """Run, print a line per reader, and write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=int, default=200_000, help="of all readers together")
    parser.add_argument("--seed", type=int, default=2, help="the tests take 0 and 1")
    parser.add_argument("--json", type=Path, help="where the table is written")
    given = parser.parse_args()
    found, broken = {}, {}
    with tempfile.TemporaryDirectory() as place:
        for reader in readers(Path(place)):
            count = max(1, given.inputs * SHARES[reader.name] // sum(SHARES.values()))
            tally = fuzz(reader, Path(place) / "input", count=count, seed=given.seed)
            found[reader.name] = tally.summary()
            broken |= dict(tally.broken[:20])
            print(f"{reader.name}: {json.dumps(found[reader.name])}", flush=True)
    total = {
        key: sum(row[key] for row in found.values())
        for key in ("inputs", "worked", "refused", "uncaught", "hangs", "damage")
    }
    table = {"conditions": {**conditions(), "seed": given.seed}, "total": total, "readers": found, "broken": broken}
    print(json.dumps(total))
    if given.json is not None:
        given.json.write_text(json.dumps(table, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
