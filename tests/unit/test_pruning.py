"""Training is given up where a trial says so, and says what was known then."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import pytest
import torch

from towerrec.pruning import Pruning, pruning

MODULE = cast(L.LightningModule, None)


@dataclass
class Trial:
    """Says stop from a validation on, and remembers what it heard."""

    stop_at: int
    heard: list[tuple[int, float]] = field(default_factory=list)

    def report(self, value: float, step: int) -> None:
        self.heard.append((step, round(value, 4)))

    def should_prune(self) -> bool:
        return len(self.heard) > self.stop_at


def validated(callback: Pruning, *values: float, max_epochs: int | None = 5, sanity: bool = False) -> Any:
    """A trainer that validates once an epoch, until it is told to stop."""
    trainer = SimpleNamespace(
        sanity_checking=sanity,
        should_stop=False,
        max_epochs=max_epochs,
        strategy=SimpleNamespace(broadcast=lambda x: x),
    )
    for epoch, value in enumerate(values):
        trainer.current_epoch = epoch
        trainer.callback_metrics = {"val/rmse": torch.tensor(value)}
        callback.on_validation_end(cast(L.Trainer, trainer), MODULE)
        if trainer.should_stop:
            break
    return trainer


def test_a_trial_hears_of_every_validation_counted_from_0_and_ends_training():
    trial = Trial(stop_at=1)
    callback = Pruning(cast(Any, trial), monitor="val/rmse", mode="min")
    assert validated(callback, 0.5, 0.6, 0.4).should_stop
    assert trial.heard == [(0, 0.5), (1, 0.6)]
    assert callback.pruned is not None
    assert {key: callback.pruned[key] for key in ("epoch", "epochs", "monitor", "mode")} == {
        "epoch": 2, "epochs": 5, "monitor": "val/rmse", "mode": "min",
    }  # fmt: skip
    assert (round(callback.pruned["value"], 4), round(callback.pruned["best"], 4)) == (0.6, 0.5)


def test_the_best_of_a_figure_that_should_be_large_is_the_largest():
    callback = Pruning(cast(Any, Trial(stop_at=1)), monitor="val/rmse", mode="max")
    validated(callback, 0.5, 0.25)
    assert callback.pruned is not None and callback.pruned["best"] == 0.5


def test_after_the_last_epoch_nothing_is_given_up():
    callback = Pruning(cast(Any, Trial(stop_at=2)), monitor="val/rmse", mode="min")
    assert not validated(callback, 0.5, 0.6, 0.7, max_epochs=3).should_stop and callback.pruned is None
    callback = Pruning(cast(Any, Trial(stop_at=2)), monitor="val/rmse", mode="min")
    assert validated(callback, 0.5, 0.6, 0.7, max_epochs=-1).should_stop
    assert callback.pruned is not None and callback.pruned["epochs"] is None


def test_the_check_before_training_is_not_reported():
    trial = Trial(stop_at=0)
    assert not validated(Pruning(cast(Any, trial), monitor="val/rmse", mode="min"), 0.5, sanity=True).should_stop
    assert trial.heard == []


def test_a_process_that_does_not_decide_follows_the_one_that_does():
    callback = Pruning(None, monitor="val/rmse", mode="min")
    trainer = validated(callback, 0.5)
    assert not trainer.should_stop
    trainer.strategy.broadcast = lambda _: True
    callback.on_validation_end(cast(L.Trainer, trainer), MODULE)
    assert trainer.should_stop and callback.pruned is not None


def test_a_run_that_is_no_trial_is_not_watched_in_any_of_its_processes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("TOWERREC_TRIAL", "of a job before")
    assert pruning(tmp_path, monitor="val/rmse", mode="min", decides=True) is None
    assert pruning(tmp_path, monitor="val/rmse", mode="min", decides=False) is None
    monkeypatch.setenv("TOWERREC_TRIAL", "of this job")
    found = pruning(tmp_path, monitor="val/rmse", mode="min", decides=False)
    assert found is not None and found.trial is None
