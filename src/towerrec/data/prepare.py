"""From a source to everything a run needs: read, clean, split, label, encode, store; once, then from the cache."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from towerrec import progress
from towerrec.data.artefacts import EncodedTables, load_tables, read_json, save_tables
from towerrec.data.build import STAGES, build
from towerrec.data.cache import cached
from towerrec.data.cleaning import Cleaning
from towerrec.data.features import FeatureChoice
from towerrec.data.known import ContinuedStore, first_moment
from towerrec.data.labels import Label
from towerrec.data.past import Past
from towerrec.data.sides import read_side
from towerrec.data.sources.interactions import Interactions
from towerrec.data.splits import Split
from towerrec.data.store import InteractionStore
from towerrec.data.streamed import build_streamed
from towerrec.data.tables import Source
from towerrec.ragged import UserItems
from towerrec.schema import Side, fingerprint
from towerrec.unreadable import UNFIT
from towerrec.wording import reason_of

# Goes up with any change of what is cached or of how it is computed.
CACHE_VERSION = 7


@dataclass
class Prepared(EncodedTables):
    """Encoded tables, the packed log and the data report.

    Args:
        store: The log.
        report: The data report, plain builtins.
        directory: Where all of it is cached.
        from_cache: Whether it was there before.
        seconds: Time it took to come by it.
    """

    store: InteractionStore
    report: dict[str, Any]
    directory: Path
    from_cache: bool
    seconds: float

    def joined(self) -> Prepared:
        """The same log whose validation rows are training rows too, for the refit of a model.

        Histories, profiles and counts that are read off the rows hold them; vocabularies, statistics, fitted labels
        and the moment `as_of_ms` stay those of the training rows, so that vectors of both models mean the same.

        Raises:
            ValueError: If there are no validation rows.
        """
        if self.store.num_rows("val") == 0:
            raise ValueError(
                "refit=true: this log has no validation rows to choose the number of epochs by, so training reads "
                "all rows already: set refit=false, or split off some rows with split.val"
            )
        return replace(self, store=self.store.joined())

    def profiles(self, kind: str) -> UserItems | None:
        """What every user did in training: `positives`, or all `rows`; `values` 1 for a positive, 0 otherwise. None
        for `none`."""
        if kind == "none":
            return None
        return self.store.profiles("train", self.positive, positives_only=kind == "positives")

    def side(self, side: Side) -> pl.DataFrame:
        """The user or item table as it was read, one row per id: what is known, whatever the features read."""
        return read_side(self.directory, side)


def prepare(
    *,
    source: Source,
    cleaning: Cleaning | None = None,
    split: Split,
    label: Label,
    features: Mapping[str, Any],
    cache_dir: str | Path,
    past: Past | None = None,
) -> Prepared:
    """Prepare a log, or open what an equal call left in the cache.

    Args:
        source: Where the tables come from.
        cleaning: Which rows leave the log; None takes every default.
        split: Which rows teach, tune and judge.
        label: What is learnt.
        features: The `features` group of the config, plain builtins, see `features.FeatureChoice`.
        cache_dir: Holds one directory per fingerprint of input files and settings.
        past: An earlier run that the log goes on after: its vocabularies grow, its users and items stay, and what they
            did is known beside the rows where the log does not hold the old days itself.

    Raises:
        ValueError: Bad input or settings, or files that changed while they were read; the message says what to do.
        OSError: The cache cannot be written; nothing is left behind.
    """
    start = time.perf_counter()
    choice = FeatureChoice.from_plain(features)
    rules = cleaning or Cleaning()
    if past is not None and streams(source):
        raise ValueError(
            "continue_from: this log is prepared in chunks (data.streaming), and a run goes on with a log in memory: "
            "give the new days alone, set data.streaming=false, or train anew"
        )
    files = stamps(source, choice)
    key = cache_key(
        source=source, cleaning=rules, split=split, label=label, features=features, choice=choice, past=past
    )
    work = partial(_build, key=key, source=source, cleaning=rules, split=split, label=label, choice=choice, past=past)
    directory, from_cache = cached(Path(cache_dir), key, partial(_fill, work, lambda: stamps(source, choice) == files))
    tables, store = load_tables(directory), InteractionStore.open(directory / "store")
    if past is not None and not tables.meta["continued"]["holds_old_days"]:
        known = past.known_in(tables.user_ids, tables.item_ids, before_ms=first_moment(store))
        store = ContinuedStore.of(store, known)
    return Prepared(
        **tables.__dict__,
        store=store,
        report=read_json(directory / "report.json"),
        directory=directory,
        from_cache=from_cache,
        seconds=time.perf_counter() - start,
    )


def cache_key(
    *,
    source: Source,
    cleaning: Cleaning,
    split: Split,
    label: Label,
    features: Mapping[str, Any],
    choice: FeatureChoice,
    past: Past | None = None,
) -> str:
    """Fingerprint of the input files (path, size, time of change), of every setting, and of what it grew from."""
    return fingerprint(
        {
            "version": CACHE_VERSION,
            "files": stamps(source, choice),
            "source": [type(source).__qualname__, source.name, source.settings()],
            "cleaning": cleaning.settings(),
            "split": [type(split).__qualname__, split.settings(), split.candidates],
            "label": [type(label).__qualname__, label.settings(), label.positive],
            "features": dict(features),
            **({} if past is None else {"past": past.key}),
        }
    )


def stamps(source: Source, choice: FeatureChoice) -> list[list[Any]]:
    """What changes with the content of the input files: path, size and time of change of each."""
    return [_stamp(path) for path in (*source.files(), *(Path(path) for path in choice.files()))]


def _stamp(path: Path) -> list[Any]:
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    stat = path.stat()
    return [str(path.resolve()), stat.st_size, stat.st_mtime_ns]


def streams(source: Source) -> bool:
    """Whether the log of a source is prepared in chunks."""
    return isinstance(source, Interactions) and source.streams()


def _build(
    store: Path,
    *,
    key: str,
    source: Source,
    cleaning: Cleaning,
    split: Split,
    label: Label,
    choice: FeatureChoice,
    past: Past | None,
) -> tuple[EncodedTables, dict[str, Any]]:
    """All at once, or in chunks where a log asks for it."""
    how: Callable[..., tuple[EncodedTables, dict[str, Any]]] = partial(build, past=past)
    if isinstance(source, Interactions) and streams(source):
        how = partial(build_streamed, chunk_rows=source.chunk_rows, seekable=source.seekable())
    try:
        return how(store, key=key, source=source, cleaning=cleaning, split=split, label=label, choice=choice)
    except UNFIT as error:
        # Values that cannot be what their column says: some files are read only when all else is computed.
        raise ValueError(f"{_shown(source.files())}: the log cannot be prepared: {reason_of(error)}") from error


def _shown(files: Sequence[Path]) -> str:
    """The first files, for an error."""
    return ", ".join(map(str, files[:8])) + (f" and {len(files) - 8} more" if len(files) > 8 else "")


def _fill(work: partial[tuple[EncodedTables, dict[str, Any]]], unchanged: Callable[[], bool], directory: Path) -> None:
    with progress.bar("preparing", len(STAGES)):
        tables, report = work(directory / "store")
    if not unchanged():
        raise ValueError(
            f"{_shown(work.keywords['source'].files())}: changed while the log was prepared, so what was read may be "
            "of two versions: wait until it is written, and start again"
        )
    save_tables(tables, directory)
    (directory / "report.json").write_text(json.dumps(report, ensure_ascii=False, indent=1), encoding="utf-8")
