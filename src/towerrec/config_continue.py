"""Settings of a run that goes on from another one: what is not said is as it was there."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from towerrec.config_types import one_of
from towerrec.resuming import unquoted

WORD = "continue_from="
_PLACE = "hydra.run.dir="

UNSAID = ("best", 1.0)
GROUPS = (
    "data",
    "cleaning",
    "label",
    "split",
    "features",
    "model",
    "loss",
    "negatives",
    "optimizer",
)
"""Groups that the earlier run decides where the command line says nothing of them; `data` also where it names the same
source again, since the files of new days are read as those of the old ones were (columns, separators, side tables)."""

LOGS = ("interactions", "train", "val", "test")
"""Keys of the files of a log: whoever names one of them means these files and no others."""

KEPT_EVAL = ("candidates", "positive", "ks", "gain", "gain_clip")
KEPT_LOADER = ("unit", "history_length", "target_share", "micro_batch")


# What was chosen for `data`, as Hydra notes it in `.hydra/hydra.yaml`.
_SOURCE = re.compile(r"^ +choices:\n(?: +.*\n)*? +data: ([a-z_]+)$", re.MULTILINE)


def arguments(words: Sequence[str]) -> list[str]:
    """The words for Hydra of a command that goes on from a run: the source of its log too, where they name none.

    Else Hydra would look for the keys of the new log (`data.interactions=FILE`) in the source that nobody has chosen.

    Raises:
        ValueError: The new run is to stand where that run is, which Hydra would overwrite.
    """
    said = [word.removeprefix(WORD) for word in words if word.startswith(WORD)]
    if not said:
        return list(words)
    run, *places = (
        Path(unquoted(word)).expanduser().resolve()
        for word in (said[-1], *(word.removeprefix(_PLACE) for word in words if word.startswith(_PLACE)))
    )
    if run in places:
        raise ValueError(f"{_PLACE}{run} is the run that training goes on from and would be lost: choose another place")
    noted = run / ".hydra" / "hydra.yaml"
    if any(word.lstrip("+").startswith(("data=", "experiment=")) for word in words) or not noted.is_file():
        return list(words)
    found = _SOURCE.search(noted.read_text(encoding="utf-8", errors="replace"))
    return [*words, *([] if found is None else [f"data={found[1]}"])]


def inherit(config: Any, before: Any, spoken: Sequence[str]) -> dict[str, Any]:
    """Put the settings of an earlier run into a config; returns what came from there, by group.

    Args:
        config: `TrainConfig` as it was composed; changed in place.
        before: That of the earlier run.
        spoken: Keys that the command line names.

    Raises:
        ValueError: An experiment is chosen too, or a key is changed that the run did not have.
    """
    if "experiment" in spoken:
        raise ValueError(
            "continue_from takes the settings of the run it goes on from, experiment= brings others: leave it out, and "
            "say what is to change key by key"
        )
    settled: dict[str, Any] = {}
    for group in GROUPS:
        if group not in spoken or (group == "data" and _same_source(config, before)):
            settled[group] = _with_keys(getattr(before, group), getattr(config, group), group, spoken)
            setattr(config, group, settled[group])
    # Whether a log is prepared in chunks follows from its size, and this is another one.
    for name in (*LOGS, "streaming") if any(f"data.{log}" in spoken for log in LOGS) else ():
        if f"data.{name}" not in spoken and name in config.data:
            config.data[name] = None
    for group, keys in (("eval", KEPT_EVAL), ("loader", KEPT_LOADER)):
        ours, theirs = getattr(config, group), getattr(before, group)
        for key in keys:
            if f"{group}.{key}" not in spoken:
                setattr(ours, key, getattr(theirs, key))
        settled[group] = {key: getattr(ours, key) for key in keys}
    return settled


def check_continue(config: Any) -> None:
    """Refuse words and shares that are none.

    Raises:
        ValueError: Naming the key.
    """
    one_of("continue_checkpoint", config.continue_checkpoint, ("best", "last"))
    if not 0.0 <= config.continue_replay <= 1.0:
        raise ValueError(f"continue_replay is a share of the older rows, from 0 to 1, got {config.continue_replay}")
    if config.continue_from is None and (config.continue_checkpoint, config.continue_replay) != UNSAID:
        raise ValueError("continue_checkpoint and continue_replay belong to continue_from=DIR, which is missing")


def _same_source(config: Any, before: Any) -> bool:
    return bool(config.data.get("_target_") == before.data.get("_target_"))


def _with_keys(before: dict[str, Any], now: dict[str, Any], group: str, spoken: Sequence[str]) -> dict[str, Any]:
    made = _copy(before)
    for full in spoken:
        if full.startswith(f"{group}."):
            _put(made, now, full.split(".")[1:], full)
    return made


def _put(target: dict[str, Any], source: dict[str, Any], path: list[str], full: str) -> None:
    for part in path[:-1]:
        source, target = source[part], target.setdefault(part, {})
    target[path[-1]] = source[path[-1]]


def _copy(value: Any) -> Any:
    return {key: _copy(inner) for key, inner in value.items()} if isinstance(value, dict) else value
