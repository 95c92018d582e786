"""Judge systems under one protocol and write what came out.

A system is anything that can give `TopN` lists for the judged users: a model, a baseline, a file of another program.

Shape letters: B judged users, D vector width, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import polars as pl
from torch import Tensor

from towerrec import progress
from towerrec.baselines.popularity import best_list_in_hindsight
from towerrec.baselines.registry import HINDSIGHT, Baseline, baseline, why_not
from towerrec.baselines.rows import TrainRows
from towerrec.data.prepare import Prepared
from towerrec.files import whole_file, write_json
from towerrec.judged_rows import Grading, JudgedRows, RowScores
from towerrec.metrics.definitions import definition
from towerrec.positive import positive_mask
from towerrec.protocol import Protocol
from towerrec.ragged import TopN, UserItems
from towerrec.report.beyond import Beyond
from towerrec.report.dial import Curve
from towerrec.report.judge import Judged, Summary, judge_system
from towerrec.report.paired import against_the_first, paired_table
from towerrec.retrieval.one_ranking import SameForAll
from towerrec.retrieval.search import Scorer, top_n_by

Lists = Callable[[], TopN]


@dataclass
class Evaluation:
    """What one judgement found: every system, the rules, and, where the model predicts values, how well.

    `paired` compares the first with each of the others (`report.paired.paired_table`; None: it stands alone),
    `lists` are those of every system (item rows [B, K]), `slices` what they are worth to groups of users and for groups
    of items (`report.slices.SCHEMA`), `members` who belongs to which group of users, `slices_left_out` the slices that
    say nothing here, `beyond` what figures beyond accuracy read, `prior` says which freshness moved the lists (empty:
    none), `curve` what other values of its dial would give.
    """

    protocol: Protocol
    systems: list[Judged]
    paired: pl.DataFrame | None = None
    lists: dict[str, Tensor] = field(default_factory=dict)
    beyond: Beyond | None = None
    slices: pl.DataFrame | None = None
    members: pl.DataFrame | None = None
    slices_left_out: dict[str, str] = field(default_factory=dict)
    grading: Grading | None = None
    calibration: pl.DataFrame | None = None
    values: Summary = field(default_factory=dict)
    baseline_values: dict[str, dict[str, float]] = field(default_factory=dict)
    left_out: list[str] = field(default_factory=list)
    prior: dict[str, Any] = field(default_factory=dict)
    curve: Curve | None = None

    @property
    def judged(self) -> Judged:
        """The system the judgement is about: the first."""
        return self.systems[0]

    @property
    def metrics(self) -> Summary:
        """All figures of the judged system, each with its `definition`."""
        figures = {**self.values, **self.judged.summary}
        return {name: {**figure, "definition": definition(name).text} for name, figure in figures.items()}

    def to_dict(self) -> dict[str, Any]:
        """Figures of the others and the rules, in plain builtins."""
        return {
            "system": self.judged.name,
            "protocol": self.protocol.describe(),
            "baselines": {s.name: s.summary for s in self.systems[1:]},
            "baseline_values": self.baseline_values,
            "left_out": self.left_out,
            "beyond": {} if self.beyond is None else self.beyond.to_dict(),
            "slices_left_out": self.slices_left_out,
            "grading": {} if self.grading is None else self.grading.to_dict(),
            "prior": self.prior,
        }


def evaluate_lists(
    prepared: Prepared,
    protocol: Protocol,
    systems: Mapping[str, Lists],
    *,
    baselines: list[str],
    correction: str,
    num_resamples: int,
    seed: int,
    beyond: Beyond | None = None,
    grading: Grading | None = None,
    row_scores: Mapping[str, Tensor] | None = None,
) -> Evaluation:
    """Judge the given systems, then the baselines and the best single list in hindsight, all by the same rules.

    `row_scores` has the scores that given systems give to all held-out rows, float [R]; baselines are asked.
    """
    judged: list[Judged] = []
    left_out: list[str] = []
    rows = train_rows(prepared)
    everyone: dict[str, Lists] = dict(systems)
    judged_rows = JudgedRows.of(prepared, protocol)
    left_out += [] if grading is None or grading.why_not is None else [grading.why_not]
    for name in baselines:
        chosen = baseline(name, seed=seed)
        reason = why_not(chosen, rows)
        if reason is not None:
            left_out.append(reason)
        elif name not in everyone:
            everyone[name] = ListsOfScorer(chosen.fit(rows), protocol, judged_rows)
    per_user = protocol.allowed if isinstance(protocol.allowed, UserItems) else None
    hindsight = best_list_in_hindsight(protocol.relevant, candidates=per_user)
    everyone[HINDSIGHT] = ListsOfScorer(hindsight, protocol, judged_rows)
    shown: dict[str, Tensor] = {}
    for name, make in progress.named(everyone.items(), "judging", len(everyone)):
        lists = make()
        shown[name] = lists.items
        more = {} if grading is None else grading.per_user(lists.items, protocol.users, protocol.ks)
        if isinstance(make, ListsOfScorer):
            more |= judged_rows.auc(make.row_scores())
        elif row_scores is not None and name in row_scores:
            more |= judged_rows.auc(row_scores[name][judged_rows.kept_R])
        judged.append(
            judge_system(
                name,
                lists,
                protocol.relevant,
                protocol.users,
                protocol.ks,
                user_ids=prepared.user_ids,
                num_candidates=protocol.num_candidates,
                num_resamples=num_resamples,
                seed=seed,
                bound=name == HINDSIGHT,
                beyond=beyond,
                more=more,
            )
        )
    left_out += _keep_common(judged)
    tables = {system.name: system.per_user for system in judged}
    pairs = against_the_first(list(tables))
    paired = paired_table(tables, pairs, correction=correction, num_resamples=num_resamples, seed=seed)
    return Evaluation(protocol, judged, paired, lists=shown, beyond=beyond, grading=grading, left_out=left_out)


def _keep_common(judged: list[Judged]) -> list[str]:
    """Take out of all summaries what some system has no figure of, so that one table holds them; returns why."""
    reasons: dict[str, str] = {}
    for name in dict.fromkeys(name for system in judged for name in system.summary):
        without = [system.name for system in judged if name not in system.summary]
        if without:
            base = name.partition("@")[0].removesuffix("_weighted")
            why = "lists alone, no scores of the rows they leave out" if base == "gauc" else "no such figure"
            reasons[base] = f"{base}: {without[0]} has {why}"
            for system in judged:
                system.summary.pop(name, None)
    return list(reasons.values())


def baseline_lists(chosen: Baseline, prepared: Prepared, protocol: Protocol) -> ListsOfScorer:
    """What makes the lists of a baseline that was asked for by name.

    Raises:
        ValueError: If it has nothing to say about this log.
    """
    rows = train_rows(prepared)
    reason = why_not(chosen, rows)
    if reason is not None:
        raise ValueError(f"baseline={reason}")
    return ListsOfScorer(chosen.fit(rows), protocol, JudgedRows.of(prepared, protocol))


def train_rows(prepared: Prepared) -> TrainRows:
    """What baselines learn from: the training rows under the label's rule."""
    rows = prepared.store.rows("train")
    return TrainRows(
        user_idx=rows.user_idx,
        item_idx=rows.item_idx,
        positive=positive_mask(rows.label, prepared.positive),
        num_users=prepared.schema.num_users,
        num_items=prepared.schema.num_items,
        timestamp_ms=rows.timestamp_ms,
        categories={
            encoder.name: prepared.items.columns[encoder.name]
            for kind, encoder in prepared.encoders.encoders
            if encoder.side == "item" and kind in ("categorical", "multi")
        },
    )


class ListsOfScorer:
    """The lists of a scorer, made when they are asked for, and then the scores of the judged rows."""

    def __init__(self, scorer: Scorer, protocol: Protocol, rows: JudgedRows) -> None:
        self.scorer, self.protocol = scorer, protocol
        self.remembering = RowScores(scorer, rows, protocol.users)

    def __call__(self) -> TopN:
        self.remembering.parts.clear()
        return self.protocol.shared(self._of)

    def row_scores(self) -> Tensor:
        """Scores of the judged rows, float [R], once the lists were made; of all processes together."""
        score_R = self.remembering.of_rows()
        return score_R if isinstance(self.scorer, SameForAll) else self.protocol.peers.collect(score_R)

    def _of(self, user_idx_b: Tensor) -> TopN:
        return top_n_by(
            self.scorer if isinstance(self.scorer, SameForAll) else self.remembering,
            user_idx_b,
            num_items=self.protocol.relevant.num_items,
            n=max(self.protocol.ks),
            exclude=self.protocol.exclude,
            allowed=self.protocol.allowed,
        )


def write_per_user(directory: Path, judged: Judged) -> None:
    """Write `per_user.parquet` alone: of validation rows nothing more is kept than what settings are chosen by."""
    with whole_file(directory / "per_user.parquet") as path:
        judged.per_user.write_parquet(path)


def write_evaluation(directory: Path, evaluation: Evaluation, *, predictions: pl.DataFrame | None = None) -> None:
    """Write `metrics.json`, `comparison.json`, `per_user.parquet` and, where there are such, `per_user_others.parquet`
    (the same of baselines and bound, named in `system`), `paired.parquet`, `slices.parquet`, `user_groups.parquet`,
    `calibration.parquet`, `predictions.parquet` and `curve.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "metrics.json", evaluation.metrics)
    write_json(directory / "comparison.json", evaluation.to_dict())
    write_per_user(directory, evaluation.judged)
    others = [s.per_user.select(pl.lit(s.name).alias("system"), pl.all()) for s in evaluation.systems[1:]]
    if others:
        with whole_file(directory / "per_user_others.parquet") as path:
            pl.concat(others, how="diagonal").write_parquet(path)
    if evaluation.paired is not None:
        with whole_file(directory / "paired.parquet") as path:
            evaluation.paired.write_parquet(path)
    if evaluation.slices is not None:
        with whole_file(directory / "slices.parquet") as path:
            evaluation.slices.write_parquet(path)
    if evaluation.members is not None:
        with whole_file(directory / "user_groups.parquet") as path:
            evaluation.members.write_parquet(path)
    if evaluation.calibration is not None:
        with whole_file(directory / "calibration.parquet") as path:
            evaluation.calibration.write_parquet(path)
    if evaluation.curve is not None:
        write_json(directory / "curve.json", evaluation.curve.to_dict())
    if predictions is not None:
        with whole_file(directory / "predictions.parquet") as path:
            predictions.write_parquet(path)
