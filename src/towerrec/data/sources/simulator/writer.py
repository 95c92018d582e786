"""Write a simulated release: seven csv files that appear all at once or not at all."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import polars as pl

from towerrec.data.sources.simulator.big_matrix import big_matrix
from towerrec.data.sources.simulator.captions import BARE_RETURN, simulate_captions
from towerrec.data.sources.simulator.daily import DayCounters, item_daily_features
from towerrec.data.sources.simulator.events import Events, to_table
from towerrec.data.sources.simulator.exposure import fit_exposure
from towerrec.data.sources.simulator.scales import Scale, ScaleName, get_scale
from towerrec.data.sources.simulator.small_matrix import small_matrix
from towerrec.data.sources.simulator.users import simulate_users, social_network
from towerrec.data.sources.simulator.videos import Videos, item_categories, simulate_videos
from towerrec.files import whole_directory

Progress = Callable[[str, float], None]
FILES = (
    "big_matrix.csv",
    "small_matrix.csv",
    "user_features.csv",
    "item_categories.csv",
    "item_daily_features.csv",
    "social_network.csv",
    "kuairec_caption_category.csv",
)
# Stands for a bare carriage return until the table is text: the csv writer would put quotes around the field.
_RETURN_MARK = "\x01"


def simulate(root: Path, *, scale: ScaleName, seed: int, progress: Progress | None = None) -> Path:
    """Write a simulated release in the format of KuaiRec 2.0 under `root/data`.

    The files are written to a hidden directory beside it, which is renamed when all seven are complete; the same scale
    and seed give the same bytes.

    Args:
        root: Directory of the release; created if missing.
        scale: `tiny`, `small` or `full` (the size of KuaiRec, about 1.6 GB).
        seed: Any integer from 0 on.
        progress: Called with the name of a file and the share of it that is written (0 to 1).

    Returns:
        The directory with the seven files, `root/data`.

    Raises:
        ValueError: If the scale is unknown, the seed negative, or `root/data` exists.
    """
    sizes, target = get_scale(scale), Path(root) / "data"
    if seed < 0:
        raise ValueError(f"seed must be 0 or more, got {seed}: choose another one")
    if target.exists():
        raise ValueError(f"{target} exists already: a release is never mixed with other files, so remove it first")
    with whole_directory(target) as partial:
        _write_release(partial, sizes, seed, progress or _silent)
    return target


def _silent(name: str, share: float) -> None:
    """Report nothing."""


def _write_release(folder: Path, scale: Scale, seed: int, progress: Progress) -> None:
    users, videos = simulate_users(scale, seed), simulate_videos(scale, seed)
    categories, tags = item_categories(videos, seed)
    tables = {
        "user_features.csv": users.table,
        "item_categories.csv": categories,
        "social_network.csv": social_network(users, seed),
    }
    for name, table in tables.items():
        table.write_csv(folder / name)
        progress(name, 1.0)
    _write_captions(folder, videos, seed)
    progress("kuairec_caption_category.csv", 1.0)
    counters = DayCounters(scale.videos)
    exposure = fit_exposure(users, videos, scale, seed)
    feed = big_matrix(users, videos, exposure, scale, seed)
    _write_matrix(folder / "big_matrix.csv", feed, counters, scale.users, progress)
    panel = ((events, events) for events in small_matrix(users, videos, scale, seed))
    _write_matrix(folder / "small_matrix.csv", panel, counters, scale.users, progress, has_gaps=True)
    item_daily_features(videos, counters, tags, seed).write_csv(folder / "item_daily_features.csv")
    progress("item_daily_features.csv", 1.0)


def _write_matrix(
    path: Path,
    chunks: Iterable[tuple[Events, Events]],
    counters: DayCounters,
    num_users: int,
    progress: Progress,
    *,
    has_gaps: bool = False,
) -> None:
    """Write (clean events, rows) chunk by chunk, counting the clean events; progress by the last user written."""
    with path.open("wb") as file:
        for number, (clean, rows) in enumerate(chunks):
            counters.add(clean)
            to_table(rows, has_gaps=has_gaps).write_csv(file, include_header=number == 0)
            progress(path.name, float(np.max(rows.user) + 1) / num_users)
    progress(path.name, 1.0)


def _write_captions(folder: Path, videos: Videos, seed: int) -> None:
    """Write the captions with LF line ends and carriage returns bare inside the fields."""
    buffer = io.BytesIO()
    marked = pl.col("caption").str.replace_all(BARE_RETURN, _RETURN_MARK, literal=True)
    simulate_captions(videos, seed).with_columns(marked).write_csv(buffer)
    text = buffer.getvalue().replace(_RETURN_MARK.encode(), BARE_RETURN.encode())
    (folder / "kuairec_caption_category.csv").write_bytes(text)
