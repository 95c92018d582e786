"""How cost grows with size: prepare, train (an epoch), evaluate and recommend against rows, users, items, width, batch.

    python benchmarks/growth.py --json benchmarks/results/growth.json --svg benchmarks/growth.svg
    python benchmarks/growth.py --axes rows --most 20  # one axis, up to 2^20

Sizes double from one measurement to the next, everything else stays at the middle sizes of `BASE`. The slope is that of
the least-squares line through (log size, log seconds) over the upper half of the sizes, where what does not depend on
the size (imports, first calls, the overhead of a step) no longer hides it: 1 means twice the size, twice the seconds.
Beside it stands the slope that arithmetic says: the exponent of the largest term of what must be read, multiplied or
sorted. Steps that grow faster than that (`TOLERANCE`: a sort has a logarithm, large tables leave the caches) are
flagged. A smaller slope is no fault: the term is there, but others are still larger.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import math
import shutil
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import made_up_log
import torch
from conditions import conditions
from growth_plot import draw
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from omegaconf import open_dict

from towerrec import config, judging, recommending, tasks
from towerrec.data.catalogue import save_catalogue
from towerrec.retriever import Retriever
from towerrec.run_directory import RunDirectory, environment, finish
from towerrec.training import fit

ROOT = Path(__file__).resolve().parents[1]
TOLERANCE = 0.15


@dataclass(frozen=True)
class Size:
    """What is varied, in powers of two, and the loss of the epoch."""

    rows: int = 19
    users: int = 13
    items: int = 13
    embedding_dim: int = 6
    batch: int = 12
    loss: str = "bce"


BASE = Size()
# From the smallest to the largest size of each axis.
RANGES = {"rows": (16, 22), "users": (11, 17), "items": (11, 17), "embedding_dim": (3, 9), "batch": (9, 16)}
# Losses whose arithmetic differs: B^2 logits for every B rows, and B x I logits for every B rows.
SOFTMAX = {"batch": ("in_batch_softmax", 13), "items": ("full_softmax", 15)}
# The exponent of the largest term. An epoch: rows x width through the towers, and (rows / batch) x (users + items) x
# width for an optimiser whose state covers whole tables. Lists: users x items x width.
ARITHMETIC = {
    "prepare": {"rows": 1.0, "users": 1.0, "items": 1.0},
    "train": {"rows": 1.0, "users": 1.0, "items": 1.0, "embedding_dim": 1.0, "batch": 0.0},
    "train, softmax": {"items": 1.0, "batch": 1.0},
    "evaluate": {"rows": 1.0, "users": 1.0, "items": 1.0, "embedding_dim": 1.0},
    "recommend": {"rows": 1.0, "users": 1.0, "items": 1.0, "embedding_dim": 1.0},
}


def main() -> None:
    arguments = _arguments()
    logging.disable(logging.INFO)
    warnings.filterwarnings("ignore")
    arguments.work.mkdir(parents=True, exist_ok=True)
    found = _held(arguments.json)
    with tempfile.TemporaryDirectory(dir=arguments.work) as work:
        _warm_up(Path(work))
        for axis in arguments.axes:
            found[axis] = _axis(axis, Path(work), arguments)
            _write(found, arguments)
    print(json.dumps({"faster than arithmetic": _flagged(found)}))


def _held(path: Path | None) -> dict[str, Any]:
    """The axes of the file."""
    if path is None or not path.is_file():
        return {}
    axes: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))["axes"]
    return axes


def _write(found: dict[str, Any], arguments: argparse.Namespace) -> None:
    axes = {axis: found[axis] for axis in RANGES if axis in found}
    result = {
        "conditions": conditions() | {"threads": torch.get_num_threads(), "clock": arguments.clock},
        "base": {name: 2**power for name, power in asdict(BASE).items() if name != "loss"},
        "tolerance": TOLERANCE,
        "faster than arithmetic": _flagged(axes),
        "axes": axes,
    }
    if arguments.json:
        arguments.json.parent.mkdir(parents=True, exist_ok=True)
        arguments.json.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    if arguments.svg:
        arguments.svg.write_text(draw(axes), encoding="utf-8")


def _flagged(axes: dict[str, Any]) -> list[str]:
    return [f"{step} against {axis}" for axis, steps in axes.items() for step, s in steps.items() if s["flag"]]


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axes", nargs="+", choices=list(RANGES), default=list(RANGES))
    parser.add_argument("--rounds", type=int, default=2, help="measurements of each size, of which the best counts")
    parser.add_argument("--most", type=int, default=99, help="no power of two above this one")
    parser.add_argument("--steps", nargs="+", choices=list(ARITHMETIC), default=list(ARITHMETIC))
    parser.add_argument("--clock", choices=("wall", "processor"), default="wall")
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "growth", help="made-up logs and runs")
    parser.add_argument("--json", type=Path, help="axes that are not run now stay in it")
    parser.add_argument("--svg", type=Path, help="the plot of all axes of the file")
    return parser.parse_args()


def _axis(axis: str, work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Seconds and slopes of every step along one axis."""
    first, last = RANGES[axis]
    steps = [s for s in arguments.steps if axis in ARITHMETIC[s] and s != "train, softmax"]
    powers = range(first, min(last, arguments.most) + 1)
    seconds = _seconds([_at(BASE, axis, power) for power in powers], steps, work, arguments)
    sizes = {step: [2**power for power in powers] for step in steps}
    if axis in SOFTMAX and "train, softmax" in arguments.steps:
        loss, last = SOFTMAX[axis]
        powers = range(first, min(last, arguments.most) + 1)
        softmax = [_at(replace(BASE, loss=loss, rows=BASE.rows - 2), axis, power) for power in powers]
        seconds |= {"train, softmax": _seconds(softmax, ["train"], work, arguments)["train"]}
        sizes["train, softmax"] = [2**power for power in powers]
    found = {step: _judged(step, axis, sizes[step], column) for step, column in seconds.items()}
    for step, figures in found.items():
        print(json.dumps({"axis": axis, "step": step} | figures), flush=True)
    return found


def _at(size: Size, axis: str, power: int) -> Size:
    """The size with one of its powers replaced."""
    return Size(**{**asdict(size), axis: power})


def _seconds(sizes: list[Size], steps: list[str], work: Path, arguments: argparse.Namespace) -> dict[str, list[float]]:
    """The best of some rounds, by step: seconds of every size."""
    rounds = [[measure(size, steps, work, arguments.clock) for size in sizes] for _ in range(arguments.rounds)]
    return {step: [min(r[i][step] for r in rounds) for i in range(len(sizes))] for step in steps}


def _judged(step: str, axis: str, sizes: list[int], seconds: list[float]) -> dict[str, Any]:
    measured, arithmetic = slope(sizes, seconds), ARITHMETIC[step][axis]
    return {
        "sizes": sizes,
        "seconds": [round(s, 4) for s in seconds],
        "slope": round(measured, 2),
        "arithmetic": arithmetic,
        "flag": measured > arithmetic + TOLERANCE,
    }


def slope(sizes: list[int], seconds: list[float]) -> float:
    """Of the least-squares line through (log size, log seconds) of the upper half of the sizes."""
    upper = slice(min(len(sizes) // 2, len(sizes) - 2), None)  # two at least
    x, y = [math.log(s) for s in sizes[upper]], [math.log(s) for s in seconds[upper]]
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    return sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum((a - mean_x) ** 2 for a in x)


def measure(size: Size, steps: list[str], work: Path, clock: str) -> dict[str, float]:
    """Seconds of each step on a made-up log of this size; a step that is not asked for is run where a later one needs
    what it leaves, and nothing is run behind the last one that is asked for."""
    files = made_up_log.write(work / "logs", rows=2**size.rows, users=2**size.users, items=2**size.items)
    run = RunDirectory(Path(tempfile.mkdtemp(dir=work)))
    seconds: dict[str, float] = {}
    with _config(size, files, run.root) as cfg:
        begun = {"seed": cfg.seed, **environment(), "begun": time.time()}
        with _timed(seconds, "prepare", clock):
            data = tasks.prepared_data(cfg)
            prepared = data.prepared
        if set(steps) != {"prepare"}:
            with _timed(seconds, "train", clock):
                fitted = fit(cfg, data, run.root)
        if not set(steps).isdisjoint(("evaluate", "recommend")):
            save_catalogue(prepared, run.catalogue, profile=fitted.facts["profile"])
            facts = finish(run, begun, fitted.facts, prepared)
            trained = judging.load(run, checkpoint="last", device=torch.device("cpu"))
            with _timed(seconds, "evaluate", clock):
                judging.judge_run(cfg.eval, trained, prepared, run.evaluation, on="test", seed=0, facts=facts)
            with _timed(seconds, "recommend", clock):
                _recommend(run)
    shutil.rmtree(run.root)
    gc.collect()
    return {step: seconds[step] for step in steps}


def _recommend(run: RunDirectory) -> None:
    """As `recommend.py run=DIR`: 100 unseen items for every user, into a file."""
    retriever = Retriever.load(run.root, checkpoint="last", device="cpu")
    lists = retriever.lists(retriever.request(), n=100)
    recommending.write(lists, run.root / "recommendations.parquet", format="parquet")


def _warm_up(work: Path) -> None:
    """What only the first call costs: imports, thread pools, compiled kernels."""
    for loss in ("bce", "in_batch_softmax", "full_softmax"):
        measure(Size(rows=15, users=9, items=9, loss=loss), ["prepare", "train", "evaluate", "recommend"], work, "wall")


@contextmanager
def _timed(seconds: dict[str, float], step: str, clock: str) -> Iterator[None]:
    now: Callable[[], float] = time.perf_counter if clock == "wall" else time.process_time
    started = now()
    yield
    seconds[step] = now() - started


@contextmanager
def _config(size: Size, files: made_up_log.Files, directory: Path) -> Iterator[config.TrainConfig]:
    """The config of `train.py` for a size, in a run directory of its own."""
    overrides = [
        "data=interactions",
        f"data.interactions={files.log}",
        f"data.users={files.users}",
        f"data.items={files.items}",
        "data.columns.label=liked",
        "data.columns.timestamp=timestamp",
        "split.val=0",
        "model=two_tower",
        f"model.embedding_dim={2**size.embedding_dim}",
        f"loss={size.loss}",
        f"loader.batch_size={2**size.batch}",
        "loader.unit=rows",
        "trainer.max_epochs=1",
        "trainer=cpu",
        "trainer.enable_progress_bar=false",
        "~callbacks.progress",
        "~callbacks.learning_rate",
        "logger=none",
        f"paths.data_dir={directory}",
        f"hydra.runtime.output_dir={directory}",
    ]
    with initialize_config_dir(config_dir=str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("train", overrides, return_hydra_config=True)
    HydraConfig.instance().set_config(cfg)
    with open_dict(cfg):
        del cfg["hydra"]
    yield config.train_config(cfg)


if __name__ == "__main__":
    main()
