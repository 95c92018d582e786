"""Settings that Optuna draws, by what earlier ones led to on validation."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from omegaconf import DictConfig, OmegaConf

from hydra_plugins.towerrec_sweepers._resuming import Resuming, is_single, plain
from towerrec import sweep_jobs, sweeping
from towerrec.files import write_json
from towerrec.sweep_jobs import Job, Words
from towerrec.sweep_space import Axis, Choices

if TYPE_CHECKING:
    from towerrec.study import Study

log = logging.getLogger(__name__)


class OptunaSweeper(Resuming):
    """Settings that a study of Optuna's draws, by the validation figure that every run watches.

    Args:
        sampler: Config of a sampler, without its seed.
        pruner: Config of a pruner; empty: none.
        n_trials: Trials that end with a figure or are pruned; None: 20, or the whole grid.
        n_jobs: Drawn at once; None: as many as the launcher runs side by side.
        seed: Of the draws.
        params: Overrides with their values.
    """

    def __init__(
        self,
        *,
        sampler: DictConfig,
        pruner: DictConfig,
        n_trials: int | None = None,
        n_jobs: int | None = None,
        seed: int = 0,
        params: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(params)
        self.sampler, self.pruner = plain(sampler), plain(pruner)
        self.n_trials, self.n_jobs, self.seed = n_trials, n_jobs, seed
        self._notes: dict[int, dict[str, Any]] = {}

    def _sweep(self, axes: dict[str, Axis]) -> None:
        fixed, drawn = _shared(axes), {key: axis for key, axis in axes.items() if not is_single(axis)}
        study = self._study(fixed, drawn)
        log.info(
            f"study of {study.n_trials} trials in {self.directory}, {study.num_left} to go, {study.mode} "
            f"{study.monitor}: {study.summary()}"
        )
        left = study.num_left
        while left > 0:
            trials = study.ask(min(left, self._at_once()))
            left -= len(trials)
            jobs = self._plan([(*fixed, *study.words(trial)) for trial in trials])
            place = {frozenset(job.words): job for job in jobs}
            mine = [place[frozenset((*fixed, *study.words(trial)))] for trial in trials]
            self._notes = {job.number: study.note(trial, job) for trial, job in zip(trials, mine, strict=True)}
            self._run([job for job in jobs if not job.is_over])
            for trial, job in zip(trials, mine, strict=True):
                told = study.tell(trial.number, self._place(job))
                log.info(f"trial {trial.number} is job {job.number}, {told}; {study.summary()}")

    def _study(self, fixed: Words, drawn: dict[str, Axis]) -> Study:
        if not drawn:
            raise ValueError("hydra/sweeper=optuna has nothing to draw: give some key several values, or an interval")
        try:
            from towerrec.study import Study
        except ModuleNotFoundError as error:
            if error.name != "optuna":
                raise
            raise ValueError(
                'hydra/sweeper=optuna needs the library of that name: pip install -e ".[optuna]"'
            ) from None
        for name, number in (("n_trials", self.n_trials), ("n_jobs", self.n_jobs)):
            if number is not None and number < 1:
                raise ValueError(f"hydra.sweeper.{name} must be at least 1, got {number}")
        from towerrec import config, tasks

        monitor, mode = tasks.watched(config.train_config(self._composed(fixed)))
        return Study(
            self.directory, drawn, monitor=monitor, mode=mode, sampler=self.sampler, pruner=self.pruner,
            seed=self.seed, n_trials=self.n_trials,
        )  # fmt: skip

    def _at_once(self) -> int:
        launched = OmegaConf.select(self.config, "hydra.launcher.n_jobs")
        return self.n_jobs or (sweeping.num_at_once(int(launched)) if launched is not None else 1)

    def _equip(self, job: Job) -> None:
        write_json(self._place(job) / sweep_jobs.TRIAL, self._notes[job.number])


def _shared(axes: Mapping[str, Axis]) -> Words:
    """The overrides that all jobs share: those with a single value."""
    return tuple(
        f"{key}={axis.texts[0]}" for key, axis in axes.items() if isinstance(axis, Choices) and is_single(axis)
    )
