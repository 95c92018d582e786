"""What a run adds to TensorBoard before its training, and once it is judged."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import polars as pl
import torch
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.rank_zero import rank_zero_info, rank_zero_only

from towerrec import judging
from towerrec.data.prepare import Prepared
from towerrec.data.report import as_text
from towerrec.evaluation import Evaluation
from towerrec.last_checkpoint import Cuttable
from towerrec.naming import item_categories, item_titles
from towerrec.report.groups import overrides_of
from towerrec.report.text import comparison
from towerrec.run_directory import RunDirectory
from towerrec.tensorboard import hparams, projector
from towerrec.tensorboard.logger import TensorBoard
from towerrec.tensorboard.pictures import charts_of, draws_text
from towerrec.wording import fenced


@rank_zero_only
def begin(loggers: Iterable[Logger], run: RunDirectory, report: Mapping[str, Any], settings: Mapping[str, Any]) -> None:
    """Before training: an empty board with the config, the data report, and the run's row of HParams.

    Args:
        loggers: Those of the trainer; only TensorBoard's are concerned.
        run: Where the run's config lies.
        report: The data report.
        settings: What is trained with what, flat.
    """
    for board in _boards(loggers):
        board.forget()
        config = run.root / ".hydra" / "config.yaml"
        if config.is_file():
            board.add_text("run/config", fenced(config.read_text(encoding="utf-8"), "yaml"))
        board.add_text("run/data", fenced(as_text(report)))
        # The first of two fits has no row of its own: one run, one row.
        if not board.version:
            board.begin_row(hparams.columns(settings, overrides_of(run.root)))


@rank_zero_only
def go_on(loggers: Iterable[Logger], positions: Mapping[str, Any]) -> None:
    """Before training goes on: forget what was logged after the checkpoint that it goes on from.

    Args:
        loggers: Those of the trainer.
        positions: Where they were then, by the name of their class (`last_checkpoint.Cuttable`).
    """
    for logger in loggers:
        if isinstance(logger, Cuttable):
            logger.back_to(positions.get(type(logger).__name__, {}))


def write(
    loggers: Iterable[Logger],
    run: RunDirectory,
    prepared: Prepared,
    judged: Mapping[str, Evaluation],
    facts: Mapping[str, Any],
) -> None:
    """Once the run is judged: test figures, the report's charts and table, the projector, and the end of its row.

    Args:
        loggers: Those of the trainer; only TensorBoard's are concerned. Call it in the first process only.
        run: The run directory, with checkpoint, catalogue and report.
        prepared: The log.
        judged: What was found, by `val` and `test`; nothing where the run was given up before.
        facts: What `run.json` says.
    """
    step = facts["steps"]
    for board in _boards(loggers):
        for on, found in judged.items():
            board.add_text(f"run/{on}", fenced(comparison(found.systems)), step)
        for name, figure in (judged["test"].metrics if "test" in judged else {}).items():
            board.experiment.add_scalar(f"test/{name}", figure["mean"], step)
        _add_charts(board, run, step)
        _add_projector(board, run, prepared)
        board.finalize("success")
        metrics = {on: found.metrics for on, found in judged.items()}
        board.end_row(hparams.figures(metrics, facts), step)


def _add_charts(board: TensorBoard, run: RunDirectory, step: int) -> None:
    page = run.evaluation / "report.html"
    if not page.is_file():
        return
    if not draws_text():
        rank_zero_info(
            "TensorBoard gets no charts: this machine has no font (on Debian: apt install fonts-dejavu-core)"
        )
        return
    for chart in charts_of(page.read_text(encoding="utf-8")):
        board.add_png(f"report/{chart.title}", chart.png, step)


def _add_projector(board: TensorBoard, run: RunDirectory, prepared: Prepared) -> None:
    # On the host: tables that were shared out may fit on no device.
    trained = judging.load(run, checkpoint="best", device=torch.device("cpu"))
    vectors_IV = trained.scores.directions()
    popularity_I = prepared.store.item_counts("train").numpy()
    rows_N = projector.evenly_by_popularity(popularity_I, board.projected_items)
    about = item_facts(prepared, popularity_I).select(pl.all().gather(rows_N))
    projector.write(board.folder, vectors_IV.numpy()[rows_N], about, num_items=len(popularity_I))


def item_facts(prepared: Prepared, popularity_I: Any) -> pl.DataFrame:
    """What the projector shows of every item: title (else the id), id, category, training rows, share of positives."""
    categories = item_categories(prepared)
    positive_I = prepared.store.item_counts("train", rule=prepared.positive).numpy()
    ids = prepared.item_ids.cast(pl.String)
    known = pl.DataFrame(
        {
            "title": item_titles(prepared).fill_null(ids),
            "item_id": ids,
            "training_rows": popularity_I,
            "positive_rate": positive_I / popularity_I.clip(min=1),
        }
    ).with_columns(pl.col("positive_rate").round(4))
    if categories is None:
        return known
    # A column of the log may be called like one of these.
    name = categories.name if categories.name not in known.columns else "category"
    return known.insert_column(2, categories.of.alias(name))


def _boards(loggers: Iterable[Logger]) -> list[TensorBoard]:
    return [logger for logger in loggers if isinstance(logger, TensorBoard)]
