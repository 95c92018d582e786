"""What happens around the jobs of a command: processes side by side, sweeps that survive a failed job, final tables."""

from __future__ import annotations

import logging
import os
import shutil
import sys
import traceback
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write

from towerrec import distributed, sweep_jobs, sweeping
from towerrec.mistakes import is_users, message
from towerrec.wording import printable

failures: list[Exception] = []
"""Errors of this command's jobs, which end it when all have run."""


class Together(Callback):
    """Under several processes, all write into one run directory and one of them speaks."""

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra before each job."""
        self._before = dict(os.environ), list(sys.argv)
        distributed.announce(config.hydra.runtime.output_dir)
        if config.hydra.mode == RunMode.MULTIRUN and not _side_by_side(config):
            # Lightning starts further processes by these words: they are to run this job, not the sweep.
            sys.argv[1:] = config.hydra.overrides.task
            # Lightning reads Hydra's own copy of the config; this one is what the job sees.
            for known in (config, HydraConfig.instance().cfg):
                assert isinstance(known, DictConfig)
                with read_write(known.hydra):
                    known.hydra.run.dir = config.hydra.runtime.output_dir
        if distributed.rank() == 0:
            return
        warnings.simplefilter("ignore")
        for handler in logging.getLogger().handlers:
            if not isinstance(handler, logging.FileHandler):
                handler.setLevel(logging.CRITICAL)

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Called by Hydra after each job: the next one of a sweep starts processes of its own."""
        if config.hydra.mode == RunMode.MULTIRUN:
            distributed.part()
            before, sys.argv[:] = self._before
            os.environ.clear()
            os.environ.update(before)


class KeepGoing(Callback):
    """Keeps the error of a job for `run`, so that Hydra neither repeats it nor gives up the other jobs of a sweep.

    It is said at once and noted in the job's directory, wherever the job runs; a launcher that runs jobs in other
    processes (`hydra/launcher=joblib`) would lose it.
    """

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra before each job."""
        place = Path(config.hydra.runtime.output_dir)
        (place / sweeping.FAILED).unlink(missing_ok=True)
        self._held = ExitStack()
        # Whoever starts the sweep again, or goes on with the run, learns that it is still running.
        if config.hydra.mode == RunMode.MULTIRUN or (config.hydra.job.name == "train" and distributed.rank() == 0):
            self._held.enter_context(sweep_jobs.holding(place))

    def on_job_end(self, config: DictConfig, job_return: JobReturn, **kwargs: Any) -> None:
        """Called by Hydra after each job."""
        error = job_return._return_value
        swept = config.hydra.mode == RunMode.MULTIRUN
        if job_return.status is JobStatus.FAILED and isinstance(error, Exception):
            _into_log_file(error)
            if swept:
                _say(error, config, " ".join(job_return.overrides or []))
            else:
                failures.append(error)
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None
        self._held.close()
        if swept:
            sweeping.let_go(error if isinstance(error, Exception) else None)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra after the last job."""
        sweep = Path(config.hydra.sweep.dir)
        failures.extend(ValueError(_of_sweep(job)) for job in sweeping.failed_jobs(sweep))


def _say(error: Exception, config: DictConfig, said: str) -> None:
    """Tell of a job that failed, at once, and once more when the sweep ends; what is ours with its traceback."""
    place = Path(config.hydra.runtime.output_dir)
    if is_users(error) and os.environ.get("TOWERREC_FULL_ERROR", "0") in ("", "0"):
        print(printable(f"job {place.name} failed ({said}): {message(error)}"), file=sys.stderr)
        sweeping.note_failure(place, message(error))
        return
    trace = "".join(traceback.format_exception(error))
    print(printable(f"job {place.name} failed ({said}):\n{trace}"), file=sys.stderr)
    sweeping.note_failure(place, message(error) if is_users(error) else f"{type(error).__name__}: {message(error)}")


def _of_sweep(job: Path) -> str:
    return f"job {job.name} of the sweep failed, as said above and in {job}"


def _side_by_side(config: DictConfig) -> bool:
    """Whether jobs run in other processes than this one started in."""
    return bool(OmegaConf.select(config, "hydra.launcher._target_") != sweeping.BASIC_LAUNCHER)


class SideBySide(Callback):
    """Gives the jobs of a parallel sweep their share of the machine (`towerrec.sweeping`)."""

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra before the first job, in the process that starts the sweep."""
        if _side_by_side(config):
            sweeping.share_cores(int(OmegaConf.select(config, "hydra.launcher.n_jobs") or -1))

    def on_job_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra before each job, in the process that runs it."""
        accelerator = OmegaConf.select(config, "trainer.accelerator")
        if config.hydra.mode == RunMode.MULTIRUN and _side_by_side(config) and accelerator != "cpu":
            sweeping.take_gpu(Path(config.hydra.sweep.dir))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra after the last job."""
        shutil.rmtree(Path(config.hydra.sweep.dir) / sweeping.SLOTS, ignore_errors=True)


def _into_log_file(error: Exception) -> None:
    about = (type(error), error, error.__traceback__)
    record = logging.LogRecord(__name__, logging.ERROR, __file__, 0, message(error), (), about)
    for handler in logging.getLogger().handlers:
        if isinstance(handler, logging.FileHandler):
            handler.handle(record)


class Leaderboard(Callback):
    """Writes the table over all jobs when a sweep ends."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra after the last job."""
        from towerrec.report import leaderboard
        from towerrec.report.board_text import terminal

        sweep = Path(config.hydra.sweep.dir)
        if sweep.is_dir():
            about = {name: OmegaConf.select(config, f"eval.{name}") for name in ("num_resamples", "correction")}
            print(printable(terminal(leaderboard.write(sweep, **about))))
            print(printable(f"leaderboard: {sweep / 'leaderboard.md'} (and .parquet, .html)"))


class Windows(Callback):
    """Sets retrained models beside the first one, where a sweep has several windows of time."""

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra after the last job."""
        sweep = Path(config.hydra.sweep.dir)
        jobs = [path for path in sweep.glob("*") if path.name.isdigit()]
        if not any("split.window=" in word for job in jobs for word in sweep_jobs.overrides(job)):
            return
        from towerrec import windows

        said = windows.write(sweep, num_resamples=int(OmegaConf.select(config, "eval.num_resamples")))
        if said is not None:
            print(printable(f"\n{said}"))
