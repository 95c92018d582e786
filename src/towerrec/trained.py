"""A run's towers over its catalogue, or those that were exported: what judging and recommending start from."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch

from towerrec.checkpoint import CheckpointMeta, find_checkpoint, load_model
from towerrec.data.catalogue import Catalogue, load_catalogue
from towerrec.retrieval.export_folder import is_export, load_export
from towerrec.run_directory import RunDirectory
from towerrec.scoring import TowerScores


@dataclass(frozen=True)
class TrainedRun:
    """A run's towers over a catalogue."""

    name: str
    meta: CheckpointMeta
    scores: TowerScores
    run: RunDirectory


def load(run: RunDirectory, *, checkpoint: str, device: torch.device, catalogue: Catalogue | None = None) -> TrainedRun:
    """The towers of a run over its own catalogue, or over one that was grown from it.

    Raises:
        ValueError: If the checkpoint or the catalogue is missing, damaged or of another schema.
    """
    tables = catalogue if catalogue is not None else load_catalogue(run.catalogue)
    model, meta = load_model(find_checkpoint(run.checkpoints, checkpoint), expect=tables.schema)
    scores = TowerScores(
        model,
        tables,
        history=tables.history,
        history_length=int(meta.settings["history_length"]),
        profiles=tables.profiles,
        device=device,
    )
    return TrainedRun(str(meta.settings["name"]), meta, scores, run)


def opened(directory: str | Path, *, checkpoint: str, device: torch.device) -> tuple[TowerScores, Catalogue, str]:
    """The towers of a run directory or of an exported folder, over their catalogue, and what they are called.

    Raises:
        ValueError: As `load` and `load_export` do, or if an exported folder is asked for its last checkpoint.
    """
    folder = Path(directory)
    if not is_export(folder):
        catalogue = load_catalogue(RunDirectory.open(str(directory)).catalogue)
        trained = load(RunDirectory(folder), checkpoint=checkpoint, device=device, catalogue=catalogue)
        return trained.scores, catalogue, f"{trained.name} of {folder}"
    if checkpoint != "best":
        raise ValueError(f"{folder} was exported and holds one model: leave out checkpoint={checkpoint}")
    export = load_export(folder, device=device)
    scores = TowerScores(
        export.model,
        export.catalogue,
        history=export.catalogue.history,
        history_length=export.history_length,
        profiles=export.catalogue.profiles,
        device=device,
    )
    return scores, export.catalogue, f"{export.name} exported to {folder}"
