"""Everything that reads back what towerrec wrote, after somebody has been at it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import torch
from fuzzing import Reader, mutated
from hostile_text import ACTING
from memory_source import run as prepared_log
from planted import Planted, module_of, schema_of
from test_comparing import judgement

from towerrec.checkpoint import load_model, num_epochs
from towerrec.checkpoint_io import write_checkpoint
from towerrec.comparing import compare
from towerrec.config_of_run import read_config
from towerrec.curves import extended, read_curves
from towerrec.data import cache
from towerrec.data.catalogue import load_catalogue, save_catalogue
from towerrec.data.sources.archive import safe_unzip
from towerrec.report.jobs import read_job
from towerrec.retrieval.index import ItemIndex
from towerrec.run_directory import RunDirectory

ODD: tuple[Any, ...] = (
    None, True, 0, -1, 1.5, 10**30, float("nan"), float("inf"), "", "x", "x" * 2000, [], {}, [[]], {"a": {}},
    *ACTING[:12],
)  # fmt: skip


def spoilt(rng: Random, content: Any) -> Any:
    """Plain builtins with one value somewhere replaced, removed, doubled or wrapped."""
    if isinstance(content, dict) and content and rng.random() < 0.9:
        key = rng.choice(list(content))
        if rng.random() < 0.15:
            return {name: value for name, value in content.items() if name != key}
        return {**content, key: spoilt(rng, content[key])}
    if isinstance(content, list) and content and rng.random() < 0.9:
        place = rng.randrange(len(content))
        if rng.random() < 0.15:
            return content[:place] + content[place + 1 :]
        return [*content[:place], spoilt(rng, content[place]), *content[place + 1 :]]
    return rng.choice(ODD)


def spoilt_json(rng: Random, data: bytes) -> bytes:
    """A JSON file with another content, or whose text is damaged."""
    match rng.randrange(6):
        case 0:
            return mutated(rng, data)
        case 1:
            return b"[" * 20_000 + b"]" * rng.choice((0, 20_000))
        case 2:
            return data.rstrip()[:-1] + b', "a": 1, "a": NaN}'
        case _:
            return json.dumps(spoilt(rng, json.loads(data))).encode()


def of_checkpoint(make: Path) -> Reader:
    """Bytes changed, and other content in a file whose checksums are right."""
    module = module_of(Planted.make())
    content: dict[str, Any] = {"epoch": 0, "global_step": 3, "state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    write_checkpoint(content, make / "best.ckpt")
    whole = (make / "best.ckpt").read_bytes()

    def write(rng: Random, folder: Path) -> None:
        path = folder / "best.ckpt"
        if rng.random() < 0.5:
            path.write_bytes(mutated(rng, whole))
            return
        ours = rng.random() < 0.6
        changed = {**content, "towerrec": spoilt(rng, content["towerrec"])} if ours else spoilt(rng, content)
        torch.save(changed, path)

    def read(folder: Path, _: object) -> None:
        num_epochs(folder / "best.ckpt")
        load_model(folder / "best.ckpt", expect=schema_of() if len(folder.name) % 2 else None)

    return Reader("checkpoints", write, read)


def _linked(source: Path, folder: Path, change: Callable[[bytes], bytes], rng: Random) -> Path:
    """The files of a folder, one of them changed."""
    shutil.copytree(source, folder, copy_function=os.link, dirs_exist_ok=True)
    victim = rng.choice(sorted(path for path in folder.rglob("*") if path.is_file()))
    data = victim.read_bytes()
    victim.unlink()
    victim.write_bytes(change(data) if victim.suffix == ".json" else mutated(rng, data))
    return victim


def of_catalogue(make: Path) -> Reader:
    """A damaged file, and other content whose manifest is right."""
    save_catalogue(prepared_log(make), make / "catalogue")

    def write(rng: Random, folder: Path) -> None:
        _linked(make / "catalogue", folder, partial(spoilt_json, rng), rng)
        manifest = folder / cache.MANIFEST
        if rng.random() < 0.6 and manifest.stat().st_nlink > 1:
            names = sorted(
                str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file() and path != manifest
            )
            manifest.unlink()
            manifest.write_text(json.dumps(cache._manifest(folder, names)))

    return Reader("catalogues", write, lambda folder, _: load_catalogue(folder))


def of_index(make: Path) -> Reader:
    """An index of items."""
    ItemIndex(torch.randn(9, 4), torch.arange(9), 12).save(make / "index", ids=list(range(12)), schema=schema_of())

    def write(rng: Random, folder: Path) -> None:
        _linked(make / "index", folder, partial(spoilt_json, rng), rng)

    return Reader("item indices", write, lambda folder, _: ItemIndex.load(folder))


_FACTS = {
    "data": "demo", "label": "liked", "seed": 0, "rows": {"train": 10}, "epochs": 2, "monitor": "val/ndcg@20",
    "monitored": 0.3, "seconds": 1.0, "versions": {"torch": "2"},
}  # fmt: skip
_METRICS = {"test": {"ndcg@20": {"mean": 0.3, "low": 0.2, "high": 0.4, "users": 10}}, "val": {}}
_CURVES = {"epoch": [1, 2], "val/ndcg@20": [0.1, 0.2], "train/loss": [1.0, None]}


def _write_run(rng: Random, folder: Path) -> None:
    for name, content in (("run.json", _FACTS), ("metrics.json", _METRICS), ("curves.json", _CURVES)):
        data = json.dumps(content).encode()
        (folder / name).write_bytes(spoilt_json(rng, data) if rng.random() < 0.5 else data)


def _read_run(folder: Path, _: object) -> None:
    RunDirectory.open(folder).facts()
    extended(read_curves(folder / "curves.json"), 3, {"val/ndcg@20": 0.3})
    read_job(folder, ())


_CONFIG = """\
data: {_target_: towerrec.data.sources.demo.Demo, data_dir: '${paths.data_dir}', demo: {scale: tiny}}
split: {_target_: towerrec.data.splits.RandomRows, val: 0.1, test: 2e-1, seed: 0}
label: {_target_: towerrec.data.labels.Liked, min_watch_ratio: 2.0}
callbacks: {progress: {_target_: towerrec.callbacks.progress}}
paths: {data_dir: data}
ks: [10, 20]
"""
_YAML = (
    "!!python/object/apply:os.system ['touch pwned']", "!!python/name:os.system", "&a [*a]", "*a",
    "{_target_: os.system}",
    "{_target_: builtins.eval, _args_: ['1']}", "${oc.env:HOME}", "${oc.decode:x}", "${split}", "${", "[" * 300,
    "? x", "<<: *a", "!!binary x", "!!set {a}", "2020-13-45", "0x_", "...", "---\na: 1",
)  # fmt: skip


def _write_config(rng: Random, folder: Path) -> None:
    lines = _CONFIG.split("\n")
    for _ in range(rng.randint(0, 2)):
        place = rng.randrange(len(lines))
        key = lines[place].partition(":")[0] or "a"
        lines[place] = f"{key}: {rng.choice(_YAML)}"
    data = "\n".join(lines).encode()
    (folder / "config.yaml").write_bytes(mutated(rng, data) if rng.random() < 0.5 else data)


def of_judgements(make: Path) -> Reader:
    """Two judgements to compare, one of them damaged."""
    judgement(make / "a", 0.0)
    judgement(make / "b", 0.1, seed=1)

    def write(rng: Random, folder: Path) -> None:
        shutil.copytree(make / "a", folder / "a", copy_function=os.link)
        _linked(make / "b", folder / "b", partial(spoilt_json, rng), rng)

    def read(folder: Path, _: object) -> None:
        compare([str(folder / "a"), str(folder / "b")], num_resamples=10)

    return Reader("judgements", write, read, says=("{folder}", "judged", "per-user table", "the summary"))


def of_archive(make: Path) -> Reader:
    """Zips with bytes changed, mostly in their directories."""
    import zipfile

    with zipfile.ZipFile(make / "a.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("KuaiRec 2.0/data/big_matrix.csv", "user_id,video_id\n" + "1,2\n" * 30)
        archive.writestr("KuaiRec 2.0/data/small_matrix.csv", "user_id,video_id\n1,2\n")
        archive.writestr("KuaiRec 2.0/LICENSE", "free")
    whole = (make / "a.zip").read_bytes()
    names = (b"../evil", b"/evil", b"nul", b"a/../../b", b"C:evil", b"x\0y", b"\xff\xfe", b"LICENSE")

    def write(rng: Random, folder: Path) -> None:
        data = whole
        if rng.random() < 0.3:
            name = rng.choice(names)
            data = data.replace(b"KuaiRec 2.0/LICENSE", name + b"/" * (19 - len(name)))
        (folder / "a.zip").write_bytes(mutated(rng, data) if rng.random() < 0.8 else data)

    return Reader("archives", write, lambda folder, _: safe_unzip(folder / "a.zip", folder / "out"), leaves=("out",))


RUNS = Reader("run directories", _write_run, _read_run)
CONFIGS = Reader("configs of runs", _write_config, lambda folder, _: read_config(folder / "config.yaml"))
MADE: tuple[Callable[[Path], Reader], ...] = (of_checkpoint, of_catalogue, of_index, of_judgements, of_archive)
