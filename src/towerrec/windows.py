"""The end of a sweep over retraining windows: the first model is judged on the later windows, beside the retrained."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import polars as pl

from towerrec import tasks
from towerrec.baselines.registry import HINDSIGHT
from towerrec.config import later_window
from towerrec.files import whole_file
from towerrec.report.groups import Group, averaged, group_runs, jobs_of
from towerrec.report.windows import (
    ONCE,
    RETRAINED,
    Windows,
    as_markdown,
    as_text,
    page,
    section,
    sentences,
    windows_table,
)
from towerrec.sweep_jobs import state

KEY = "split.window"


def write(sweep: Path, *, num_resamples: int = 1000) -> str | None:
    """Write `windows.parquet`, `windows.md` and `windows.html` of a sweep, and return what to print.

    None where no setting of the sweep has runs of several windows.

    Args:
        sweep: Directory of the sweep.
        num_resamples: Bootstrap resamples.
    """
    groups = [group for group in group_runs(jobs_of(sweep)) if len(set(map(_window, group.repeats)) - {None}) > 1]
    found = [windows for group in groups if (windows := _windows(group, several=len(groups) > 1)) is not None]
    if not found:
        return None
    figures, texts, sections, markdown = [], [], [], []
    for windows in found:
        table = windows_table(windows, num_resamples=num_resamples, seed=0)
        metric = _main(table)
        said = sentences(windows, table, metric, num_resamples=num_resamples, seed=0)
        figures.append(table)
        texts.append(
            "\n".join([windows.name, as_text(windows, table, metric), *(f"- {sentence}" for sentence in said)])
        )
        markdown.append(as_markdown(windows, table, metric, said))
        sections.append(section(windows, table, metric, said))
    with whole_file(sweep / "windows.parquet") as path:
        pl.concat(figures).write_parquet(path)
    most = max(len(windows.numbers) for windows in found)
    for name, text in (
        ("md", "\n".join(["# Retraining windows", "", *markdown])),
        ("html", page(sections, num_windows=most)),
    ):
        with whole_file(sweep / f"windows.{name}") as path:
            path.write_text(text, encoding="utf-8")
    return "\n\n".join([*texts, f"windows: {sweep / 'windows.md'} (and .parquet, .html)"])


def _windows(group: Group, *, several: bool) -> Windows | None:
    """The judgements of a setting, those of its first model on later windows made now; None of fewer than two windows.

    Several seeds are averaged user by user.
    """
    runs: dict[int, dict[str, Path]] = {}
    wanted = set()
    for run, repeat in zip(group.runs, group.repeats, strict=True):
        window = _window(repeat)
        if window is not None:
            wanted.add(window)
            if state(run) == "finished":
                other = " ".join(word for word in repeat.split() if not word.startswith(f"{KEY}="))
                runs.setdefault(window, {})[other] = run
    if len(runs) < 2:
        return None
    first = min(runs)
    judged: dict[str, dict[int, pl.DataFrame]] = {RETRAINED: {}, ONCE: {}}
    for window in sorted(runs):
        judged[RETRAINED][window] = _averaged([run / "evaluation" for run in runs[window].values()])
        once = runs[first].values()
        places = [run / "evaluation" if window == first else _judged_later(run, window) for run in once]
        judged[ONCE][window] = _averaged(places)
        others = pl.read_parquet(
            next(iter(runs[window].values())) / "evaluation" / "per_user_others.parquet", glob=False
        )
        for (system,), table in others.partition_by("system", as_dict=True, include_key=False).items():
            if system != HINDSIGHT:
                judged.setdefault(str(system), {})[window] = table
    words = " ".join(word for word in group.overrides if not word.startswith("paths."))
    return Windows(group.name if several else words, judged, sorted(wanted - set(runs)))


def _judged_later(run: Path, window: int) -> Path:
    """Where the judgement of a run on a later window lies; made where it is missing or older than the run."""
    config = later_window(run, window)
    place = Path(str(config.output))
    done = place / "metrics.json"
    if not done.is_file() or done.stat().st_mtime < (run / "run.json").stat().st_mtime:
        with _quiet():
            tasks.evaluate(config)
    return place


@contextmanager
def _quiet() -> Iterator[None]:
    """Only warnings: the figures are said together at the end."""
    log = logging.getLogger("towerrec")
    level = log.level
    log.setLevel(logging.WARNING)
    try:
        yield
    finally:
        log.setLevel(level)


def _averaged(places: Sequence[Path]) -> pl.DataFrame:
    return averaged([pl.read_parquet(place / "per_user.parquet", glob=False) for place in places]).drop("runs")


def _window(repeat: str) -> int | None:
    """The window that a run judged, by what tells it from the other runs of its setting."""
    values = [word.partition("=")[2] for word in repeat.split() if word.lstrip("+~").startswith(f"{KEY}=")]
    return int(values[0]) if values and values[0].isdigit() else None


def _main(figures: pl.DataFrame) -> str:
    """NDCG at the cut nearest to 20."""
    names = [name for name in figures["metric"].unique().sort() if name.startswith("ndcg@")]
    return min(names, key=lambda name: abs(int(name.partition("@")[2]) - 20))
