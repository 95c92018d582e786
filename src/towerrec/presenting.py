"""What a judgement says: on the terminal, and as the page `report.html`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl

from towerrec.config import EvalConfig
from towerrec.curves import CURVES
from towerrec.data.prepare import Prepared
from towerrec.evaluation import Evaluation
from towerrec.examples import examples
from towerrec.files import read_json, whole_file
from towerrec.naming import item_categories
from towerrec.ragged import TopN
from towerrec.report.dial import curve_sentence, curve_text
from towerrec.report.html import Report, page
from towerrec.report.interpret import interpret
from towerrec.report.interpret_slices import interpret_lists, interpret_slices
from towerrec.report.meanings import meanings
from towerrec.report.sections.items import ItemMap, item_map
from towerrec.report.sections.plots import Course
from towerrec.report.slices import slice_title
from towerrec.report.text import aligned, comparison, default_metrics
from towerrec.run_directory import VALIDATED, RunDirectory

log = logging.getLogger(__name__)

POPULARITY_FIFTHS = ["least liked fifth", "second fifth", "third fifth", "fourth fifth", "most liked fifth"]


def present(
    config: EvalConfig,
    found: Evaluation,
    prepared: Prepared,
    directory: Path | None,
    lists: TopN,
    *,
    facts: Mapping[str, Any],
    seed: int,
    run: RunDirectory | None = None,
) -> None:
    """Show the figures on the terminal and, where there is a directory, what they mean there and in `report.html`."""
    rules = found.protocol
    log.info(f"\n{rules.on}: {len(rules.users):,} users, candidates {rules.candidates}, relevant {rules.positive}")
    log.info(comparison(found.systems))
    if found.values:
        log.info(_values_text(found))
    if directory is None:
        return
    log.info(meanings([*default_metrics(found.judged), *found.values]))
    sentences = _sentences(found, binary=prepared.binary)
    if found.curve is not None:
        log.info(f"\n{curve_text(found.curve)}")
        sentences.append(curve_sentence(found.curve, num_resamples=config.num_resamples, seed=seed))
    for sentence in [*sentences, *(f"Left out: {reason}." for reason in found.left_out)]:
        log.info(f"- {sentence}")
    report = Report(
        title=f"{found.judged.name} on {prepared.data_name}",
        systems=found.systems,
        sentences=sentences,
        facts={**facts, "prior": found.prior} if found.prior else facts,
        rules=rules.describe(),
        data=prepared.report,
        paired=found.paired,
        values=found.values,
        constant_values=found.baseline_values,
        calibration=found.calibration,
        slices=found.slices,
        references={} if found.beyond is None else found.beyond.references,
        curve=found.curve,
        courses=courses(run, facts),
        items=_map_of(found, prepared, seed=seed),
        examples=examples(prepared, rules, lists, num_examples=config.num_examples, seed=seed),
        left_out=[*found.left_out, *_absent(found)],
    )
    with whole_file(directory / "report.html") as path:
        path.write_text(page(report), encoding="utf-8")


def _sentences(found: Evaluation, *, binary: bool) -> list[str]:
    """What the figures say, of labels that are 0 or 1 or of values."""
    sentences = interpret(
        found.systems,
        num_candidates=found.protocol.num_candidates,
        paired=found.paired,
        dropped=found.protocol.dropped,
        # A probability that never errs by much in the mean is no better for it: 0 for every row does that too.
        values={n: v for n, v in found.values.items() if n != "mae"} if binary else found.values,
        constant_values=found.baseline_values,
    )
    if found.beyond is not None:
        sentences += interpret_lists(found.systems, found.beyond)
    if found.slices is not None:
        sentences += interpret_slices(found.slices, found.judged.name)
    return sentences


def courses(run: RunDirectory | None, facts: Mapping[str, Any]) -> list[Course]:
    """How the trainings of a run went: of a refitted run the fit that chose the number of epochs, then the refit."""
    if run is None:
        return []
    found = []
    for directory, title in (
        (run.root / VALIDATED, "first fit: "),
        (run.root, "refit: " if facts.get("refit") else ""),
    ):
        path = directory / CURVES
        if path.is_file():
            curves = read_json(path)
            found.append(Course(curves, str(facts["monitor"]), title))
    return found


def _absent(found: Evaluation) -> list[str]:
    """Figures and groups that this log cannot have, and why."""
    figures = {} if found.beyond is None else found.beyond.absent
    groups = {slice_title(name): reason for name, reason in found.slices_left_out.items()}
    return [f"{name}: {reason}" for name, reason in {**figures, **groups}.items()]


def _map_of(found: Evaluation, prepared: Prepared, *, seed: int) -> ItemMap | None:
    """The vectors of the items of the log, where a model was judged, coloured by category or else by popularity."""
    if found.beyond is None or found.beyond.vectors_ID is None:
        return None
    inside = prepared.store.in_log("item").nonzero()[:, 0]
    vectors = found.beyond.vectors_ID.cpu()[inside]
    categories = item_categories(prepared)
    if categories is not None:
        return item_map(vectors, categories.of.gather(inside.numpy()), by=categories.name.replace("_", " "), seed=seed)
    counts = pl.Series(prepared.store.item_counts("train", rule=prepared.positive)[inside].numpy())
    fifths = (counts.rank("ordinal") - 1) * len(POPULARITY_FIFTHS) // counts.len()
    groups = pl.Series([POPULARITY_FIFTHS[fifth] for fifth in fifths.to_list()])
    return item_map(vectors, groups, by="popularity", ordered=POPULARITY_FIFTHS, seed=seed)


def _values_text(found: Evaluation) -> str:
    names = list(found.values)
    systems = {found.judged.name: {n: f["mean"] for n, f in found.values.items()}, **found.baseline_values}
    rows = [[name, *(f"{figures[n]:.4f}" if n in figures else "" for n in names)] for name, figures in systems.items()]
    return "\n".join(aligned([["", *names], *rows]))
