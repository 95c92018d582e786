"""The course of a training as `curves.json`."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
from lightning.pytorch.callbacks import ModelCheckpoint
from planted import Planted, module_of, train_loader, val_loaders

from towerrec.curves import CurvesFile, extended, read_curves

PLANTED = Planted.make()


def trained(path: Path, *, epochs: int, ckpt_path: str | None = None, **keywords: Any) -> dict[str, Any]:
    """What `curves.json` holds after a training; the last checkpoint lies beside it."""
    saver = ModelCheckpoint(dirpath=path.parent, save_last=True, save_top_k=0, enable_version_counter=False)
    trainer = L.Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        num_sanity_val_steps=0,
        callbacks=[CurvesFile(path), saver],
        **keywords,
    )
    module = module_of(PLANTED)
    trainer.fit(module, train_loader(PLANTED, module), val_loaders(PLANTED), ckpt_path=ckpt_path)
    found: dict[str, Any] = json.loads(path.read_text())
    return found


def test_every_epoch_is_an_entry_and_epochs_without_a_validation_hold_nulls(tmp_path: Path):
    found = trained(tmp_path / "curves.json", epochs=4, check_val_every_n_epoch=2, log_every_n_steps=1)
    assert found["epoch"] == [1, 2, 3, 4]
    assert all(value > 0 for value in found["train/loss"])
    assert [value is None for value in found["val/ndcg@10"]] == [True, False, True, False]
    assert "train/loss_step" not in found and "optim/grad_norm" not in found


def test_a_resumed_training_goes_on_with_the_file_and_an_uninterrupted_one_leaves_the_same(tmp_path: Path):
    whole = trained(tmp_path / "whole" / "curves.json", epochs=3)
    half = tmp_path / "half" / "curves.json"
    trained(half, epochs=2)
    assert trained(half, epochs=3, ckpt_path=str(half.with_name("last.ckpt"))) == whole


def test_a_run_that_goes_on_within_an_epoch_knows_that_the_epoch_was_validated(tmp_path: Path):
    def ended(curves: CurvesFile, epoch: int) -> list[float | None]:
        trainer: Any = SimpleNamespace(
            current_epoch=epoch, is_global_zero=True, callback_metrics={"train/loss": 2.0, "val/rmse": 1.0}
        )
        curves.on_train_epoch_start(trainer, module_of(PLANTED))
        curves.on_train_epoch_end(trainer, module_of(PLANTED))
        return read_curves(curves.path).get("val/rmse", [])

    stopped, again = CurvesFile(tmp_path / "curves.json"), CurvesFile(tmp_path / "curves.json")
    now: Any = SimpleNamespace(current_epoch=0, sanity_checking=False)
    stopped.on_train_epoch_start(now, module_of(PLANTED))
    stopped.on_validation_end(now, module_of(PLANTED))
    again.load_state_dict(stopped.state_dict())
    assert ended(again, 0) == [1.0] and ended(again, 1) == [1.0, None]


def test_a_new_training_in_the_same_place_forgets_the_old_one(tmp_path: Path):
    path = tmp_path / "curves.json"
    trained(path, epochs=3)
    assert trained(path, epochs=1)["epoch"] == [1]


def test_what_is_no_number_is_null_and_an_epoch_that_is_done_again_is_replaced(tmp_path: Path):
    curves = extended({}, 1, {"train/loss": 0.5})
    curves = extended(curves, 2, {"train/loss": float("nan"), "val/rmse": 2.0})
    assert curves == {"epoch": [1, 2], "train/loss": [0.5, None], "val/rmse": [None, 2.0]}
    assert extended(curves, 2, {"train/loss": 0.25}) == {
        "epoch": [1, 2],
        "train/loss": [0.5, 0.25],
        "val/rmse": [None, None],
    }
    assert read_curves(tmp_path / "nowhere.json") == {}
