"""Two or more judgements side by side: runs, settings of a sweep with their seeds, baselines, lists of any system."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import polars as pl

from towerrec.baselines.registry import HINDSIGHT
from towerrec.command_words import command_word
from towerrec.files import read_object, whole_file
from towerrec.reading_back import as_written
from towerrec.report import side_by_side
from towerrec.report.bootstrap import enough_resamples
from towerrec.report.compare_page import compare_page
from towerrec.report.groups import Group, averaged, group_runs, jobs_of, read_tables
from towerrec.report.interpret import main_metric
from towerrec.report.optimism import optimism
from towerrec.report.per_user import common_figures
from towerrec.report.side_by_side import Comparison, Contender
from towerrec.report.side_by_side_text import markdown
from towerrec.report.standings import AS_GIVEN
from towerrec.unreadable import UNREADABLE

log = logging.getLogger(__name__)

RULES = ("split", "candidates", "positive", "num_candidates", "candidates_per_user", "fingerprint")
"""What must be equal for figures to stand beside each other; the last is of the judged users and relevant items."""

PER_USER = "per_user.parquet"
VALIDATED = "validation/per_user.parquet"


@dataclass(frozen=True)
class Sweep:
    """A sweep that is compared: its finished jobs, as settings."""

    path: str
    groups: list[Group]


def compare(
    places: Sequence[str],
    *,
    against: str = "first",
    grouped: str = "sweeps",
    correction: str = "holm",
    num_resamples: int = 10_000,
    seed: int = 0,
) -> Comparison:
    """Compare judgements user by user, for the figures all of them have.

    Args:
        places: Run directories, directories with a `per_user.parquet`, and sweeps, which stand for their settings.
        against: `first` compares the first with each of the others, `all` each with each.
        grouped: Whose runs that differ in their repeats only (`groups.REPEATS`) count as one: those of `sweeps`, `all`
            that are given, or `none`.
        correction: Of p-values, for all pairs that are compared.
        num_resamples: Bootstrap resamples and random flips (`bootstrap.enough_resamples`).
        seed: Of both.

    Raises:
        ValueError: Fewer than two, one without a judgement, or judgements by different rules or of different rows.
    """
    if len(places) < 2 and not any(_is_sweep(Path(place)) for place in places):
        raise ValueError("compare needs at least two directories, or a sweep: compare=[RUN_A,RUN_B]")
    sweeps = [_sweep(place, grouped) for place in places if _is_sweep(Path(place))]
    contenders = _contenders(places, sweeps, grouped)
    if len(contenders) < 2:
        raise ValueError(_too_few(places, contenders))
    about = {contender.name: [_about(place) for place in contender.places] for contender in contenders}
    _check_rules({name: [one["protocol"] for one in ones] for name, ones in about.items()})
    first = about[contenders[0].name][0]
    num_resamples = enough_resamples(num_resamples, max(table.height for c in contenders for table in c.tables))
    metric = main_metric(common_figures([table for contender in contenders for table in contender.tables]))
    # Baselines were judged beside every run: where runs judge different users, those of one say nothing of the others.
    alike = len({one["protocol"]["fingerprint"] for one in about[contenders[0].name]}) == 1
    return side_by_side.compare(
        contenders,
        against=against,
        correction=correction,
        num_resamples=num_resamples,
        seed=seed,
        beside=first["baselines"] if alike else {},
        bounds=_bounds(Path(contenders[0].places[0])) if alike else {},
        members=_members(Path(contenders[0].places[0])) if alike else None,
        optimism=_optimism(sweeps, metric, num_resamples=num_resamples, seed=seed),
        rules={key: value for key, value in first["protocol"].items() if alike or key in RULES[:3]},
    )


def write_comparison(comparison: Comparison, directory: Path) -> None:
    """Write `comparison.parquet` (the paired differences), `systems.parquet`, `runs.parquet`, `groups.parquet` (the
    differences by group of users), `comparison.md` and `report.html`."""
    for name, table in (
        ("comparison", comparison.paired),
        ("systems", comparison.systems),
        ("runs", comparison.runs),
        ("groups", comparison.groups),
        ("optimism", comparison.optimism),
    ):
        if table is None:  # what a former comparison left there would say something of this one
            (directory / f"{name}.parquet").unlink(missing_ok=True)
            continue
        with whole_file(directory / f"{name}.parquet") as path:
            table.write_parquet(path)
    with whole_file(directory / "comparison.md") as path:
        path.write_text(markdown(comparison), encoding="utf-8")
    with whole_file(directory / "report.html") as path:
        path.write_text(compare_page(comparison), encoding="utf-8")


def _contenders(places: Sequence[str], sweeps: Sequence[Sweep], grouped: str) -> list[Contender]:
    """What is compared, in the order given; names are those of the settings, or of the places as far as they differ."""
    by_path = {sweep.path: sweep for sweep in sweeps}
    runs = [place for place in places if place not in by_path]
    if grouped == "all":
        together = group_runs([Path(run) for run in runs if (Path(run) / ".hydra").is_dir()])
        members = {str(run): group for group in together for run in group.runs}
    else:
        members = {}
    found: list[Contender] = []
    for place, label in zip(places, _labels(places), strict=True):
        if place in by_path:
            prefix = f"{label}: " if len(places) > 1 else ""
            found += [_contender(f"{prefix}{group.name}", group) for group in by_path[place].groups]
        elif (group := members.get(str(Path(place)))) is not None:
            if Path(place) == min(group.runs, key=[Path(run) for run in runs].index):
                found.append(_contender(group.name, group))
        else:
            found.append(_contender(label, Group(label, (), (Path(place),), ("",))))
    return _with_own_names(found)


def _labels(places: Sequence[str]) -> list[str]:
    """The places without the directories that all of them begin with."""
    parts = [Path(place).parts for place in places]
    levels = zip(*(part[:-1] for part in parts), strict=False)
    shared = sum(1 for _ in takewhile(lambda level: len(set(level)) == 1, levels))
    return [str(Path(*part[shared:])) for part in parts]


def _contender(name: str, group: Group) -> Contender:
    judged = [_judgement(run) for run in group.runs]
    tables = read_tables(judged, PER_USER)
    return Contender(name, tuple(str(run) for run in judged), group.repeats, tuple(tables))


def _with_own_names(contenders: Sequence[Contender]) -> list[Contender]:
    """The same, with a number behind a name that was there before."""
    names: list[str] = []
    for contender in contenders:
        before = [name for name in names if name == contender.name or name.startswith(f"{contender.name} (")]
        names.append(f"{contender.name} ({len(before) + 1})" if before else contender.name)
    return [Contender(n, c.places, c.repeats, c.tables) for n, c in zip(names, contenders, strict=True)]


def _sweep(place: str, grouped: str) -> Sweep:
    jobs = jobs_of(Path(place))
    finished = [job for job in jobs if _holds_judgement(job / "evaluation")]
    if len(finished) < len(jobs):
        missing = ", ".join(job.name for job in jobs if job not in finished)
        log.info(f"{place}: jobs without a judgement are left out ({missing})")
    groups = group_runs(finished)
    if len(groups) > 1:  # of an ablation one setting says nothing of its own
        groups = [replace(g, name=AS_GIVEN) if g.name == g.runs[0].name else g for g in groups]
    if grouped == "none":
        groups = [
            Group(" ".join(filter(None, (group.name, repeat))), group.overrides, (run,), (repeat,))
            for group in groups
            for run, repeat in zip(group.runs, group.repeats, strict=True)
        ]
    return Sweep(place, groups)


def _optimism(sweeps: Sequence[Sweep], metric: str, *, num_resamples: int, seed: int) -> pl.DataFrame | None:
    """What choosing among the settings of each sweep by its validation rows flatters; None where there is no choice."""
    rows = []
    for sweep in sweeps:
        tables = {
            group.name: averaged(read_tables(group.runs, VALIDATED))
            for group in sweep.groups
            if all((run / VALIDATED).is_file() for run in group.runs)
        }
        if len(tables) == len(sweep.groups) > 1:
            found = optimism(tables, metric, num_resamples=num_resamples, seed=seed)
            rows.append({"sweep": sweep.path, **found.row()})
    return pl.DataFrame(rows) if rows else None


def _check_rules(rules: Mapping[str, Sequence[Mapping[str, Any]]]) -> None:
    """Refuse judgements that do not answer the same question.

    Raises:
        ValueError: Naming two of them and what differs.
    """
    for name, ones in rules.items():
        if any(key not in one for one in ones for key in RULES):
            again = f"python evaluate.py {command_word('run', name)}"
            raise ValueError(f"{name} was judged by an older towerrec: judge it again, {again}")
    (first, reference), *others = rules.items()
    for key in RULES:
        wanted = sorted({str(one[key]) for one in reference})
        for name, ones in others:
            found = sorted({str(one[key]) for one in ones})
            if found == wanted:
                continue
            if key == "fingerprint":
                raise ValueError(
                    f"judged on different rows: the relevant items of the judged users differ between {first} "
                    f"({reference[0]['users']:,} users) and {name} ({ones[0]['users']:,} users). Compare judgements of "
                    "the same data, cleaning, label and split, with the same seeds or windows for each"
                )
            raise ValueError(
                f"judged by different rules ({key}: {', '.join(wanted)} in {first}, {', '.join(found)} in {name}): "
                "judge them alike first"
            )


def _too_few(places: Sequence[str], contenders: Sequence[Contender]) -> str:
    if not contenders:
        return f"no job of {places[0]} has a judgement, so there is nothing to compare"
    name, runs = contenders[0].name, len(contenders[0].tables)
    if runs > 1:
        return (
            f"all {runs} runs are repeats of one setting ({name}), so there is nothing to compare it with: give "
            "another run, or take them one by one with compare_grouped=none"
        )
    return f"compare needs at least two settings or directories; {name} is the only one of {places[0]} with a judgement"


def _bounds(place: Path) -> dict[str, pl.DataFrame]:
    """Per-user table of the best list in hindsight, as it was judged beside a run."""
    path = place / "per_user_others.parquet"
    with as_written(path, remedy="judge the run again", also=UNREADABLE):
        return {HINDSIGHT: pl.read_parquet(path, glob=False).filter(pl.col("system") == HINDSIGHT).drop("system")}


def _members(place: Path) -> pl.DataFrame | None:
    """Groups of the users as the first judgement found them; None where it was made before they were kept."""
    path = place / "user_groups.parquet"
    if not path.is_file():
        return None
    with as_written(path, remedy="judge the run again", also=UNREADABLE):
        return pl.read_parquet(path, glob=False)


def _about(place: str) -> dict[str, Any]:
    path = Path(place) / "comparison.json"
    found = read_object(path)
    if not all(isinstance(found.get(key), dict) for key in ("protocol", "baselines")):
        raise ValueError(f"{path} is damaged, it does not say how it was judged: judge the run again")
    return found


def _judgement(place: Path) -> Path:
    """The directory of the judgement that a place names."""
    for directory in (place / "evaluation", place):
        if _holds_judgement(directory):
            return directory
    raise ValueError(
        f"{place} holds no judgement (per_user.parquet): run python evaluate.py {command_word('run', place)} first, or "
        "with recommendations=FILE output=DIR for lists"
    )


def _holds_judgement(directory: Path) -> bool:
    return (directory / PER_USER).is_file() and (directory / "comparison.json").is_file()


def _is_sweep(place: Path) -> bool:
    itself = _holds_judgement(place) or _holds_judgement(place / "evaluation")
    return place.is_dir() and not itself and bool(jobs_of(place))
