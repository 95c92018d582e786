"""A run's towers over its catalogue: what judging and recommending start from."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from towerrec.checkpoint import CheckpointMeta, find_checkpoint, load_model
from towerrec.data.catalogue import Catalogue, load_catalogue
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
