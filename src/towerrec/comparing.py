"""Two or more judgements side by side, user by user."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import polars as pl

from towerrec.files import whole_file
from towerrec.report.bootstrap import paired_difference
from towerrec.report.text import aligned


def compare(directories: list[str], *, num_resamples: int, seed: int) -> pl.DataFrame:
    """Paired differences of the first judgement to each of the others, user by user, for the metrics all of them have.

    Args:
        directories: Run directories, or directories with a `per_user.parquet`.
        num_resamples: Bootstrap resamples.
        seed: Of the resamples.

    Raises:
        ValueError: Fewer than two, one without a judgement, or judgements by different rules.
    """
    if len(directories) < 2:
        raise ValueError("compare needs at least two directories: compare=[RUN_A,RUN_B]")
    judged = [_judgement(Path(d)) for d in directories]
    rules = [j["rules"] for j in judged]
    for key in ("split", "candidates", "positive"):
        found = sorted({str(r[key]) for r in rules})
        if len(found) > 1:
            raise ValueError(f"judged by different rules ({key}: {', '.join(found)}): judge them alike first")
    metrics = [m for m in judged[0]["per_user"].columns if "@" in m and all(m in j["per_user"].columns for j in judged)]
    rows = []
    for other, directory in zip(judged[1:], directories[1:], strict=True):
        for metric in metrics:
            gap = paired_difference(
                judged[0]["per_user"], other["per_user"], metric, num_resamples=num_resamples, seed=seed
            )
            rows.append({"first": directories[0], "second": directory, "metric": metric, **gap.to_dict()})
    return pl.DataFrame(rows)


def write_comparison(table: pl.DataFrame, directory: Path) -> None:
    """Write `comparison.parquet`."""
    with whole_file(directory / "comparison.parquet") as path:
        table.write_parquet(path)


def comparison_text(table: pl.DataFrame) -> str:
    """Paired differences as lines for a terminal."""
    head = ["metric", "first - second", "95 % interval", "better for", "worse for"]
    lines = []
    for second, part in table.group_by("second", maintain_order=True):
        body = [
            [
                row["metric"],
                f"{row['mean']:+.4f}",
                f"{row['low']:+.4f} to {row['high']:+.4f}",
                f"{row['wins']:.0%}",
                f"{row['losses']:.0%}",
            ]
            for row in part.iter_rows(named=True)
        ]
        lines += [f"{part['first'][0]} against {second[0]} ({part['users'][0]:,} users)", *aligned([head, *body]), ""]
    return "\n".join(lines)


def _judgement(directory: Path) -> dict[str, Any]:
    for place in (directory / "evaluation", directory):
        if (place / "per_user.parquet").is_file() and (place / "comparison.json").is_file():
            about = json.loads((place / "comparison.json").read_text(encoding="utf-8"))
            return {"per_user": pl.read_parquet(place / "per_user.parquet"), "rules": about["protocol"]}
    raise ValueError(f"{directory} holds no judgement (per_user.parquet): run python evaluate.py run={directory} first")
