"""One table over the jobs of a sweep: settings, main figures, cost."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl


def collect(sweep: Path) -> pl.DataFrame:
    """A row per job directory under `sweep` that finished: job, what was overridden, test figures, seconds, rows/s.

    Jobs without `run.json` failed or were stopped; they get a row with `status` saying so.
    """
    rows = [_row(job) for job in sorted(_jobs(sweep), key=lambda p: int(p.name))]
    return pl.DataFrame(rows, infer_schema_length=None) if rows else pl.DataFrame({"job": []})


def write(sweep: Path) -> pl.DataFrame:
    """Write `leaderboard.parquet` and `leaderboard.md` beside the jobs and return the table, best first."""
    table = collect(sweep)
    figures = [c for c in table.columns if c.startswith("test/")]
    if figures:
        table = table.sort(figures[0], descending=not _is_error(figures[0]), nulls_last=True)
    temporary = sweep / ".leaderboard.parquet"
    table.write_parquet(temporary)
    temporary.replace(sweep / "leaderboard.parquet")
    (sweep / "leaderboard.md").write_text(markdown(table), encoding="utf-8")
    return table


def markdown(table: pl.DataFrame) -> str:
    """The table in Markdown, floats with four digits."""
    head = f"| {' | '.join(table.columns)} |\n|{'---|' * len(table.columns)}\n"
    return head + "".join(f"| {' | '.join(_cell(value) for value in row)} |\n" for row in table.iter_rows())


def _jobs(sweep: Path) -> list[Path]:
    return [p for p in sweep.iterdir() if p.is_dir() and p.name.isdigit()]


def _row(job: Path) -> dict[str, Any]:
    overrides = job / ".hydra" / "overrides.yaml"
    said = [line[2:] for line in overrides.read_text(encoding="utf-8").splitlines()] if overrides.is_file() else []
    row: dict[str, Any] = {"job": job.name, "overrides": " ".join(said)}
    if not (job / "run.json").is_file() or not (job / "metrics.json").is_file():
        return row | {"status": "failed or stopped: see the log in its directory"}
    facts = json.loads((job / "run.json").read_text(encoding="utf-8"))
    metrics = json.loads((job / "metrics.json").read_text(encoding="utf-8"))
    figures = {f"test/{name}": metrics["test"][name]["mean"] for name in _main_figures(metrics["test"])}
    cost = {"seconds": facts["seconds"], "rows_per_second": facts["rows_per_second"]}
    return row | {"status": "finished"} | figures | cost


def _main_figures(metrics: dict[str, Any]) -> list[str]:
    """The one error or, without one, NDCG and recall at the first cut-off in the file."""
    wanted = ("rmse", "mae", "ndcg@", "recall@")
    return [next(n for n in metrics if n.startswith(w)) for w in wanted if any(n.startswith(w) for n in metrics)]


def _is_error(figure: str) -> bool:
    return figure in ("test/rmse", "test/mae")


def _cell(value: Any) -> str:
    return f"{value:.4f}" if isinstance(value, float) else str(value).replace("|", "\\|")
