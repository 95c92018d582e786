"""Files of users or items that a person hands over: bare ids, one a line, or tables with feature columns."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl
from polars.exceptions import PolarsError

from towerrec.data.columns import missing_column

ENDINGS = (".parquet", ".csv", ".tsv", ".jsonl", ".txt")


def read_table(path: Path, *, column: str, like: pl.Series) -> pl.DataFrame:
    """Rows of a file as they are, ids cast to the log's type; a `.txt` file is one id a line.

    A CSV whose first line is no known column name and that has one column only is taken as bare ids too.

    Args:
        path: Parquet, CSV, TSV, JSON lines or text.
        column: Name of the id column, `user_id` or `item_id`; KuaiRec's `video_id` is understood as `item_id`.
        like: Ids of the log, for their type.

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
        frame = _read(path, column)
    except (PolarsError, UnicodeDecodeError) as error:
        raise ValueError(f"{path} cannot be read as {path.suffix or 'text'}: {_reason(error)}") from error
    if column == "item_id" and column not in frame.columns and "video_id" in frame.columns:
        frame = frame.rename({"video_id": column})
    if column not in frame.columns:
        raise missing_column(column, frame.columns, str(path))
    try:
        frame = frame.with_columns(pl.col(column).cast(like.dtype))
    except PolarsError as error:
        raise ValueError(
            f"{path}: the ids in {column!r} are not of the log's type, {like.dtype} ({_reason(error)})"
        ) from error
    if frame[column].null_count():
        raise ValueError(f"{path}: {frame[column].null_count():,} rows have no {column}")
    if frame.height == 0:
        raise ValueError(f"{path} holds no rows")
    return frame


def read_ids(path: Path, *, column: str, like: pl.Series) -> pl.Series:
    """Distinct ids of a file, in the order they come; see `read_table`."""
    return read_table(path, column=column, like=like)[column].unique(maintain_order=True)


def known_or_refused(ids: pl.Series, known: pl.Series, path: Path, *, lacking: Sequence[str] = ()) -> None:
    """Refuse ids that no table knows.

    Args:
        ids: Ids of the file.
        known: Ids of the run.
        path: The file.
        lacking: Feature columns with which the unknown ones could be served, and which the file has not.

    Raises:
        ValueError: Naming the first of them.
    """
    strange = ids.filter(~ids.is_in(known.implode()))
    if len(strange):
        columns = f" (it lacks {', '.join(lacking)}; a column may hold gaps)" if lacking else ""
        raise ValueError(
            f"{path}: {len(strange):,} of {len(ids):,} ids are in no table of the run (such as "
            f"{strange.head(5).to_list()}): remove them, or give their feature columns in the file{columns}"
        )


def _reason(error: Exception) -> str:
    """Without the query plan that Polars adds."""
    return str(error).strip().partition("\n")[0]


def _read(path: Path, column: str) -> pl.DataFrame:
    match path.suffix.lower():
        case ".parquet":
            return pl.read_parquet(path)
        case ".jsonl" | ".ndjson":
            return pl.read_ndjson(path, infer_schema_length=None)
        case ".csv" | ".tsv":
            frame = pl.read_csv(
                path, separator="\t" if path.suffix.lower() == ".tsv" else ",", infer_schema_length=None
            )
            names = {column, "video_id"} if column == "item_id" else {column}
            if len(frame.columns) == 1 and frame.columns[0] not in names and frame.columns[0].lstrip("-").isdigit():
                return pl.read_csv(path, has_header=False, new_columns=[column], infer_schema_length=None)
            return frame
        case ".txt" | "":
            lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
            return pl.DataFrame({column: [line for line in lines if line]}, schema={column: pl.String})
        case other:
            raise ValueError(f"{path}: ending {other!r} is not known; use {', '.join(ENDINGS)}")
