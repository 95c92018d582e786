"""Files of ours that somebody else made: what they would run is not run, and what they would fill is not filled."""

from __future__ import annotations

import json
import os
import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from memory_source import run as prepared_log
from planted import Planted, module_of, train_loader, trainer_of, val_loaders

from towerrec.checkpoint import load_model, num_epochs
from towerrec.checkpoint_io import WholeCheckpoints, write_checkpoint
from towerrec.data import cache
from towerrec.data.catalogue import load_catalogue, save_catalogue


class Evil:
    """Unpickling this makes a file."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> Any:
        return os.mkdir, (str(self.mark),)


@pytest.fixture
def evil(tmp_path: Path) -> Path:
    """A checkpoint that would make `tmp_path/pwned`, in the format of `torch.save`."""
    path = tmp_path / "best.ckpt"
    torch.save({"towerrec": {}, "epoch": 0, "state_dict": {"a": Evil(tmp_path / "pwned")}}, path)
    return path


def test_the_trap_works_where_nobody_guards(evil: Path):
    torch.load(evil, weights_only=False)
    assert (evil.parent / "pwned").is_dir()


READERS = {
    "model": load_model,
    "epochs": num_epochs,
    "of Lightning": lambda path: WholeCheckpoints().load_checkpoint(path, weights_only=False),
}


@pytest.mark.parametrize("reader", READERS)
def test_no_reader_runs_what_a_checkpoint_holds(evil: Path, reader: str):
    with pytest.raises(ValueError, match=r"best\.ckpt cannot be read as a checkpoint"):
        READERS[reader](evil)
    assert not (evil.parent / "pwned").exists()


def test_going_on_with_a_fit_does_not_run_it_either(evil: Path):
    planted = Planted.make()
    module = module_of(planted)
    trainer = trainer_of(max_epochs=1, plugins=[WholeCheckpoints()])
    with pytest.raises(ValueError, match=r"best\.ckpt cannot be read as a checkpoint"):
        trainer.fit(module, train_loader(planted, module), val_loaders(planted), ckpt_path=str(evil))
    assert not (evil.parent / "pwned").exists()


def test_a_bare_pickle_is_no_checkpoint(tmp_path: Path):
    path = tmp_path / "best.ckpt"
    path.write_bytes(pickle.dumps(Evil(tmp_path / "pwned")))
    with pytest.raises(ValueError, match=r"best\.ckpt cannot be read as a checkpoint"):
        load_model(path)
    assert not (tmp_path / "pwned").exists()


def test_a_packed_checkpoint_is_refused_before_it_unfolds(tmp_path: Path):
    path = tmp_path / "best.ckpt"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("best/data.pkl", b"\0" * 50_000_000)
    with pytest.raises(ValueError, match="compressed"):
        load_model(path)


def checkpoint_with(path: Path, **changes: Any) -> Path:
    """A sound file that says other things of its model."""
    module = module_of(Planted.make())
    content: dict[str, Any] = {"epoch": 0, "global_step": 1, "state_dict": module.state_dict()}
    module.on_save_checkpoint(content)
    ours = content["towerrec"]
    content["towerrec"] = {**ours, **{key: change(ours[key]) for key, change in changes.items()}}
    write_checkpoint(content, path)
    return path


def test_a_checkpoint_that_claims_a_table_of_petabytes_is_refused(tmp_path: Path):
    def larger(schema: dict[str, Any]) -> dict[str, Any]:
        return json.loads(json.dumps(schema).replace('"cardinality": ', '"cardinality": 999999999'))

    with pytest.raises(ValueError, match=r"best\.ckpt does not hold what this towerrec writes"):
        load_model(checkpoint_with(tmp_path / "best.ckpt", schema=larger))


@pytest.mark.parametrize("key", ["schema", "model", "loss", "version", "settings"])
def test_a_checkpoint_that_is_sound_and_senseless_is_named(tmp_path: Path, key: str):
    path = checkpoint_with(tmp_path / "best.ckpt", **{key: lambda _: ["\x1b[31m"]})
    try:
        load_model(path)
    except ValueError as error:
        assert str(path) in str(error)
    else:
        assert key in ("loss", "settings"), "facts that nothing is built from"


def test_a_catalogue_with_a_pickled_array_is_refused(tmp_path: Path):
    save_catalogue(prepared_log(tmp_path), tmp_path / "catalogue")
    victim = sorted((tmp_path / "catalogue" / "packed").glob("*.npy"))[0]
    np.save(victim, np.array([Evil(tmp_path / "pwned")], dtype=object), allow_pickle=True)
    folder = tmp_path / "catalogue"
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file() and p.name != cache.MANIFEST)
    (folder / cache.MANIFEST).write_text(json.dumps(cache._manifest(folder, names)))
    with pytest.raises(ValueError, match="catalogue does not hold what this towerrec writes"):
        load_catalogue(folder)
    assert not (tmp_path / "pwned").exists()
