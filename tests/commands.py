"""The three scripts, called as a person calls them but inside this process: importing torch anew takes seconds."""

from __future__ import annotations

import contextlib
import io
import logging
import os
import runpy
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from hydra.core.global_hydra import GlobalHydra

REPOSITORY = Path(__file__).parents[1]


@dataclass(frozen=True)
class Outcome:
    """What a command left on the terminal, and its exit code."""

    code: int
    out: str
    err: str

    @property
    def message(self) -> str:
        """The text behind `error:`, without what was said before."""
        return self.err.partition("error: ")[2].strip()

    @property
    def last_line(self) -> str:
        return self.out.strip().splitlines()[-1]


def command(script: str, *arguments: str, **environment: str) -> Outcome:
    """Run `python <script> <arguments>`; `environment` is set meanwhile."""
    out, err = io.StringIO(), io.StringIO()
    code = 0
    with _as_started(script, arguments, environment), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            runpy.run_path(str(REPOSITORY / script), run_name="__main__")
        except SystemExit as stop:
            code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    return Outcome(code, out.getvalue(), err.getvalue())


@contextlib.contextmanager
def _as_started(script: str, arguments: tuple[str, ...], environment: dict[str, str]) -> Iterator[None]:
    """Process-wide state as a fresh process has it, and afterwards as it was."""
    root = logging.getLogger()
    argv, environ, handlers, level = sys.argv, dict(os.environ), list(root.handlers), root.level
    GlobalHydra.instance().clear()
    sys.argv = [str(REPOSITORY / script), *arguments]
    os.environ.pop("HYDRA_FULL_ERROR", None)
    os.environ.update(environment)
    try:
        with warnings.catch_warnings():
            yield
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()
        root.handlers[:] = handlers
        root.setLevel(level)
        sys.argv = argv
        os.environ.clear()
        os.environ.update(environ)
        GlobalHydra.instance().clear()
