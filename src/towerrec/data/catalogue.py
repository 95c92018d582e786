"""What recommending needs of the data, in a folder of its own: encoded users and items, seen items, histories."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec.data.artefacts import EncodedTables, load_tables, load_tensors, save_tables, save_tensors
from towerrec.data.cache import damage, write_directory
from towerrec.data.history import UserHistory
from towerrec.data.prepare import Prepared
from towerrec.data.store import InteractionStore
from towerrec.data.time import ages, local_time
from towerrec.files import restored
from towerrec.ragged import UserItems
from towerrec.reading_back import as_written
from towerrec.schema import FeatureTable
from towerrec.unreadable import UNREADABLE


@dataclass
class Catalogue(EncodedTables):
    """Encoded tables, what each user has seen, and what each user liked.

    Args:
        seen: Items of every user in training and validation rows.
        history: Training positives of every user.
        profiles: Training rows of every user (see `Prepared.profiles`), where the model of the run reads them.
        in_log: Which items have a row in the log, bool [I]: the candidates unless told otherwise. Side tables may
            describe more.
    """

    seen: UserItems
    history: UserHistory
    in_log: Tensor
    profiles: UserItems | None = None


def catalogue_of(prepared: Prepared, *, profile: str = "none") -> Catalogue:
    """The catalogue of a prepared log, with the profiles of a model that reads them (`Prepared.profiles`)."""
    tables = {field.name: getattr(prepared, field.name) for field in fields(EncodedTables)}
    return Catalogue(
        **tables,
        seen=prepared.store.seen("train", "val"),
        history=train_history(prepared.store, prepared.positive),
        in_log=prepared.store.in_log("item"),
        profiles=prepared.profiles(profile),
    )


def train_history(store: InteractionStore, positive: str) -> UserHistory:
    """The training rows whose label passes the rule, as histories."""
    return store.history(positive)


def item_ages(catalogue: Catalogue, at_ms: int | None) -> Tensor | None:
    """Whole days from each item's date to a moment (None: the last training row), int64 [I], -1 where not known.

    None where the run has no feature of kind `age_days`, or no times.
    """
    at = catalogue.as_of_ms if at_ms is None else at_ms
    if at is None or not catalogue.item_days:
        return None
    days = next(iter(catalogue.item_days.values()))
    today = local_time(np.array([at], dtype=np.int64), catalogue.timezone).day
    return torch.from_numpy(ages(today, days)).long()


def save_catalogue(
    prepared: Prepared,
    directory: str | Path,
    *,
    profile: str = "none",
    columns: Mapping[str, str | None] | None = None,
) -> None:
    """Write the catalogue of a run; the folder is complete or not there.

    Args:
        prepared: The log.
        directory: The folder.
        profile: As in `catalogue_of`.
        columns: What the log calls `user`, `item`, `label` and `timestamp`, if somebody said so (`data.columns`).
    """
    catalogue = catalogue_of(prepared, profile=profile)
    meta = catalogue.meta if columns is None else {**catalogue.meta, "columns": dict(columns)}
    write_catalogue(replace(catalogue, meta=meta), Path(directory))


def write_catalogue(catalogue: Catalogue, directory: Path) -> None:
    """Write a catalogue, further items and users included; the folder is complete or not there."""
    write_directory(directory, lambda temporary: _write(catalogue, temporary))


def load_catalogue(directory: str | Path) -> Catalogue:
    """Read a catalogue; large tensors stay memory-mapped.

    Raises:
        ValueError: If the folder is missing, incomplete or damaged.
    """
    path = Path(directory)
    restored(path)
    if not path.is_dir():
        raise ValueError(f"{path}: there is no catalogue; give a run directory that train.py finished")
    if (found := damage(path)) is not None:
        raise ValueError(f"{path}/{found}; train again, or copy the whole run directory anew")
    with as_written(path, remedy="train again, or copy the whole run directory anew", also=UNREADABLE):
        return _loaded(path)


def _loaded(path: Path) -> Catalogue:
    packed = load_tensors(path / "packed")
    tables = load_tables(path)
    return Catalogue(
        **tables.__dict__,
        seen=UserItems(packed["seen_offsets"], packed["seen_items"], tables.items.num_rows),
        history=UserHistory(
            items=packed["history_items"],
            key=packed["history_key"],
            first=packed["history_first"],
            first_timed=packed["history_first_timed"],
            moments=packed["history_moments"],
        ),
        in_log=packed["in_log"],
        profiles=_profiles(packed, tables.items.num_rows),
    )


def with_items(catalogue: Catalogue, frame: pl.DataFrame, *, allow_missing: bool = False) -> Catalogue:
    """The catalogue with further items appended: candidates that nobody has seen.

    Args:
        catalogue: Stays as it is.
        frame: `item_id` and the columns that the item features read.
        allow_missing: Take absent columns as unknown instead of raising.

    Raises:
        ValueError: If an id is known already or occurs twice, or a column is missing.
    """
    ids = frame["item_id"].cast(catalogue.item_ids.dtype)
    known = ids.filter(ids.is_in(catalogue.item_ids.implode()))
    if len(known):
        raise ValueError(
            f"items: {len(known):,} of the new items are in the catalogue already (such as {known.head(3).to_list()}): "
            "leave them out; candidates=FILE says which items may be recommended"
        )
    if ids.is_duplicated().any() or ids.null_count():
        twice = ids.filter(ids.is_duplicated()).unique().head(3).to_list()
        raise ValueError(f"items: every new item needs an id of its own; twice: {twice}, without: {ids.null_count()}")
    extra = catalogue.encoders.encode("item", frame, allow_missing=allow_missing)
    columns = {name: torch.cat([column, extra.columns[name]]) for name, column in catalogue.items.columns.items()}
    num_items = catalogue.items.num_rows + frame.height
    grown = {field.name: getattr(catalogue, field.name) for field in fields(Catalogue)}
    texts = [name for name in catalogue.display.columns if name in frame.columns and name != "item_id"]
    grown |= {
        "items": FeatureTable(columns, num_items),
        "item_ids": pl.concat([catalogue.item_ids, ids.alias("item_id")]),
        "item_recent": {
            name: np.concatenate([known, np.zeros(frame.height, dtype=np.float32)])
            for name, known in catalogue.item_recent.items()
        },
        "item_days": catalogue.encoders.grow_item_days(catalogue.item_days, frame),
        "display": pl.concat(
            [catalogue.display, frame.select(ids.alias("item_id"), pl.col(texts).cast(pl.String))], how="diagonal"
        ),
        "seen": UserItems(catalogue.seen.offsets, catalogue.seen.items, num_items),
        "profiles": None if catalogue.profiles is None else replace(catalogue.profiles, num_items=num_items),
        "in_log": torch.cat([catalogue.in_log, torch.ones(frame.height, dtype=torch.bool)]),
    }
    return Catalogue(**grown)


def with_users(catalogue: Catalogue, frame: pl.DataFrame, *, allow_missing: bool = False) -> Catalogue:
    """The catalogue with further users appended, who have seen nothing yet.

    Args:
        catalogue: Stays as it is.
        frame: `user_id`, none of them known, and the columns that the user features read.
        allow_missing: Take absent columns as unknown instead of raising.
    """
    ids = frame["user_id"].cast(catalogue.user_ids.dtype)
    extra = catalogue.encoders.encode("user", frame, allow_missing=allow_missing)
    columns = {name: torch.cat([column, extra.columns[name]]) for name, column in catalogue.users.columns.items()}
    num_users, num_items = catalogue.users.num_rows + frame.height, catalogue.items.num_rows
    history, profiles = catalogue.history, catalogue.profiles
    nothing = history.first[-1:].expand(frame.height)
    return replace(
        catalogue,
        users=FeatureTable(columns, num_users),
        user_ids=pl.concat([catalogue.user_ids, ids.alias("user_id")]),
        seen=catalogue.seen.resized(num_users=num_users, num_items=num_items),
        history=replace(
            history,
            first=torch.cat([history.first, nothing]),
            first_timed=torch.cat([history.first_timed, nothing]),
        ),
        profiles=None if profiles is None else profiles.resized(num_users=num_users, num_items=num_items),
    )


def _write(catalogue: Catalogue, directory: Path) -> None:
    save_tables(catalogue, directory)
    history, profile = catalogue.history, {}
    if catalogue.profiles is not None:
        lists = catalogue.profiles
        assert lists.values is not None
        profile = {
            "profile_offsets": lists.offsets,
            "profile_items": lists.items.int(),
            "profile_positive": lists.values > 0,
        }
    save_tensors(
        {
            "seen_offsets": catalogue.seen.offsets,
            "seen_items": catalogue.seen.items.int(),
            "history_items": history.items.int(),
            "history_key": history.key,
            "history_first": history.first,
            "history_first_timed": history.first_timed,
            "history_moments": history.moments,
            "in_log": catalogue.in_log,
            **profile,
        },
        directory / "packed",
    )


def _profiles(packed: Mapping[str, Tensor], num_items: int) -> UserItems | None:
    if "profile_items" not in packed:
        return None
    return UserItems(
        packed["profile_offsets"], packed["profile_items"].long(), num_items, packed["profile_positive"].float()
    )
