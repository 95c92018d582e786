"""What happens around a command: one readable message for a mistake, exit codes, a run that goes on."""

from __future__ import annotations

import io
import os
import sys
import traceback
from collections.abc import Callable
from typing import Any

from towerrec import config_continue, config_types, distributed, resuming, stopping, sweep_jobs
from towerrec.command_words import multirun_first, quoted_places
from towerrec.job_callbacks import failures
from towerrec.mistakes import is_users, message
from towerrec.wording import printable


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
    failures.clear()
    try:
        _escape_what_a_stream_cannot_hold()
        arguments = distributed.join(sys.argv)
        if arguments is not None and resumes:
            arguments = resuming.arguments(arguments)
        if arguments is None:
            return
        arguments = (config_continue.arguments if resumes else keys_of_run)(multirun_first(arguments))
        sys.argv[:] = quoted_places(arguments)
        main()
    except KeyboardInterrupt:
        held = sweep_jobs.let_go()
        if distributed.rank() == 0:
            print(f"interrupted{resuming.hint(held)}", file=sys.stderr)
        sys.exit(stopping.exit_code())
    except BrokenPipeError:
        # Whoever read the output has seen enough (`| head`).
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except Exception as error:
        failures.append(error)
    finally:
        sweep_jobs.let_go()
        distributed.leave()
    if any(not isinstance(failure, distributed.Elsewhere) for failure in failures) and distributed.first_to_fail():
        for failure in failures:
            _report(failure, full=full)
    if failures:
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
