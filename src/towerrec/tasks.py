"""The three tasks, wired: what happens in which order. How it happens is elsewhere."""

from __future__ import annotations

import logging
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from towerrec import (
    auditing,
    choices,
    comparing,
    continuing,
    cost,
    distributed,
    exporting,
    judging,
    later,
    progress,
    recommending,
    resuming,
    sweep_jobs,
)
from towerrec.choices import loss_node, split_node
from towerrec.config import (
    DataTaskConfig,
    EvaluateConfig,
    RecommendConfig,
    TrainConfig,
    beside_others,
    build,
    output_dir,
)
from towerrec.data.catalogue import save_catalogue
from towerrec.data.datamodule import RetrievalDataModule
from towerrec.data.report import as_text
from towerrec.files import write_json
from towerrec.origin import Origin, keep, origin_of
from towerrec.refit import fit_twice
from towerrec.report import side_by_side_text
from towerrec.retriever import Retriever
from towerrec.run_directory import RunDirectory, environment, finish, next_steps
from towerrec.scoring import torch_device
from towerrec.tensorboard import results
from towerrec.training import fit

log = logging.getLogger(__name__)


def train(cfg: TrainConfig) -> float | None:
    """Prepare, train, judge and save; returns the validation figure that was watched, for sweeps."""
    show_progress(cfg.progress)
    run = RunDirectory(output_dir())
    begun = begin(run, cfg)
    origin = keep(origin_of(cfg), run)
    data = prepared_data(cfg, origin)
    resuming.same_log(run.root, data.prepared.fingerprint, data.prepared.directory)
    log.info(as_text(data.prepared.report))
    continuing.check_new(origin, data.prepared)
    judging.check_rules(cfg.eval, data.prepared)
    begun["audit"] = auditing.audited(data, cfg.audit, *continuing.leaks(origin, data.prepared))
    start = continuing.settled(cfg, origin, data.prepared)
    fitted = (fit_twice if cfg.refit else fit)(cfg, data, run.root, start=start)
    if fitted.facts["rank"] != 0:
        return fitted.monitored
    fitted.facts.update(continuing.facts(origin))
    known = judging.log_of_run(data.prepared, fitted.facts, on="test")
    save_catalogue(known, run.catalogue, profile=fitted.facts["profile"], columns=cfg.data.get("columns"))
    facts = finish(run, begun, fitted.facts, data.prepared)
    if fitted.pruned is not None:
        results.write(fitted.loggers, run, known, {}, facts)
        resuming.tidy(run.root)
        log.info(sweep_jobs.note_pruned(run.root, fitted.pruned))
        return fitted.monitored
    judged = judging.judge_training(cfg.eval, run, data.prepared, seed=cfg.seed, facts=facts)
    results.write(fitted.loggers, run, known, judged, facts)
    resuming.tidy(run.root)
    # The last file of a run: it is what says that nothing is left to do.
    write_json(run.metrics_file, {on: found.metrics for on, found in judged.items()})
    log.info(next_steps(run, fitted.facts))
    return fitted.monitored


def begin(run: RunDirectory, cfg: TrainConfig) -> dict[str, Any]:
    """Facts at the start of a run; `begun.json` is there from now on."""
    facts = environment()
    cost.begin()
    begun = {"seed": cfg.seed, **facts}
    resuming.return_to(run.root)
    if distributed.rank() == 0:
        written = resuming.begin(run.root, asdict(cfg), facts, asked=cfg.run is not None)
        begun["resumed"] = written["resumed"]
    return begun


def watched(cfg: TrainConfig) -> tuple[str, str]:
    """Prepare the log and tell which validation figure a run would watch, and whether its `max` or `min` is best.

    Raises:
        ValueError: If nothing is validated, so that nothing can be chosen by.
    """
    prepared = prepared_data(cfg).prepared
    if prepared.store.num_rows("val") == 0:
        raise ValueError("the split leaves no validation rows, by which a study chooses: give it some (split.val, ...)")
    return choices.watched(cfg.callbacks, build(loss_node(cfg.loss, prepared, candidates=cfg.eval.candidates), "loss"))


def recommend(cfg: RecommendConfig) -> None:
    """Write a ranked list for every user that was asked for, from a run directory alone."""
    show_progress(cfg.progress)
    if cfg.export is not None:
        exporting.export(cfg)
        return
    retriever = Retriever.load(str(cfg.run), checkpoint=cfg.checkpoint, device=cfg.device)
    if cfg.items is not None:
        retriever = retriever.with_items(cfg.items)
    name, lists = asked_for(retriever, cfg)
    job = distributed.job()
    path = Path(str(cfg.run)) / (f"{name}.{cfg.format}" if job is None else name)
    path = path if cfg.output is None else Path(cfg.output)
    write = recommending.write if job is None else partial(recommending.write_parts, job=job)
    log.info(write(lists, path, format=str(cfg.format)).told(lists, path))


def asked_for(retriever: Retriever, cfg: RecommendConfig) -> tuple[str, recommending.Lists]:
    """What `recommend.py` writes and how it is called: lists for users, or of similar items."""
    how: dict[str, Any] = {"n": cfg.n, "memory_mb": cfg.memory_mb, "precision": cfg.precision}
    how["peers"] = distributed.peers()
    rules: dict[str, Any] = {"allow": cfg.candidates, "deny": cfg.deny, "at": cfg.at}
    if cfg.similar is not None:
        items = None if cfg.similar is True else cfg.similar
        return "similar", retriever.similar_lists(items, batch_items=cfg.batch_users, **rules, **how)
    asked = retriever.request(cfg.users, exclude_seen=cfg.exclude_seen, history=cfg.history, prior=cfg.prior, **rules)
    return "recommendations", retriever.lists(asked, prior=cfg.prior, batch_users=cfg.batch_users, **how)


def evaluate(cfg: EvaluateConfig) -> None:
    """Judge a run, a list file or a baseline, or compare several judgements user by user."""
    show_progress(cfg.progress)
    if cfg.compare is not None:
        if distributed.rank() == 0:
            _compare(cfg, cfg.compare)
        return
    run = None if cfg.run is None else RunDirectory.open(cfg.run)
    directory = output_dir() / "evaluation" if run is None else run.evaluation
    directory = directory if cfg.output is None else Path(cfg.output)
    data, peers = prepared_data(cfg), distributed.meet()
    prepared, written = data.prepared, directory if peers.rank == 0 else None
    if run is None:
        facts = environment() | {"audit": auditing.audited(data, cfg.audit)}
        judging.judge_other(cfg, prepared, written, facts, peers=peers)
    else:
        on, device = cfg.eval.split, torch_device(cfg.device)
        trained, seen = later.load_over(run, prepared, checkpoint=cfg.checkpoint, device=device, on=on)
        known = judging.log_of_run(prepared, run.facts(), on=on)
        facts = {**run.facts(), "audit": auditing.audited(data, cfg.audit, seen)}
        judging.judge_run(
            cfg.eval, trained, known, written, on=on, seed=cfg.seed, facts=facts, prior=cfg.prior, peers=peers
        )
    log.info(f"evaluation: {directory}")


def show_progress(kind: str) -> None:
    """Bars of this process: one voice of several processes, and none of jobs that run beside each other."""
    progress.choose(kind, speaks=distributed.rank() == 0 and not beside_others())


def _compare(cfg: EvaluateConfig, places: list[str]) -> None:
    comparison = comparing.compare(
        places,
        against=cfg.compare_against,
        grouped=cfg.compare_grouped,
        correction=cfg.eval.correction,
        num_resamples=cfg.eval.num_resamples,
        seed=cfg.seed,
    )
    directory = Path(cfg.output) if cfg.output is not None else output_dir() / "evaluation"
    comparing.write_comparison(comparison, directory)
    log.info(f"{side_by_side_text.text(comparison)}\ncomparison: {directory}")


def prepared_data(cfg: DataTaskConfig, origin: Origin | None = None) -> RetrievalDataModule:
    """The log as loaders; prepared on first use, from the cache where nothing has changed.

    Args:
        cfg: All settings.
        origin: The run that training goes on from, where it is read already.
    """
    loader: dict[str, Any] = {}
    if isinstance(cfg, TrainConfig):
        # Pieces of a batch are cut by the module, not by the loader.
        loader = {k: v for k, v in cfg.loader.__dict__.items() if v is not None and k != "micro_batch"}
    loader |= continuing.of_data(cfg, origin_of(cfg) if origin is None else origin)
    data = RetrievalDataModule(
        source=build(cfg.data, "data"),
        cleaning=build(cfg.cleaning, "cleaning"),
        split=build(split_node(cfg.split, cfg.data), "split"),
        label=build(cfg.label, "label"),
        features=cfg.features,
        cache_dir=cfg.paths.cache_dir,
        positive=cfg.eval.positive,
        seed=cfg.seed,
        **loader,
    )
    # Of several processes one per disk prepares the log, the others open what it left.
    distributed.in_turn("prepared", lambda: data.prepared)
    return data
