"""Encoded tables on disk: .npy columns, Parquet ids, JSON for the rest. Nothing here is executable when loaded."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from numpy.typing import NDArray
from torch import Tensor

from towerrec.data.columns import LogColumns
from towerrec.data.encoders import Encoders
from towerrec.npy import save_array
from towerrec.schema import ITEM_ID, LABEL, TIMESTAMP, USER_ID, FeatureSchema, FeatureTable


@dataclass
class EncodedTables:
    """Users and items of a log, encoded, with what is needed to name and show them.

    Args:
        schema: What the towers see.
        encoders: How further users and items are encoded.
        users: One row per user, in the order of `user_ids`.
        items: One row per item, in the order of `item_ids`.
        user_ids: Raw ids, ascending.
        item_ids: Raw ids, ascending.
        item_days: Day of each item by `age_days` feature, int32 [I], `time.NO_DAY` where unknown.
        item_recent: Popularity of each item after the last training row by `recent` feature, float32 [I].
        display: One row per item: `item_id` and texts to print beside it.
        meta: Plain builtins: `data`, `label`, `split`, `positive`, `binary`, `inverse_name`, `candidates`, `as_of_ms`,
            `timezone`, `fingerprint`, and in a catalogue perhaps `columns`: names in the log by role.
    """

    schema: FeatureSchema
    encoders: Encoders
    users: FeatureTable
    items: FeatureTable
    user_ids: pl.Series
    item_ids: pl.Series
    item_days: dict[str, NDArray[np.int32]]
    item_recent: dict[str, NDArray[np.float32]]
    display: pl.DataFrame
    meta: dict[str, Any]

    @property
    def data_name(self) -> str:
        """Name of the data: `kuairec`, `demo`, ..."""
        return str(self.meta["data"])

    @property
    def label_name(self) -> str:
        return str(self.meta["label"])

    @property
    def positive(self) -> str:
        """The label's own rule of what a positive is."""
        return str(self.meta["positive"])

    @property
    def binary(self) -> bool:
        """Whether every label is 0 or 1."""
        return bool(self.meta["binary"])

    @property
    def inverse_name(self) -> str:
        """How a predicted label becomes a raw value again, see `labels.invert`."""
        return str(self.meta["inverse_name"])

    @property
    def candidates(self) -> str:
        """What the split recommends to rank: `catalogue` or `observed`."""
        return str(self.meta["candidates"])

    @property
    def as_of_ms(self) -> int | None:
        """Latest timestamp of the training rows; None where they have none."""
        value = self.meta["as_of_ms"]
        return None if value is None else int(value)

    @property
    def timezone(self) -> str:
        return str(self.meta["timezone"])

    @property
    def columns(self) -> LogColumns:
        """What the log calls its columns."""
        ours = {"user": USER_ID, "item": ITEM_ID, "label": LABEL, "timestamp": TIMESTAMP}
        called = {ours[role]: str(name) for role, name in (self.meta.get("columns") or {}).items() if name is not None}
        ids = {USER_ID: self.user_ids, ITEM_ID: self.item_ids}
        return LogColumns(called, [name for name, known in ids.items() if known.dtype == pl.String])

    @property
    def fingerprint(self) -> str:
        """Sixteen hexadecimal digits of inputs and settings."""
        return str(self.meta["fingerprint"])


def save_tables(tables: EncodedTables, directory: Path) -> None:
    """Write into an existing directory."""
    for side, table in (("users", tables.users), ("items", tables.items)):
        save_tensors(table.columns, directory / side)
    save_tensors(tables.item_days, directory / "item_days")
    save_tensors(tables.item_recent, directory / "item_recent")
    tables.user_ids.to_frame("user_id").write_parquet(directory / "user_ids.parquet")
    tables.item_ids.to_frame("item_id").write_parquet(directory / "item_ids.parquet")
    tables.display.write_parquet(directory / "display.parquet")
    _write_json(directory / "encoders.json", tables.encoders.to_dict())
    _write_json(directory / "schema.json", tables.schema.to_dict())
    _write_json(directory / "meta.json", tables.meta)


def load_tables(directory: Path) -> EncodedTables:
    """Read what `save_tables` wrote; tensors stay memory-mapped."""
    # What was saved before the feature existed has no such folder.
    saved = directory / "item_recent"
    recent = load_tensors(saved) if saved.is_dir() else {}
    schema = FeatureSchema.from_dict(read_json(directory / "schema.json"))
    user_ids = pl.read_parquet(directory / "user_ids.parquet", glob=False)["user_id"]
    item_ids = pl.read_parquet(directory / "item_ids.parquet", glob=False)["item_id"]
    return EncodedTables(
        schema=schema,
        encoders=Encoders.from_dict(read_json(directory / "encoders.json")),
        users=FeatureTable(load_tensors(directory / "users"), len(user_ids)),
        items=FeatureTable(load_tensors(directory / "items"), len(item_ids)),
        user_ids=user_ids,
        item_ids=item_ids,
        item_days={name: days.numpy() for name, days in load_tensors(directory / "item_days").items()},
        item_recent={name: recent.numpy() for name, recent in recent.items()},
        display=pl.read_parquet(directory / "display.parquet", glob=False),
        meta=read_json(directory / "meta.json"),
    )


def save_tensors(columns: Mapping[str, Tensor] | Mapping[str, NDArray[Any]], directory: Path) -> None:
    """One .npy per tensor, numbered; `columns.json` names them, for a feature's name need not suit a file system."""
    directory.mkdir()
    for number, column in enumerate(columns.values()):
        save_array(directory / f"{number}.npy", np.asarray(column))
    _write_json(directory / "columns.json", list(columns))


def load_tensors(directory: Path) -> dict[str, Tensor]:
    """Tensors by name, in the order they were saved."""
    names = read_json(directory / "columns.json")
    # Copy-on-write: torch wants a writable buffer, and nothing written to it may ever reach the file.
    return {n: torch.from_numpy(np.load(directory / f"{i}.npy", mmap_mode="c")) for i, n in enumerate(names)}


def read_json(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"))


def _write_json(path: Path, plain: Any) -> None:
    path.write_text(json.dumps(plain, ensure_ascii=False), encoding="utf-8")
