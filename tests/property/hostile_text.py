"""Cells and tables that somebody might hand over by mistake, or on purpose."""

from __future__ import annotations

import gzip
from io import BytesIO
from random import Random
from typing import Any

import polars as pl
from fuzzing import mutated

ACTING = (
    '=HYPERLINK("http://127.0.0.1/","click")',
    "=1+1",
    "+1",
    "-1+2",
    "@SUM(A1)",
    "\t=1",
    "<script>window.pwned=1</script>",
    '"><img src=x onerror="window.pwned=1">',
    "</style><script>window.pwned=1</script>",
    "]]><svg onload=window.pwned=1>",
    "\x1b[31mred\x1b]0;title\x07",
    "\x1b]8;;http://127.0.0.1/\x1b\\link\x1b]8;;\x1b\\",
    "a\u202eb\u2066c",
    "a\x00b",
    "a\rb",
    "a\nb",
    "| a | b |",
    "```\n# head",
    "{{7*7}}",
    "${oc.env:HOME}",
    "'; DROP TABLE rows; --",
    "../../etc/passwd",
)
"""Texts that do something where somebody forgot to quote them."""

NUMBERS = (
    "0", "-0", "1", "7", "-7", "007", "1.0", "1.5", "1e3", "1e400", "-1e400", "nan", "NaN", "inf", "-inf", "1,5",
    "0x10", "9223372036854775807", "9223372036854775808", "-9223372036854775808", "18446744073709551616", "1" * 60,
    "1_000", "20200705", "20209999", "1593878401.373", "1593878401373", "1593878401373000000", "99999999999999999999.5",
)  # fmt: skip
TIMES = (
    "2020-07-05 00:00:01", "2020-07-05T00:00:01Z", "2020-07-05T00:00:01+08:00", "2020-07-05", "2020-13-45", "5/7/2020",
    "9999-12-31 23:59:59", "0000-00-00", "262143-12-31", "-0001-01-01", "24:00",
)  # fmt: skip
LISTS = (
    "[]",
    "[1]",
    "[1, 2]",
    "[1.5]",
    "[1,",
    '["a","b"]',
    "[[1]]",
    "[" * 200,
    "[null]",
    "[1e99]",
    "{}",
    "[NaN]",
    "[9" * 9,
)
WORDS = (
    "",
    " ",
    "a",
    "NA",
    "null",
    "true",
    "False",
    "视频",
    "\U0001f600",
    "é",
    "UNKNOWN",
    "x" * 3000,
    '"',
    '""',
    '"a',
    'a"b',
)
HEADERS = (
    "user_id",
    "item_id",
    "label",
    "time",
    "rank",
    "score",
    "video_id",
    "watch_ratio",
    "timestamp_ms",
    "user",
    "",
)
ENCODINGS = ("utf-8",) * 40 + ("utf-8-sig", "utf-16", "latin-1", "gb18030")


def cell(rng: Random, kind: str) -> str:
    """A value of a column of this kind, now and then one of another."""
    if rng.random() < 0.01:
        kind = rng.choice(("number", "time", "list", "word", "acting"))
    match kind:
        case "id":
            return str(rng.randrange(9))
        case "flag":
            return rng.choice(("0", "1"))
        case "number":
            return rng.choice(NUMBERS)
        case "time":
            return rng.choice(TIMES)
        case "list":
            return rng.choice(LISTS)
        case "word":
            return rng.choice(WORDS)
        case _:
            return rng.choice(ACTING)


def column_names(rng: Random, wanted: tuple[str, ...]) -> list[str]:
    """Mostly the columns that a reader asks for, now and then fewer, others, twice or in another order."""
    names = list(wanted)
    while rng.random() < 0.15:
        names.append(rng.choice(HEADERS + ACTING))
    if rng.random() < 0.06:
        names.pop(rng.randrange(len(names)))
    if names and rng.random() < 0.04:
        names.append(rng.choice(names))
    if rng.random() < 0.2:
        rng.shuffle(names)
    return names


def kind_of(rng: Random, name: str) -> str:
    usual = {"user_id": "id", "item_id": "id", "rank": "id", "label": "flag", "time": "number"}.get(name)
    if usual is not None and rng.random() < 0.93:
        return usual
    return rng.choice(("id", "number", "time", "list", "word", "acting"))


def text_table(rng: Random, wanted: tuple[str, ...], *, separator: str = ",") -> bytes:
    """CSV with whatever goes wrong with CSV."""
    names = column_names(rng, wanted)
    kinds = [kind_of(rng, name) for name in names]
    if rng.random() < 0.02:
        separator = rng.choice(",\t;| ")
    quoted = rng.random() < 0.85
    lines = [separator.join(_quoted(name, separator) if quoted else name for name in names)]
    for _ in range(rng.choice((0, 1, 3, 8, 12, 20, 20))):
        values = [cell(rng, kind) for kind in kinds]
        if rng.random() < 0.01:
            values = values[:-1] if rng.random() < 0.5 else [*values, cell(rng, "word")]
        lines.append(separator.join(_quoted(value, separator) if quoted else value for value in values))
    end = rng.choice(("\n",) * 8 + ("\r\n", "\r"))
    text = end.join(lines) + rng.choice((end, "", end * 3))
    data = text.encode(rng.choice(ENCODINGS), errors="replace")
    return mutated(rng, data) if rng.random() < 0.15 else data


def _quoted(value: str, separator: str) -> str:
    special = any(letter in value for letter in (separator, '"', "\n", "\r"))
    return '"' + value.replace('"', '""') + '"' if special else value


_TYPES: tuple[Any, ...] = (
    pl.Int8, pl.Int64, pl.UInt8, pl.UInt64, pl.Float32, pl.Float64, pl.Boolean, pl.String, pl.Binary, pl.Date, pl.Time,
    pl.Datetime("us"), pl.Datetime("ns", "Asia/Shanghai"), pl.Duration("ms"), pl.Categorical, pl.Enum(["a", "b"]),
    pl.Null, pl.Decimal(20, 3), pl.List(pl.Int64), pl.List(pl.List(pl.String)), pl.Array(pl.Float32, 2),
    pl.Struct({"a": pl.Int64}),
    pl.List(pl.Struct({"a": pl.List(pl.Struct({"b": pl.Binary}))})), pl.Int128, pl.List(pl.Categorical),
)  # fmt: skip
_VALUES: tuple[Any, ...] = (0, 1, 2, 3, 4, 5, 6, 7, 8, None, -1, 2**63 - 1, -(2**63))


def typed_column(rng: Random, name: str, height: int) -> pl.Series:
    """A column of any type that Parquet knows."""
    usual = kind_of(rng, name)
    dtype = rng.choice((pl.Int64, pl.Int32, pl.UInt32)) if usual in ("id", "flag") else rng.choice(_TYPES)
    few = _VALUES[:9] if rng.random() < 0.8 else _VALUES
    values = [rng.choice(few) for _ in range(height)]
    if dtype == pl.String or dtype == pl.Categorical:
        return pl.Series(name, [cell(rng, usual) for _ in values], dtype=pl.String).cast(dtype)
    if dtype == pl.Binary:
        return pl.Series(name, [rng.randbytes(3) for _ in values])
    if dtype in (pl.Float32, pl.Float64):
        return pl.Series(
            name, [rng.choice((0.0, 1.0, 2.0, 0.5, float("nan"), float("inf"), 1e30, None)) for _ in values]
        ).cast(dtype)
    if isinstance(dtype, pl.Enum):
        return pl.Series(name, [rng.choice(("a", "b", None)) for _ in values], dtype=dtype)
    numbers = pl.Series(name, values, dtype=pl.Int64)
    if isinstance(dtype, pl.List | pl.Array | pl.Struct):
        return _nested(name, values, dtype)
    try:
        return numbers.cast(dtype, strict=False)
    except pl.exceptions.PolarsError:
        return numbers


def _nested(name: str, values: list[Any], dtype: Any) -> pl.Series:
    def value(number: Any, kind: Any) -> Any:
        if number is None:
            return None
        if isinstance(kind, pl.List):
            return [value(number, kind.inner)] * (abs(number) % 3)
        if isinstance(kind, pl.Array):
            return [float(number % 9)] * 2
        if isinstance(kind, pl.Struct):
            return {field.name: value(number, field.dtype) for field in kind.fields}
        return {pl.String: str(number), pl.Binary: b"x", pl.Categorical: "a"}.get(kind, number)

    return pl.Series(name, [value(number, dtype) for number in values], dtype=dtype, strict=False)


def parquet_table(rng: Random, wanted: tuple[str, ...]) -> bytes:
    """Parquet of any types, damaged now and then."""
    height = rng.choice((0, 1, 4, 12, 20))
    columns = {name: typed_column(rng, name, height) for name in column_names(rng, wanted)}
    buffer = BytesIO()
    pl.DataFrame(columns).write_parquet(buffer, compression=rng.choice(("uncompressed", "zstd", "snappy")))
    return mutated(rng, buffer.getvalue()) if rng.random() < 0.2 else buffer.getvalue()


def json_lines(rng: Random, wanted: tuple[str, ...]) -> bytes:
    """A JSON object a line, mostly."""
    names = column_names(rng, wanted)
    kinds = [kind_of(rng, name) for name in names]
    lines = []
    for _ in range(rng.choice((0, 1, 4, 10))):
        cells = [_json(rng, cell(rng, kind)) for kind in kinds]
        lines.append("{" + ", ".join(f'"{_escaped(n)}": {c}' for n, c in zip(names, cells, strict=True)) + "}")
    data = "\n".join(lines).encode(rng.choice(ENCODINGS), errors="replace")
    return mutated(rng, data) if rng.random() < 0.2 else data


def _json(rng: Random, text: str) -> str:
    return text if rng.random() < 0.5 and text else f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r")


def table(rng: Random, wanted: tuple[str, ...], endings: tuple[str, ...]) -> tuple[str, bytes]:
    """An ending and the bytes of a file of that kind; now and then the two do not belong together."""
    ending = rng.choice(endings)
    kind = ending if rng.random() < 0.97 else rng.choice(endings)
    match kind.removesuffix(".gz"):
        case ".parquet":
            data = parquet_table(rng, wanted)
        case ".jsonl":
            data = json_lines(rng, wanted)
        case ".txt":
            data = "\n".join(cell(rng, "id") for _ in range(rng.randrange(9))).encode()
        case ".tsv":
            data = text_table(rng, wanted, separator="\t")
        case _:
            data = text_table(rng, wanted)
    if kind.endswith(".gz"):
        data = gzip.compress(data, mtime=0)
        data = mutated(rng, data) if rng.random() < 0.3 else data
    if rng.random() < 0.01:
        data = rng.randbytes(rng.choice((0, 1, 40, 400)))
    return ending, data
