"""What happens around a command: one readable message for a mistake, exit codes, sweeps that survive a failed job."""

from __future__ import annotations

import difflib
import io
import logging
import os
import shutil
import sys
import traceback
import warnings
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.experimental.callback import Callback
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import ConfigAttributeError, ConfigKeyError, OmegaConfBaseException

from towerrec import config_types, distributed, resuming, stopping, sweep_jobs, sweeping
from towerrec.command_words import command_word, quoted_places
from towerrec.wording import clipped, printable

# What OmegaConf adds below a message: types of ours, which tell a user nothing.
_DETAILS = ("full_key:", "reference_type=", "object_type=")
_LIST_IN_WORDS = ("Invalid value assigned: str is not a ListConfig, list or tuple.", "needs a list: [first,second]")
_ROOM = (
    "make room or rights there, or choose another place (paths.data_dir, paths.cache_dir, paths.log_dir, output); "
    "what was complete before is as it was"
)
_failures: list[Exception] = []


def run(main: Callable[[], Any], *, resumes: bool = False) -> None:
    """Run an entrypoint: a mistake of the user ends in one readable message and exit code 1.

    Tracebacks of such mistakes appear where the environment variable `HYDRA_FULL_ERROR` is set to 1 (and always in the
    log of the run directory); an error that is not the user's always shows its traceback.

    Args:
        main: What Hydra made of it.
        resumes: Whether `run=DIR` means to go on with that run (`towerrec.resuming`).
    """
    with stopping.heard():
        _run(main, resumes=resumes)


def _run(main: Callable[[], Any], *, resumes: bool) -> None:
    # A second name: processes that this one starts find the first one set.
    asked = os.environ.setdefault("TOWERREC_FULL_ERROR", os.environ.get("HYDRA_FULL_ERROR", "0"))
    full = asked not in ("", "0")
    os.environ["HYDRA_FULL_ERROR"] = "1"
    _failures.clear()
    try:
        _escape_what_a_stream_cannot_hold()
        arguments = distributed.join(sys.argv)
        if arguments is not None and resumes:
            arguments = resuming.arguments(arguments)
        if arguments is None:
            return
        sys.argv[:] = quoted_places(arguments if resumes else keys_of_run(arguments))
        main()
    except KeyboardInterrupt:
        print(f"interrupted{resuming.hint(sweep_jobs.let_go())}", file=sys.stderr)
        sys.exit(stopping.exit_code())
    except BrokenPipeError:
        # Whoever read the output has seen enough (`| head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        _failures.append(error)
    finally:
        sweep_jobs.let_go()
        distributed.leave()
    if any(not isinstance(failure, distributed.Elsewhere) for failure in _failures) and distributed.first_to_fail():
        for failure in _failures:
            _report(failure, full=full)
    if _failures:
        sys.exit(1)


def _escape_what_a_stream_cannot_hold() -> None:
    """A terminal that knows no Chinese shows escapes; it is no reason to end."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")


def keys_of_run(arguments: list[str]) -> list[str]:
    """Keys of a run's own groups (`evaluate.py run=DIR split.window=2`) as Hydra takes them where the groups that
    `evaluate.py` starts with have no such key; whether the run has it is checked when its config is read."""
    if not any(argument.startswith("run=") for argument in arguments):
        return arguments
    groups = tuple(f"{group}." for group in config_types.RUN_GROUPS)
    return [f"++{argument}" if argument.startswith(groups) else argument for argument in arguments]


def _report(error: Exception, *, full: bool) -> None:
    if full or not is_users(error):
        print(printable("".join(traceback.format_exception(error))), end="", file=sys.stderr)
    else:
        print(printable(f"\nerror: {message(error)}"), file=sys.stderr)


def is_users(error: BaseException) -> bool:
    """Whether an error is about input, config or the machine (full disk, no permission), not about our code."""
    return isinstance(error, ValueError | OSError | HydraException | OmegaConfBaseException)


def message(error: BaseException) -> str:
    """The error and what caused it, each once, in words for somebody who does not know Hydra."""
    parts: list[str] = []
    current: BaseException | None = error
    while current is not None:
        text = _plain(current)
        if text and not any(text in part for part in parts):
            parts.append(text)
        current = None if _says_all(current) else current.__cause__
    lines = "\n".join(parts).splitlines()
    return "\n".join(map(clipped, lines)) or type(error).__name__


def _says_all(error: BaseException) -> bool:
    """Our own messages hold what is worth knowing of their cause; so do those that are put in other words here."""
    return type(error) is ValueError or isinstance(error, OSError | HydraException)


def _plain(error: BaseException) -> str:
    if isinstance(error, MissingConfigException) and error.missing_cfg_file:
        return _no_such_choice(error.missing_cfg_file, list(error.options or []))
    if isinstance(error, OverrideParseException):
        return _unread(str(error.override), _first_line(error))
    if isinstance(error, HydraException) and isinstance(error.__cause__, ConfigKeyError | ConfigAttributeError):
        return _no_such_key(error.__cause__)
    if isinstance(error, HydraException) and isinstance(error.__cause__, OmegaConfBaseException):
        override = _first_line(error).removeprefix("Error merging override ")
        reason = _first_line(error.__cause__).replace(*_LIST_IN_WORDS)
        return f"{override}: {reason}"
    if isinstance(error, OSError) and error.errno and error.strerror:
        if error.strerror != os.strerror(error.errno):  # our own words
            return error.strerror
        return f"{error.filename or 'a file'} could not be read or written ({error.strerror}): {_ROOM}"
    lines = [line for line in str(error).strip().splitlines() if not line.strip().startswith(_DETAILS)]
    return "\n".join(lines).strip()


def _unread(override: str, reason: str) -> str:
    key, found, value = override.partition("=")
    such = command_word(key, value) if found and value[:1] not in "[{\"'" else "'key=\"text\"'"
    return (
        f"cannot read {override!r} as group=option or key=value: quote what your shell would take apart, and put text "
        f"with special characters in quotes of its own: {such} ({reason})"
    )


def _no_such_choice(wanted: str, options: list[str]) -> str:
    group, _, choice = wanted.rpartition("/")
    if (group, choice) == ("hydra/launcher", "joblib"):
        return 'hydra/launcher=joblib runs jobs side by side with the library of that name: pip install -e ".[sweeps]"'
    if not options:
        return f"{group}={choice} is not known: there is no file {wanted}.yaml under conf/"
    return f"{group}={choice} is not known{_nearest(choice, options)}"


def _no_such_key(error: OmegaConfBaseException) -> str:
    key, full = str(error.key), str(error.full_key or error.key)
    place = full.removesuffix(key)
    there = [str(name) for name in error.parent_node] if isinstance(error.parent_node, DictConfig) else []
    shown = [f"{place}{name}" for name in there if not name.startswith("_")]
    if not shown:
        return f"{full} is not there yet: to add it, write +{full}=..."
    near = difflib.get_close_matches(full, shown, n=1)
    return f"{full} is not a key of the config{f': did you mean {near[0]!r}?' if near else _nearest(full, shown)}"


def _nearest(word: str, choices: list[str]) -> str:
    near = difflib.get_close_matches(word, choices, n=1)
    hint = f": did you mean {near[0]!r}? Choose" if near else "; choose"
    return f"{hint} from {', '.join(sorted(choices))}" if choices else ""


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0]


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
                _failures.append(error)
            job_return.status, job_return.return_value = JobStatus.COMPLETED, None
        self._held.close()
        if swept:
            sweeping.let_go(error if isinstance(error, Exception) else None)

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Called by Hydra after the last job."""
        sweep = Path(config.hydra.sweep.dir)
        _failures.extend(ValueError(_of_sweep(job)) for job in sweeping.failed_jobs(sweep))


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
