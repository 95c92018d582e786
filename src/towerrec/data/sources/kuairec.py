"""KuaiRec 2.0 (Gao et al., CIKM 2022): the official csv files, quirks and all, as canonical tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from towerrec.data.columns import require_columns
from towerrec.data.sources import kuairec_files as files
from towerrec.data.sources.kuairec_items import TIMEZONE, items_table, scan_daily
from towerrec.data.sources.scan import existing_file, is_empty, load, scan_file
from towerrec.data.tables import Tables
from towerrec.schema import (
    DURATION_MS,
    EARLIEST_MS,
    ITEM_ID,
    LATEST_MS,
    MATRIX,
    PLAY_DURATION_MS,
    TIMESTAMP_MS,
    USER_ID,
    WATCH_RATIO,
)

MATRICES = pl.Enum(["big", "small"])
LOG_TYPES = {
    "user_id": pl.Int64,
    "video_id": pl.Int64,
    "play_duration": pl.Int32,
    "video_duration": pl.Int32,
    "time": pl.String,
    "date": pl.Float64,  # whole numbers in one matrix, 20200705.0 and gaps in the other
    "timestamp": pl.Float64,  # float32 seconds would be good to 128 s only
    "watch_ratio": pl.Float64,
}


class KuaiRec:
    """The official release.

    Args:
        root: Folder that holds the csv files in any known layout, or the zip; null looks under `data_dir`.
        download: Fetch the release (432 MB) where it is not found.
        url: Address of the zip.
        size: Its bytes.
        md5: Its MD5.
        matrices: Which logs to read: `big`, `small` or both.
        data_dir: Where downloads go.
    """

    name = "kuairec"

    def __init__(
        self,
        *,
        root: str | None = None,
        download: bool = False,
        url: str = files.URL,
        size: int = files.SIZE,
        md5: str = files.MD5,
        matrices: list[str] | None = None,
        data_dir: str = "data",
    ) -> None:
        self.matrices = ["big", "small"] if matrices is None else list(matrices)
        unknown = [m for m in self.matrices if m not in files.MATRIX_FILES]
        if unknown or not self.matrices or len(set(self.matrices)) < len(self.matrices):
            raise ValueError(f"data.matrices must name big, small or both, each once, got {self.matrices}")
        self.root = None if root is None else Path(root).expanduser()
        self.download, self.url, self.size, self.md5 = download, url, size, md5
        self.data_dir = Path(data_dir).expanduser()
        self._folder: Path | None = None

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "matrices": self.matrices}

    def find(self) -> Path | None:
        """The folder of the csv files, or None; never downloads."""
        needed = [files.MATRIX_FILES[matrix] for matrix in self.matrices]
        roots = [self.root] if self.root is not None else [self.data_dir / "kuairec", self.data_dir]
        return next((folder for root in roots if (folder := files.locate(root, needed)) is not None), None)

    def folder(self) -> Path:
        """The folder of the csv files, downloaded first if that is asked for.

        Raises:
            ValueError: If the files are nowhere.
        """
        if self._folder is None:
            self._folder = self.find()
        if self._folder is None and self.download:
            folder = self.root if self.root is not None else self.data_dir / "kuairec"
            files.fetch(folder, url=self.url, size=self.size, md5=self.md5)
            self._folder = self.find()
        if self._folder is None:
            root = self.root if self.root is not None else self.data_dir
            key = "data.root" if self.root is not None else "the data directory"
            raise ValueError(
                f"{key} {root} {files.what_is_there(root)}; {files.MATRIX_FILES[self.matrices[0]]} was not found. "
                "Give data.root=DIR with KuaiRec's csv files or KuaiRec.zip, or data.download=true to fetch the "
                "release (432 MB), or data=demo for the built-in simulated log"
            )
        return self._folder

    def files(self) -> list[Path]:
        """The csv files that are read."""
        folder = self.folder()
        needed = [existing_file(folder / files.MATRIX_FILES[matrix], "data.root") for matrix in self.matrices]
        return needed + [folder / name for name in files.OPTIONAL if (folder / name).is_file()]

    def read(self) -> Tables:
        """The tables; a side file that is missing leaves its columns out."""
        folder = self.folder()
        logs = [scan_log(folder / files.MATRIX_FILES[matrix], matrix) for matrix in self.matrices]
        return Tables(
            name=self.name,
            interactions=pl.concat(logs, how="diagonal"),
            users=users_table(folder),
            items=items_table(folder),
            timezone=TIMEZONE,
            item_daily=scan_daily(folder / files.DAILY) if (folder / files.DAILY).is_file() else None,
        )


def scan_log(path: Path, matrix: str) -> pl.LazyFrame:
    """One matrix in canonical columns, in file order; `time` is left to the exact `timestamp`."""
    frame = scan_file(existing_file(path, "data.root"), types=LOG_TYPES, infer_rows=0)
    needed = [name for name in LOG_TYPES if name not in ("time", "date")]
    existing = frame.collect_schema().names()
    require_columns(needed, existing, str(path))
    if is_empty(frame.select(needed), path):
        raise ValueError(f"{path} holds a header but no rows")
    # The small matrix has no time at all in 3.9 % of its rows (forced exposure): null, and the row stays.
    date = [pl.col("date").fill_nan(None).cast(pl.Int32)] if "date" in existing else []
    return frame.select(
        pl.col("user_id").alias(USER_ID),
        pl.col("video_id").alias(ITEM_ID),
        pl.col("play_duration").alias(PLAY_DURATION_MS),
        pl.col("video_duration").alias(DURATION_MS),
        _milliseconds(pl.col("timestamp")).alias(TIMESTAMP_MS),
        pl.col("watch_ratio").cast(pl.Float32).alias(WATCH_RATIO),
        pl.lit(matrix, dtype=MATRICES).alias(MATRIX),
        "video_id",
        *date,
    )


def _milliseconds(seconds: pl.Expr) -> pl.Expr:
    """Whole ones; what lies beyond every calendar becomes the next moment outside of it, for the cleaning to drop."""
    return (seconds.fill_nan(None) * 1000).round().clip(EARLIEST_MS - 1, LATEST_MS + 1).cast(pl.Int64)


def users_table(folder: Path) -> pl.LazyFrame | None:
    """Users with their raw features and `num_friends`; None where the file is missing."""
    path = folder / files.USER_FEATURES
    if not path.is_file():
        return None
    users = load(scan_file(path, types={"user_id": pl.Int64}), path)
    require_columns(["user_id"], users.columns, str(path))
    social = folder / files.SOCIAL
    if social.is_file():
        friends = load(scan_file(social, types={"user_id": pl.Int64, "friend_list": pl.String}), social)
        require_columns(["user_id", "friend_list"], friends.columns, str(social))
        degree = (
            friends.lazy()
            .group_by("user_id")
            .agg(
                pl.col("friend_list")
                .str.json_decode(pl.List(pl.Int64))
                .list.len()
                .sum()
                .cast(pl.Int32)
                .alias("num_friends")
            )
        )
        users = users.join(load(degree, social), on="user_id", how="left", maintain_order="left").with_columns(
            pl.col("num_friends").fill_null(0)
        )
    return users.rename({"user_id": USER_ID}).lazy()
