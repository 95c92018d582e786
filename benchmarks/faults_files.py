"""Faults of the disk and of processes, injected into every kind of write, and bits that flip in what is read.

    python benchmarks/faults_files.py [--json benchmarks/results/faults_files.json]

A write is killed (`kill -9`) before each of its touches of the disk in turn, and runs out of space after several
lengths; it survives if the old content or the new is there, whole, and the next write leaves nothing beside it. A
flipped bit is survived if the file is named, or nothing that is read differs. Lost is what is neither.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conditions import conditions
from runs import ROOT

from towerrec.checkpoint_io import read_checkpoint, write_checkpoint
from towerrec.data.cache import cached, damage, write_directory
from towerrec.files import restored, whole_file, write_json
from towerrec.npy import save_array

sys.path.insert(0, str(ROOT / "tests" / "unit"))
from disk_faults import files_up_to, flip_bit, kills

LENGTHS = (0, 1, 127, 128, 1_000, 4_096, 8_191, 20_000)


@dataclass(frozen=True)
class Kind:
    """A kind of file, written and read.

    Attributes:
        write: Writes it with a number in it.
        read: The number, from what is there; an error where it is not whole.
    """

    write: Callable[[Path, int], None]
    read: Callable[[Path], int]


def _write_array(path: Path, number: int) -> None:
    with whole_file(path) as written:
        save_array(written, np.full(10_000, number))


def _read_array(path: Path) -> int:
    (number,) = np.unique(np.load(path))
    assert len(np.load(path)) == 10_000
    return int(number)


def _content(number: int) -> dict[str, Any]:
    return {"epoch": number, "state_dict": {"w": torch.full((10_000,), float(number))}}


def _read_checkpoint(path: Path) -> int:
    content = read_checkpoint(path)
    assert torch.equal(content["state_dict"]["w"], _content(content["epoch"])["state_dict"]["w"])
    return int(content["epoch"])


def _fill(number: int) -> Callable[[Path], None]:
    def build(directory: Path) -> None:
        for name in ("a", "b"):
            save_array(directory / f"{name}.npy", np.full(10_000, number))

    return build


def _read_folder(path: Path) -> int:
    restored(path)
    found = damage(path)
    if found is not None:
        raise ValueError(found)
    (number,) = {_read_array(path / f"{name}.npy") for name in ("a", "b")}
    return number


KINDS = {
    "JSON file": Kind(
        lambda path, number: write_json(path, {"x": [number] * 10_000}),
        lambda path: next(iter(set(json.loads(path.read_text(encoding="utf-8"))["x"]))),
    ),
    "array": Kind(_write_array, _read_array),
    "checkpoint": Kind(lambda path, number: write_checkpoint(_content(number), path), _read_checkpoint),
    "folder with checksums": Kind(lambda path, number: write_directory(path, _fill(number)), _read_folder),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        faults = [
            *_killed(work / "killed"),
            *_full(work / "full"),
            *_cache(work / "cache"),
            *_flipped(work / "flipped"),
        ]
    result = {"conditions": conditions(), "faults": faults}
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    if any(fault["lost"] for fault in faults):
        sys.exit("something was lost")


def _row(fault: str, kind: str, outcomes: list[bool]) -> dict[str, Any]:
    survived = sum(outcomes)
    return {
        "fault": fault, "kind": kind, "tried": len(outcomes), "survived": survived, "lost": len(outcomes) - survived,
    }  # fmt: skip


def _killed(work: Path) -> Iterator[dict[str, Any]]:
    for name, kind in KINDS.items():
        path, outcomes = work / "it", []
        kind.write(path, 1)
        for _ in kills(lambda kind=kind, path=path: kind.write(path, 2)):
            whole = _read(kind, path) in (1, 2)
            kind.write(path, 1)
            outcomes.append(whole and [held.name for held in work.iterdir()] == ["it"])
        _clear(work)
        yield _row("kill -9 at every touch of the disk", name, outcomes)


def _full(work: Path) -> Iterator[dict[str, Any]]:
    for name, kind in KINDS.items():
        path, outcomes = work / "it", []
        kind.write(path, 1)
        for length in LENGTHS:
            said = False
            with files_up_to(length):
                try:
                    kind.write(path, 2)
                except OSError as error:
                    said = str(path) in str(error)
            outcomes.append(said and _read(kind, path) == 1 and [held.name for held in work.iterdir()] == ["it"])
        _clear(work)
        yield _row("full disk, after several lengths", name, outcomes)


def _cache(work: Path) -> Iterator[dict[str, Any]]:
    outcomes: list[bool] = []
    for number in kills(lambda: cached(work, f"key-{len(outcomes)}", _fill(1))):
        key = f"key-{len(outcomes)}"
        directory, _ = cached(work, key, _fill(1))
        outcomes.append(_read_folder(directory) == 1 and number == len(outcomes) + 1)
    yield _row("kill -9 at every touch of the disk", "cache", outcomes)


def _flipped(work: Path) -> Iterator[dict[str, Any]]:
    draw = np.random.default_rng(0)
    for name, inner in (("checkpoint", ""), ("folder with checksums", "a.npy"), ("folder with checksums", "b.npy")):
        kind, path, outcomes = KINDS[name], work / "it", []
        kind.write(path, 1)
        file = path / inner if inner else path
        for at in draw.integers(0, file.stat().st_size, 500).tolist():
            flip_bit(file, at)
            try:
                outcomes.append(kind.read(path) == 1)
            except ValueError as error:
                outcomes.append(file.name in str(error))
            flip_bit(file, at)
        assert kind.read(path) == 1
        _clear(work)
        yield _row("a flipped bit is named or does not matter", f"{name}{f', {inner}' if inner else ''}", outcomes)


def _read(kind: Kind, path: Path) -> int | None:
    try:
        return kind.read(path)
    except (OSError, ValueError, AssertionError):
        return None


def _clear(work: Path) -> None:
    with tempfile.TemporaryDirectory() as gone:
        work.rename(Path(gone) / "it")


if __name__ == "__main__":
    main()
