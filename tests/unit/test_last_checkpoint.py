"""What `last.ckpt` rests on: loaders that begin within an epoch, loggers that go back, files that may be damaged."""

from __future__ import annotations

import logging
import os
import signal
from pathlib import Path
from typing import Any

import lightning as L
import pytest
import torch
from planted import Planted, module_of, train_loader
from same_run import scalars, unequal
from test_block_loader import made_store

from towerrec import stopping
from towerrec.csv_log import CsvLog
from towerrec.data.block_loader import BlockLoader
from towerrec.data.loader import BatchLoader
from towerrec.data.rows import Rows
from towerrec.data.user_batches import UserBatchLoader
from towerrec.last_checkpoint import LAST, NEXT, PREVIOUS, RESUME_KEY, LastCheckpoint, newest, where
from towerrec.lightning_trainer import interruptible
from towerrec.module import CHECKPOINT_KEY
from towerrec.nn.negatives import CrossBatch, Mixed, Uniform
from towerrec.restoring import check_processes
from towerrec.tensorboard.logger import TensorBoard

STATE = {"epoch": 2, "batch": 0, "finished": False}


def rows() -> Rows:
    draw = torch.Generator().manual_seed(0)
    user = torch.randint(0, 20, (203,), generator=draw).sort().values
    return Rows(user, torch.arange(203), torch.arange(203.0), torch.zeros(203, dtype=torch.int64), None, {}, {})


@pytest.mark.parametrize("first", [0, 1, 7, 12])
@pytest.mark.parametrize("kind", ["rows", "users", "rows on disk"])
def test_a_loader_that_starts_within_an_epoch_gives_the_rest_of_it_and_then_whole_epochs(
    tmp_path: Path, kind: str, first: int
):
    store = made_store(tmp_path)

    def made() -> BatchLoader | BlockLoader:
        if kind == "rows":
            return BatchLoader(rows(), batch_size=8, shuffle=True, seed=3)
        if kind == "users":
            return UserBatchLoader(rows(), batch_size=1, target_share=0.5, seed=3)
        return BlockLoader(store, batch_size=32, buffer_rows=100, run_rows=8, seed=3)

    whole, late = made(), made()
    whole.set_epoch(2)
    late.set_epoch(2)
    late.start_at(first)
    labels = [batch.label.tolist() for batch in whole]
    assert [batch.label.tolist() for batch in late] == labels[first:] and len(labels) > 12
    assert [batch.label.tolist() for batch in late] == labels, "only one pass begins late"


def test_the_queue_of_former_batches_goes_on_within_an_epoch():
    def source() -> Mixed:
        cache = CrossBatch(num_batches=2)
        cache._count_I = torch.zeros(9)
        return Mixed(sources={"uniform": Uniform(shared=2), "cache": cache})

    whole, late = source(), source()
    batches = [(torch.tensor([i, i + 1, i]), torch.tensor([i, i + 1]), torch.full((2, 3), float(i))) for i in range(5)]
    for batch in batches[:3]:
        whole.cache.push(*batch)
    late.load_running_state(whole.running_state())
    for batch in batches[3:]:
        whole.cache.push(*batch)
        late.cache.push(*batch)
    assert list(unequal(whole.running_state(), late.running_state(), "state")) == []
    assert whole.cache.num_rows == 6


def test_event_files_are_cut_where_the_checkpoint_was_written(tmp_path: Path):
    board = TensorBoard(save_dir=str(tmp_path))
    board.log_metrics({"train/loss": 3.0}, 1)
    board.begin_row({"seed": 1.0})
    position, then = board.position(), scalars(tmp_path)
    board.log_metrics({"train/loss": 2.0}, 2)
    board.finalize("failed")
    later = TensorBoard(save_dir=str(tmp_path))
    later.log_metrics({"train/loss": 9.0}, 2)  # the part of a process that was killed before its next checkpoint
    later.experiment.close()
    assert len(scalars(tmp_path)) == 3

    again = TensorBoard(save_dir=str(tmp_path))
    again.back_to(position)
    assert scalars(tmp_path) == then == {("tensorboard:train/loss", 1, 3.0): 1}
    again.log_metrics({"train/loss": 2.0}, 2)
    again.experiment.close()
    assert list(scalars(tmp_path).values()) == [1, 1]


def test_a_csv_goes_on_behind_the_rows_of_the_checkpoint(tmp_path: Path):
    first = CsvLog(save_dir=str(tmp_path))
    first.log_metrics({"train/loss": 3.0}, 1)
    position = first.position()
    first.log_metrics({"train/loss": 2.0, "val/rmse": 1.0}, 2)
    first.save()
    second = CsvLog(save_dir=str(tmp_path))
    second.back_to(position)
    second.log_metrics({"train/loss": 2.5, "val/rmse": 1.5}, 2)
    second.save()
    lines = (tmp_path / "csv" / "metrics.csv").read_text(encoding="utf-8").split()
    assert lines == ["step,train/loss,val/rmse", "1,3.0,", "2,2.5,1.5"]


def saved(path: Path, epoch: int) -> None:
    torch.save({CHECKPOINT_KEY: {}, RESUME_KEY: STATE | {"epoch": epoch}}, path)


def test_of_damaged_checkpoints_the_one_before_is_taken_and_the_damage_is_named(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
):
    assert newest(tmp_path) is None
    saved(tmp_path / PREVIOUS, 1)
    saved(tmp_path / LAST, 2)
    found = newest(tmp_path)
    assert found is not None and where(found) == "going on after 2 epochs"
    (tmp_path / LAST).write_bytes((tmp_path / LAST).read_bytes()[:200])
    with caplog.at_level(logging.WARNING):
        found = newest(tmp_path)
    assert found is not None and where(found) == "going on after 1 epoch"
    assert str(tmp_path / LAST) in caplog.text and "the checkpoint before" in caplog.text
    saved(tmp_path / NEXT, 3)  # the process was killed before the file got its name
    found = newest(tmp_path)
    assert found is not None and found[RESUME_KEY]["epoch"] == 3
    for name in (LAST, NEXT, PREVIOUS):
        (tmp_path / name).write_bytes(b"PK")
    with pytest.raises(ValueError, match=r"remove last\*.ckpt in .* to train from the start"):
        newest(tmp_path)


@pytest.mark.parametrize("setting", ["every_n_steps", "every_minutes"])
def test_how_often_it_is_written_within_an_epoch_is_above_zero(tmp_path: Path, setting: str):
    with pytest.raises(ValueError, match=f"callbacks.last.{setting} must be above 0"):
        LastCheckpoint(dirpath=str(tmp_path), **{setting: 0})


@pytest.mark.parametrize(
    ("setting", "batches"),
    [
        ({"every_n_steps": 3, "every_minutes": None}, [3, 6]),
        ({"every_minutes": 1e-9}, [1, 2, 3, 4, 5, 6, 7]),
        ({}, []),
        ({"every_n_steps": 3, "every_minutes": None, "accumulate": 2}, [6]),
    ],
)
def test_it_is_written_within_an_epoch_as_often_as_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, setting: dict[str, Any], batches: list[int]
):
    written: list[tuple[int, bool]] = []

    def noted(self: LastCheckpoint, trainer: L.Trainer, *, batch: int, finished: bool = False) -> None:
        written.append((batch, finished))

    monkeypatch.setattr(LastCheckpoint, "_save", noted)
    settings = dict(setting)
    added = settings.pop("accumulate", 1)
    planted = Planted.make()
    module = module_of(planted)
    trainer = L.Trainer(
        max_epochs=2,
        limit_train_batches=8,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accumulate_grad_batches=added,
        callbacks=[LastCheckpoint(dirpath=str(tmp_path), **settings)],
    )
    trainer.fit(module, train_loader(planted, module, batch_size=64))
    within = [(batch, False) for batch in batches]
    assert written == [*within, (0, False), *within, (0, True)]


def test_another_number_of_processes_is_said_between_epochs_and_refused_within_one(caplog: pytest.LogCaptureFixture):
    state = {"random": [{}, {}], "batch": 0}
    with caplog.at_level(logging.WARNING):
        check_processes(state, 2)
        assert caplog.text == ""
        check_processes(state, 4)
    assert "2 process(es) trained before, now 4: a step learns from 4/2 of the rows" in caplog.text
    with pytest.raises(ValueError, match=r"2 process\(es\) had shared out, and now there are 1: start 2"):
        check_processes({**state, "batch": 7}, 1)


def test_a_signal_under_slurm_is_ours_alone_and_writes_no_checkpoint_of_lightnings(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    for name, value in {"NTASKS": "1", "JOB_NAME": "night", "JOB_ID": "17", "PROCID": "0", "LOCALID": "0"}.items():
        monkeypatch.setenv(f"SLURM_{name}", value)

    class Warned(L.Callback):
        def on_train_batch_end(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            os.kill(os.getpid(), signal.SIGUSR1)

    planted = Planted.make()
    module = module_of(planted)
    trainer = L.Trainer(
        max_epochs=2,
        accelerator="cpu",
        default_root_dir=str(tmp_path),
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[LastCheckpoint(dirpath=str(tmp_path)), Warned()],
    )
    with stopping.heard():
        with pytest.raises(KeyboardInterrupt), interruptible(trainer):
            trainer.fit(module, train_loader(planted, module, batch_size=64))
        assert stopping.exit_code() == 128 + signal.SIGUSR1
    assert [path.name for path in tmp_path.iterdir()] == [LAST] and trainer.global_step == 1
