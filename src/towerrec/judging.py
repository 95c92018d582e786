"""Judging as the two scripts do it: a trained run, a list file, a baseline, or several judgements side by side."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import polars as pl
import torch
from torch import Tensor

from towerrec import freshness
from towerrec.baselines import registry
from towerrec.config import EvalConfig, EvaluateConfig, PriorCurveConfig, build
from towerrec.data.catalogue import catalogue_of
from towerrec.data.labels import invert
from towerrec.data.prepare import Prepared
from towerrec.evaluation import (
    Evaluation,
    Lists,
    baseline_lists,
    evaluate_lists,
    write_evaluation,
    write_per_user,
)
from towerrec.item_facts import facts_beyond
from towerrec.judged_calibration import calibration
from towerrec.judged_rows import grading
from towerrec.judged_values import (
    BIAS,
    baseline_figures,
    judge_values,
    predictions_table,
    user_errors,
    value_baselines,
    value_unit,
)
from towerrec.nn.losses import BCE, predicted_label
from towerrec.nn.peers import ALONE, Peers
from towerrec.presenting import present
from towerrec.protocol import Protocol, protocol
from towerrec.ragged import TopN
from towerrec.report.bootstrap import enough_resamples
from towerrec.report.lists import read_lists
from towerrec.run_directory import VALIDATED, RunDirectory
from towerrec.scoring import torch_device
from towerrec.slicing import check_columns, sliced
from towerrec.trained import TrainedRun, load

log = logging.getLogger(__name__)


def judge_training(
    config: EvalConfig, run: RunDirectory, prepared: Prepared, *, seed: int, facts: dict[str, Any]
) -> dict[str, Evaluation]:
    """Judge a training on its validation rows, by the model that they chose, and on its test rows."""
    # Tables that were shared out over devices may fit on none of them.
    device = torch_device("cpu" if facts["sharded"] else facts["device"])
    trained = validated = load(run, checkpoint="best", device=device)
    if facts.get("refit"):
        before = catalogue_of(prepared, profile=facts["profile"])
        validated = load(run, checkpoint=f"{VALIDATED}/best", device=device, catalogue=before)
        log.info("\nvalidation figures: the first fit; test figures: the refit on training and validation rows")
    judged = {}
    for on, judge, directory in (("val", validated, None), ("test", trained, run.evaluation)):
        if prepared.store.num_rows(on):
            rows = prepared if on == "val" else log_of_run(prepared, facts, on=on)
            judged[on] = judge_run(config, judge, rows, directory, on=on, seed=seed, facts=facts)
    if "val" in judged:
        write_per_user(run.validation, judged["val"].judged)
    return judged


def log_of_run(prepared: Prepared, facts: Mapping[str, Any], *, on: str) -> Prepared:
    """The log as a run knew it: after a refit its validation rows were training rows, of the baselines beside it too.

    Raises:
        ValueError: If a refitted run is to be judged on validation rows.
    """
    if not facts.get("refit"):
        return prepared
    if on == "val":
        raise ValueError(
            "eval.split=val: the run was refitted on its validation rows (refit=true), so they cannot judge it; "
            "metrics.json in its directory has the validation figures of the first fit"
        )
    return prepared.joined()


def judge_run(
    config: EvalConfig,
    trained: TrainedRun,
    prepared: Prepared,
    directory: Path | None,
    *,
    on: str,
    seed: int,
    facts: dict[str, Any],
    prior: PriorCurveConfig | None = None,
    peers: Peers = ALONE,
) -> Evaluation:
    """Judge a run on held-out rows and say what came out; with a `directory`, write everything there.

    Under several processes each makes its share of the lists and predictions; all find the same.
    """
    rules = replace(rules_of(config, prepared, on), peers=peers)
    config = replace(config, num_resamples=enough_resamples(config.num_resamples, len(rules.users)))
    dial = prior or PriorCurveConfig()
    scores = trained.scores if dial.weight == 0 else freshness.dialled(trained.scores, dial, catalogue_of(prepared))
    lists = freshness.lists_of(scores, rules)
    directions_ID = trained.scores.directions()
    score_R = row_scores(trained, prepared, on, peers=peers)
    found = judged_lists(
        config,
        prepared,
        rules,
        trained.name,
        lambda: lists,
        seed=seed,
        directions_ID=directions_ID,
        # A dial moves lists, not the scores of rows, which then say nothing of what was judged.
        row_scores=score_R if dial.weight == 0 else None,
    )
    if dial.weight != 0:
        found.prior = {"weight": dial.weight, "of": dial.of, "half_life_days": dial.half_life_days}
    if dial.curve:
        found.curve = freshness.curve(dial, dial.curve, trained.scores, prepared, rules)
    predictions = None
    predicted_R = predicted_values(trained, prepared, on, score_R)
    if predicted_R is not None:
        predictions = _judge_predictions(config, found, trained, prepared, on, predicted_R, seed=seed)
    if directory is not None:
        write_evaluation(directory, found, predictions=predictions)
    present(config, found, prepared, directory, lists, facts=facts, seed=seed, run=trained.run)
    return found


def judge_other(
    config: EvaluateConfig,
    prepared: Prepared,
    directory: Path | None,
    facts: dict[str, Any],
    *,
    peers: Peers = ALONE,
) -> Evaluation:
    """Judge a baseline or a list file by the rules of the config; with a `directory`, write everything there."""
    make: Lists
    rules = replace(rules_of(config.eval, prepared, config.eval.split), peers=peers)
    resamples = enough_resamples(config.eval.num_resamples, len(rules.users))
    config = replace(config, eval=replace(config.eval, num_resamples=resamples))
    if config.baseline:
        chosen: registry.Baseline = build(config.baseline, "baseline")
        facts = {**facts, "baseline": config.baseline}
        name, make = chosen.name, baseline_lists(chosen, prepared, rules)
    else:
        path = Path(str(config.recommendations))
        read = _lists_of_file(path, prepared, rules)
        name, make = path.stem, lambda: read
    found = judged_lists(config.eval, prepared, rules, name, make, seed=config.seed)
    if directory is not None:
        write_evaluation(directory, found)
    lists = TopN(found.lists[name], torch.empty(0))
    present(config.eval, found, prepared, directory, lists, facts=facts, seed=config.seed)
    return found


def judged_lists(
    config: EvalConfig,
    prepared: Prepared,
    rules: Protocol,
    name: str,
    lists: Lists,
    *,
    seed: int,
    directions_ID: Tensor | None = None,
    row_scores: Tensor | None = None,
) -> Evaluation:
    """One system's lists beside the configured baselines, taken apart by groups of users and items.

    `directions_ID` are the item vectors of a judged model, `row_scores` its scores of all held-out rows.
    """
    found = evaluate_lists(
        prepared,
        rules,
        {name: lists},
        baselines=list(config.baselines),
        correction=config.correction,
        num_resamples=config.num_resamples,
        seed=seed,
        beyond=facts_beyond(prepared, rules, config.facts, directions_ID=directions_ID),
        grading=grading(prepared, rules, gain=config.gain, clip=config.gain_clip),
        row_scores=None if row_scores is None else {name: row_scores},
    )
    found.slices, found.members, found.slices_left_out = sliced(
        config, prepared, rules, found.systems, found.lists, seed=seed
    )
    return found


def rules_of(config: EvalConfig, prepared: Prepared, on: str) -> Protocol:
    """The rules that a config makes for a log; columns that it names are looked up before anything is judged.

    Raises:
        ValueError: As `protocol`; a column that is not there, or groups at a cut-off that is not judged.
    """
    check_columns(config, prepared)
    rules = protocol(
        prepared,
        on=on,
        ks=config.ks,
        candidates=config.candidates,
        positive=config.positive,
        exclude_val=config.exclude_val,
    )
    if config.slices.k is not None and config.slices.k not in rules.ks:
        raise ValueError(f"eval.slices.k={config.slices.k} must be one of eval.ks={rules.ks}")
    return rules


def check_rules(config: EvalConfig, prepared: Prepared) -> None:
    """Find out before training whether the held-out rows can be judged as the config says.

    Raises:
        ValueError: If a cut-off, a baseline, a column, the candidates or the rule of a positive do not fit the log.
    """
    for name in config.baselines:
        registry.baseline(name, seed=0)
    for on in ("val", "test"):
        if prepared.store.num_rows(on):
            rules_of(config, prepared, on)


def row_scores(trained: TrainedRun, prepared: Prepared, on: str, *, peers: Peers = ALONE) -> Tensor:
    """The model's score of every held-out row in its own context, float32 [R]."""
    rows = prepared.store.rows(on)
    return peers.collect(trained.scores.rows(rows.part(peers.share(len(rows)))))


def predicted_values(trained: TrainedRun, prepared: Prepared, on: str, score_R: Tensor) -> Tensor | None:
    """What the model predicts for every held-out row, in the unit of `store.values`; None where scores only order."""
    label_R = predicted_label(trained.meta.prediction, score_R)
    return None if label_R is None else invert(prepared.store.without_terms(label_R, on), prepared.inverse_name)


def _judge_predictions(
    config: EvalConfig,
    found: Evaluation,
    trained: TrainedRun,
    prepared: Prepared,
    on: str,
    predicted_R: Tensor,
    *,
    seed: int,
) -> pl.DataFrame:
    """Set what a model predicts beside what simple predictors say; returns the table of predictions."""
    store, prediction = prepared.store, trained.meta.prediction
    actual_R, seconds_R, user_R = store.values(on).clone(), store.durations(on), store.rows(on).user_idx.long()
    found.values = judge_values(
        predicted_R, actual_R, user_R, seconds_R=seconds_R, num_resamples=config.num_resamples, seed=seed
    )
    own = user_errors(predicted_R, actual_R, user_R, found.protocol.users)
    table = found.judged.per_user.with_columns(pl.Series(name, values_B.numpy()) for name, values_B in own.items())
    found.systems[0] = replace(found.judged, per_user=table)
    baselines = value_baselines(prepared, on)
    found.baseline_values = baseline_figures(baselines, actual_R, seconds_R=seconds_R, seed=seed)
    found.calibration, figures = calibration(
        predicted_R,
        actual_R,
        user_R,
        num_bins=config.calibration_bins,
        unit=value_unit(prepared),
        probabilities=prediction is not None and prediction.loss == BCE.name and prepared.inverse_name == "identity",
        num_resamples=config.num_resamples,
        seed=seed,
    )
    found.values |= figures
    return predictions_table(prepared, on, predicted_R, actual_R, bias_R=baselines[BIAS])


def _lists_of_file(path: Path, prepared: Prepared, rules: Protocol) -> TopN:
    read = read_lists(
        path,
        rules.users,
        user_ids=prepared.user_ids,
        item_ids=prepared.item_ids,
        n=max(rules.ks),
        exclude=rules.exclude,
        allowed=rules.allowed,
    )
    if read.no_candidates:
        log.info(f"{path}: {read.no_candidates:,} listed items are no candidates of their user and are passed over")
    if read.users_without_list:
        log.info(f"{path}: {read.users_without_list:,} judged users have no list there and count as missed")
    return read.lists
