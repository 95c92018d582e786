"""A log in many files: which they are, in which order, and how much memory all of them would take at once."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from towerrec.data.sources.scan import PARQUET, SEPARATORS, existing_file
from towerrec.unreadable import UNREADABLE
from towerrec.wording import reason_of

_SPECIAL = "*?["
# The peak of an in-memory preparation beside what the files hold: measured on logs of 10 to 50 million rows.
_BYTES_PER_ROW = 150
_BYTES_PER_TEXT_BYTE = 3


def files_of(given: str | Sequence[str], key: str) -> list[Path]:
    """The files that a path, a folder, a pattern or a list of these name.

    Those of a folder (all tables in and below it) and of a pattern come in the order of their paths, those of a list in
    its order.

    Raises:
        ValueError: If nothing is there, or something twice; the message names the config key.
    """
    if not isinstance(given, str):
        files = [file for one in given for file in files_of(one, key)]
        if not files:
            raise ValueError(f"{key}=[] names no file")
    else:
        files = _of_one(given, key)
    twice = sorted({str(file) for file in files if files.count(file) > 1}) if len(set(files)) < len(files) else []
    if twice:
        raise ValueError(f"{key} names {twice[0]} twice: its rows would count twice")
    return files


def _of_one(given: str, key: str) -> list[Path]:
    path = Path(given).expanduser()
    if path.is_dir():
        files = sorted(file for file in path.rglob("*") if file.is_file() and _is_table(file))
        if not files:
            raise ValueError(f"{key}={given} is a folder without a table (*.parquet, *.csv, *.tsv)")
        return [existing_file(file, key) for file in files]
    if any(character in given for character in _SPECIAL) and not path.exists():
        files = sorted(file for file in Path(path.anchor or ".").glob(_relative(path)) if file.is_file())
        if not files:
            raise ValueError(f"{key}={given}: no file fits this pattern (looked in {Path.cwd()})")
        return [existing_file(file, key) for file in files]
    return [existing_file(path, key)]


def _relative(path: Path) -> str:
    return str(path.relative_to(path.anchor)) if path.anchor else str(path)


def _is_table(file: Path) -> bool:
    ending = Path(file.name.removesuffix(".gz")).suffix.lower()
    return (ending in PARQUET or ending in SEPARATORS) and not file.name.startswith((".", "_"))


def memory_needed(files: Sequence[Path]) -> int:
    """About the bytes that preparing these logs takes where all rows are in memory."""
    total = 0
    for file in files:
        if file.suffix.lower() in PARQUET:
            total += _BYTES_PER_ROW * _num_rows(file)
        else:
            total += _BYTES_PER_TEXT_BYTE * file.stat().st_size
    return total


def _num_rows(file: Path) -> int:
    try:
        return int(pl.scan_parquet(file, glob=False).select(pl.len()).collect().item())
    except UNREADABLE as error:
        raise ValueError(f"{file} cannot be read as a table: {reason_of(error)}") from error
