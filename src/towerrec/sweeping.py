"""Jobs of a sweep in one process after another, or side by side: cores, GPUs, and what a job leaves behind.

Side by side, a few processes take the jobs in turn; each keeps its number, its share of the cores and its GPU.
"""

from __future__ import annotations

import fcntl
import gc
import os
import sys
import traceback
from functools import cache
from pathlib import Path
from typing import TextIO

from towerrec import cost
from towerrec.files import write_text

# Of sweeps whose jobs run one after another, in the process that was started.
BASIC_LAUNCHER = "hydra._internal.core_plugins.basic_launcher.BasicLauncher"
# Where processes say who they are, below the directory of the sweep; gone when it ends.
SLOTS = ".slots"
FAILED = "failed.txt"
# Open files hold the locks: as long as this process lives.
_held: list[TextIO] = []


def share_cores(num_jobs: int) -> None:
    """Give processes that are started from now on their share of the cores, unless the environment says it already.

    The launcher divides the threads of OpenMP and BLAS itself; Polars has threads of its own.

    Args:
        num_jobs: Jobs at once, see `num_at_once`.
    """
    for name in ("POLARS_MAX_THREADS", "OMP_NUM_THREADS"):
        os.environ.setdefault(name, str(max((os.cpu_count() or 1) // num_at_once(num_jobs), 1)))


def num_at_once(num_jobs: int) -> int:
    """How many jobs at once joblib's `n_jobs` means: -1 is one for each core, -2 one less, and so on."""
    return num_jobs if num_jobs > 0 else max((os.cpu_count() or 1) + 1 + num_jobs, 1)


def take_gpu(sweep: Path) -> None:
    """Let this process see one GPU only, in turn by the number it has among those of the sweep.

    The first job decides; later jobs of the process find it as it is. Without GPUs nothing happens.

    Args:
        sweep: Directory of the sweep.
    """
    own = _own_gpu(sweep)
    if own is not None:
        os.environ["CUDA_VISIBLE_DEVICES"] = own


@cache
def _own_gpu(sweep: Path) -> str | None:
    every = visible_gpus()
    return every[number_in(sweep) % len(every)] if every else None


def visible_gpus() -> list[str]:
    """The GPUs that this process may use, by the names that `CUDA_VISIBLE_DEVICES` has for them."""
    said = os.environ.get("CUDA_VISIBLE_DEVICES")
    if said is not None:
        return [name.strip() for name in said.split(",") if name.strip() not in ("", "-1")]
    import torch

    # Counted by the driver's own library: that does not begin CUDA, after which the choice would come too late.
    return [str(number) for number in range(torch.cuda.device_count())]


@cache
def number_in(sweep: Path) -> int:
    """The lowest number that no other living process of the sweep has; this one keeps it to its end."""
    (sweep / SLOTS).mkdir(parents=True, exist_ok=True)
    number = 0
    while True:
        lock = (sweep / SLOTS / str(number)).open("w", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            lock.close()
            number += 1
            continue
        _held.append(lock)
        return number


def note_failure(job: Path, text: str) -> None:
    """Leave word of a failed job in its directory, for the process that started the sweep."""
    job.mkdir(parents=True, exist_ok=True)
    write_text(job / FAILED, text + "\n")


def failed_jobs(sweep: Path) -> list[Path]:
    """Directories of the jobs that failed in other processes, by number."""
    jobs = [path.parent for path in sweep.glob(f"*/{FAILED}") if path.parent.name.isdigit()]
    return sorted(jobs, key=lambda job: int(job.name))


def let_go(error: BaseException | None = None) -> None:
    """Free what a finished job still holds: objects that point at each other, and memory that CUDA keeps for later.

    A traceback holds the variables of every function that failed, a trainer and its tables among them; its lines stay.
    """
    if error is not None:
        traceback.clear_frames(error.__traceback__)
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    cost.forget_peak()
