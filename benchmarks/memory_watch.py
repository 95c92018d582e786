"""What a process holds at a moment, and watchers that write it down: after every epoch (Lightning), every job (Hydra).

    python train.py +callbacks.memory._target_=memory_watch.AfterEpochs +callbacks.memory.path=FILE ...
    python train.py -m +hydra.callbacks.memory._target_=memory_watch.AfterJobs +hydra.callbacks.memory.path=FILE ...

with this folder on PYTHONPATH. A line of FILE is one moment, as JSON.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
from pathlib import Path
from typing import Any

import lightning as L
from hydra.experimental.callback import Callback as HydraCallback

_PAGE_KIB = os.sysconf("SC_PAGE_SIZE") // 1024
_TRIM = getattr(ctypes.CDLL(None), "malloc_trim", None)  # of glibc alone


def held() -> dict[str, int]:
    """Resident memory that is the process's own (KiB, without pages of files), open files and threads.

    What only cycles hold is collected first, and what is free already goes back to the system: when Python and the C
    library do that by themselves is chance, and moves this figure by tens of MiB. What leaks cannot go back.
    """
    gc.collect()
    if _TRIM is not None:
        _TRIM(0)
    _, resident, of_files = Path("/proc/self/statm").read_text(encoding="utf-8").split()[:3]
    return {
        "memory_kib": (int(resident) - int(of_files)) * _PAGE_KIB,
        "files": len(list(Path("/proc/self/fd").iterdir())) - 1,  # without the one that lists them
        "threads": len(list(Path("/proc/self/task").iterdir())),
    }


def _note(path: str) -> None:
    with Path(path).open("a", encoding="utf-8") as lines:
        lines.write(json.dumps(held()) + "\n")


class AfterEpochs(L.Callback):
    """A line after every epoch, its validation included.

    Args:
        path: File to append to.
        leak_kib: Memory to lose after every epoch, to see that the watch sees it.
        leak_after: Epochs before the first such loss.
    """

    def __init__(self, path: str, leak_kib: int = 0, leak_after: int = 0) -> None:
        self.path = path
        self.leak_kib = leak_kib
        self.leak_after = leak_after
        self.lost: list[bytearray] = []

    def on_train_epoch_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        if trainer.current_epoch >= self.leak_after:
            # Written, not only asked for: untouched pages are not resident.
            self.lost.append(bytearray(b"x") * (1024 * self.leak_kib))
        _note(self.path)


class AfterJobs(HydraCallback):
    """A line after every job of a multirun.

    Args:
        path: File to append to.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def on_job_end(self, **_: Any) -> None:
        _note(self.path)
