"""`leaderboard.parquet`, `leaderboard.md` and `leaderboard.html` of a sweep."""

from __future__ import annotations

from pathlib import Path

from towerrec.files import whole_file
from towerrec.report.board import Board, board
from towerrec.report.board_page import page
from towerrec.report.board_text import markdown


def write(sweep: Path, *, num_resamples: int = 10_000, correction: str = "holm", seed: int = 0) -> Board:
    """Read the jobs of a sweep and write its board beside them, every file whole or not at all.

    Args:
        sweep: Directory of the sweep.
        num_resamples: Bootstrap resamples, and flips of the paired tests.
        correction: Of the p-values for the number of settings: `holm`, `benjamini_hochberg` or `none`.
        seed: Of the resamples and flips.
    """
    found = board(sweep, num_resamples=num_resamples, correction=correction, seed=seed)
    with whole_file(sweep / "leaderboard.parquet") as path:
        found.table.write_parquet(path)
    for name, text in (("leaderboard.md", markdown(found)), ("leaderboard.html", page(found))):
        with whole_file(sweep / name) as path:
            path.write_text(text, encoding="utf-8")
    return found
