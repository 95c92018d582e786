"""Reading tables from files: what every source needs, with errors that name the file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl

from towerrec import parquet_pages
from towerrec.unreadable import UNREADABLE
from towerrec.wording import reason_of

SEPARATORS = {".csv": ",", ".tsv": "\t"}
PARQUET = (".parquet", ".pq")
# Types are guessed from this many rows: enough for any id or count that changes its form late in a file.
INFER_ROWS = 1_000_000
# Whether ids are text is seen in this many.
SAMPLE_ROWS = 10_000


def existing_file(path: str | Path, key: str) -> Path:
    """The file itself.

    Raises:
        ValueError: If it is missing or empty; the message names the config key.
    """
    file = Path(path).expanduser()
    if not file.exists():
        raise ValueError(f"{key}={path}: there is no such file (looked in {Path.cwd()})")
    if not file.is_file():
        raise ValueError(f"{key}={path} is a directory: name a file")
    if file.stat().st_size == 0:
        raise ValueError(f"{key}={path} is empty: it holds no rows and no header")
    return file


def scan_file(
    path: Path,
    *,
    separator: str | None = None,
    has_header: bool = True,
    types: Mapping[str, Any] | None = None,
    texts: Sequence[str] = (),
    infer_rows: int = INFER_ROWS,
    null_values: Sequence[str] = (),
    decimal_comma: bool = False,
) -> pl.LazyFrame:
    """A lazy frame over CSV, TSV (gzip or not) or Parquet, by the ending of the file.

    Only LF ends a line, so a carriage return inside a field stays part of it (at the very end of a field it counts as
    white space and goes). Header-less columns are `column_1`, `column_2`, ...

    Args:
        path: The file.
        separator: Between the columns of a CSV; None goes by the ending.
        has_header: Whether its first line names the columns.
        types: Of columns by name, where they are not to be guessed.
        texts: Columns of a CSV whose integers stay the text they are (`007`).
        infer_rows: Rows from which types are guessed.
        null_values: Text that means «unknown».
        decimal_comma: Numbers are written `1,5`.

    Raises:
        ValueError: If the ending says nothing and no separator is given, or the file cannot be understood.
    """
    ending = Path(path.name.removesuffix(".gz")).suffix.lower()
    try:
        if ending in PARQUET:
            parquet_pages.check(path)
            frame = pl.scan_parquet(path, glob=False)
        else:
            scan = partial(
                pl.scan_csv,
                path,
                glob=False,  # patterns are ours to read (`partitions.files_of`); a name may hold brackets
                separator=_separator(path, ending, separator),
                has_header=has_header,
                null_values=list(null_values) or None,
                infer_schema_length=infer_rows,
                decimal_comma=decimal_comma,
            )
            frame = scan(schema_overrides=dict(types or {}), with_column_names=None if has_header else _numbered)
            schema = frame.collect_schema()
            as_written = {name: pl.String for name in texts if name in schema and schema[name].is_integer()}
            # All columns, since names of single ones mean others than ours where there is no header.
            frame = scan(schema={**schema, **as_written}) if as_written else frame
        columns = frame.collect_schema().names()
    except (*UNREADABLE, OSError) as error:
        raise ValueError(f"{path} cannot be read as a table: {reason_of(error)}") from error
    if not columns:
        raise ValueError(f"{path} holds no columns")
    return frame


def with_leading_zeros(path: Path, names: Sequence[str], *, separator: str | None, has_header: bool) -> set[str]:
    """Those of some columns of a CSV whose first rows hold numbers such as `007`, which are no integers."""
    if Path(path.name.removesuffix(".gz")).suffix.lower() in PARQUET:
        return set()
    rows = scan_file(path, separator=separator, has_header=has_header, infer_rows=0)
    there = [name for name in dict.fromkeys(names) if name in rows.collect_schema()]
    found = load(rows.select(there).head(SAMPLE_ROWS).select(pl.all().str.contains(r"^-?0\d").any()), path)
    return {name for name in there if found[name].item()}


def _numbered(names: list[str]) -> list[str]:
    # Said here, because the first number has differed between releases of Polars.
    return [f"column_{number}" for number in range(1, len(names) + 1)]


def load(frame: pl.LazyFrame, path: Path | str) -> pl.DataFrame:
    """Collect a small table; an error names its file."""
    try:
        return frame.collect()
    except UNREADABLE as error:
        raise ValueError(f"{path} cannot be read: {reason_of(error)}") from error


def is_empty(frame: pl.LazyFrame, path: Path | str) -> bool:
    """Whether a table has no rows; reads only the first."""
    return load(frame.head(1), path).height == 0


def _separator(path: Path, ending: str, separator: str | None) -> str:
    if separator is not None:
        # YAML and shells hand over the two characters \t more often than a tab.
        chosen = separator.replace("\\t", "\t")
        if len(chosen.encode()) != 1:
            raise ValueError(f"data.separator must be one character, got {separator!r}")
        return chosen
    if ending not in SEPARATORS:
        raise ValueError(
            f"{path}: the ending {ending or '(none)'} does not say how columns are separated: "
            f"name a file that ends in {', '.join([*SEPARATORS, *PARQUET])}, or give data.separator"
        )
    return SEPARATORS[ending]


def parse_lists(frame: pl.DataFrame) -> pl.DataFrame:
    """Text columns whose every value is a JSON list become list columns: integers, else numbers, else text."""
    for name, dtype in frame.schema.items():
        if dtype == pl.String:
            parsed = _parsed_lists(frame[name])
            frame = frame if parsed is None else frame.with_columns(parsed)
    return frame


def _parsed_lists(column: pl.Series) -> pl.Series | None:
    text = column.str.strip_chars()
    looks = (text.str.starts_with("[") & text.str.ends_with("]")).all(ignore_nulls=True)
    if not looks or text.null_count() == text.len():
        return None
    for inner in (pl.Int64, pl.Float64, pl.String):
        try:
            return text.str.json_decode(pl.List(inner)).alias(column.name)
        except pl.exceptions.PolarsError:
            continue
    return None
