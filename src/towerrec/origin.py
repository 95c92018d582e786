"""The run that training goes on from, and what the new run keeps of it in its own directory.

A log that goes on after a run is prepared with what that run knew: its encoders, its users and items, and what they
did. A run that went on needs that whenever it is judged, and the weights that it began with where it was stopped. So it
keeps catalogue and checkpoint of the earlier run under `origin/`, laid out as a run directory: hard links, which take
no room, or copies where the file system has none. The earlier directory may be moved or deleted.
"""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from towerrec import distributed
from towerrec.checkpoint import CheckpointMeta, find_checkpoint, load_model
from towerrec.command_words import command_word
from towerrec.config import DataTaskConfig, EvaluateConfig, TrainConfig
from towerrec.data.artefacts import read_json
from towerrec.data.cache import MANIFEST, damage
from towerrec.data.catalogue import Catalogue, load_catalogue
from towerrec.data.learning_rows import Earlier
from towerrec.data.past import HeldOut, Past
from towerrec.data.store import InteractionStore
from towerrec.files import make_folder, whole_directory
from towerrec.nn.ensemble import Model
from towerrec.run_directory import RunDirectory
from towerrec.schema import fingerprint

CONTINUED = "continued_from"
"""Key of `run.json` that tells what a run went on from."""
KEPT = "origin"
"""Folder of a run directory that holds what is kept of the run it went on from."""


HELD_OUT = "held_out"
"""In it: the rows that the earlier run held out."""


@dataclass(frozen=True)
class Origin:
    """The run that training goes on from, read when it is asked for.

    Args:
        run: Where it is read: its directory, or what another run keeps of it.
        path: Its directory, as it was called when training went on.
        checkpoint: `best` or `last`.
    """

    run: RunDirectory
    path: Path
    checkpoint: str = "best"

    @property
    def shown(self) -> Path:
        """Its directory as a person would type it."""
        return RunDirectory(self.path).shown

    @cached_property
    def catalogue(self) -> Catalogue:
        """Its users and items, and what they did."""
        return load_catalogue(self.run.catalogue)

    @cached_property
    def loaded(self) -> tuple[Model, CheckpointMeta]:
        """Its towers."""
        return load_model(find_checkpoint(self.run.checkpoints, self.checkpoint), expect=self.catalogue.schema)

    @cached_property
    def past(self) -> Past:
        """What preparing a log reads of it."""
        held = self.catalogue
        return Past(
            tables=held,
            seen=held.seen,
            history=held.history,
            profiles=held.profiles,
            in_log=held.in_log,
            # Sizes and checksums of all of its files.
            key=fingerprint(read_json(self.run.catalogue / MANIFEST)),
            held_out=self.held_out,
        )

    @cached_property
    def held_out(self) -> HeldOut | None:
        """Its validation and test rows, from its prepared log or from what another run keeps of it; None where that log
        was not in the cache any more."""
        if self.run.root != self.path:
            kept = self.run.root / HELD_OUT
            return HeldOut.load(kept) if kept.is_dir() else None
        place = Path(self.run.facts().get("cache", ""))
        if damage(place) is not None:
            return None
        return HeldOut.of(InteractionStore.open(place / "store"), self.catalogue.positive)

    def earlier(self) -> tuple[Earlier, ...]:
        """The prepared log of the run and, where that held new days alone, those of the runs before it.

        Raises:
            ValueError: One of them is not in the cache any more.
        """
        found = []
        for run in self._chain():
            place = Path(run.get("cache", ""))
            if (missing := damage(place)) is not None:
                again = f"{command_word('run', run['path'])} {command_word('paths.cache_dir', place.parent)}"
                raise ValueError(
                    "continue_from: this log holds the new days alone, and rows of the old ones are to be learnt again "
                    f"beside them, but the prepared log of {run['path']} is not in the cache any more "
                    f"({place}: {missing}). Prepare it again (python evaluate.py {again}), give the old days with the "
                    "new ones, or learn from the new ones alone (continue_replay=0), by which users without new rows "
                    "lose"
                )
            found.append(Earlier.open(place))
            if run.get("holds_old_days"):
                break
        return tuple(found)

    def facts(self) -> dict[str, Any]:
        """For `run.json`: which run, what it had learnt, and the runs before it, latest first."""
        meta, before = self.loaded[1], self.run.facts()
        this = {
            **self._chain()[0],
            "checkpoint": self.checkpoint,
            "fingerprint": fingerprint([self.past.key, meta.fingerprint, meta.epoch, meta.step]),
            "log": before["fingerprint"],
            "epochs": meta.epoch + 1 if meta.step > 0 else 0,
            "users": before["users"],
            "items": before["items"],
        }
        chain = self._chain()[1:]
        epochs_before = this["epochs"] + sum(run["epochs"] for run in chain)
        return {**this, "epochs_before": epochs_before, "chain": chain}

    def _chain(self) -> list[dict[str, Any]]:
        """The run and those before it, latest first: directory, prepared log, and whether that held the old days."""
        facts = self.run.facts()
        this = {"path": str(self.path), "cache": facts.get("cache", ""), "holds_old_days": True}
        if CONTINUED not in facts:
            return [this]
        this["holds_old_days"] = self.catalogue.meta["continued"]["holds_old_days"]
        before = dict(facts[CONTINUED])
        chain = before.pop("chain")
        return [this, before, *chain]


def origin_of(cfg: DataTaskConfig) -> Origin | None:
    """The run that a config goes on from: as it says itself, or as the run says that it judges."""
    if isinstance(cfg, TrainConfig):
        if cfg.continue_from is None:
            return None
        path = Path(cfg.continue_from)
        # Whoever goes on with a run that was stopped begins with what that began with.
        kept = None if cfg.run is None else Path(cfg.run) / KEPT
        run = RunDirectory(kept) if kept is not None and kept.is_dir() else RunDirectory.open(path)
        return Origin(run, path, cfg.continue_checkpoint)
    if isinstance(cfg, EvaluateConfig) and cfg.run is not None:
        before = RunDirectory.open(cfg.run).facts().get(CONTINUED)
        if before is not None:
            path = Path(before["path"])
            return Origin(_kept_or_there(Path(cfg.run), path), path, before["checkpoint"])
    return None


def _kept_or_there(run: Path, path: Path) -> RunDirectory:
    if (run / KEPT).is_dir():
        return RunDirectory.open(run / KEPT)
    if path.is_dir():
        return RunDirectory.open(path)
    raise ValueError(
        f"run={run} went on from {path}, and its log is prepared with what that run knew, but {run / KEPT} is missing "
        "and that run is not there either: copy the whole run directory anew (recommend.py needs neither)"
    )


def keep(origin: Origin | None, run: RunDirectory) -> Origin | None:
    """Keep in a run directory what a run needs of the one it goes on from, which is read there from now on; of several
    processes the first does that.

    Raises:
        OSError: It cannot be written.
    """
    place = run.root / KEPT
    if origin is None or origin.run.root == place or distributed.rank() != 0:
        return origin
    source = origin.run
    checkpoint = find_checkpoint(source.checkpoints, origin.checkpoint)
    files = [source.facts_file, checkpoint, *(path for path in source.catalogue.rglob("*") if path.is_file())]
    # What it holds is brought to the disk already, or is checked when it is read.
    with whole_directory(place, marker=source.facts_file.name, durable=False) as filled:
        for path in files:
            target = filled / path.relative_to(source.root)
            make_folder(target.parent)
            _linked(path.resolve(), target)
        if origin.held_out is not None:
            origin.held_out.save(filled / HELD_OUT)
    return replace(origin, run=RunDirectory(place))


def _linked(source: Path, target: Path) -> None:
    """A second name for a file, which nobody changes in place; a copy where the file system gives it none."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
