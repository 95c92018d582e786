"""Paths on the command line: taken as they are typed, and printed so that they can be typed again.

Hydra has a grammar of its own for values: `run=日志`, `run=~/a` and `run=a=b` are no text for it unless they stand in
quotes inside the shell's. Keys that name a place are quoted here before Hydra reads them; `~/` is the home directory.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Sequence
from pathlib import Path

PLACES = frozenset(
    [
        *(f"paths.{name}" for name in ("data_dir", "cache_dir", "log_dir")),
        *(f"data.{name}" for name in ("root", "interactions", "train", "val", "test", "users", "items")),
        *("hydra.run.dir", "hydra.sweep.dir", "run", "continue_from", "export", "output"),
        *("users", "items", "history", "candidates", "deny", "similar", "recommendations", "eval.candidates"),
    ]
)
"""Keys whose value is a path; some also take a list or a word."""
_OF_HYDRA = frozenset(["paths.log_dir", "hydra.run.dir", "hydra.sweep.dir"])
_REFERENCE = "${"

_MULTIRUN = {"-m", "--multirun"}
# What Hydra reads as text without quotes, wherever it stands, unless it is a number or a word of its own.
_PLAIN = re.compile(r"[A-Za-z0-9_./%@+:-]*")
_WORDS = {"null", "true", "false"}
_LIST, _QUOTES = ("[", "]"), "\"'"


def quoted_places(arguments: Sequence[str]) -> list[str]:
    """The words of a command, those that name a place in Hydra's quotes where it would not take them without.

    Lists, what is quoted already, interpolations and, in a multirun, several values with commas stay as they are. What
    looks like an interpolation and is the name of a place that is there (`a${b}`) is that place.

    Raises:
        ValueError: The directory of a run, or the working directory, is such a place: Hydra would fail on it.
    """
    if _REFERENCE in str(Path.cwd()):
        raise ValueError(_held_by("the working directory", str(Path.cwd())))
    multirun = bool(_MULTIRUN & set(arguments))
    return [_quoted_place(word, multirun) for word in arguments]


def multirun_first(arguments: Sequence[str]) -> list[str]:
    """The words of a command with `-m` in front: Hydra's parser does not find it between overrides."""
    command, *words = arguments
    switches = [word for word in words if word in _MULTIRUN]
    return [command, *switches, *(word for word in words if word not in _MULTIRUN)]


def command_word(key: str, value: str | Path) -> str:
    """`key=value` for a shell, whatever the value holds: what a printed command says."""
    text = str(value)
    return shlex.quote(f'{key}="{text}"' if text.lower() in _WORDS else f"{key}={_in_quotes(text)}")


def escaped(text: str) -> str:
    """Text in which OmegaConf sees no interpolation; it takes a backslash before one for itself."""
    return re.sub(r"(\\*)\$\{", lambda found: f"{found[1] * 2}\\${{", text)


def _quoted_place(argument: str, multirun: bool) -> str:
    key, found, value = argument.partition("=")
    if not found or key.lstrip("+") not in PLACES or value[:1] in _QUOTES:
        return argument
    if _REFERENCE in value:
        if not _is_there(value):
            return argument
        if key.lstrip("+") in _OF_HYDRA:
            raise ValueError(_held_by(key, value))
    is_list = value.startswith(_LIST[0]) and value.endswith(_LIST[1])
    if is_list or (multirun and "," in value):
        return argument
    if value.startswith("~/"):  # a shell expands it at the beginning of a word only
        value = str(Path(value).expanduser())
    return f"{key}={_in_quotes(value)}"


def _is_there(value: str) -> bool:
    """Whether that part of a path which looks like an interpolation is the name of a place as it stands."""
    path = Path(value).expanduser()
    return next(place for place in (path, *path.parents) if _REFERENCE in place.name).exists()


def _held_by(what: str, place: str) -> str:
    return f"{what} {place!r} holds ${{, by which Hydra means the value of a key: choose a place of another name"


def _in_quotes(value: str) -> str:
    if _PLAIN.fullmatch(value) and not _is_number(value):
        return value
    # Hydra takes a backslash for itself before a quote and at the end.
    kept = re.sub(r'(\\*)("|$)', lambda found: found[1] * 2 + ('\\"' if found[2] else ""), escaped(value))
    return f'"{kept}"'


def _is_number(value: str) -> bool:
    """Whether Hydra could take a path for a number: 2020, 1e5 and inf are."""
    try:
        float(value)
    except ValueError:
        return False
    return True
