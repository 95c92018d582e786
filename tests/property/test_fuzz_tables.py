"""Tables that somebody hands over, by the ten thousand: each is read, or refused by name; see `fuzzing`."""

from __future__ import annotations

from pathlib import Path

import pytest
from fuzzing import Reader, fuzz
from table_readers import PREPARED, READERS

FAST = {"interactions": 500, "side tables": 200, "kuairec": 150, "kuairand": 150, "id files": 400, "list files": 300}
SLOW = {"interactions": 7_000, "side tables": 2_300, "kuairec": 2_000, "kuairand": 2_000, "id files": 7_000}
SLOW |= {"list files": 5_500, "prepared logs": 800}
NAMED = {reader.name: reader for reader in (*READERS, PREPARED)}


def sound(reader: Reader, folder: Path, count: int, seed: int) -> None:
    """Every input worked or was refused by name, and enough of them did either."""
    tally = fuzz(reader, folder, count=count, seed=seed)
    assert tally.broken == []
    assert tally.inputs == tally.worked + tally.named.total() == count
    assert min(tally.worked, tally.named.total()) > count // 50, tally.summary()


@pytest.mark.parametrize("name", FAST)
def test_a_hostile_table_is_read_or_refused_by_name(tmp_path: Path, name: str):
    sound(NAMED[name], tmp_path / "input", FAST[name], seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_twenty_five_thousand_hostile_tables_are_read_or_refused_by_name(tmp_path: Path, name: str):
    assert sum(SLOW.values()) >= 25_000
    sound(NAMED[name], tmp_path / "input", SLOW[name], seed=1)
