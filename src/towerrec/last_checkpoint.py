"""`last.ckpt`: all that a training needs to go on as if nobody had stopped it.

Lightning writes its checkpoints in the middle of things: before the figures of the epoch are logged, within a
validation. What it restores from them repeats hooks and leaves holes in the curves. Here a checkpoint is written only
where one thing has ended and the next has not begun: between two epochs, between two batches, and after the last epoch.
Restoring sets Lightning's counters to that place and leaves its own ways of restarting alone.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

import lightning as L
from lightning.pytorch.callbacks import Callback

from towerrec import agreeing, cost, stopping
from towerrec.checkpoint import read
from towerrec.module import RetrievalModule
from towerrec.restoring import RESUME_KEY as RESUME_KEY
from towerrec.restoring import (
    check_processes,
    of_all,
    own,
    plain,
    random_state,
    restore,
    restore_figures,
    savers,
    set_random,
    swaps_scheduler,
)
from towerrec.schema import Batch

log = logging.getLogger(__name__)

LAST, PREVIOUS, NEXT = "last.ckpt", "last-previous.ckpt", "last-next.ckpt"

_FILE = "file"


@runtime_checkable
class Cuttable(Protocol):
    """A logger that can go back to where it was."""

    def position(self) -> dict[str, Any]:
        """Where it is now, in plain builtins."""

    def back_to(self, position: Mapping[str, Any]) -> None:
        """Forget what was logged after `position`."""


@runtime_checkable
class _Skips(Protocol):
    def start_at(self, batch: int) -> None: ...


class LastCheckpoint(Callback):
    """Keeps `last.ckpt` up to date and, where training goes on from one, restores it.

    It is written between epochs, after the last one, when a signal asks training to stop, and within an epoch as often
    as is asked for. The one before stays beside it as `last-previous.ckpt` until the run is finished. Nothing that is
    learnt depends on when it is written.

    Args:
        dirpath: Folder of the checkpoints.
        every_n_steps: Also after so many batches of an epoch; None: not by their number.
        every_minutes: Also when so much time has passed since the last one; None: not by time.

    Raises:
        ValueError: Zero or less.
    """

    def __init__(self, *, dirpath: str, every_n_steps: int | None = None, every_minutes: float | None = 10.0) -> None:
        for name, value in (("every_n_steps", every_n_steps), ("every_minutes", every_minutes)):
            if value is not None and not value > 0:
                raise ValueError(f"callbacks.last.{name} must be above 0, or null for never, got {value}")
        self.directory = Path(dirpath)
        self.every_n_steps, self.every_minutes = every_n_steps, every_minutes
        self.seconds_before = 0.0
        self._from: dict[str, Any] | None = None
        self._optimizer: dict[str, Any] | None = None
        self._position: dict[str, Any] | None = None
        self._muted: list[Any] | None = None
        self._saving: dict[str, Any] | None = None
        self._agreement = agreeing.Agreement()
        self._since = self._started = time.monotonic()

    def go_on_from(self, checkpoint: dict[str, Any]) -> None:
        """Have the next fit go on from a checkpoint that this class wrote."""
        self._from = checkpoint
        state = checkpoint[RESUME_KEY]
        self.seconds_before = float(state["seconds"])
        # Versions before had only the seconds of training.
        cost.spent(state.get("total_seconds", self.seconds_before), state.get("peak_memory_bytes", 0))

    @property
    def goes_on(self) -> bool:
        """Whether the next fit, which has not begun, goes on from a checkpoint."""
        return self._from is not None

    # -- going on ------------------------------------------------------------------------------------------------

    def on_fit_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self._started = self._since = time.monotonic()
        if self._from is not None:
            self._mute(trainer)  # the start of this run was logged when it began

    def on_train_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        stopping.listen(at_batches=True, together=trainer.world_size > 1)
        if self._from is None:
            return
        self._unmute(trainer)
        checkpoint, self._from = self._from, None
        self._position = checkpoint[RESUME_KEY]
        assert isinstance(pl_module, RetrievalModule)
        check_processes(self._position, trainer.world_size)
        restore(trainer, checkpoint)
        self._optimizer = checkpoint if swaps_scheduler(trainer, checkpoint) else None
        set_random(own(trainer, self._position["random"]))
        # All processes have read it by now.
        if trainer.is_global_zero and checkpoint[_FILE] == NEXT:
            self._name()

    def on_train_epoch_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._position is None:
            if trainer.global_step > 0:
                self._save(trainer, batch=0)
            return
        batch = self._position["batch"]
        if batch == 0:
            self._position = None
            return
        self._mute(trainer)  # so was the start of this epoch
        loader = trainer.train_dataloader
        assert isinstance(loader, _Skips)
        loader.start_at(batch)
        epoch_loop = trainer.fit_loop.epoch_loop
        # Now the loop leaves its count of batches alone. It takes the step before for one that was not counted.
        epoch_loop.restarting = True
        epoch_loop._batches_that_stepped -= 1

    def on_train_batch_start(
        self, trainer: L.Trainer, pl_module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        assert isinstance(pl_module, RetrievalModule)
        if self._optimizer is not None:
            trainer.strategy.load_optimizer_state_dict(self._optimizer)
            self._optimizer = None
        known = batch_idx == 0  # `last.ckpt` holds this place
        if self._position is not None:
            self._unmute(trainer)
            position, self._position = self._position, None
            pl_module.load_running_state(own(trainer, position["running"]))
            restore_figures(trainer, position)  # some are of the start of the epoch, which has just been gone through
            set_random(own(trainer, position["random"]))
            known = True
        # Between two steps: gradients that are being added up are in no checkpoint.
        if batch_idx % trainer.accumulate_grad_batches != 0:
            return
        late, signal = self._agreement.at_batch(trainer, batch_idx, late=self._is_late())
        by_steps = self.every_n_steps is not None and batch_idx % self.every_n_steps == 0
        if not known and (late or by_steps or signal):
            self._save(trainer, batch=batch_idx)
        if signal:
            agreeing.stop(trainer, signal)

    def on_train_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if self._position is None:
            self._save(trainer, batch=0, finished=True)
        if signal := self._agreement.at_end(trainer):
            agreeing.stop(trainer, signal)
        stopping.listen(at_batches=False)
        if stopping.asked():  # since they agreed; training is over for all of them
            raise KeyboardInterrupt

    def on_exception(self, trainer: L.Trainer, pl_module: L.LightningModule, exception: BaseException) -> None:
        stopping.listen(at_batches=False)

    # -- writing -------------------------------------------------------------------------------------------------

    def _is_late(self) -> bool:
        return self.every_minutes is not None and time.monotonic() - self._since >= 60 * self.every_minutes

    def _save(self, trainer: L.Trainer, *, batch: int, finished: bool = False) -> None:
        if trainer.fast_dev_run:  # type: ignore[attr-defined]
            return
        self._saving = self._state(trainer, batch=batch, finished=finished)
        try:
            trainer.save_checkpoint(self.directory / NEXT)
        finally:
            self._saving = None
        if trainer.is_global_zero:
            self._name()
        self._since = time.monotonic()

    def _name(self) -> None:
        """Give what was written its name; if this process dies in between, `newest` knows all three."""
        last = self.directory / LAST
        if last.is_file():
            last.replace(self.directory / PREVIOUS)
        (self.directory / NEXT).replace(last)

    def _state(self, trainer: L.Trainer, *, batch: int, finished: bool) -> dict[str, Any]:
        module = trainer.lightning_module
        assert isinstance(module, RetrievalModule)
        running = module.running_state() if batch > 0 else {}
        return {
            "epoch": trainer.current_epoch,
            "batch": batch,
            "finished": finished,
            "should_stop": trainer.should_stop,
            "seconds": self.seconds_before + time.monotonic() - self._started,
            "total_seconds": cost.total_seconds(),
            "peak_memory_bytes": cost.peak_memory_bytes(),
            "random": of_all(trainer, random_state()),
            "running": of_all(trainer, running),
            "loggers": {
                type(logger).__name__: logger.position()
                for logger in trainer.loggers
                if trainer.is_global_zero and isinstance(logger, Cuttable)
            },
            "callback_metrics": plain(trainer.callback_metrics),
            "logged_metrics": plain(trainer.logged_metrics),
            "deferred": [saver._defer_save_until_validation for saver in savers(trainer)],
        }

    def on_save_checkpoint(self, trainer: L.Trainer, pl_module: L.LightningModule, checkpoint: dict[str, Any]) -> None:
        """Add what this class restores, to the checkpoints of its own."""
        if self._saving is None:
            return
        checkpoint[RESUME_KEY] = self._saving
        # Lightning counts the epoch that is going on from 0; between two epochs that is the one before.
        checkpoint["epoch"] = max(trainer.current_epoch - (self._saving["batch"] == 0), 0)

    def _mute(self, trainer: L.Trainer) -> None:
        self._muted, trainer.loggers = trainer.loggers, []

    def _unmute(self, trainer: L.Trainer) -> None:
        if self._muted is not None:
            trainer.loggers, self._muted = self._muted, None


def newest(directory: Path) -> dict[str, Any] | None:
    """The newest checkpoint of `LastCheckpoint` in a folder; None where none was written yet.

    A damaged one is named in a line, and the one before is taken.

    Raises:
        ValueError: All that are there are damaged, or they are of another kind.
    """
    there = [path for name in (NEXT, LAST, PREVIOUS) if (path := directory / name).is_file()]
    wrong: list[ValueError] = []
    for path in there:
        try:
            found = read(path)
        except ValueError as error:
            wrong.append(error)
            log.warning(f"{error}; looking for the checkpoint before")
            continue
        if RESUME_KEY not in found:
            raise ValueError(f"{path} was not written to go on from (another version of towerrec): train anew")
        return found | {_FILE: path.name}
    if wrong:
        raise ValueError(f"{wrong[0]}; remove last*.ckpt in {directory} to train from the start") from wrong[0]
    return None


def where(checkpoint: Mapping[str, Any]) -> str:
    """Where a training goes on, in a line."""
    state = checkpoint[RESUME_KEY]
    epochs = f"{state['epoch']} epoch{'' if state['epoch'] == 1 else 's'}"
    if state["finished"]:
        return f"training was over after {epochs}"
    return f"going on after {epochs}" + (f" and {state['batch']} batches" if state["batch"] else "")
