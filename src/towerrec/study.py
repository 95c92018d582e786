"""A study of Optuna's over the jobs of a sweep: draws settings, hears what became of them, remembers in a file.

The file is a journal in the directory of the sweep: processes side by side may write into it, and a sweep that is
started again goes on with it. Optuna: Akiba et al., KDD 2019.
"""

from __future__ import annotations

import itertools
import logging
import math
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.pruners import BasePruner, NopPruner
from optuna.samplers import BaseSampler, GridSampler, RandomSampler
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.study import Study as Known
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, Trial, TrialState

from towerrec.config import build
from towerrec.files import whole_file
from towerrec.sweep_jobs import Job, Words, outcome
from towerrec.sweep_space import Axis, Choices, Interval

log = logging.getLogger(__name__)
optuna.logging.set_verbosity(optuna.logging.WARNING)

JOURNAL = "study.journal"
NAME = "towerrec"
DRAWN = 20
"""Trials of a study where `n_trials` is null and the sampler is no grid."""

_DIRECTIONS = {"max": StudyDirection.MAXIMIZE, "min": StudyDirection.MINIMIZE}
_ENDED = (TrialState.COMPLETE, TrialState.PRUNED)


class Grid(GridSampler):
    """Every combination once; the study ends by its number of trials."""

    def after_trial(
        self, study: optuna.Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None
    ) -> None:
        """Optuna's own would stop a loop that is not there."""


class Study:
    """The study of a sweep.

    Args:
        sweep: Directory of the sweep, where the journal lies.
        axes: The keys that are drawn, with what they may be.
        monitor: Validation figure that is chosen by.
        mode: `max` or `min`, which is better.
        sampler: Config of a sampler of Optuna's, without its seed.
        pruner: Config of a pruner of Optuna's; empty: none.
        seed: Of the draws.
        n_trials: Trials that are to end with a figure; None: `DRAWN`, or the whole grid.

    Raises:
        ValueError: If the journal there is of another study, or sampler or pruner are not understood.
    """

    def __init__(
        self,
        sweep: Path,
        axes: Mapping[str, Axis],
        *,
        monitor: str,
        mode: str,
        sampler: Mapping[str, Any],
        pruner: Mapping[str, Any],
        seed: int = 0,
        n_trials: int | None = None,
    ) -> None:
        self.sweep, self.monitor, self.mode = sweep, monitor, mode
        self.space = {key: distribution(key, axis) for key, axis in axes.items()}
        self.seed, self._sampler, self._pruner = seed, dict(sampler), dict(pruner)
        is_grid = self._sampler.get("_target_") == f"{Grid.__module__}.{Grid.__name__}"
        self._grid = grid(axes) if is_grid else None
        size = math.prod(len(values) for values in self._grid.values()) if self._grid is not None else DRAWN
        self.n_trials = size if n_trials is None else min(n_trials, size) if is_grid else n_trials
        cut_torn_end(sweep / JOURNAL)
        self._study = self._opened(sweep / JOURNAL)
        self._check_same()
        self._pick_up()

    @property
    def optuna(self) -> optuna.Study:
        """Optuna's own object."""
        return self._study

    @property
    def num_left(self) -> int:
        """Trials that are still to be drawn."""
        ended = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE, TrialState.PRUNED))
        return self.n_trials - len(ended)

    def ask(self, number: int) -> list[Trial]:
        """Draw settings for so many trials; those that failed or were interrupted before come first, and alone.

        Every draw has a random state of its own, by the seed and the number of the trial, and knows of the trials
        before: a study that was stopped draws what an uninterrupted one would have drawn.
        """
        waiting = len(self._study.get_trials(deepcopy=False, states=(TrialState.WAITING,)))
        trials = []
        for _ in range(min(number, waiting) if waiting else number):
            self._study.sampler = self._sampler_of(len(self._study.get_trials(deepcopy=False)))
            trials.append(self._study.ask(self.space))
        return trials

    def words(self, trial: Trial) -> Words:
        """The settings of a trial as overrides."""
        return tuple(f"{key}={_text(trial.params[key])}" for key in self.space)

    def note(self, trial: Trial, job: Job) -> dict[str, Any]:
        """Remember which job a trial is; returns what that job must know to find its trial."""
        trial.set_user_attr("job", job.number)
        journal = str((self.sweep / JOURNAL).resolve())
        return {"journal": journal, "trial": trial.number, "monitor": self.monitor, "pruner": self._pruner}

    def tell(self, trial: int, job: Path) -> str:
        """Hear what became of a job; returns it in a word: `finished`, `pruned` or `failed`."""
        try:
            found, value = outcome(job, monitor=self.monitor)
        except ValueError as error:
            log.warning(str(error))
            found, value = "failed", None
        if found == "finished" and value is not None and math.isfinite(value):
            self._study.tell(trial, value)
        elif found == "pruned":
            self._study.tell(trial, state=TrialState.PRUNED)
        else:
            self._study.tell(trial, state=TrialState.FAIL)
            return "failed"
        return found

    def summary(self) -> str:
        """The best trial so far, in a line."""
        ended = self._study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))
        if not ended:
            return f"no trial has a {self.monitor} yet"
        best = self._study.best_trial
        said = " ".join(f"{key}={_text(value)}" for key, value in best.params.items())
        return f"best {self.monitor} {best.value:.4f}: {said} (job {best.user_attrs['job']})"

    def _opened(self, journal: Path) -> Known:
        return optuna.create_study(
            storage=_storage(journal),
            study_name=NAME,
            direction=_DIRECTIONS[self.mode],
            pruner=_built_pruner(self._pruner),
            sampler=self._sampler_of(0),
            load_if_exists=True,
        )

    def _sampler_of(self, trial: int) -> BaseSampler:
        # A grid is put into one order by its seed; the others draw, and draw anew each time.
        more: dict[str, Any] = {} if self._grid is None else {"search_space": self._grid}
        seed = self.seed if self._grid is not None else _seed_of(self.seed, trial)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler: BaseSampler = build(self._sampler, "hydra.sweeper.sampler", seed=seed, **more)
        return sampler

    def _check_same(self) -> None:
        """Draws from one space, judged by one figure, are what a study learns from."""
        about = {"monitor": self.monitor, "mode": self.mode, "space": {k: repr(d) for k, d in self.space.items()}}
        before = self._study.user_attrs.get("about")
        if before is None:
            self._study.set_user_attr("about", about)
            return
        for name, value in about.items():
            if before[name] != value:
                raise ValueError(
                    f"{self.sweep} holds a study of another {name}: {before[name]}, now {value}; give the same, or "
                    "another hydra.sweep.dir"
                )

    def _pick_up(self) -> None:
        """End the trials that a former start left running; those that failed or were interrupted wait at their places.

        So their numbers, and the order of all, are those of a study that nobody stopped.
        """
        for trial in self._study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
            # Stopped between two words: the job may be over all the same.
            self.tell(trial.number, self.sweep / str(trial.user_attrs.get("job", "never begun")))
        trials = self._study.get_trials(deepcopy=False)
        settled = [trial.params for trial in trials if trial.state in _ENDED]
        kept, waiting = [], []
        for trial in trials:
            params = trial.params or trial.system_attrs.get("fixed_params", {})
            if trial.state in _ENDED:
                kept.append(trial)
            # A trial that was stopped while it was drawn has not all its settings.
            elif params.keys() == self.space.keys() and params not in settled and params not in waiting:
                waiting.append(params)
                kept.append(_waiting(trial, params))
        if waiting or len(kept) < len(trials):
            self._write_anew(kept)

    def _write_anew(self, trials: Sequence[FrozenTrial]) -> None:
        about = self._study.user_attrs["about"]
        with whole_file(self.sweep / JOURNAL) as journal:
            anew = self._opened(journal)
            anew.set_user_attr("about", about)
            anew.add_trials(trials)
        self._study = self._opened(self.sweep / JOURNAL)


def _waiting(trial: FrozenTrial, params: Mapping[str, Any]) -> FrozenTrial:
    """A trial that is to be tried once more with the same settings."""
    return optuna.trial.create_trial(
        state=TrialState.WAITING,
        user_attrs=trial.user_attrs,
        system_attrs={**trial.system_attrs, "fixed_params": dict(params)},
    )


def distribution(key: str, axis: Axis) -> BaseDistribution:
    """What Optuna draws a key from.

    Raises:
        ValueError: If an interval is empty, or has no logarithm.
    """
    if isinstance(axis, Choices):
        if axis.ordered and (steps := _whole_steps(axis.texts)) is not None:
            return IntDistribution(*steps)
        return CategoricalDistribution(axis.texts)
    if axis.low > axis.high:
        raise ValueError(f"{key}: interval({axis.low}, {axis.high}) is empty: the lower end comes first")
    if axis.log and axis.low <= 0:
        raise ValueError(f"{key}: tag(log, interval({axis.low}, ...)): a logarithm needs a lower end above 0")
    if axis.whole:
        return IntDistribution(int(axis.low), int(axis.high), log=axis.log)
    return FloatDistribution(axis.low, axis.high, log=axis.log)


def grid(axes: Mapping[str, Axis]) -> dict[str, list[Any]]:
    """The values of every key, for a sampler that tries all.

    Raises:
        ValueError: If a key has an interval.
    """
    found: dict[str, list[Any]] = {}
    for key, axis in axes.items():
        if isinstance(axis, Interval):
            raise ValueError(f"{key}=interval(...): sampler=grid needs values one by one (a,b,c or range)")
        whole = axis.ordered and _whole_steps(axis.texts) is not None
        found[key] = [int(text) for text in axis.texts] if whole else list(axis.texts)
    return found


def trial_of(about: Mapping[str, Any]) -> Trial:
    """The trial that `trial.json` of a job names, for the process that runs the job."""
    study = optuna.load_study(
        storage=_storage(Path(about["journal"])),
        study_name=NAME,
        pruner=_built_pruner(about["pruner"]),
        sampler=RandomSampler(),  # nothing is drawn here
    )
    number = int(about["trial"])
    return Trial(study, study.get_trials(deepcopy=False)[number]._trial_id)


def _seed_of(seed: int, trial: int) -> int:
    return int(np.random.SeedSequence((seed, trial)).generate_state(1)[0])


def cut_torn_end(journal: Path) -> None:
    """Take from a journal a last line that has no end, as a full disk or a loss of power leaves it.

    Optuna leaves it out as long as it is the last one, appends to it, and then cannot read the journal any more.
    """
    content = journal.read_bytes() if journal.is_file() else b""
    kept = content.rfind(b"\n") + 1
    if kept < len(content):
        with whole_file(journal) as written:
            written.write_bytes(content[:kept])


def _storage(journal: Path) -> JournalStorage:
    return JournalStorage(JournalFileBackend(str(journal)))


def _built_pruner(node: Mapping[str, Any]) -> BasePruner:
    pruner: BasePruner = build(node, "hydra.sweeper.pruner") if node else NopPruner()
    return pruner


def _whole_steps(texts: Sequence[str]) -> tuple[int, int, bool, int] | None:
    """Lower end, upper end, no logarithm and step of a range of whole numbers; None for other values."""
    if not all(text.lstrip("-").isdigit() for text in texts):
        return None
    values = sorted(int(text) for text in texts)
    steps = {after - before for before, after in itertools.pairwise(values)} or {1}
    return (values[0], values[-1], False, steps.pop()) if len(steps) == 1 else None


def _text(value: Any) -> str:
    return value if isinstance(value, str) else repr(value)
