"""What sweepers have in common: words and their values, directories of jobs, what is done, workers that are killed."""

from __future__ import annotations

import itertools
import logging
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from concurrent.futures import BrokenExecutor
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep
from hydra.core.plugins import Plugins
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict, read_write

from towerrec import sweep_jobs, sweeping
from towerrec.files import write_text
from towerrec.sweep_jobs import Job, Words
from towerrec.sweep_space import Axis, Choices, Interval

log = logging.getLogger(__name__)

# Groups that say what the sweep is: none of its jobs' business.
_OF_THE_SWEEP = ("sweep", "ablate")
_KILLED = "killed: its process ended without a word, as it does when memory runs out"


class Resuming(Sweeper):
    """What all sweepers do: they read words, give every job its directory, skip what is finished, outlive a worker."""

    config: DictConfig
    hydra_context: HydraContext
    launcher: Launcher

    def __init__(self, params: Mapping[str, Any] | None) -> None:
        self.params = dict(params or {})

    def setup(self, *, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Called by Hydra once everything is composed."""
        self.config, self.hydra_context = config, hydra_context
        subdir = plain(config.hydra.sweep, resolve=False)["subdir"]
        if subdir != "${hydra.job.num}":
            raise ValueError(f"hydra.sweep.subdir={subdir}: the jobs of a sweep are numbered, leave it out")
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments: list[str]) -> None:
        """Called by Hydra with the words of the command line: run all there is to run."""
        self.directory.mkdir(parents=True, exist_ok=True)
        with sweep_jobs.holding(self.directory):
            write_text(self.directory / "multirun.yaml", OmegaConf.to_yaml(self.config))
            try:
                self._sweep(self._axes(arguments))
            except KeyboardInterrupt:
                log.info(f"stopped; the same command with hydra.sweep.dir={self.directory} goes on from here")
                raise

    @abstractmethod
    def _sweep(self, axes: dict[str, Axis]) -> None:
        """Run the jobs that the axes ask for."""

    @property
    def directory(self) -> Path:
        """The directory of the sweep."""
        return Path(str(self.config.hydra.sweep.dir))

    def _axes(self, arguments: Sequence[str]) -> dict[str, Axis]:
        """The values of every key that was said, in `params` or, which wins, on the command line."""
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        words = [f"{key}={value}" for key, value in self.params.items()]
        axes: dict[str, Axis] = {}
        for override in parser.parse_overrides([*words, *arguments]):
            if override.key_or_group in _OF_THE_SWEEP:
                if override.is_sweep_override():
                    raise ValueError(f"{override.input_line}: one sweep at a time; other keys may have several values")
                continue
            axes[override.get_key_element()] = axis_of(override)
        return axes

    def _plan(self, wanted: Sequence[Words]) -> list[Job]:
        self.validate_batch_is_legal(wanted)
        return sweep_jobs.plan(self.directory, wanted)

    def _run(self, jobs: Sequence[Job]) -> None:
        """Run jobs; of a worker that was killed only the job it had is given up.

        A pool of processes breaks as a whole when one of them is killed. Which job that was shows when those that had
        begun run again, one after another.
        """
        sweep_jobs.clear(self.directory, jobs)
        for job in jobs:
            self._equip(job)
        # The launcher counts on from one number; one that runs jobs here can be told each. It keeps the config of every
        # job it was told together with others: half a MiB each, until the last has ended.
        alone = self.config.hydra.launcher._target_ == sweeping.BASIC_LAUNCHER
        try:
            for part in [[job] for job in jobs] if alone else [jobs] if jobs else []:
                self.launcher.launch([self._all_words(job) for job in part], initial_job_idx=part[0].number)
        except BrokenExecutor:
            begun = [job for job in jobs if sweep_jobs.state(self._place(job)) == "interrupted"]
            if not begun:
                raise
            if len(jobs) == 1:
                log.info(f"job {jobs[0].number} {_KILLED}")
                sweeping.note_failure(self._place(jobs[0]), _KILLED)
                return
            log.info(f"a process was killed; running alone: jobs {', '.join(str(job.number) for job in begun)}")
            for job in begun:
                self._run([job])
            self._run([job for job in jobs if sweep_jobs.state(self._place(job)) == "new"])

    def _equip(self, job: Job) -> None:
        """Put what a job needs to know into its directory."""

    def _place(self, job: Job) -> Path:
        return self.directory / str(job.number)

    def _all_words(self, job: Job) -> list[str]:
        return [*job.words, "hydra.mode=MULTIRUN", f"hydra.sweep.subdir={job.number}"]

    def _composed(self, words: Words) -> DictConfig:
        """The config of a job, as it will see it, with Hydra's own part in place."""
        everything = [*words, "hydra.mode=MULTIRUN", "hydra.sweep.subdir=composed"]
        composed = self.hydra_context.config_loader.load_sweep_config(self.config, everything)
        with read_write(composed.hydra), open_dict(composed.hydra):
            composed.hydra.job.id, composed.hydra.job.num = "composed", 0
            composed.hydra.runtime.output_dir = str(self.directory)
        HydraConfig.instance().set_config(composed)
        with open_dict(composed):
            del composed["hydra"]
        return composed


def combinations(axes: Mapping[str, Axis]) -> list[Words]:
    """The overrides of every combination, the last key changing fastest.

    Raises:
        ValueError: If a key has an interval, which cannot be walked through.
    """
    for key, axis in axes.items():
        if isinstance(axis, Interval):
            raise ValueError(f"{key}=interval(...): an interval has no end of values; add hydra/sweeper=optuna to draw")
    every = [[f"{key}={text}" for text in axis.texts] for key, axis in axes.items() if isinstance(axis, Choices)]
    return [tuple(words) for words in itertools.product(*every)]


def is_single(axis: Axis) -> bool:
    return isinstance(axis, Choices) and len(axis.texts) == 1


def plain(node: Any, *, resolve: bool = True) -> dict[str, Any]:
    return cast(dict[str, Any], OmegaConf.to_container(node, resolve=resolve))


def axis_of(override: Override) -> Axis:
    """What an override may be in Hydra's grammar: one value, `a,b`, `choice`, `range`, `interval`, `tag(log, ...)`."""
    value = override.value()
    if isinstance(value, IntervalSweep):
        low, high = value.start, value.end
        assert low is not None and high is not None
        whole = isinstance(low, int) and isinstance(high, int)
        return Interval(low, high, whole=whole, log="log" in value.tags)
    if not override.is_sweep_override():
        text = "" if override.is_delete() and value is None else override.get_value_element_as_str()
        return Choices((text,))
    return Choices(tuple(override.sweep_string_iterator()), ordered=isinstance(value, RangeSweep))
