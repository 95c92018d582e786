"""Paths on the command line arrive as they were typed, and printed commands can be typed again."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from towerrec.command_words import command_word, multirun_first, quoted_places
from towerrec.config import build

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


def test_what_looks_like_a_reference_and_is_there_is_a_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    place = tmp_path / "a${seed}"
    for path in (place / "log.csv", place / "new" / "lists.csv"):
        assert quoted_places([f"output={path}"]) == [f"output={path}"], "nothing is called so: the value of a key"
    place.mkdir()
    for path in (place / "log.csv", place / "new" / "lists.csv", place):
        assert understood(*quoted_places([f"output={path}"])) == str(path)
    for key in ("hydra.run.dir", "paths.log_dir"):
        with pytest.raises(ValueError, match=rf"{key} .*seed.* choose a place of another name"):
            quoted_places([f"{key}={place}"])
    monkeypatch.chdir(place)
    with pytest.raises(ValueError, match=r"the working directory .* choose a place of another name"):
        quoted_places(["output=lists.csv"])


@pytest.mark.parametrize("path", ["a${b}", "\\${b}\\\\${", "${oc.env:HOME}/x"])
def test_an_object_that_a_config_names_gets_the_path_as_it_stands(path: str):
    node = {"_target_": "towerrec.data.sources.demo.Demo", "data_dir": path}
    assert build(node, "data").folder == Path(path) / "demo-small-0"
    inner = {"_target_": "towerrec.data.sources.demo.Demo", "data_dir": "b", "demo": {"scale": path}}
    with pytest.raises(ValueError, match=re.escape(repr(path))):
        build(inner, "data")


def test_commas_part_the_values_of_a_sweep_only():
    assert quoted_places(["-m", "data.root=a,b"]) == ["-m", "data.root=a,b"]
    assert quoted_places(["data.root=a,b"]) == ['data.root="a,b"']


def test_the_home_directory_is_found_behind_the_key():
    assert understood(quoted_places(["run=~/my logs"])[0]) == str(Path.home() / "my logs")


@pytest.mark.parametrize("switch", ["-m", "--multirun"])
def test_a_multirun_may_be_asked_for_between_the_overrides(switch: str):
    words = ["train.py", "data=demo", switch, "seed=1,2"]
    assert multirun_first(words) == ["train.py", switch, "data=demo", "seed=1,2"]
    assert multirun_first(["train.py", "--cfg", "job", "seed=1"]) == ["train.py", "--cfg", "job", "seed=1"]
