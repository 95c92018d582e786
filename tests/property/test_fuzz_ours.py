"""What towerrec wrote and somebody changed, configs and commands, by the thousand; see `fuzzing`."""

from __future__ import annotations

from pathlib import Path

import pytest
from artefact_readers import CONFIGS, MADE, RUNS
from config_readers import READERS
from fuzzing import LIMIT_S, Reader, fuzz, one
from test_fuzz_tables import FAST as FAST_TABLES
from test_fuzz_tables import SLOW as SLOW_TABLES
from test_fuzz_tables import sound

FAST = {"run directories": 150, "configs of runs": 60, "SQL conditions": 300, "positive rules": 800}
SLOW = {"run directories": 2_500, "configs of runs": 800, "SQL conditions": 8_000, "positive rules": 8_000}
SLOW |= {"config nodes": 2_500, "commands": 250}
FAST_MADE = {"of_checkpoint": 40, "of_catalogue": 15, "of_index": 60, "of_judgements": 20, "of_archive": 120}
SLOW_MADE = {"of_checkpoint": 500, "of_catalogue": 250, "of_index": 1_000, "of_judgements": 300, "of_archive": 2_000}
NAMED = {reader.name: reader for reader in (*READERS, RUNS, CONFIGS)}
MAKERS = {make.__name__: make for make in MADE}


@pytest.mark.parametrize("name", FAST)
def test_hostile_words_and_files_are_understood_or_refused_by_name(tmp_path: Path, name: str):
    sound(NAMED[name], tmp_path / "input", FAST[name], seed=0)


@pytest.mark.parametrize("name", FAST_MADE)
def test_a_damaged_artefact_is_read_or_refused_by_name(tmp_path: Path, name: str):
    (tmp_path / "made").mkdir()
    sound(MAKERS[name](tmp_path / "made"), tmp_path / "input", FAST_MADE[name], seed=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW)
def test_twenty_thousand_hostile_words_and_files_are_understood_or_refused_by_name(tmp_path: Path, name: str):
    sound(NAMED[name], tmp_path / "input", SLOW[name], seed=1)


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_MADE)
def test_thousands_of_damaged_artefacts_are_read_or_refused_by_name(tmp_path: Path, name: str):
    (tmp_path / "made").mkdir()
    sound(MAKERS[name](tmp_path / "made"), tmp_path / "input", SLOW_MADE[name], seed=1)


def test_there_are_as_many_inputs_as_are_promised():
    assert sum(map(len, (FAST_TABLES, FAST, FAST_MADE))) == 15
    assert sum(sum(counts.values()) for counts in (FAST_TABLES, FAST, FAST_MADE)) >= 3_000
    assert sum(sum(counts.values()) for counts in (SLOW_TABLES, SLOW, SLOW_MADE)) >= 50_000


def _hangs(*_: object) -> None:
    import time

    time.sleep(60)


BROKEN = {
    "hang": (_hangs, "hang"),
    "bug": (lambda *_: {}["a"], "uncaught KeyError"),
    "bare library error": (lambda *_: int("x"), "unnamed ValueError"),
    "leftover": (lambda folder, _: (folder / "left").touch(), "left 'left' behind"),
    "damage": (lambda folder, _: (folder / "in").write_text("other"), "changed its input 'in'"),
}


@pytest.mark.parametrize("case", BROKEN)
def test_the_judge_of_all_this_sees_what_is_broken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str):
    monkeypatch.setattr("fuzzing.LIMIT_S", 0.2)
    read, words = BROKEN[case]
    reader = Reader("broken", lambda rng, folder: (folder / "in").write_text(str(rng.random())), read)
    outcome, took = one(reader, "0", tmp_path / "input")
    assert outcome.startswith(words) and took < LIMIT_S
    assert fuzz(reader, tmp_path / "input", count=2).summary()["hangs"] == 2 * (case == "hang")
