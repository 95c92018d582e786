"""Paths on the command line arrive as they were typed, and printed commands can be typed again."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from towerrec.command_words import command_word, quoted_places

ODD = st.text(
    st.sampled_from("ab1.-/\\\"'$[]{}(),=#%~:;&|!? \t日é😀") | st.characters(codec="utf-8", exclude_categories=("C",))
)
PARSER = OverridesParser.create()


def understood(argument: str) -> object:
    """The value that Hydra and OmegaConf take from a word of the command line."""
    return OmegaConf.create({"value": PARSER.parse_override(argument).value()}).value


@settings(max_examples=150, deadline=None)
@given(ODD)
def test_a_printed_command_says_the_path_whatever_it_holds(path: str):
    (argument,) = shlex.split(command_word("run", path))
    assert understood(argument) == path


@pytest.mark.parametrize("path", ["null", "True", "nan", "1_000", "-inf", "1e5"])
def test_a_printed_path_is_no_word_or_number_of_hydras(path: str):
    (argument,) = shlex.split(command_word("run", path))
    assert understood(argument) == path


PATHS = [
    "my logs/a",
    "日志/运行",
    "a~",
    "a=b",
    "a#b",
    "a%20b",
    "it's",
    'a"b',
    "[a].csv",
    "-x",
    "a,b",
    "a(1)",
    "a!b",
    "2020",
    "1e5",
    "INF",
]


@pytest.mark.parametrize("path", PATHS)
def test_a_path_is_taken_as_it_is_typed(path: str):
    for key in ("run", "+data.root", "paths.data_dir", "output"):
        (argument,) = quoted_places([f"{key}={path}"])
        assert understood(argument) == path


@pytest.mark.parametrize(
    "argument",
    [
        'run="日志"',
        "run='a b'",
        "data.items=[a.csv,b.csv]",
        "data.root=${oc.env:HOME}",
        "users=null",
        "model=日",
        "-m",
        "run",
    ],
)
def test_what_is_quoted_listed_or_no_path_stays_as_it_is(argument: str):
    assert quoted_places([argument]) == [argument]


def test_commas_part_the_values_of_a_sweep_only():
    assert quoted_places(["-m", "data.root=a,b"]) == ["-m", "data.root=a,b"]
    assert quoted_places(["data.root=a,b"]) == ['data.root="a,b"']


def test_the_home_directory_is_found_behind_the_key():
    assert understood(quoted_places(["run=~/my logs"])[0]) == str(Path.home() / "my logs")
