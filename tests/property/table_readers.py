"""Everything that reads a table which somebody hands over."""

from __future__ import annotations

import datetime
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import polars as pl
import torch
from fuzzing import Reader, mutated
from hostile_text import cell, table
from kuairec_release import FILES as KUAIREC

from towerrec.data.build import collected, days_before
from towerrec.data.cleaning import clean
from towerrec.data.id_files import read_ids
from towerrec.data.labels import Column, Implicit
from towerrec.data.prepare import prepare
from towerrec.data.sources.interactions import Interactions
from towerrec.data.sources.kuairand import KuaiRand
from towerrec.data.sources.kuairec import KuaiRec
from towerrec.data.splits import RandomRows
from towerrec.data.tables import Source
from towerrec.report.lists import read_lists

LOG = ("user_id", "item_id", "label", "time")
ROLES = {"user": "user_id", "item": "item_id", "label": "label", "timestamp": "time"}
TABLES = (".csv", ".csv", ".csv", ".tsv", ".parquet", ".csv.gz")
SAYS = ("{folder}", "data.", "the log", "of the log")
IDS = (".csv", ".tsv", ".parquet", ".jsonl", ".txt", "")
USERS = pl.Series("user_id", range(9), dtype=pl.Int64)
ITEMS = pl.Series("item_id", range(9), dtype=pl.Int64)
LATE = datetime.date(2100, 1, 1)
WORDS = pl.Series("user_id", [str(number) for number in range(9)])


def whole(source: Source) -> None:
    """Everything that a source says, as the preparation reads it."""
    tables = source.read()
    clean(tables.interactions, columns=[])
    for frame in (tables.users, tables.items):
        collected(frame)
    days_before(tables.item_daily, LATE)


def _write_log(rng: Random, folder: Path) -> dict[str, Any]:
    ending, data = table(rng, LOG, TABLES)
    path = folder / f"log{ending}"
    path.write_bytes(data)
    roles = {role: name for role, name in ROLES.items() if role in ("user", "item") or rng.random() < 0.6}
    return {
        "interactions": str(path),
        "columns": roles,
        "separator": rng.choice((None,) * 60 + (",", ";", "\t", "\\t", '"')),
        "has_header": rng.random() < 0.98,
        "timestamp_unit": rng.choice((None, None, None, "s", "ms", "us", "ns")),
        "timezone": rng.choice(("UTC", "Asia/Shanghai")),
        "null_values": rng.choice(([], [], ["NA"], ["0", ""])),
        "decimal_comma": rng.random() < 0.05,
    }


def _write_log_and_sides(rng: Random, folder: Path) -> dict[str, Any]:
    log = folder / "log.csv"
    log.write_text("user_id,item_id\n" + "".join(f"{n % 4},{n % 5}\n" for n in range(20)))
    how: dict[str, Any] = {"interactions": str(log)}
    for side, column in (("users", "user_id"), ("items", "item_id")):
        paths = []
        for number in range(rng.choice((0, 1, 1, 2))):
            ending, data = table(rng, (column, "colour", f"of {number}"), TABLES)
            path = folder / f"{side}{number}{ending}"
            path.write_bytes(data)
            paths.append(str(path))
        how[side] = paths
    return how


def _prepare(folder: Path, how: dict[str, Any]) -> None:
    prepare(
        source=Interactions(**how),
        split=RandomRows(),
        label=Column() if "label" in how["columns"] else Implicit(),
        features={"auto": True, "use": "all", "drop": ["popularity", "freshness"], "missing": "error", "declared": {}},
        cache_dir=folder / "cache",
    )


def _write_release(release: dict[str, str], rng: Random, folder: Path) -> None:
    for name, text in release.items():
        if rng.random() < 0.02:
            continue
        data = text.encode()
        if rng.random() < 0.4:
            data = _spoilt(rng, text).encode(errors="replace")
        if rng.random() < 0.15:
            data = mutated(rng, data)
        (folder / name).write_bytes(data)


def _spoilt(rng: Random, text: str) -> str:
    """A table of a release with columns dropped, renamed, doubled, moved or of another type."""
    rows = [line.split(",") for line in text.split("\n") if line]
    place = rng.randrange(len(rows[0]))
    match rng.randrange(6):
        case 0:
            rows = [row[:place] + row[place + 1 :] for row in rows]
        case 1:
            rows[0][place] = rng.choice(("x", "", rows[0][0], rows[0][place].upper()))
        case 2:
            rows = [[*row, row[min(place, len(row) - 1)]] for row in rows]
        case 3:
            rows = [row[::-1] for row in rows]
        case 4:
            kind = rng.choice(("number", "time", "list", "word", "acting"))
            for row in rows[1:]:
                row[min(place, len(row) - 1)] = cell(rng, kind)
        case 5:
            rows = rows[:1] if rng.random() < 0.5 else rows + rows[1:]
    return "\n".join(",".join(row) for row in rows) + "\n"


_RAND = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,long_view,play_time_ms,duration_ms,is_rand,tab\n"
    "0,1,20220408,800,1649378400000,1,0,1,5000,10000,0,1\n"
    "1,2,20220408,900,1649382000000,0,0,0,0,8000,0,1\n"
)
KUAIRAND = {
    "log_standard_4_08_to_4_21_pure.csv": _RAND,
    "log_random_4_22_to_5_08_pure.csv": _RAND,
    "user_features_pure.csv": (
        "user_id,user_active_degree,register_days,onehot_feat0\n0,full_active,100,1\n1,UNKNOWN,5,\n"
    ),
    "video_features_basic_pure.csv": (
        "video_id,author_id,video_type,upload_dt,video_duration,server_width,server_height,tag\n"
        '1,3,NORMAL,2022-03-01,10000.0,720,1280,"8,9"\n2,4,AD,2022-04-01,,720,1280,\n'
    ),
}


def _write_ids(rng: Random, folder: Path) -> str:
    ending, data = table(rng, ("user_id",), IDS)
    (folder / f"users{ending}").write_bytes(data)
    return f"users{ending}"


def _read_ids(folder: Path, name: str) -> None:
    for like in (USERS, WORDS):
        read_ids(folder / name, column="user_id", like=like)  # of what `read_table` reads


def _write_lists(rng: Random, folder: Path) -> str:
    ending, data = table(rng, ("user_id", "item_id", "rank"), (".csv", ".tsv", ".parquet", ".jsonl"))
    path = folder / f"lists{ending}"
    path.write_bytes(data)
    return path.name


def _read_lists(folder: Path, name: str) -> None:
    read_lists(folder / name, torch.arange(9), user_ids=USERS, item_ids=ITEMS, n=5)


READERS = (
    Reader("interactions", _write_log, lambda _, how: whole(Interactions(**how)), says=SAYS),
    Reader("side tables", _write_log_and_sides, lambda _, how: whole(Interactions(**how)), says=SAYS),
    Reader("kuairec", partial(_write_release, KUAIREC), lambda folder, _: whole(KuaiRec(root=str(folder))), says=SAYS),
    Reader(
        "kuairand", partial(_write_release, KUAIRAND), lambda folder, _: whole(KuaiRand(root=str(folder))), says=SAYS
    ),
    Reader("id files", _write_ids, _read_ids),
    Reader("list files", _write_lists, _read_lists),
)
PREPARED = Reader("prepared logs", _write_log, _prepare, says=(*SAYS, "label", "split", "column"), leaves=("cache",))
