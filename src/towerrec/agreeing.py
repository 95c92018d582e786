"""Processes that train together do together what only one of them has a reason for: stop, write a checkpoint.

A signal may reach one of them or all, and all in different batches; a process that stopped alone would leave the others
waiting for it. So they ask each other, in the same batch everywhere: about once a second, however long a batch takes
(`benchmarks/stopping_together.py` measures what that costs).
"""

from __future__ import annotations

import time

import lightning as L
import torch

from towerrec import stopping

EVERY_SECONDS = 1.0
"""From one question to the next, as long as batches take what they took: so long a signal waits, and a batch."""


class Agreement:
    """When processes ask each other, and what they answer. Every process must come here with the same batches."""

    def __init__(self) -> None:
        self._last = self._next = 0
        self._since = time.monotonic()

    def at_batch(self, trainer: L.Trainer, batch: int, *, late: bool) -> tuple[bool, int]:
        """Whether any process is late, and the signal that any has heard (0: none), before a batch.

        Where it is not yet time to ask, nobody is late and none has heard anything.

        Args:
            trainer: Of the processes; a single one is not asked.
            batch: Number of the batch in its epoch, the same in all processes.
            late: Whether this process is.
        """
        if trainer.world_size == 1:
            return late, stopping.asked()
        if 0 < batch < self._next:
            return False, 0
        passed, batches = time.monotonic() - self._since, batch - self._last
        anybody_late, signal, pace = self._most(trainer, float(late), stopping.asked(), passed / max(batches, 1))
        # The first batch of an epoch tells nothing of the pace: validation lies before it.
        several = int(EVERY_SECONDS / max(pace, 1e-9)) if batches > 0 else 1
        self._last, self._next, self._since = batch, batch + max(several, 1), time.monotonic()
        return bool(anybody_late), int(signal)

    def at_end(self, trainer: L.Trainer) -> int:
        """The signal that any process has heard, 0: none."""
        return stopping.asked() if trainer.world_size == 1 else int(self._most(trainer, stopping.asked())[0])

    @staticmethod
    def _most(trainer: L.Trainer, *mine: float) -> list[float]:
        """The largest of each number over all processes."""
        most = torch.tensor(mine, dtype=torch.float32, device=trainer.strategy.root_device)
        torch.distributed.all_reduce(most, op=torch.distributed.ReduceOp.MAX)
        return most.tolist()


def stop(trainer: L.Trainer, signal: int) -> None:
    """End training in all processes at once, each of which must come here.

    Raises:
        KeyboardInterrupt: In all of them.
    """
    if trainer.world_size > 1:
        stopping.leave(signal)
        launcher = trainer.strategy.launcher
        # They end by themselves. Lightning would kill them, and then this process because they were killed.
        getattr(launcher, "procs", []).clear()
        trainer.strategy.barrier("stopped")
    raise KeyboardInterrupt
