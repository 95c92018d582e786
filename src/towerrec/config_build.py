"""How a config becomes objects: the classes that its nodes name in `_target_`, their keywords checked before."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any, cast

from hydra.errors import InstantiationException
from hydra.utils import get_object, instantiate

from towerrec.command_words import escaped
from towerrec.config_types import check_types, closest
from towerrec.wording import reason_of, shortened


def build(node: Mapping[str, Any], where: str, /, **more: Any) -> Any:
    """Build what a config node names in `_target_`: the only call of Hydra's `instantiate`.

    Lists and dicts arrive as plain builtins.

    Args:
        node: The config node.
        where: Its key, for messages.
        more: Objects that no config can hold.

    Raises:
        ValueError: For a key that the class does not take, or a value of another type than it takes.
    """
    plain = dict(node)
    target = plain.get("_target_")
    if not isinstance(target, str):
        raise ValueError(f"{where}: {plain} has no _target_ that names a class: choose one of the options of the group")
    located = _locate(target)
    _check_keywords(located, {**plain, **more}, where)
    check_types(located, plain, where)
    _check_inner(plain, where)
    try:
        return instantiate(_as_they_stand(plain), _convert_="all", **more)
    except InstantiationException as error:
        if error.__cause__ is None:
            raise
        raise error.__cause__ from None


def _as_they_stand(value: Any) -> Any:
    """Values whose texts refer to no key: what did has its value by now, and a path may be called `${a}`."""
    if isinstance(value, str):
        return escaped(escaped(value))  # Hydra resolves the whole node first, and then each value as it takes it
    if isinstance(value, Mapping):
        return {key: _as_they_stand(inner) for key, inner in value.items()}
    return [_as_they_stand(inner) for inner in value] if isinstance(value, list) else value


def _check_inner(values: Mapping[str, Any], where: str) -> None:
    """The same checks for objects inside an object, such as the parts of a loss."""
    for key, value in values.items():
        if isinstance(value, Mapping):
            if isinstance(value.get("_target_"), str):
                located = _locate(value["_target_"])
                _check_keywords(located, value, f"{where}.{key}")
                check_types(located, value, f"{where}.{key}")
            _check_inner(value, f"{where}.{key}")


def _check_keywords(target: Callable[..., Any], keywords: Mapping[str, Any], where: str) -> None:
    for key in ("_partial_", "_recursive_"):
        if not isinstance(keywords.get(key, False), bool):
            raise ValueError(f"{where}.{key} must be true or false, got {keywords[key]!r}")
    if "_args_" in keywords:
        raise ValueError(f"{where}._args_: values are given by name, so that each can be checked")
    parameters = inspect.signature(target).parameters
    if any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values()):
        return
    for key in keywords:
        if not key.startswith("_") and key not in parameters:
            raise ValueError(f"{where}.{key} is not known{closest(key, list(parameters))}")


def _locate(target: str) -> Callable[..., Any]:
    try:
        return cast(Callable[..., Any], get_object(target))
    except (ImportError, ValueError) as error:
        raise ValueError(f"_target_ {shortened(target)!r} cannot be imported: {reason_of(error)}") from error
