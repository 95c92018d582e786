"""A mistake of the user in words for somebody who does not know Hydra."""

from __future__ import annotations

import difflib
import errno
import os

from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from omegaconf import DictConfig
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from towerrec.command_words import command_word
from towerrec.wording import clipped

# What OmegaConf adds below a message: types of ours, which tell a user nothing.
_DETAILS = ("full_key:", "reference_type=", "object_type=")
_LIST_IN_WORDS = ("Invalid value assigned: str is not a ListConfig, list or tuple.", "needs a list: [first,second]")
_GONE = (
    "is not there, or no longer: start again; a run goes on with python train.py run=DIR, and a cache that was removed "
    "meanwhile is made again"
)
_ROOM = (
    "make room or rights there, or choose another place (paths.data_dir, paths.cache_dir, paths.log_dir, output); "
    "what was complete before is as it was"
)


def is_users(error: BaseException) -> bool:
    """Whether an error is about input, config or the machine (full disk, no permission), not about our code."""
    return isinstance(error, ValueError | OSError | HydraException | OmegaConfBaseException)


def message(error: BaseException) -> str:
    """The error and what caused it, each once, in words for somebody who does not know Hydra."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = _plain(current)
        if text and not any(text in part for part in parts):
            parts.append(text)
        current = None if _says_all(current) else current.__cause__
    lines = "\n".join(parts).splitlines()
    return "\n".join(map(clipped, lines)) or type(error).__name__


def _says_all(error: BaseException) -> bool:
    """Our own messages hold what is worth knowing of their cause; so do those that are put in other words here."""
    return type(error) is ValueError or isinstance(error, OSError | HydraException)


def _plain(error: BaseException) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_such_choice(error.missing_cfg_file, list(error.options or []))
    if isinstance(error, OverrideParseException):
        return _unread(str(error.override), _first_line(error))
    if isinstance(error, HydraException) and isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
        return _no_such_key(error.__cause__)
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        override = _first_line(error).removeprefix("Error merging override ")
        reason = _first_line(error.__cause__).replace(*_LIST_IN_WORDS)
        return f"{override}: {reason}"
    if isinstance(error, OSError) and error.errno and error.strerror:
        if error.strerror != os.strerror(error.errno):  # our own words
            return error.strerror
        if error.errno == errno.ENOENT:
            return f"{error.filename or 'a file'} {_GONE}"
        return f"{error.filename or 'a file'} could not be read or written ({error.strerror}): {_ROOM}"
    lines = [line for line in str(error).strip().splitlines() if not line.strip().startswith(_DETAILS)]
    return "\n".join(lines).strip()


def _unread(override: str, reason: str) -> str:
    key, found, value = override.partition("=")
    such = command_word(key, value) if found and value[:1] not in "[{\"'" else "'key=\"text\"'"
    return (
        f"cannot read {override!r} as group=option or key=value: quote what your shell would take apart, and put text "
        f"with special characters in quotes of its own: {such} ({reason})"
    )


def _no_such_choice(wanted: str, options: list[str]) -> str:
    group, _, choice = wanted.rpartition("/")
    if (group, choice) == ("hydra/launcher", "joblib"):
        return 'hydra/launcher=joblib runs jobs side by side with the library of that name: pip install -e ".[sweeps]"'
    if not options:
        return f"{group}={choice} is not known: there is no file {wanted}.yaml under conf/"
    return f"{group}={choice} is not known{_nearest(choice, options)}"


def _no_such_key(error: OmegaConfBaseException) -> str:
    key, full = str(error.key), str(error.full_key or error.key)
    place = full.removesuffix(key)
    there = [str(name) for name in error.parent_node] if isinstance(error.parent_node, DictConfig) else []
    shown = [f"{place}{name}" for name in there if not name.startswith("_")]
    if not shown:
        return f"{full} is not there yet: to add it, write +{full}=..."
    near = difflib.get_close_matches(full, shown, n=1)
    return f"{full} is not a key of the config{f': did you mean {near[0]!r}?' if near else _nearest(full, shown)}"


def _nearest(word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1)
    hint = f": did you mean {near[0]!r}? Choose" if near else "; choose"
    return f"{hint} from {', '.join(sorted(choices))}" if choices else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]
