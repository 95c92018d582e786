"""Damage of Parquet files on which Polars would end the process is found before Polars reads them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest

from towerrec import parquet_pages
from towerrec.data.sources.scan import load, scan_file

ROWS = 300
TABLE = pl.DataFrame(
    {
        "user_id": [n % 9 if n % 7 else None for n in range(ROWS)],
        "caption": [f"视频 {n % 50}" for n in range(ROWS)],
        "share": [n / 7 for n in range(ROWS)],
        "tags": [[1, None, 3][: n % 4] if n % 5 else None for n in range(ROWS)],
        "place": [{"a": n, "b": [[str(n)]]} for n in range(ROWS)],
        "nothing": pl.Series([None] * ROWS, dtype=pl.Null),
        "yes": [n % 2 == 0 for n in range(ROWS)],
    }
)


@pytest.mark.parametrize("compression", ["uncompressed", "zstd", "snappy", "gzip", "lz4", "brotli"])
@pytest.mark.parametrize(
    "how", [{}, {"row_group_size": 50, "data_page_size": 100}, {"statistics": "full"}], ids=range(3)
)
@pytest.mark.parametrize("height", [0, 1, ROWS])
def test_a_whole_file_is_understood_to_its_last_page(tmp_path: Path, compression: Any, how: Any, height: int):
    path = tmp_path / "a.parquet"
    TABLE.head(height).write_parquet(path, compression=compression, **how)
    with path.open("rb") as file:
        assert parquet_pages._wrong(file.read()) is None  # nothing is left to Polars either, which would raise here
    parquet_pages.check(path)


def test_a_page_that_counts_below_zero_is_refused_by_name(tmp_path: Path):
    path = tmp_path / "a.parquet"
    TABLE.select("user_id").write_parquet(path, compression="uncompressed")
    whole = path.read_bytes()
    said = set()
    for place in range(4, 40):  # the head of the first page, bit by bit
        for bit in range(8):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
            try:
                load(scan_file(path), path)
            except ValueError as error:
                assert str(path) in str(error)
                said |= {what for what in ("counts below zero", "values, not 300") if what in str(error)}
    assert said == {"counts below zero", "values, not 300"}


@pytest.mark.parametrize(
    "data", [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + b"\xff" * 60 + b"PAR1", b"PAR1\x1c" + b"\x00" * 40]
)
def test_what_is_no_parquet_is_left_to_polars(tmp_path: Path, data: bytes):
    path = tmp_path / "a.parquet"
    path.write_bytes(data)
    parquet_pages.check(path)


def test_nests_and_counts_without_end_are_left_alone_at_once(tmp_path: Path):
    path = tmp_path / "a.parquet"
    for footer in (b"\x1c" * 5_000, b"\x19\xfc" + b"\xff" * 8 + b"\x7f" + b"\x00" * 50, b"\xff" * 500):
        path.write_bytes(b"PAR1" + footer + len(footer).to_bytes(4, "little") + b"PAR1")
        parquet_pages.check(path)
