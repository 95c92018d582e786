"""Bars of all long work on a terminal, and none in a pipe."""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
from pathlib import Path

import pytest
from commands import REPOSITORY
from conftest import TINY, DemoRun, Workplace

from towerrec import progress

SEEN = {
    "train": ["simulating", "preparing", "leak audit", "Epoch 0", "ranking", "judging", "predicting rows"],
    "evaluate": ["ranking", "judging", "predicting rows"],
    "recommend": ["recommending"],
}


@pytest.fixture(autouse=True)
def as_it_was():
    yield
    progress.choose("auto")


def on_a_terminal(*command: str) -> str:
    """What a command shows there, both streams together."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "COLUMNS": "120"}
    with subprocess.Popen(command, stdout=theirs, stderr=theirs, cwd=REPOSITORY, env=environment) as process:
        os.close(theirs)
        parts = []
        while True:
            try:
                part = os.read(ours, 1 << 16)
            except OSError:  # the other end is closed
                break
            if not part:
                break
            parts.append(part)
        os.close(ours)
        assert process.wait() == 0, b"".join(parts)[-2000:]
    return b"".join(parts).decode(errors="replace")


@pytest.mark.slow
def test_every_long_work_has_a_bar_on_a_terminal(tmp_path: Path):
    paths = Workplace(tmp_path).paths
    text = on_a_terminal(sys.executable, "train.py", *TINY, *paths, "eval.candidates=catalogue")
    assert [title for title in SEEN["train"] if title not in text] == []
    run = text.strip().splitlines()[-1].partition("run directory: ")[2].strip()
    for task, more in (("evaluate", ["eval.num_resamples=50", paths[0]]), ("recommend", [])):
        text = on_a_terminal(sys.executable, f"{task}.py", f"run={run}", *more, "device=cpu")
        assert [title for title in SEEN[task] if title not in text] == []


def test_there_are_no_bars_in_a_pipe(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    recommended = workplace.recommend(f"run={demo_run.directory}", f"output={tmp_path / 'lists.parquet'}")
    for outcome in (demo_run.outcome, recommended):
        assert "%|" not in outcome.err and "preparing" not in outcome.err and "\r" not in outcome.err
        assert "\r" not in outcome.out


def test_bars_can_be_asked_for_and_done_without(workplace: Workplace, demo_run: DemoRun, tmp_path: Path):
    asked = [f"run={demo_run.directory}", f"output={tmp_path / 'lists.parquet'}"]
    assert "recommending" in workplace.recommend(*asked, "progress=bar").err
    assert "recommending" not in workplace.recommend(*asked, "progress=off").err
    refused = workplace.recommend(*asked, "progress=loud")
    assert refused.code == 1 and "progress=loud is not known" in refused.message
    evaluated = workplace.evaluate(f"run={demo_run.directory}", f"output={tmp_path / 'e'}", "progress=bar")
    assert evaluated.code == 0 and "judging: " in evaluated.err and "ranking" in evaluated.err
