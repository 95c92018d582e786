"""Looks at a process of a sweep whenever it begins a job: what former jobs left there, and how many threads it has; or
kills it."""

from __future__ import annotations

import gc
import json
import os
import signal
import warnings
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig

SEEN = "seen.json"


class Watch(Callback):
    """Writes `seen.json` into the directory of every job."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra before each job."""
        import polars as pl
        import torch

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what else lies about
            tensors = [o for o in gc.get_objects() if isinstance(o, torch.Tensor)]
        resident = int(Path("/proc/self/statm").read_text(encoding="utf-8").split()[1]) * os.sysconf("SC_PAGE_SIZE")
        seen = {
            "process": os.getpid(),
            "tensor_bytes": sum(tensor.nbytes for tensor in tensors),
            "resident_bytes": resident,
            "torch_threads": torch.get_num_threads(),
            "polars_threads": pl.thread_pool_size(),
        }
        (Path(config.hydra.runtime.output_dir) / SEEN).write_text(json.dumps(seen), encoding="utf-8")


class Kill(Callback):
    """Kills the process that begins a certain job, as the machine does when memory runs out.

    Args:
        word: Override of the job.
        spared: File whose presence spares it.
    """

    def __init__(self, word: str, spared: str = "") -> None:
        self.word, self.spared = word, spared

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra before each job."""
        if self.word in config.hydra.overrides.task and not (self.spared and Path(self.spared).is_file()):
            os.kill(os.getpid(), signal.SIGKILL)
