"""Judge systems under one protocol and write what came out.

A system is anything that can give `TopN` lists for the judged users: a model, a baseline, a file of another program.

Shape letters: B judged users, D vector width, R rows.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch
from torch import Tensor

from towerrec import progress
from towerrec.baselines.popularity import best_list_in_hindsight
from towerrec.baselines.registry import HINDSIGHT, Baseline, baseline, why_not
from towerrec.baselines.rows import TrainRows
from towerrec.data.prepare import Prepared
from towerrec.files import whole_file, write_json
from towerrec.metrics.functional import mae, ordered_pairs, rmse
from towerrec.positive import positive_mask
from towerrec.protocol import Protocol
from towerrec.ragged import TopN, UserItems
from towerrec.report.beyond import Beyond
from towerrec.report.bootstrap import intervals
from towerrec.report.dial import Curve
from towerrec.report.judge import Judged, Summary, judge_system
from towerrec.report.paired import against_the_first, paired_table
from towerrec.retrieval.search import Scorer, top_n_by

Lists = Callable[[], TopN]

RESAMPLED_ROWS = 100_000
"""Rows behind the intervals of predicted values."""

PAIRED_ROWS = 1_000_000
"""Rows whose pairs the XAUC counts: its standard error is .0003 then, and the count takes seconds."""


@dataclass
class Evaluation:
    """What one judgement found: every system, the rules, and, where the model predicts values, how well.

    `paired` compares the first with each of the others (`report.paired.paired_table`; None: it stands alone),
    `lists` are those of every system (item rows [B, K]), `slices` what they are worth to groups of users and for groups
    of items (`report.slices.SCHEMA`), `slices_left_out` the slices that say nothing here, `beyond` what figures beyond
    accuracy read, `prior` says which freshness moved the lists (empty: none), `curve` what other values of its dial
    would give.
    """

    protocol: Protocol
    systems: list[Judged]
    paired: pl.DataFrame | None = None
    lists: dict[str, Tensor] = field(default_factory=dict)
    beyond: Beyond | None = None
    slices: pl.DataFrame | None = None
    slices_left_out: dict[str, str] = field(default_factory=dict)
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
        """All figures of the judged system."""
        return {**self.values, **self.judged.summary}

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
) -> Evaluation:
    """Judge the given systems, then the baselines and the best single list in hindsight, all by the same rules."""
    judged: list[Judged] = []
    left_out: list[str] = []
    rows = train_rows(prepared)
    everyone: dict[str, Lists] = dict(systems)
    for name in baselines:
        chosen = baseline(name, seed=seed)
        reason = why_not(chosen, rows)
        if reason is not None:
            left_out.append(reason)
        elif name not in everyone:
            everyone[name] = _lists_of(chosen.fit(rows), protocol)
    per_user = protocol.allowed if isinstance(protocol.allowed, UserItems) else None
    everyone[HINDSIGHT] = _lists_of(best_list_in_hindsight(protocol.relevant, candidates=per_user), protocol)
    shown: dict[str, Tensor] = {}
    for name, make in progress.named(everyone.items(), "judging", len(everyone)):
        lists = make()
        shown[name] = lists.items
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
            )
        )
    left_out += _keep_common(judged)
    tables = {system.name: system.per_user for system in judged}
    pairs = against_the_first(list(tables))
    paired = paired_table(tables, pairs, correction=correction, num_resamples=num_resamples, seed=seed)
    return Evaluation(protocol, judged, paired, lists=shown, beyond=beyond, left_out=left_out)


def _keep_common(judged: list[Judged]) -> list[str]:
    """Take out of all summaries what some system has no figure of, so that one table holds them; returns why."""
    names = dict.fromkeys(name for system in judged for name in system.summary)
    reasons = []
    for name in names:
        without = [system.name for system in judged if name not in system.summary]
        if without:
            reasons.append(f"{name}: no list of {without[0]} has such a figure")
            for system in judged:
                system.summary.pop(name, None)
    return reasons


def baseline_lists(chosen: Baseline, prepared: Prepared, protocol: Protocol) -> TopN:
    """The lists of a baseline that was asked for by name.

    Raises:
        ValueError: If it has nothing to say about this log.
    """
    rows = train_rows(prepared)
    reason = why_not(chosen, rows)
    if reason is not None:
        raise ValueError(f"baseline={reason}")
    return _lists_of(chosen.fit(rows), protocol)()


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


def _lists_of(scorer: Scorer, protocol: Protocol) -> Lists:
    def of(user_idx_b: Tensor) -> TopN:
        return top_n_by(
            scorer,
            user_idx_b,
            num_items=protocol.relevant.num_items,
            n=max(protocol.ks),
            exclude=protocol.exclude,
            allowed=protocol.allowed,
        )

    return partial(protocol.shared, of)


def judge_values(predicted_R: Tensor, actual_R: Tensor, *, num_resamples: int, seed: int) -> Summary:
    """RMSE, MAE and XAUC of predicted values with 95 % bootstrap intervals over rows (at most 100,000 rows resampled).

    XAUC is a mean over pairs of rows (of at most 1,000,000 rows drawn at random), and its interval that of the mean of
    `pair_values`. Where all actual values are equal there is none.
    """
    error_R = (predicted_R.double() - actual_R.double()).numpy()
    if not np.isfinite(error_R).all():
        raise ValueError("some predicted values are not finite: the model has diverged, lower optimizer.lr")
    figures = {"rmse": float(rmse(predicted_R, actual_R)), "mae": float(mae(predicted_R, actual_R))}
    order_R = np.random.default_rng(seed).permutation(len(error_R))
    drawn_R = order_R[:RESAMPLED_ROWS]
    columns = [error_R[drawn_R] ** 2, np.abs(error_R[drawn_R])]
    paired_R = torch.from_numpy(order_R[:PAIRED_ROWS])
    if bool((actual_R[paired_R] != actual_R[paired_R[0]]).any()):
        pairs_R = pair_values(predicted_R[paired_R], actual_R[paired_R]).numpy()
        figures["xauc"] = float(pairs_R.mean())
        columns.append(pairs_R[:RESAMPLED_ROWS])
    ends = intervals(np.stack(columns, 1), num_resamples=num_resamples, seed=seed)
    centre = np.array([column.mean() for column in columns])
    # A sample of the rows has a wider interval than all of them: shrink it back by the root of the share.
    share = np.sqrt(len(drawn_R) / np.array([len(error_R), len(error_R), len(paired_R)][: len(columns)]))
    low, high = centre + (ends - centre) * share
    low[0], high[0] = np.sqrt(np.maximum([low[0], high[0]], 0))
    return {
        name: {"mean": figure, "low": float(low[i]), "high": float(high[i]), "rows": len(error_R)}
        for i, (name, figure) in enumerate(figures.items())
    }


def pair_values(predicted_R: Tensor, actual_R: Tensor) -> Tensor:
    """One value per row whose mean is the XAUC and whose spread is that of the XAUC, float64 [R].

    With c of a row's d judged pairs in the right order, `xauc + 2 (c - xauc d) / mean(d)`: a row has a part in the
    pairs of all others, so its deviation counts twice (the structural components of a U-statistic: Sen 1960; DeLong
    et al., Biometrics 1988, for the AUC).
    """
    right_R, judged_R = ordered_pairs(predicted_R, actual_R)
    xauc = right_R.sum() / judged_R.sum()
    return xauc + 2 * (right_R - xauc * judged_R) / judged_R.mean()


def constant_predictions(prepared: Prepared, actual_R: Tensor) -> dict[str, dict[str, float]]:
    """Errors of the two constants every model must beat, the mean and the median of the training rows; a constant
    orders no pair, so its XAUC is one half."""
    mean, median = prepared.store.mean_and_median("train")
    constants = {"train mean": torch.tensor(mean).double(), "train median": torch.tensor(median).double()}
    return {
        name: {
            "rmse": float(rmse(constant.expand_as(actual_R), actual_R)),
            "mae": float(mae(constant.expand_as(actual_R), actual_R)),
            "xauc": 0.5,
        }
        for name, constant in constants.items()
    }


def write_evaluation(directory: Path, evaluation: Evaluation, *, predictions: pl.DataFrame | None = None) -> None:
    """Write `metrics.json`, `comparison.json`, `per_user.parquet` and, where there are such, `per_user_others.parquet`
    (the same of baselines and bound, named in `system`), `paired.parquet`, `slices.parquet`, `predictions.parquet` and
    `curve.json`."""
    directory.mkdir(parents=True, exist_ok=True)
    write_json(directory / "metrics.json", evaluation.metrics)
    write_json(directory / "comparison.json", evaluation.to_dict())
    with whole_file(directory / "per_user.parquet") as path:
        evaluation.judged.per_user.write_parquet(path)
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
    if evaluation.curve is not None:
        write_json(directory / "curve.json", evaluation.curve.to_dict())
    if predictions is not None:
        with whole_file(directory / "predictions.parquet") as path:
            predictions.write_parquet(path)


def predictions_table(prepared: Prepared, on: str, predicted_R: Tensor, actual_R: Tensor) -> pl.DataFrame:
    """Every judged row with what was predicted, worst first: user_id, item_id, actual, predicted, absolute_error."""
    rows = prepared.store.rows(on)
    return (
        pl.DataFrame(
            {
                "user_id": prepared.user_ids.gather(rows.user_idx.numpy()),
                "item_id": prepared.item_ids.gather(rows.item_idx.numpy()),
                "actual": actual_R.float().numpy(),
                "predicted": predicted_R.float().numpy(),
            }
        )
        .with_columns(absolute_error=(pl.col("actual") - pl.col("predicted")).abs())
        .sort("absolute_error", descending=True, maintain_order=True)
    )
