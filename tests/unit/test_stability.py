"""A run that comes to grief ends with words that help, and no checkpoint holds what is not finite."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import lightning as L
import polars as pl
import pytest
import torch
from conftest import Workplace
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from planted import Planted, module_of, train_loader, trainer_of, val_loaders

from towerrec.module import RetrievalModule
from towerrec.nn.losses import BCE, MSE
from towerrec.optim import SGD, Adam
from towerrec.stability import SMALLEST_SCALE, Stability, guarded, stop_together

PLANTED = Planted.make()
STEPS_AN_EPOCH = 10


class Spoil(Callback):
    """Does something to the module just before one step of the run (counted from 1)."""

    def __init__(self, step: int, how: Any) -> None:
        self.step, self.how = step, how

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        if trainer.global_step + 1 == self.step:
            self.how(pl_module)


def fit(folder: Path, *callbacks: Callback, module: RetrievalModule | None = None, **trainer: Any) -> RetrievalModule:
    module = module_of(PLANTED) if module is None else module
    saver = ModelCheckpoint(dirpath=folder, filename="best", monitor="val/ndcg@10", mode="max", save_last=True)
    own = guarded([*callbacks, saver])
    rows = -(-len(PLANTED.train) // STEPS_AN_EPOCH)
    keywords = {"max_epochs": 3, "enable_checkpointing": True, **trainer}
    loader = train_loader(PLANTED, module, batch_size=rows)
    trainer_of(callbacks=own, **keywords).fit(module, loader, val_loaders(PLANTED))
    return module


def refusal(folder: Path, *callbacks: Callback, **keywords: Any) -> str:
    with pytest.raises(ValueError) as caught:
        fit(folder, *callbacks, **keywords)
    return str(caught.value)


def assert_finite_of_epoch(path: Path, epoch: int) -> None:
    content = torch.load(path, weights_only=True)
    assert content["epoch"] + 1 == epoch
    assert all(weight.isfinite().all() for weight in content["state_dict"].values())


def nan_loss(module: RetrievalModule) -> None:
    right = module.loss.forward
    module.loss.forward = lambda *words: right(*words) * torch.nan  # type: ignore[method-assign]


def item_row(value: float) -> Any:
    def spoil(module: RetrievalModule) -> None:
        with torch.no_grad():
            dict(module.named_parameters())["model.item_tower.id_vectors"][7, 3] = value

    return spoil


def item_gradient(value: float) -> Any:
    """From then on, of one item."""

    def spoil(module: RetrievalModule) -> None:
        table = dict(module.named_parameters())["model.item_tower.id_vectors"]
        table.register_hook(lambda gradient: gradient.index_fill(0, torch.tensor([7]), value))

    return spoil


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
@pytest.mark.parametrize("members", [1, 2])
def test_a_loss_that_is_no_number_names_its_step_and_leaves_the_epochs_before(
    tmp_path: Path, precision: str, members: int
):
    module = module_of(PLANTED, model={"members": members})
    said = refusal(tmp_path, Spoil(STEPS_AN_EPOCH + 4, nan_loss), module=module, precision=precision)
    assert said.startswith(
        f"training ended in epoch 2, step {STEPS_AN_EPOCH + 4}, at a learning rate of 0.02: the loss is nan"
    )
    assert "Lower optimizer.lr or set trainer.gradient_clip_val=1" in said
    assert said.endswith(f"What {tmp_path} holds is from before and whole: best.ckpt, last.ckpt")
    for name in ("best.ckpt", "last.ckpt"):
        assert_finite_of_epoch(tmp_path / name, 1)


def test_a_weight_is_named_before_it_is_written_though_no_loss_has_read_it(tmp_path: Path):
    said = refusal(tmp_path, Spoil(STEPS_AN_EPOCH, item_gradient(torch.inf)))
    assert "epoch 1, step 10" in said and "No checkpoint was written" in said
    assert "not finite are model.item_tower.id_vectors (16 of" in said
    assert list(tmp_path.glob("*.ckpt")) == []


def test_the_state_of_the_optimiser_is_looked_at_too(tmp_path: Path):
    # Adam squares a gradient of 1e30: the row would stand still for ever, with a finite weight.
    said = refusal(tmp_path, Spoil(STEPS_AN_EPOCH + 1, item_gradient(1e30)))
    assert "epoch 2, step 20" in said and "exp_avg_sq of model.item_tower.id_vectors in the optimiser" in said
    assert_finite_of_epoch(tmp_path / "last.ckpt", 1)


def test_a_checkpoint_within_an_epoch_is_checked_as_well(tmp_path: Path):
    every = ModelCheckpoint(dirpath=tmp_path, filename="step", every_n_train_steps=4, save_top_k=-1)
    said = refusal(tmp_path, every, Spoil(6, item_row(math.nan)))
    assert "step 6" in said or "step 8" in said
    assert sorted(path.name for path in tmp_path.glob("step*")) == ["step.ckpt"]
    assert torch.load(tmp_path / "step.ckpt", weights_only=True)["global_step"] == 4


@pytest.mark.parametrize(("factor", "ends"), [(100.0, True), (1e30, False), (None, False)])
def test_a_loss_that_runs_away_ends_a_run_where_the_factor_says_so(tmp_path: Path, factor: float | None, ends: bool):
    def run() -> None:
        fit(tmp_path, Stability(factor=factor), module=module_of(PLANTED, optimizer=Adam(lr=30.0)))

    if not ends:
        run()
        return
    with pytest.raises(
        ValueError, match=r"epoch 1, step 10.* training diverges: the loss was 0\.\d+ in the first step"
    ):
        run()
    assert list(tmp_path.glob("*.ckpt")) == []


@pytest.mark.parametrize(("steps", "ends"), [(range(11, 15), False), (range(11, 21), True)])
def test_a_loss_that_comes_back_within_the_epoch_is_no_runaway(
    tmp_path: Path, steps: range, ends: bool, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("towerrec.stability.STEPS", 2)

    class Scaled(Callback):
        def on_train_batch_start(self, trainer: L.Trainer, pl_module: L.LightningModule, *_: Any) -> None:
            factor = 1e4 if trainer.global_step + 1 in steps else 1.0
            pl_module.loss.forward = lambda *words: BCE.forward(pl_module.loss, *words) * factor

    callbacks = (Scaled(), Stability())
    if ends:
        assert "training diverges" in refusal(tmp_path, *callbacks)
    else:
        fit(tmp_path, *callbacks)


def test_a_resumed_run_remembers_the_first_loss_and_the_epoch_it_is_in():
    first, second = Stability(), Stability()
    first._first, first._epoch, first._lowest = 0.7, 3, 0.4
    second.load_state_dict(first.state_dict())
    second.on_train_epoch_start(SimpleNamespace(current_epoch=3), None)  # type: ignore[arg-type]
    assert (second._first, second._lowest) == (0.7, 0.4)
    second.on_train_epoch_start(SimpleNamespace(current_epoch=4), None)  # type: ignore[arg-type]
    assert (second._first, second._lowest) == (0.7, math.inf)


def test_a_feature_that_is_not_finite_is_named_as_the_cause(tmp_path: Path):
    module = module_of(PLANTED)
    module.resident.users.columns["fans"][[5, 9]] = torch.nan
    module.attach(module.resident)
    said = refusal(tmp_path, module=module)
    assert "The cause is feature 'fans': row 5 of the user table and 1 more are not finite" in said


def test_labels_beyond_what_a_square_can_hold_are_named_as_the_cause(tmp_path: Path):
    huge = Planted.make()
    huge.train.label *= 1e20
    module = module_of(huge, loss=MSE())
    loader = train_loader(huge, module)
    with pytest.raises(ValueError, match=r"the loss is inf.*labels up to 1e\+20, whose squares are beyond float32"):
        trainer_of(max_epochs=1, callbacks=guarded([])).fit(module, loader)


def test_a_watched_figure_that_is_not_finite_chooses_nothing(tmp_path: Path):
    class Broken(Callback):
        def on_validation_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
            if trainer.current_epoch == 1:
                pl_module.validation.ranking.compute = lambda: {"ndcg@10": torch.tensor(torch.nan)}  # type: ignore[attr-defined]

    said = refusal(tmp_path, Broken())
    assert "epoch 2, step 20" in said and "val/ndcg@10, by which the best epoch is chosen, is nan" in said
    assert_finite_of_epoch(tmp_path / "last.ckpt", 1)


@pytest.mark.parametrize(("scale", "ends"), [(65536.0, False), (1.0, False), (SMALLEST_SCALE / 2, True)])
def test_half_precision_may_look_for_a_factor_but_not_without_end(tmp_path: Path, scale: float, ends: bool):
    class Scaler(Callback):
        def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
            fake = SimpleNamespace(is_enabled=lambda: True, get_scale=lambda: scale)
            trainer.precision_plugin.scaler = fake  # type: ignore[attr-defined]

    if ends:
        assert "every gradient overflows float16" in refusal(tmp_path, Scaler(), max_epochs=1)
    else:
        fit(tmp_path, Scaler(), max_epochs=1)


def test_every_process_ends_with_the_words_of_the_first_that_found_something():
    said = {1: "the loss is nan", 2: "another"}

    def end(rank: int) -> None:
        strategy = SimpleNamespace(
            root_device=torch.device("cpu"),
            all_gather=lambda _: torch.tensor([int(r in said) for r in range(3)]),
            broadcast=lambda _, src: said[src],
        )
        stop_together(SimpleNamespace(world_size=3, strategy=strategy), said.get(rank))  # type: ignore[arg-type]

    for rank in range(3):
        with pytest.raises(ValueError, match=r"^the loss is nan$"):
            end(rank)


def test_the_weights_are_those_of_a_run_that_nobody_watched(tmp_path: Path):
    watched = fit(tmp_path)
    alone = module_of(PLANTED)
    loader = train_loader(PLANTED, alone, batch_size=-(-len(PLANTED.train) // STEPS_AN_EPOCH))
    trainer_of(max_epochs=3).fit(alone, loader, val_loaders(PLANTED))
    for (name, weight), other in zip(watched.named_parameters(), alone.parameters(), strict=True):
        assert torch.equal(weight, other), name


def test_a_factor_of_one_or_less_is_refused():
    with pytest.raises(ValueError, match=r"callbacks\.stability\.factor must be above 1, or null, got 1.0"):
        Stability(factor=1.0)


def test_a_run_that_configures_no_guard_has_one_for_what_is_not_finite(tmp_path: Path):
    module = module_of(PLANTED, optimizer=SGD(lr=1e38))
    assert "the loss is" in refusal(tmp_path, module=module)
    (first, *_) = guarded([ModelCheckpoint()])
    assert isinstance(first, Stability) and first.factor is None


def test_a_diverged_run_is_no_finished_run_and_a_refit_fails_as_a_whole(workplace: Workplace, tmp_path: Path):
    outcome = workplace.train("refit=true", "optimizer.lr=1e30", f"hydra.run.dir={tmp_path}")
    assert outcome.code == 1 and "Traceback" not in outcome.err
    assert "training ended in epoch 1, step 2" in outcome.message and "1e+30: the loss is nan" in outcome.message
    assert list(tmp_path.rglob("*.ckpt")) == [] and not (tmp_path / "run.json").exists()
    assert "is not a finished run" in workplace.recommend(f"run={tmp_path}").message


def test_a_diverged_job_of_a_sweep_is_a_row_that_says_why(workplace: Workplace, tmp_path: Path):
    words = ["optimizer.lr=1e-3,1e30", "trainer.max_epochs=1", f"hydra.sweep.dir={tmp_path}"]
    outcome = workplace.train(*words, sweep=True)
    assert outcome.code == 1
    assert "the loss is nan" in (tmp_path / "1" / "failed.txt").read_text(encoding="utf-8")
    board = pl.read_parquet(tmp_path / "leaderboard.parquet")
    assert board.select("setting", "status").rows()[1] == ("optimizer.lr=1e+30", "failed")
    assert "training ended in epoch 1, step 2" in board["why"][1] and "the loss is nan" in board["why"][1]
    assert (tmp_path / "0" / "metrics.json").is_file()
