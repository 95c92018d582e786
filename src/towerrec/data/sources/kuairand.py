"""KuaiRand (Gao et al., CIKM 2022), Pure and 1K: the standard log and the randomly exposed one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl

from towerrec.data.columns import require_columns
from towerrec.data.sources.kuairec_files import LAYOUTS, what_is_there
from towerrec.data.sources.scan import existing_file, is_empty, load, scan_file
from towerrec.data.tables import Tables
from towerrec.schema import DURATION_MS, ITEM_ID, MATRIX, PLAY_DURATION_MS, TIMESTAMP_MS, USER_ID, WATCH_RATIO
from towerrec.wording import reason_of

LOGS = pl.Enum(["standard", "random"])
FLAGS = ("is_click", "is_like", "is_follow", "is_comment", "is_forward", "is_hate", "long_view", "is_profile_enter")
NEEDED = ("user_id", "video_id", "time_ms", "play_time_ms", "duration_ms")
TYPES = {
    **dict.fromkeys(("user_id", "video_id", "time_ms", "play_time_ms", "duration_ms"), pl.Int64),
    **dict.fromkeys((*FLAGS, "is_rand", "tab"), pl.Int8),
    "date": pl.Int32,
}


class KuaiRand:
    """KuaiRand's csv files.

    Args:
        root: Folder that holds them, or holds `data/` or `KuaiRand-Pure/data/`; null looks under `data_dir`.
        version: `pure` or `1k`, as in the file names.
        logs: Which logs to read: `standard`, `random` or both; they become `matrix`.
        data_dir: Where `root: null` looks.
    """

    name = "kuairand"

    def __init__(
        self,
        *,
        root: str | None = None,
        version: str = "pure",
        logs: list[str] | None = None,
        data_dir: str = "data",
    ) -> None:
        self.logs = ["standard", "random"] if logs is None else list(logs)
        if not self.logs or len(set(self.logs)) < len(self.logs) or set(self.logs) - {"standard", "random"}:
            raise ValueError(f"data.logs must name standard, random or both, each once, got {self.logs}")
        if version not in ("pure", "1k"):
            raise ValueError(f"data.version must be pure or 1k, got {version!r}")
        self.version = version
        self.root = Path(root if root is not None else data_dir).expanduser()

    def settings(self) -> dict[str, Any]:
        return {"source": self.name, "version": self.version, "logs": self.logs}

    def _folder(self) -> Path:
        for layout in LAYOUTS:
            for place in [self.root] if layout == "" else sorted(self.root.glob(layout)):
                if self._log_files(place, self.logs[0]):
                    return place
        raise ValueError(
            f"data.root={self.root} {what_is_there(self.root)}; log_{self.logs[0]}_*_{self.version}.csv was not found "
            "there: unpack KuaiRand-Pure.tar.gz or KuaiRand-1K.tar.gz (Zenodo record 10439422) and give its folder"
        )

    def _log_files(self, folder: Path, log: str) -> list[Path]:
        return sorted(folder.glob(f"log_{log}_*_{self.version}.csv"))

    def _side_files(self, folder: Path) -> dict[str, Path]:
        names = ("user_features", "video_features_basic")
        paths = {name: folder / f"{name}_{self.version}.csv" for name in names}
        return {name: path for name, path in paths.items() if path.is_file()}

    def files(self) -> list[Path]:
        """The csv files that are read. `video_features_statistic` is not: its averages reach beyond any split."""
        folder = self._folder()
        found: list[Path] = []
        for log in self.logs:
            parts = self._log_files(folder, log)
            if not parts:
                raise ValueError(f"{folder} holds no log_{log}_*_{self.version}.csv: unpack it there or name data.logs")
            found += [existing_file(part, "data.root") for part in parts]
        return found + list(self._side_files(folder).values())

    def read(self) -> Tables:
        """The tables; a side file that is missing leaves its table out."""
        self.files()
        folder = self._folder()
        logs = [scan_log(path, log) for log in self.logs for path in self._log_files(folder, log)]
        side = self._side_files(folder)
        return Tables(
            name=self.name,
            interactions=pl.concat(logs, how="diagonal"),
            users=users_table(side["user_features"]) if "user_features" in side else None,
            items=items_table(side["video_features_basic"]) if "video_features_basic" in side else None,
            timezone="Asia/Shanghai",
        )


def scan_log(path: Path, log: str) -> pl.LazyFrame:
    """One log file in canonical columns; the reactions keep their own names."""
    frame = scan_file(path, types=TYPES, infer_rows=0)
    existing = frame.collect_schema().names()
    require_columns(NEEDED, existing, str(path))
    if is_empty(frame.select(NEEDED), path):
        raise ValueError(f"{path} holds a header but no rows")
    # The release has no watch ratio; where the duration is unknown (0) there is none.
    ratio = pl.when(pl.col("duration_ms") > 0).then(pl.col("play_time_ms") / pl.col("duration_ms"))
    own = [name for name in ("video_id", *FLAGS, "is_rand", "tab", "date") if name in existing]
    return frame.select(
        pl.col("user_id").alias(USER_ID),
        pl.col("video_id").alias(ITEM_ID),
        pl.col("time_ms").alias(TIMESTAMP_MS),
        pl.col("play_time_ms").alias(PLAY_DURATION_MS),
        pl.col("duration_ms").alias(DURATION_MS),
        ratio.cast(pl.Float32).alias(WATCH_RATIO),
        pl.lit(log, dtype=LOGS).alias(MATRIX),
        *own,
    )


def users_table(path: Path) -> pl.LazyFrame:
    """Users with their raw features."""
    users = load(scan_file(path, types={"user_id": pl.Int64}), path)
    require_columns(["user_id"], users.columns, str(path))
    return users.rename({"user_id": USER_ID}).lazy()


def items_table(path: Path) -> pl.LazyFrame:
    """Videos under KuaiRec's names: `tag` becomes a list `feat`, `upload_dt` a date, `video_duration` `duration_ms`."""
    videos = load(scan_file(path, types={"video_id": pl.Int64, "tag": pl.String, "upload_dt": pl.String}), path)
    require_columns(["video_id"], videos.columns, str(path))
    made = {
        "tag": pl.col("tag").str.split(",").list.eval(pl.element().str.strip_chars().cast(pl.Int64)).alias("feat"),
        "upload_dt": pl.col("upload_dt").str.head(10).str.to_date("%Y-%m-%d", strict=False).alias("upload_date"),
        "video_duration": pl.col("video_duration").cast(pl.Float64).alias(DURATION_MS),
        "server_width": pl.col("server_width").alias("video_width"),
        "server_height": pl.col("server_height").alias("video_height"),
    }
    there = [name for name in made if name in videos.columns]
    try:
        return videos.rename({"video_id": ITEM_ID}).with_columns(made[name] for name in there).drop(there).lazy()
    except pl.exceptions.PolarsError as error:
        raise ValueError(f"{path} cannot be read: {reason_of(error)}") from error
