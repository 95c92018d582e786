"""Files of users or items that a person hands over: bare ids, one a line, or tables with feature columns."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import polars as pl
from polars.exceptions import PolarsError

from towerrec import parquet_pages
from towerrec.data.columns import ANY_LOG, LogColumns, missing_column
from towerrec.data.id_columns import id_column
from towerrec.data.ids import rows_of
from towerrec.unreadable import UNREADABLE
from towerrec.wording import reason_of

ENDINGS = (".parquet", ".csv", ".tsv", ".jsonl", ".txt")
_FEATURES = "give their feature columns in the file"

Given = str | Path | pl.DataFrame | pl.Series | Iterable[Any]
"""What users, items or pairs can be given as: a file, a table in memory, or bare ids."""


def read_table(path: Path, *, column: str, like: pl.Series, log: LogColumns = ANY_LOG) -> pl.DataFrame:
    """Rows of a file as they are, ids cast to the log's type; a `.txt` file is one id a line.

    A CSV whose first line is no known column name and that has one column only is taken as bare ids too.

    Args:
        path: Parquet, CSV, TSV, JSON lines or text.
        column: Name of the id column, `user_id` or `item_id`; what the log calls it is understood too, and KuaiRec's
            `video_id` as `item_id`.
        like: Ids of the log, for their type.
        log: What the log calls its columns.

    Raises:
        ValueError: If the file is missing, empty or unreadable, the id column is not there, or an id has another type.
    """
    if path.is_dir():
        raise ValueError(f"{path} is a directory: name a file")
    if not path.is_file():
        raise ValueError(f"{path}: there is no such file")
    if path.stat().st_size == 0:
        raise ValueError(f"{path} is empty")
    try:
        frame = _read(path, column, like, log)
    except (*UNREADABLE, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as {path.suffix or 'text'}: {reason_of(error)}") from error
    frame = with_typed_ids(frame, column=column, like=like, where=path, log=log)
    if frame.height == 0:
        raise ValueError(f"{path} holds no rows")
    return frame


def given_table(
    given: Given, *, column: str, like: pl.Series, name: str, log: LogColumns = ANY_LOG
) -> tuple[pl.DataFrame, str]:
    """The rows of a file, of a table in memory or of bare ids, and how messages call it; see `read_table`.

    Raises:
        ValueError: As `read_table` does, but what is in memory may be empty.
    """
    if isinstance(given, str) and not Path(given).is_file() and given in like.cast(pl.String):
        raise ValueError(f"{name}={given} is an id and no file: give ids as a list, [{given}]")
    if isinstance(given, str | Path):
        return read_table(Path(given), column=column, like=like, log=log), str(given)
    if isinstance(given, pl.DataFrame):
        return with_typed_ids(given, column=column, like=like, where=name, log=log), name
    try:
        if isinstance(given, Mapping | pl.LazyFrame) or hasattr(given, "columns"):
            raise TypeError("its names would be taken for ids")
        ids = pl.Series(column, list(given))
    except (PolarsError, TypeError) as error:
        raise ValueError(f"{name} must be a file, a polars DataFrame or ids of one type, got {given!r:.80}") from error
    ids = ids.cast(like.dtype) if len(ids) == 0 else ids
    return with_typed_ids(ids.to_frame(), column=column, like=like, where=name), name


def with_typed_ids(
    frame: pl.DataFrame, *, column: str, like: pl.Series, where: str | Path, log: LogColumns = ANY_LOG
) -> pl.DataFrame:
    """A table whose ids are of the log's type, under the name `column`.

    Raises:
        ValueError: If the id column is not there, has gaps, or holds another type.
    """
    if (there := log.found(column, frame.columns)) is None:
        raise missing_column(column, frame.columns, str(where))
    frame = id_column(frame.rename({there: column}).lazy(), column, str(where)).collect()
    if like.dtype.is_integer() and frame[column].dtype == pl.String:
        frame = frame.with_columns(pl.col(column).str.strip_suffix(".0"))  # how some tools write whole numbers
    try:
        frame = frame.with_columns(pl.col(column).cast(like.dtype))
    except PolarsError as error:
        raise ValueError(
            f"{where}: the ids in {column!r} are not of the log's type, {like.dtype} ({reason_of(error)})"
        ) from error
    if frame[column].null_count():
        raise ValueError(f"{where}: {frame[column].null_count():,} rows have no {column}")
    return frame


def read_ids(path: Path, *, column: str, like: pl.Series) -> pl.Series:
    """Distinct ids of a file, in the order they come; see `read_table`."""
    return read_table(path, column=column, like=like)[column].unique(maintain_order=True)


def known_or_refused(
    ids: pl.Series,
    known: pl.Series,
    where: str | Path,
    *,
    lacking: Sequence[str] = (),
    remedy: str = _FEATURES,
    asked: int | None = None,
) -> None:
    """Refuse ids that no table knows.

    Args:
        ids: Ids of the file.
        known: Ids of the run.
        where: The file, or what else holds them.
        lacking: Feature columns with which the unknown ones could be served, and which the file has not.
        remedy: What else can be done than to remove them.
        asked: How many ids there are in all, if `ids` are some of them.

    Raises:
        ValueError: Naming the first of them.
    """
    strange = ids.filter(rows_of(known, ids) < 0)
    if len(strange):
        columns = f" (it lacks {', '.join(lacking)}; a column may hold gaps)" if lacking else ""
        raise ValueError(
            f"{where}: {len(strange):,} of {asked or len(ids):,} ids are in no table of the run (such as "
            f"{strange.head(5).to_list()}): remove them, or {remedy}{columns}"
        )


def _read(path: Path, column: str, like: pl.Series, log: LogColumns) -> pl.DataFrame:
    """The file; ids of a CSV stay as they are written where those of the log are text (`007`)."""
    as_text = like.dtype == pl.String
    texts = {name for ids in {*log.texts, *([column] if as_text else [])} for name in log.names(ids)}
    match path.suffix.lower():
        case ".parquet":
            parquet_pages.check(path)
            return pl.read_parquet(path, glob=False)
        case ".jsonl" | ".ndjson":
            return pl.read_ndjson(path.read_bytes(), infer_schema_length=None)
        case ".csv" | ".tsv":
            frame = pl.read_csv(
                path,
                glob=False,
                separator="\t" if path.suffix.lower() == ".tsv" else ",",
                infer_schema_length=None,
                schema_overrides=dict.fromkeys(sorted(texts), pl.String),
            )
            if len(frame.columns) == 1 and _is_id(frame.columns[0], like) and not log.found(column, frame.columns):
                return pl.read_csv(
                    path,
                    glob=False,
                    has_header=False,
                    new_columns=[column],
                    infer_schema=not as_text,
                    infer_schema_length=None,
                )
            return frame
        case ".txt" | "":
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
            return pl.DataFrame({column: [line for line in lines if line]}, schema={column: pl.String})
        case other:
            raise ValueError(f"{path}: ending {other!r} is not known; use {', '.join(ENDINGS)}")


def _is_id(name: str, like: pl.Series) -> bool:
    """Whether the first line of a file is no header but an id."""
    return name.lstrip("-").removesuffix(".0").isdigit() or name in like.cast(pl.String)
