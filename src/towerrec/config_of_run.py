"""The config that a run left, as somebody else may have changed it: read without running anything that it names.

A config says by `_target_` which class is to be built. On the command line that is the user's own word; in a run
directory from elsewhere it is not, so that only classes of towerrec, PyTorch and Lightning are taken from there.
"""

from __future__ import annotations

import importlib
import inspect
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml  # comes with Hydra and Lightning
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from towerrec.wording import reason_of, shortened

TRUSTED = ("towerrec", "torch", "lightning")
TRUST = "TOWERREC_TRUST"
"""Environment variable: further packages whose classes a run's config may name, separated by commas."""
_STANDARD, _PYTHON = "tag:yaml.org,2002:", "tag:yaml.org,2002:python"
_PLAIN = re.compile(r"\$\{(?:[\w./\[\]@-]+|(?:now|hydra|oc\.env):[^${}]*)\}")
_FUNCTION = re.compile(r"\$\{[^${}]*:")
_LONGEST = 2**20
_DEEPEST = 50


def read_config(path: Path) -> DictConfig:
    """What `.hydra/config.yaml` of a run says, interpolations as they stand.

    Raises:
        ValueError: It is missing or no YAML of keys and values; it has tags that build objects, aliases, which can
            unfold without end, or is nested beyond reason; or a `_target_` is no class of a package that is trusted.
    """
    if not path.is_file():
        raise ValueError(f"{path} is missing: give the run directory that train.py printed")
    if path.stat().st_size > _LONGEST:
        raise ValueError(f"{path} has {path.stat().st_size:,} bytes, which no run of train.py has written")
    try:
        strange = _strange(path)
        loaded = OmegaConf.load(path) if strange is None else None
        plain = OmegaConf.to_container(loaded, resolve=False) if strange is None else {}
    except (yaml.YAMLError, OmegaConfBaseException, ValueError, TypeError) as error:
        raise _damaged(path, reason_of(error)) from error
    except OSError as error:
        if error.errno is not None:
            raise
        raise _damaged(path, reason_of(error)) from error  # OmegaConf's word for a file that holds a number
    if strange is not None:
        raise _damaged(path, strange)
    if not isinstance(loaded, DictConfig) or not isinstance(plain, dict):
        raise _damaged(path, "it holds no keys with values")
    for where, target in _targets(plain, ""):
        _check_target(path, where, target)
    return loaded


def with_value(path: Path, key: str, value: Any) -> str:
    """The text of such a file with one key changed, interpolations as they stand."""
    config = read_config(path)
    OmegaConf.update(config, key, value)
    return OmegaConf.to_yaml(config)


def _damaged(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} cannot be read as the config of a run ({why}): copy the run directory anew")


def _strange(path: Path) -> str | None:
    """What no run writes, found in the YAML as it is parsed, before anything is made of it."""
    depth = 0
    with path.open(encoding="utf-8") as file:
        for event in yaml.parse(file, Loader=yaml.SafeLoader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _DEEPEST:
                return f"it is nested more than {_DEEPEST} deep"
            if _asks(getattr(event, "value", None)):
                return f"{shortened(event.value)!r} asks for more than another key"
            if isinstance(event, yaml.AliasEvent):
                return "it has aliases"
            tag = getattr(event, "tag", None)
            if tag is not None and (tag.startswith(_PYTHON) or not tag.startswith(_STANDARD)):
                return f"tag {shortened(tag)!r} would build an object"
    return None


def _asks(value: Any) -> bool:
    """Whether a text holds an interpolation that is neither a key nor one of the harmless functions: `oc.decode` say
    makes anything of text, a `_target_` too. One that is escaped is text, and yet no run writes it of a function:
    whoever resolves a config twice would ask."""
    if not isinstance(value, str):
        return False
    alive = _without_plain(value.replace("\\\\", "").replace("\\${", ""))
    return "${" in alive or _FUNCTION.search(_without_plain(value.replace("\\", ""))) is not None


def _without_plain(text: str) -> str:
    rest, before = text, ""
    while rest != before:  # from the innermost outwards
        rest, before = _PLAIN.sub("", rest), rest
    return rest


def _targets(node: Any, where: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "_target_":
                yield where, value
            else:
                yield from _targets(value, f"{where}.{key}".lstrip("."))
    elif isinstance(node, list):
        for place, value in enumerate(node):
            yield from _targets(value, f"{where}[{place}]")


def _check_target(path: Path, where: str, target: Any) -> None:
    """Refuse what is no class of a trusted package; the name is looked up, for it may lead through to another one."""
    trusted = (*TRUSTED, *filter(None, os.environ.get(TRUST, "").split(",")))
    package = str(target).partition(".")[0]
    found = _class_of(str(target)) if package in trusted else None
    if found is None or found.__module__.partition(".")[0] not in trusted:
        raise ValueError(
            f"{path}: {shortened(where)}._target_={shortened(str(target), 100)} is no class of {', '.join(trusted)}, "
            "and a run directory may come from anywhere. Where it is your own and you trust it, say so: set the "
            f"environment variable {TRUST}={shortened(package)}"
        )


def _class_of(target: str) -> Any:
    """The class of that name, or the function that makes a callback; None where it is neither."""
    module, _, name = target.rpartition(".")
    try:
        found = getattr(importlib.import_module(module), name, None)
    except (ImportError, ValueError):
        return None
    makes_callback = inspect.isfunction(found) and found.__module__ == "towerrec.callbacks"
    return found if inspect.isclass(found) or makes_callback else None
