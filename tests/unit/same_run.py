"""Whether two run directories hold the same: weights, optimiser, figures, curves, TensorBoard's scalars, to the bit."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import polars as pl
import torch
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from torch import Tensor

from towerrec.last_checkpoint import RESUME_KEY

# What a run costs is never the same twice.
COST = ("speed/", "memory/", "cost/", "system/")
_KEYS = ("state_dict", "optimizer_states", "lr_schedulers", "epoch", "global_step", "towerrec")


def differences(one: Path, other: Path) -> list[str]:
    """What differs between two run directories, in words; nothing where they are the same run."""
    return [
        *_of_checkpoints(one, other),
        *(f"{name} differs" for name in _jsons(one, other)),
        *_of_scalars(one, other),
        *(f"{name} differs" for name in _tables(one, other)),
    ]


def scalars(run: Path) -> Counter[tuple[str, int, float]]:
    """How often every (tag, step, value) stands in the event files of a run; of cost only tag and step."""
    found: Counter[tuple[str, int, float]] = Counter()
    for path in sorted(run.rglob("events.out.tfevents.*")):
        for raw in RawEventFileLoader(str(path)).Load():
            event = Event.FromString(raw)
            for value in event.summary.value:
                if value.HasField("simple_value"):
                    number = 0.0 if value.tag.startswith(COST) else value.simple_value
                    found[f"{path.parent.relative_to(run)}:{value.tag}", event.step, number] += 1
                elif value.HasField("histo"):
                    found[f"{path.parent.relative_to(run)}:{value.tag}", event.step, value.histo.sum] += 1
    return found


def _of_scalars(one: Path, other: Path) -> Iterator[str]:
    left, right = scalars(one), scalars(other)
    for place, number in (left - right).items():
        yield f"TensorBoard: {place} is missing ({number})"
    for place, number in (right - left).items():
        yield f"TensorBoard: {place} is too much ({number})"
    yield from (f"TensorBoard: {place} stands there {number} times" for place, number in right.items() if number > 1)


def _of_checkpoints(one: Path, other: Path) -> Iterator[str]:
    names = sorted(str(path.relative_to(one)) for path in (one / "checkpoints").rglob("*.ckpt"))
    there = sorted(str(path.relative_to(other)) for path in (other / "checkpoints").rglob("*.ckpt"))
    if names != there:
        yield f"checkpoints: {names} and {there}"
        return
    for name in names:
        left, right = (torch.load(run / name, weights_only=True) for run in (one, other))
        for key in _KEYS:
            yield from (f"{name}: {where}" for where in unequal(left[key], right[key], key))
        relocated = json.loads(json.dumps(_told(left["callbacks"])).replace(str(one), str(other)))
        yield from (f"{name}: {where}" for where in unequal(relocated, _told(right["callbacks"]), "callbacks"))
        if name.endswith("last.ckpt"):
            mine, theirs = left[RESUME_KEY], right[RESUME_KEY]
            for key in ("epoch", "batch", "finished", "should_stop", "running"):
                yield from (f"{name}: {at}" for at in unequal(mine[key], theirs[key], key))
            # Nothing is drawn from Python's and NumPy's own generators, and nobody seeds them.
            for key in ("torch", "cuda"):
                drawn = ([state[key] for state in states["random"]] for states in (mine, theirs))
                yield from (f"{name}: {at}" for at in unequal(*drawn, key))


def unequal(left: Any, right: Any, place: str) -> Iterator[str]:
    """Places in which two nests of builtins and tensors differ."""
    if isinstance(left, Tensor) and isinstance(right, Tensor):
        if left.dtype != right.dtype or not torch.equal(left.nan_to_num(7.0), right.nan_to_num(7.0)):
            yield place
    elif isinstance(left, dict) and isinstance(right, dict):
        if left.keys() != right.keys():
            yield f"{place}: keys {left.keys() ^ right.keys()}"
        for key in left.keys() & right.keys():
            yield from unequal(left[key], right[key], f"{place}.{key}")
    elif isinstance(left, list | tuple) and isinstance(right, list | tuple):
        if len(left) != len(right):
            yield f"{place}: {len(left)} and {len(right)} entries"
        for i, (a, b) in enumerate(zip(left, right, strict=False)):
            yield from unequal(a, b, f"{place}[{i}]")
    elif left != right:
        yield f"{place}: {left!r} and {right!r}"


def _told(states: dict[str, Any]) -> dict[str, Any]:
    """States of callbacks without what a run costs, tensors as numbers."""

    def plain(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.tolist()
        return {str(k): plain(v) for k, v in value.items()} if isinstance(value, dict) else value

    return {name: plain(state) for name, state in states.items() if not name.startswith(("Throughput", "Timer"))}


def _jsons(one: Path, other: Path) -> Iterator[str]:
    for name in ("metrics.json", "curves.json", "validated/curves.json", "evaluation/metrics.json"):
        if (one / name).is_file() != (other / name).is_file():
            yield name
        elif (one / name).is_file():
            left, right = (json.loads((run / name).read_text()) for run in (one, other))
            kept = [{k: v for k, v in read.items() if not k.startswith(COST)} for read in (left, right)]
            if kept[0] != kept[1]:
                yield name


def _tables(one: Path, other: Path) -> Iterator[str]:
    for path in sorted(one.rglob("*.parquet")):
        name = path.relative_to(one)
        if not (other / name).is_file() or not pl.read_parquet(path).equals(pl.read_parquet(other / name)):
            yield str(name)
