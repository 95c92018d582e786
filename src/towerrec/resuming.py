"""Going on with a run that was stopped: `python train.py run=DIR`, wherever it was stopped and by whatever.

A run goes on with its own settings (`DIR/.hydra/config.yaml`), from the place that `last.ckpt` holds, and ends as the
run that nobody stopped: on a CPU to the last bit. What was not finished is done again whole: the preparation of the
log (its cache appears whole or not at all), the steps since the last checkpoint, the judgement. `begun.json`, the first
file of a run, says what it is.

What stands here is looked at before Hydra makes or writes anything, so nothing heavy is imported.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from towerrec import distributed, longer, sweep_jobs
from towerrec.command_words import command_word
from towerrec.config_types import FREE_KEYS
from towerrec.files import read_json, read_object, write_json
from towerrec.sweep_jobs import BEGUN

log = logging.getLogger(__name__)

WORD = "run="

_MULTIRUN = {"-m", "--multirun"}
_HOLDS = {"settings": str, "working_directory": str, "conditions": dict, "resumed": list, "settled": dict}


def arguments(argv: Sequence[str]) -> list[str] | None:
    """The words for Hydra of a command that goes on with a run; others as they are. None: there is nothing to do.

    The run directory becomes that of this job, and its `.hydra` stays as it is but for the number of epochs, where
    another one is asked for (`longer`).

    Raises:
        ValueError: No run of `train.py`, a run that another process is working on, or words that would change it.
    """
    words = [word for word in argv[1:] if word.startswith(WORD)]
    if not words:
        return list(argv)
    root = Path(unquoted(words[-1].removeprefix(WORD)))
    others = [word for word in argv[1:] if not word.startswith((WORD, longer.WORD))]
    if distributed.rank() == 0:
        _refuse_changes(root, others)
        check(root)
        _begun(root)
        epochs = longer.asked(argv[1:])
        if epochs is None and is_finished(root):
            print(_finished(root))
            return None
        sweep_jobs.hold(root)
        if epochs is not None and not _lengthened(root, epochs):
            print(_finished(root))
            return None
    directory = _quoted(str(root.resolve()))
    return [argv[0], *others, f"{WORD}{directory}", f"hydra.run.dir={directory}", "hydra.output_subdir=null"]


def check(root: Path) -> None:
    """Refuse what is no run directory.

    Raises:
        ValueError: It says what is there instead.
    """
    if not root.is_dir():
        raise ValueError(f"run={root}: there is no such directory; train.py prints the run directory last")
    if (root / "multirun.yaml").is_file():
        raise ValueError(
            f"run={root} is a sweep: start it again with its own command and hydra.sweep.dir={root}, then jobs that "
            "were interrupted go on and finished ones are skipped"
        )
    config = root / ".hydra" / "config.yaml"
    if not (root / BEGUN).is_file() or not config.is_file():
        held = ", ".join(sorted(path.name for path in root.iterdir())[:8]) or "nothing"
        raise ValueError(
            f"run={root} is not a run of train.py that could go on: {BEGUN} or .hydra/config.yaml is missing (it holds "
            f"{held}); start it anew with its command"
        )


def _begun(root: Path) -> dict[str, Any] | None:
    """What `begun.json` says; None where there is none.

    Raises:
        ValueError: It is damaged.
    """
    path = root / BEGUN
    if not path.is_file():
        return None
    try:
        found = read_object(path)
    except ValueError:
        found = {}
    if any(not isinstance(found.get(name), kind) for name, kind in _HOLDS.items()):
        raise ValueError(
            f"{path} is damaged, it has not what a run writes there: copy the run directory anew, or start another "
            f"run: {longer.anew(root)}"
        )
    return found


def has_begun(root: Path) -> bool:
    """Whether a directory is that of a run, perhaps of one that is over."""
    return (root / BEGUN).is_file()


def is_finished(root: Path) -> bool:
    """Whether a run directory has its end: nothing is left to do there."""
    return sweep_jobs.state(root) in ("finished", "pruned")


def begin(root: Path, config: Mapping[str, Any], facts: Mapping[str, Any], *, asked: bool) -> dict[str, Any]:
    """Begin a run in its directory, or note that it goes on, and return what `begun.json` says.

    A job of a sweep goes on where a former start left it, if it is asked for the same settings.

    Args:
        root: The run directory.
        config: All settings, plain builtins.
        facts: Conditions of this process (`run_directory.environment`).
        asked: Whether it was asked for by `run=`.
    """
    path, settings = root / BEGUN, _digest(config)
    before = _begun(root)
    if before is not None and (asked or before["settings"] == settings) and not is_finished(root):
        now = {"started": facts["started"], "command": facts["command"]}
        begun = {**before, "settings": settings, "resumed": [*before["resumed"], now]}
        _say_conditions(before["conditions"], facts)
    else:
        _forget(root)
        begun = {
            "what": "a run of towerrec's train.py: python train.py run=DIR goes on with it",
            "settings": settings,
            "working_directory": str(Path.cwd()),
            "begun": time.time(),
            "conditions": dict(facts),
            "resumed": [],
            "settled": {},
        }
    write_json(path, begun)
    return begun


def return_to(root: Path) -> None:
    """Go to the working directory in which a run began: its settings hold relative paths."""
    begun, here = _begun(root), Path.cwd()
    there = here if begun is None else Path(begun["working_directory"])
    if there == here:
        return
    if there.is_dir():
        log.info(f"working directory: {there}, where the run began")
        os.chdir(there)
    else:
        log.info(f"the run began in {there}, which is not here: its relative paths are looked for in {here}")


def settled(root: Path) -> dict[str, Any]:
    """What an earlier start of the run has found out and decided; empty where there was none."""
    begun = _begun(root)
    found: dict[str, Any] = {} if begun is None else begun["settled"]
    return found


def settle(root: Path, **found: Any) -> None:
    """Keep what was found out, so that a run which goes on need not find it out again, perhaps otherwise."""
    begun = _begun(root) if distributed.rank() == 0 else None
    if begun is not None and begun["settled"] != begun["settled"] | found:
        write_json(root / BEGUN, {**begun, "settled": begun["settled"] | found})


def same_log(root: Path, fingerprint: str, prepared: Path) -> None:
    """Keep the fingerprint of the prepared log; a run goes on with that log only.

    Files that were copied have other times, and a fingerprint knows times: then what was prepared from them decides.

    Args:
        root: The run directory.
        fingerprint: Of the log's files and of the settings by which it was prepared.
        prepared: The folder with what was prepared.

    Raises:
        ValueError: The log is another one now.
    """
    before, content = settled(root), _content(prepared)
    known = before.get("fingerprint")
    if known is not None and known != fingerprint and before.get("content") == content:
        log.info("the files of the log have another place or time than when the run began, and hold the same")
    elif known is not None and known != fingerprint:
        raise ValueError(
            f"run={root} began on a log with the fingerprint {known[:12]}, now it has {fingerprint[:12]}: its files, "
            "or what is computed from them, have changed. Put them back as they were, or start another run"
        )
    settle(root, fingerprint=fingerprint, content=content)


def _content(prepared: Path) -> str:
    """The checksums of all that is learnt from, as one; the report tells seconds and places too."""
    files = read_object(prepared / "complete.json")["files"]
    learnt = {name: stamp for name, stamp in files.items() if name not in ("report.json", "meta.json")}
    return hashlib.sha256(json.dumps(learnt, sort_keys=True).encode()).hexdigest()


def how_to_go_on(root: Path) -> str:
    """The command that goes on with a run."""
    here = Path.cwd()
    shown = root.relative_to(here) if root.is_relative_to(here) else root
    return f"python train.py {command_word('run', shown)}"


def hint(held: Sequence[Path]) -> str:
    """How to go on with what was interrupted, for the end of a line; a sweep says it itself."""
    runs = [place for place in held if (place / BEGUN).is_file() and not is_finished(place)]
    swept = any((place / "multirun.yaml").is_file() for place in held)
    return "" if swept or len(runs) != 1 else f"; to go on: {how_to_go_on(runs[0])}"


def tidy(root: Path) -> None:
    """Remove what only a run that is not finished needs."""
    for path in (root / "checkpoints").rglob("last-*.ckpt"):
        path.unlink(missing_ok=True)


def _forget(root: Path) -> None:
    """A run that begins anew in a directory must not find the end or the checkpoints of another."""
    for name in ("run.json", "metrics.json", sweep_jobs.PRUNED):
        (root / name).unlink(missing_ok=True)
    for path in (root / "checkpoints").rglob("last*.ckpt"):
        path.unlink()


def _lengthened(root: Path, epochs: int) -> bool:
    """Whether a run that was asked to have that many epochs has anything left to do."""
    longer.allow(root, epochs)
    if longer.lengthen(root, epochs):
        print(f"{root} ends as a run that was started with {longer.WORD}{epochs}")
    return not is_finished(root)


def _refuse_changes(root: Path, words: Sequence[str]) -> None:
    if _MULTIRUN & set(words):
        raise ValueError(f"run={root} goes on with one run: leave out -m")
    for word in words:
        key = word.partition("=")[0].lstrip("+~")
        if word.startswith("-") or key in FREE_KEYS or key.startswith("hydra."):
            continue
        raise ValueError(
            f"{word}: run={root} goes on with the run's own settings, so that it ends as if it had not been stopped; "
            f"beside it only {', '.join(FREE_KEYS[:-1])} may be said, and with trainer.max_epochs=N another number of "
            "epochs. For other settings start another run"
        )


def _finished(root: Path) -> str:
    command = how_to_go_on(root).removeprefix("python train.py ")
    if (root / sweep_jobs.PRUNED).is_file():
        return f"{(root / sweep_jobs.PRUNED).read_text(encoding='utf-8').strip()}: {root} is over, nothing was changed"
    facts = read_json(root / "run.json")
    best = "" if facts.get("monitored") is None else f", {facts['monitor']} {facts['monitored']:.4f}"
    return (
        f"{root} is finished ({facts['epochs']} epochs{best}): nothing was changed\n"
        f"next:\n  python recommend.py {command}\n  python evaluate.py {command}"
    )


def _say_conditions(then: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """One line where a run goes on under conditions that may change its last digits."""
    changed = []
    for name in ("python", "machine", "git_commit", "threads", "accelerator"):
        if name in then and then[name] != now.get(name):
            changed.append(f"{name} {then[name]} then, {now.get(name)} now")
    for name, version in then.get("versions", {}).items():
        if now["versions"].get(name) != version:
            changed.append(f"{name} {version} then, {now['versions'].get(name)} now")
    if changed:
        log.info(f"not as it began: {'; '.join(changed)}. What it ends with may differ in the last digits")


def _digest(config: Mapping[str, Any]) -> str:
    learnt = {name: value for name, value in config.items() if name not in ("run", "progress", "paths")}
    return hashlib.sha256(json.dumps(learnt, sort_keys=True, default=str).encode()).hexdigest()


def _quoted(text: str) -> str:
    """Text as a value in Hydra's grammar."""
    escaped = text.replace("\\", "\\\\").replace('"', '\\"').replace("${", "\\${")
    return f'"{escaped}"'


def unquoted(word: str) -> str:
    """A path as it was said, also in quotes for Hydra."""
    if len(word) > 1 and word[0] == word[-1] and word[0] in "\"'":
        quote = word[0]
        return word[1:-1].replace("\\${", "${").replace(f"\\{quote}", quote).replace("\\\\", "\\")
    return word
