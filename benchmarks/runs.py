"""One training as the benchmarks see it: a command line, and the files that it leaves."""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
SHARED = ROOT.parent / "shared" / "data"
REAL = Path(os.environ.get("KUAIREC_REAL", SHARED / "kuairec-real"))
SIGNED = Path(os.environ.get("KUAIRAND_SIGNED", SHARED / "kuairand-signed"))

Figures = dict[str, float]


@dataclass(frozen=True)
class Run:
    """A run directory and the seconds from start to end."""

    directory: Path
    seconds: float

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the run."""
        content: dict[str, Any] = json.loads((self.directory / name).read_text(encoding="utf-8"))
        return content

    def figures(self, on: str, names: tuple[str, ...]) -> Figures:
        """Figures of the model on `val` or `test`."""
        metrics = self.read("metrics.json")[on]
        return {name: metrics[name]["mean"] for name in names}

    def others(self, names: tuple[str, ...]) -> dict[str, Figures]:
        """Test figures of the lists and constants that were judged beside the model."""
        found = self.read("evaluation/comparison.json")
        systems = {name: {f: s[f]["mean"] for f in names if f in s} for name, s in found["baselines"].items()}
        systems |= {name: {f: s[f] for f in names if f in s} for name, s in found["baseline_values"].items()}
        return {name: figures for name, figures in systems.items() if figures}


def train(overrides: list[str], *, work: Path) -> Run:
    """Train by `train.py` on the real rows; a failure ends the benchmark with what it said."""
    started = time.perf_counter()
    said = command("train.py", [*overrides, f"paths.log_dir={work.resolve() / 'logs'}"], work=work)
    place = next(line.split(":", 1)[1].strip() for line in reversed(said.splitlines()) if "run directory" in line)
    return Run(ROOT / place, round(time.perf_counter() - started, 1))


def command(script: str, words: list[str], *, work: Path) -> str:
    """Run a script of the repository with the places of the real rows in its environment; returns what it printed."""
    places = {"KUAIREC_REAL": str(REAL), "SMALL_LABELS": str(work / "small_labels.parquet")}
    line = [sys.executable, script, *words]
    environment = os.environ | places | {"KUAIRAND_SIGNED": str(SIGNED)}
    done = subprocess.run(line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        sys.exit(f"{' '.join(line)}\n{done.stdout[-2000:]}\n{done.stderr[-2000:]}")
    return done.stdout


def write_small_labels(work: Path) -> Path:
    """`small_labels.parquet` under `work`: 4.69 M cells, liked or not, by the script that lies beside the real rows."""
    path = work / "small_labels.parquet"
    if not path.is_file():
        work.mkdir(parents=True, exist_ok=True)
        subprocess.run([sys.executable, str(REAL / "make_small_labels.py"), str(path)], check=True)
    return path


def mean(rows: list[Figures]) -> Figures:
    """The mean of each figure, rounded to four digits."""
    return {key: round(statistics.fmean(row[key] for row in rows), 4) for key in rows[0]}


def missing(places: tuple[Path, ...]) -> str | None:
    """What to say where real rows are not there."""
    absent = [str(place) for place in places if not place.is_dir()]
    if not absent:
        return None
    return f"the real rows are not at {', '.join(absent)}: set KUAIREC_REAL and KUAIRAND_SIGNED to their folders"


def write_between(path: Path, marks: tuple[str, str], table: str) -> None:
    """Replace what lies between two marks of a file.

    Raises:
        ValueError: If it does not hold both marks.
    """
    text = path.read_text(encoding="utf-8")
    first, last = (text.find(mark) for mark in marks)
    if not 0 <= first < last:
        raise ValueError(
            f"{path} holds no {marks[0]} followed by {marks[1]}: put the two lines where the table belongs"
        )
    path.write_text(f"{text[:first]}{marks[0]}\n{table}\n{text[last:]}", encoding="utf-8")
