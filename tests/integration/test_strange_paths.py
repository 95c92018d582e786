"""Places with names that shells, Hydra, Polars or Lightning might take for something else."""

from __future__ import annotations

import os
from pathlib import Path

import polars as pl
import pytest
from conftest import DemoRun, Workplace

NAMES = {
    "spaces": "a b  c",
    "chinese": "日志",
    "emoji": "\U0001f600",
    "quotes": 'it\'s "it"',
    "hash and percent": "#1 %41 %s",
    "equals": "a=b",
    "brackets": "[a]{b}(c)",
    "stars": "*?",
    "dollar": "$HOME",
    "reference": "a${b}",
    "leading dash": "-n",
    "trailing dot": "a.",
    "only digits": "2020",
    "comma": "a,b",
    "tilde": "a~",
    "backslash": "a\\b\\",
    "colon": "s3:a",
    "long": "x" * 240,
}


@pytest.mark.parametrize("case", NAMES)
def test_lists_are_written_from_and_into_any_place(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, case: str
):
    monkeypatch.chdir(tmp_path)
    place = Path(NAMES[case])
    Path(f"./{place}").mkdir()
    run, users, output = place / "run", place / "users.csv", place / "lists.parquet"
    run.symlink_to(demo_run.directory.resolve())
    users.write_text("user_id\n1\n2\n")
    outcome = workplace.recommend(f"run={run}", f"users={users}", f"output={output}", "n=2")
    assert outcome.code == 0, outcome.err
    assert pl.read_parquet(output, glob=False).height == 4


def test_a_relative_place_with_dots_is_followed(
    workplace: Workplace, demo_run: DemoRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    (tmp_path / "a" / "b").mkdir(parents=True)
    monkeypatch.chdir(tmp_path / "a" / "b")
    run = os.path.relpath(demo_run.directory.resolve())
    assert run.startswith("..")
    outcome = workplace.recommend(f"run={run}", "n=1", "output=../lists.csv", "format=csv")
    assert outcome.code == 0, outcome.err
    assert (tmp_path / "a" / "lists.csv").is_file()


def test_an_error_says_how_a_value_is_quoted(workplace: Workplace):
    outcome = workplace.train("label.column=日")
    assert outcome.code == 1 and "'label.column=\"日\"'" in outcome.message
