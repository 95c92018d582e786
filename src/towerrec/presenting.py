"""What a judgement says: on the terminal, and as the page `report.html`."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from towerrec.config import EvalConfig
from towerrec.data.catalogue import train_history
from towerrec.data.prepare import Prepared
from towerrec.evaluation import Evaluation
from towerrec.examples import examples
from towerrec.files import whole_file
from towerrec.ragged import TopN
from towerrec.report.dial import curve_sentence, curve_text
from towerrec.report.html import page
from towerrec.report.interpret import interpret
from towerrec.report.interpret_slices import interpret_lists, interpret_slices
from towerrec.report.text import aligned, comparison

log = logging.getLogger(__name__)


def present(
    config: EvalConfig,
    found: Evaluation,
    prepared: Prepared,
    directory: Path | None,
    lists: TopN,
    *,
    facts: Mapping[str, Any],
    seed: int,
) -> None:
    """Say on the terminal what was found and, where there is a directory, write `report.html`."""
    sentences = interpret(
        found.systems,
        num_candidates=found.protocol.num_candidates,
        paired=found.paired,
        dropped=found.protocol.dropped,
        # A probability that never errs by much in the mean is no better for it: 0 for every row does that too.
        values={n: v for n, v in found.values.items() if n != "mae"} if prepared.binary else found.values,
        constant_values=found.baseline_values,
    )
    if found.beyond is not None:
        sentences += interpret_lists(found.systems, found.beyond)
    if found.slices is not None:
        sentences += interpret_slices(found.slices, found.judged.name)
    rules = found.protocol
    log.info(f"\n{rules.on}: {len(rules.users):,} users, candidates {rules.candidates}, relevant {rules.positive}")
    log.info(comparison(found.systems))
    if found.values:
        log.info(_values_text(found))
    if found.curve is not None:
        log.info(f"\n{curve_text(found.curve)}")
        sentences = [*sentences, curve_sentence(found.curve, num_resamples=config.num_resamples, seed=seed)]
    for sentence in [*sentences, *(f"Left out: {reason}." for reason in found.left_out)]:
        log.info(f"- {sentence}")
    if directory is None:
        return
    html = page(
        f"{found.judged.name} on {prepared.data_name}",
        found.systems,
        sentences,
        facts={**facts, "prior": found.prior} if found.prior else facts,
        rules=rules.describe(),
        data=prepared.report,
        values=found.values,
        constant_values=found.baseline_values,
        examples=examples(
            prepared,
            train_history(prepared.store, prepared.positive),
            found.protocol,
            lists,
            num_examples=config.num_examples,
            seed=seed,
        ),
        curve=found.curve,
    )
    with whole_file(directory / "report.html") as path:
        path.write_text(html, encoding="utf-8")


def _values_text(found: Evaluation) -> str:
    names = list(found.values)
    systems = {found.judged.name: {n: f["mean"] for n, f in found.values.items()}, **found.baseline_values}
    rows = [[name, *(f"{figures[n]:.4f}" for n in names)] for name, figures in systems.items()]
    return "\n".join(aligned([["", *names], *rows]))
