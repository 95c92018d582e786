"""Anyone's own log: one file or many, or some per split, with side tables of users and items."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import polars as pl

from towerrec.data.columns import missing_column
from towerrec.data.id_columns import common_id_type, id_column
from towerrec.data.labels import LABEL_RAW
from towerrec.data.memory import available_memory
from towerrec.data.sources.partitions import files_of, memory_needed
from towerrec.data.sources.scan import PARQUET, existing_file, is_empty, load, scan_file, with_leading_zeros
from towerrec.data.sources.side_tables import read_side
from towerrec.data.sources.timestamps import SAMPLE_ROWS, timestamp_ms
from towerrec.data.splits import TEST, TRAIN, VAL
from towerrec.data.tables import Tables
from towerrec.schema import ITEM_ID, SPLIT, TIMESTAMP_MS, USER_ID
from towerrec.wording import reason_of

log = logging.getLogger(__name__)

ROLES = ("user", "item", "label", "timestamp")
CODES = {"train": TRAIN, "val": VAL, "test": TEST}
CANONICAL_TYPES = {"watch_ratio": pl.Float32}


class Interactions:
    """CSV, TSV or Parquet with one row per interaction.

    A log is a file, a directory (all tables in and below it), a pattern such as `log/day=*/*.parquet`, or a list of
    these; files are read in the order of their paths, those of a list in its order.

    Args:
        interactions: The log, to be split; or give `train`, `val` and `test`.
        train: Rows to learn from.
        val: Rows to tune on.
        test: Rows to judge by.
        users: Side table of users, or a list of them, joined on the id.
        items: Side table of items, or a list of them, joined on the id.
        separator: One character; null goes by the ending (`.csv`, `.tsv`).
        has_header: Whether the first line of the log names the columns; if not they are `column_1`, `column_2`, ...
        columns: Names of `user`, `item`, `label` and `timestamp`; label and timestamp may be null. Without a label
            every row is a positive.
        timezone: In which hours and weekdays are read, and times that name no offset.
        timestamp_unit: s, ms, us or ns; null goes by the size of the numbers.
        null_values: Text that means «unknown» in CSV files.
        decimal_comma: Numbers are written `1,5`.
        text_ids: Ids of CSV files are the text they are written as, so that `007` is not 7; null: where one of the
            first rows begins with a zero. Parquet says itself what its ids are.
        streaming: Prepare the log in chunks, so that it need not fit into memory (`streamed.build_streamed`); null:
            where the memory that is free would not hold it. The result is the same.
        chunk_rows: Rows of a chunk.
    """

    name = "interactions"

    def __init__(
        self,
        *,
        interactions: str | list[str] | None = None,
        train: str | list[str] | None = None,
        val: str | list[str] | None = None,
        test: str | list[str] | None = None,
        users: str | list[str] | None = None,
        items: str | list[str] | None = None,
        separator: str | None = None,
        has_header: bool = True,
        columns: Mapping[str, str | None] | None = None,
        timezone: str = "UTC",
        timestamp_unit: str | None = None,
        null_values: list[str] | None = None,
        decimal_comma: bool = False,
        text_ids: bool | None = None,
        streaming: bool | None = None,
        chunk_rows: int = 500_000,
    ) -> None:
        if chunk_rows < 1:
            raise ValueError(f"data.chunk_rows must be at least 1, got {chunk_rows}")
        self.paths = _log_paths(interactions, {"train": train, "val": val, "test": test})
        self.side = {"users": _as_list(users), "items": _as_list(items)}
        self.separator, self.has_header = separator, has_header
        self.columns = _roles(columns)
        self.timezone, self.timestamp_unit = _zone(timezone), timestamp_unit
        self.null_values, self.decimal_comma = list(null_values or []), decimal_comma
        self.text_ids = text_ids
        self.streaming, self.chunk_rows = streaming, chunk_rows

    def settings(self) -> dict[str, Any]:
        return {
            "source": self.name,
            "logs": self.paths,
            "side": self.side,
            "separator": self.separator,
            "has_header": self.has_header,
            "columns": self.columns,
            "timezone": self.timezone,
            "timestamp_unit": self.timestamp_unit,
            "null_values": self.null_values,
            "decimal_comma": self.decimal_comma,
            "text_ids": self.text_ids,
        }

    def files(self) -> list[Path]:
        """The log and the side tables."""
        return self._logs() + [
            existing_file(path, f"data.{word}") for word, paths in self.side.items() for path in paths
        ]

    def streams(self) -> bool:
        """Whether the log is prepared in chunks; one line says so where that was not asked for."""
        if self.streaming is not None:
            return self.streaming
        needed, free = memory_needed(self._logs()), available_memory()
        if needed <= free:
            return False
        log.info(
            f"the log would take about {needed / 2**30:.1f} GiB of memory and {free / 2**30:.1f} GiB are free: "
            f"preparing it in chunks of {self.chunk_rows:,} rows (data.streaming=false prevents that)"
        )
        return True

    def seekable(self) -> bool:
        """Whether reading may begin at any row."""
        return all(file.suffix.lower() in PARQUET for file in self._logs())

    def _logs(self) -> list[Path]:
        return [file for word, given in self.paths.items() for file in files_of(given, f"data.{word}")]

    def read(self) -> Tables:
        """The tables; every column of the log is kept under its own name besides the canonical ones."""
        self.files()
        user, item = str(self.columns["user"]), str(self.columns["item"])
        texts = self._texts([user, item])
        scanned = {word: self._scan(word, texts) for word in self.paths}
        schemas = [frame.collect_schema() for frame in scanned.values()]
        types = {name: common_id_type([schema[name] for schema in schemas]) for name in (user, item)}
        logs = [self._canonical(frame, word, types) for word, frame in scanned.items()]
        try:
            log = pl.concat(logs, how="diagonal_relaxed") if len(logs) > 1 else logs[0]
            log.collect_schema()
        except pl.exceptions.PolarsError as error:
            raise ValueError(
                f"the files {list(self.paths.values())} do not fit together: {reason_of(error)}"
            ) from error
        read = partial(read_side, null_values=self.null_values, decimal_comma=self.decimal_comma)
        return Tables(
            name=self.name,
            interactions=log,
            users=read(self.side["users"], USER_ID, own=user, id_type=types[user]),
            items=read(self.side["items"], ITEM_ID, own=item, id_type=types[item]),
            timezone=self.timezone,
        )

    def _texts(self, names: list[str]) -> list[str]:
        """The id columns that stay as the CSV files write them."""
        if self.text_ids is not None:
            return names if self.text_ids else []
        zeros = partial(with_leading_zeros, names=names, separator=self.separator, has_header=self.has_header)
        found: set[str] = set()
        for file in self._logs():
            with suppress(ValueError):  # what is wrong with the file, or with the names, is said where it is read
                found |= set(zeros(file))
        return [name for name in names if name in found]

    def _scan(self, word: str, texts: list[str]) -> pl.LazyFrame:
        path = self.paths[word]
        read = partial(
            scan_file,
            separator=self.separator,
            has_header=self.has_header,
            texts=texts,
            null_values=self.null_values,
            decimal_comma=self.decimal_comma,
        )
        frames = [read(file) for file in files_of(path, f"data.{word}")]
        try:
            frame = frames[0] if len(frames) == 1 else pl.concat(frames, how="vertical_relaxed")
            schema = frame.collect_schema()
        except pl.exceptions.PolarsError as error:
            raise ValueError(f"the files of data.{word}={path} do not fit together: {reason_of(error)}") from error
        for role, name in self.columns.items():
            if name is not None and name not in schema:
                raise ValueError(f"data.columns.{role}: {missing_column(name, schema.names(), str(path))}")
        for role, canonical in (
            ("user", USER_ID),
            ("item", ITEM_ID),
            ("label", LABEL_RAW),
            ("timestamp", TIMESTAMP_MS),
        ):
            if canonical in schema and self.columns[role] not in (canonical, None):
                raise ValueError(
                    f"{path}: data.columns.{role}={self.columns[role]}, but the file also has a column {canonical!r}, "
                    "which is the name this column gets: rename that column"
                )
        if is_empty(frame, str(path)):
            raise ValueError(f"data.{word}={path} holds a header but no rows")
        for role in ("user", "item"):
            frame = id_column(frame, str(self.columns[role]), str(path))
        return frame

    def _canonical(self, frame: pl.LazyFrame, word: str, types: Mapping[str, pl.DataType]) -> pl.LazyFrame:
        schema = frame.collect_schema()
        made = [
            pl.col(str(self.columns["user"])).cast(types[str(self.columns["user"])]).alias(USER_ID),
            pl.col(str(self.columns["item"])).cast(types[str(self.columns["item"])]).alias(ITEM_ID),
            self._label(schema),
            *(pl.col(name).cast(dtype) for name, dtype in CANONICAL_TYPES.items() if name in schema),
        ]
        time = self.columns["timestamp"] or (TIMESTAMP_MS if TIMESTAMP_MS in schema else None)
        if time is not None:
            made.append(self._time(frame, time, word))
        if word in CODES:
            made.append(pl.lit(CODES[word], dtype=pl.UInt8).alias(SPLIT))
        return frame.with_columns(made)

    def _label(self, schema: pl.Schema) -> pl.Expr:
        name = self.columns["label"]
        if name is None:
            return pl.lit(1.0, dtype=pl.Float32).alias(LABEL_RAW)
        if not (schema[name].is_numeric() or schema[name] == pl.Boolean):
            raise ValueError(
                f"data.columns.label={name} holds {schema[name]}; a label needs numbers or booleans (numbers written "
                "with a comma: data.decimal_comma=true; words that mean unknown: data.null_values=[NA])"
            )
        return pl.col(name).cast(pl.Float32).alias(LABEL_RAW)

    def _time(self, frame: pl.LazyFrame, name: str, word: str) -> pl.Expr:
        where = f"data.columns.timestamp={name} of {self.paths[word]}"
        sample = load(frame.select(pl.col(name)).drop_nulls().head(SAMPLE_ROWS), str(self.paths[word]))[name]
        if sample.len() == 0:
            return pl.lit(None, dtype=pl.Int64).alias(TIMESTAMP_MS)
        return timestamp_ms(sample, timezone=self.timezone, unit=self.timestamp_unit, where=where)


def _log_paths(
    interactions: str | list[str] | None, parts: dict[str, str | list[str] | None]
) -> dict[str, str | list[str]]:
    given = {word: path for word, path in parts.items() if path is not None}
    if (interactions is None) == (not given):
        raise ValueError(
            "data=interactions needs either data.interactions=FILE_OR_FOLDER (one log, to be split) or data.train=FILE "
            f"and data.test=FILE (data.val=FILE as well, best), got {'all at once' if given else 'neither'}"
        )
    if interactions is not None:
        return {"interactions": interactions}
    for word in ("train", "test"):
        if word not in given:
            raise ValueError(
                f"data.{word}=FILE is missing: with one file per split, data.train and data.test are needed (data.val "
                "is best given too); for one log that is to be split give data.interactions=FILE"
            )
    return given


def _roles(columns: Mapping[str, str | None] | None) -> dict[str, str | None]:
    given: dict[str, str | None] = {"user": USER_ID, "item": ITEM_ID, "label": None, "timestamp": None}
    given |= dict(columns or {})
    for role in given:
        if role not in ROLES:
            raise missing_column(role, ROLES, "data.columns")
    for role in ("user", "item"):
        if given[role] is None:
            raise ValueError(f"data.columns.{role} is missing: name the column of the {role} ids")
    if given["user"] == given["item"]:
        raise ValueError(f"data.columns.user and data.columns.item are both {given['user']!r}: name two columns")
    return given


def _as_list(files: str | list[str] | None) -> list[str]:
    return [] if files is None else [files] if isinstance(files, str) else list(files)


def _zone(timezone: str) -> str:
    try:
        ZoneInfo(timezone)
    except (KeyError, ValueError, OSError) as error:
        raise ValueError(f"data.timezone={timezone!r} is not a time zone: write one such as Asia/Shanghai") from error
    return timezone
