"""Reading a checkpoint back: weights and plain builtins, without Hydra, without the training data."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import Tensor

from towerrec.checkpoint_io import read_checkpoint
from towerrec.module import CHECKPOINT_KEY, CHECKPOINT_VERSION
from towerrec.nn.ensemble import Model, build_model
from towerrec.nn.losses import Prediction
from towerrec.reading_back import as_written
from towerrec.schema import FeatureSchema

_PREFIX, _LOSS = "model.", "loss."


@dataclass(frozen=True)
class CheckpointMeta:
    """What a checkpoint says beside its weights.

    Attributes:
        fingerprint: Of the feature schema.
        loss: Name of the loss it was trained with.
        prediction: How its scores become labels; None where they only order.
        epoch: Epochs that were finished.
        step: Optimiser steps that were made.
        settings: What the run kept, plain builtins.
        model: The model's settings, with nothing left open.
        loss_state: What the loss itself has learnt, by name.
    """

    fingerprint: str
    loss: str
    prediction: Prediction | None
    epoch: int
    step: int
    settings: dict[str, Any]
    model: dict[str, Any] = field(default_factory=dict)
    loss_state: dict[str, Tensor] = field(default_factory=dict)


def find_checkpoint(directory: str | Path, which: str = "best") -> Path:
    """`<directory>/<which>.ckpt`.

    Raises:
        ValueError: It is not there; the message says what is.
    """
    path = Path(directory) / f"{which}.ckpt"
    if path.is_file():
        return path
    held = sorted(p.name for p in path.parent.iterdir()) if path.parent.is_dir() else []
    found = f"it holds {', '.join(held[:8])}" if held else "there is nothing"
    hint = "; choose checkpoint=last" if "last.ckpt" in held else "; train again, or check the run directory"
    raise ValueError(f"{path} is missing: in {path.parent} {found}{hint}")


def load_model(path: str | Path, *, expect: FeatureSchema | None = None) -> tuple[Model, CheckpointMeta]:
    """The two towers of a checkpoint in evaluation mode, on the CPU.

    Args:
        path: File that training wrote.
        expect: The schema of the tables the towers are to read.

    Raises:
        ValueError: No such file, not a checkpoint of ours, damaged, or made for another schema than `expect`.
    """
    content = read(Path(path))
    with as_written(Path(path), remedy="give a checkpoint that train.py wrote"):
        return _model_of(content, path, expect)


def _model_of(content: dict[str, Any], path: str | Path, expect: FeatureSchema | None) -> tuple[Model, CheckpointMeta]:
    ours = content[CHECKPOINT_KEY]
    if ours["version"] != CHECKPOINT_VERSION:
        raise ValueError(f"{path}: checkpoint version {ours['version']}, this towerrec reads {CHECKPOINT_VERSION}")
    schema = FeatureSchema.from_dict(ours["schema"])
    if expect is not None and expect.fingerprint != schema.fingerprint:
        raise ValueError(f"{path} was trained with other features than the tables have: {_difference(schema, expect)}")
    model = build_model(schema, ours["model"])
    weights = {k.removeprefix(_PREFIX): v for k, v in content["state_dict"].items() if k.startswith(_PREFIX)}
    model.load_state_dict(weights)
    meta = CheckpointMeta(
        fingerprint=ours["fingerprint"],
        loss=ours["loss"],
        prediction=_prediction(ours),
        epoch=int(content["epoch"]),
        step=int(content["global_step"]),
        settings=ours["settings"],
        model=ours["model"],
        loss_state={k.removeprefix(_LOSS): v for k, v in content["state_dict"].items() if k.startswith(_LOSS)},
    )
    return model.eval(), meta


def num_epochs(path: str | Path) -> int:
    """Epochs that a checkpoint has seen, one that was going on included; none before the first step."""
    with as_written(Path(path), remedy="give a checkpoint that train.py wrote"):
        content = read(Path(path))
        return int(content["epoch"]) + 1 if content["global_step"] > 0 else 0


def _prediction(ours: dict[str, Any]) -> Prediction | None:
    if "prediction" not in ours:  # written before a loss could have a calibration of its own
        return Prediction(ours["loss"]) if ours["loss"] in ("mse", "bce") else None
    return None if ours["prediction"] is None else Prediction(**ours["prediction"])


def read(path: Path) -> dict[str, Any]:
    """All that a checkpoint holds.

    Raises:
        ValueError: No such file, not a checkpoint of ours, or damaged.
    """
    content = read_checkpoint(path)
    if CHECKPOINT_KEY not in content:
        raise ValueError(f"{path} is not a checkpoint of towerrec: give one that train.py wrote")
    return content


def _difference(trained: FeatureSchema, tables: FeatureSchema) -> str:
    """The first thing in which two schemas differ, in words."""
    ours = {spec.name: spec for spec in trained.features}
    theirs = {spec.name: spec for spec in tables.features}
    missing, extra = sorted(ours.keys() - theirs.keys()), sorted(theirs.keys() - ours.keys())
    if missing:
        return f"the tables lack {missing[:5]}"
    if extra:
        return f"the checkpoint does not know {extra[:5]}"
    changed = [name for name, spec in ours.items() if theirs[name] != spec]
    if changed:
        return f"{changed[0]!r} was {ours[changed[0]]}, is {theirs[changed[0]]}"
    return (
        f"{trained.num_users} users and {trained.num_items} items then, {tables.num_users} and {tables.num_items} now"
    )
