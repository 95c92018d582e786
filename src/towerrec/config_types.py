"""Whether values of a config can be what a class takes, said in words for somebody who reads no annotations."""

from __future__ import annotations

import difflib
import inspect
import types
import typing
from collections.abc import Callable, Mapping, Sequence
from typing import Any

FREE_KEYS = ("progress", "paths.data_dir", "paths.cache_dir", "paths.log_dir")
"""What may be said of a run that goes on: it changes nothing that is learnt."""
RUN_GROUPS = ("data", "cleaning", "label", "split", "features")
"""Groups of the config that say how a log is prepared: `evaluate.py run=DIR` takes them from the run."""


def check_types(target: Callable[..., Any], values: Mapping[str, Any], where: str) -> None:
    """Refuse values that cannot be what the annotations of a class or function say.

    Raises:
        ValueError: Naming the key below `where`, what it must be, and what it is.
    """
    try:
        hints = typing.get_type_hints(target.__init__ if inspect.isclass(target) else target)
    except NameError:  # annotations that only a type checker can read
        return
    for key, value in values.items():
        if key in hints and not _fits(value, hints[key]):
            raise ValueError(f"{where}.{key} must be {_in_words(hints[key])}, got {value!r}")


def _fits(value: Any, hint: Any) -> bool:
    """Whether a plain value may stand where a builtin type is expected; other types are left to their constructor."""
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return any(_fits(value, one) for one in inner)
    if kind in (list, Sequence) and isinstance(value, list):
        return not inner or all(_fits(one, inner[0]) for one in value)
    known = {list: list, Sequence: list, dict: dict, Mapping: dict}.get(kind or hint)
    if known is not None:
        values = value.values() if isinstance(value, dict) else ()
        return isinstance(value, known) and all(_fits(one, inner[1]) for one in values if len(inner) == 2)
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if hint in (bool, str, types.NoneType) else True


def _in_words(hint: Any) -> str:
    words = {float: "a number", int: "a whole number", bool: "true or false", str: "text", types.NoneType: "null"}
    kind, inner = typing.get_origin(hint), typing.get_args(hint)
    if kind in (typing.Union, types.UnionType):
        return " or ".join(_in_words(one) for one in inner)
    if kind in (list, Sequence) or hint is list:
        return f"a list of which each is {_in_words(inner[0])}" if inner else "a list"
    if kind in (dict, Mapping) or hint is dict:
        return f"keys of which each has {_in_words(inner[1])}" if len(inner) == 2 else "keys with values"
    return words.get(hint, getattr(hint, "__name__", str(hint)))


def closest(word: str, choices: list[str]) -> str:
    """`: did you mean 'x'?` or the choices, to end an error with."""
    near = difflib.get_close_matches(word, choices, n=1)
    return f": did you mean {near[0]!r}?" if near else f"; choose from {', '.join(sorted(choices))}"


def at_least_one(name: str, value: int) -> None:
    """Refuse a number below 1."""
    if value < 1:
        raise ValueError(f"{name} must be at least 1, got {value}")


def one_of(name: str, value: str, choices: tuple[str, ...]) -> None:
    """Refuse a word that is none of the choices."""
    if value not in choices:
        raise ValueError(f"{name}={value} is not known{closest(value, list(choices))}")
