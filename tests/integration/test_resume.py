"""A run that was stopped goes on and ends as the one that was not: `python train.py run=DIR`."""

from __future__ import annotations

import fcntl
import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from commands import REPOSITORY, Outcome, command
from resume_faults import Fault
from same_run import differences, scalars

from towerrec.last_checkpoint import RESUME_KEY

NAME = "ein Lauf 运行 $1"
SHORT = [
    "data=interactions", "data.columns.timestamp=time", "features=ids", "trainer.accelerator=cpu", "progress=off",
    "label=column", "data.columns.label=rating", "label.binary=false", "label.positive='> 1.5'", "loss=mse",
    "split=where", 'split.train="fold < 6"', 'split.val="fold = 6 or fold = 7"', 'split.test="fold > 7"',
    "loader.batch_size=64", "model.dropout=0.1", "model.user_hidden=[8]", "scheduler=cosine", "trainer.max_epochs=3",
    "trainer.log_every_n_steps=2", "callbacks.last.every_n_steps=3", "eval.ks=[5]", "eval.num_resamples=20",
    "audit=off",
]  # fmt: skip


def rows_of(folder: Path) -> Path:
    """Forty users who like every other item."""
    lines = ["user_id,item_id,rating,time,fold"]
    for i in range(1200):
        user, item = divmod(i, 30)
        lines.append(
            f"{user},{item},{1.0 + (user + item + i // 7) % 2},{1_600_000_000 + i * 37},{(user + 3 * item) % 10}"
        )
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def begin(folder: Path, run: Path, *words: str) -> Outcome:
    paths = [f"data.interactions={folder / 'rows.csv'}", f"paths.data_dir={folder / 'data'}"]
    place = str(run).replace("$", "\\$") if "${" in str(run) else str(run)
    return command("train.py", *SHORT, *paths, f'hydra.run.dir="{place}"', *words)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Rows, and in `left alone` a run that nobody stopped."""
    folder = tmp_path_factory.mktemp("resume")
    rows_of(folder)
    outcome = begin(folder, folder / "left alone")
    assert outcome.code == 0, outcome.err
    return folder


def had_cost(run: Path, spent: dict[str, float]) -> None:
    """Have a stopped run remember to have cost so much up to its last checkpoint."""
    for path in (run / "checkpoints").glob("last*.ckpt"):
        content = torch.load(path, weights_only=True)
        assert content[RESUME_KEY].keys() >= spent.keys()
        content[RESUME_KEY] |= spent
        torch.save(content, path)


def go_on(run: Path, *words: str) -> Outcome:
    return command("train.py", f"run={run}", *words)


@pytest.mark.parametrize(
    ("fault", "code"),
    [
        (Fault("step", 17, "term"), 143),
        pytest.param(Fault("end of validation", 2, "error"), 1, marks=pytest.mark.slow),
        pytest.param(Fault("checkpoint", 6, "disk", after=True), 1, marks=pytest.mark.slow),
        pytest.param(Fault("judgement", 2, "error"), 1, marks=pytest.mark.slow),
    ],
    ids=lambda value: value.kind if isinstance(value, Fault) else str(value),
)
def test_a_run_that_was_stopped_ends_as_one_that_was_not(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault, code: int
):
    run = tmp_path / NAME
    with monkeypatch.context() as patched:
        fault.plant(patched.setattr)
        stopped = begin(place, run)
    assert stopped.code == code, stopped.err
    if code == 143:
        assert "interrupted; to go on: python train.py " in stopped.err and NAME in stopped.err
    assert (run / "begun.json").is_file() and not (run / "metrics.json").exists()
    had_cost(run, {"seconds": 1000.0, "total_seconds": 1200.0, "peak_memory_bytes": 2**50})

    outcome = go_on(run)
    assert outcome.code == 0, outcome.err
    assert differences(place / "left alone", run) == []
    assert not list(run.rglob("last-*.ckpt")) and not list(run.rglob(".lock"))
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert len(facts["resumed"]) == 1
    # What it cost is the sum of its parts.
    assert 1000 <= facts["seconds"] < 1200 < facts["total_seconds"] < 1400 and facts["peak_memory_bytes"] == 2**50


@pytest.mark.slow
def test_a_run_without_a_first_checkpoint_starts_anew_in_its_directory(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    with monkeypatch.context() as patched:
        Fault("step", 2, "error").plant(patched.setattr)
        assert begin(place, tmp_path / "run").code == 1
    outcome = go_on(tmp_path / "run")
    assert outcome.code == 0 and "going on after" not in outcome.out, outcome.err
    assert differences(place / "left alone", tmp_path / "run") == []


def test_a_finished_run_says_so_and_nothing_is_touched(place: Path):
    run = place / "left alone"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    outcome = go_on(run)
    assert outcome.code == 0 and "is finished (3 epochs, val/" in outcome.out and "nothing was changed" in outcome.out
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before


def test_what_cannot_go_on_is_named(place: Path, tmp_path: Path):
    run = place / "left alone"
    assert "there is no such directory" in go_on(tmp_path / "no").message
    assert "is not a run of train.py that could go on" in go_on(place).message and not (place / ".hydra").exists()
    refused = go_on(run, "loss=bpr").message
    assert refused.startswith("loss=bpr: run=") and "progress, paths.data_dir" in refused
    assert "leave out -m" in go_on(run, "-m").message
    (tmp_path / "sweep").mkdir()
    (tmp_path / "sweep" / "multirun.yaml").touch()
    assert "is a sweep" in go_on(tmp_path / "sweep").message


def test_of_two_processes_on_one_run_the_second_is_refused_and_another_log_too(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    run = tmp_path / "run"
    with monkeypatch.context() as patched:
        Fault("step", 2, "error").plant(patched.setattr)
        begin(place, run)
    with (run / ".lock").open("a", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        assert "is still being written by another process" in go_on(run).message
    begun = json.loads((run / "begun.json").read_text(encoding="utf-8"))
    content = begun["settled"]["content"]
    begun["settled"] |= {"fingerprint": "0123456789abcdef", "content": "of another log"}
    begun["conditions"]["versions"]["torch"] = "1.0"
    (run / "begun.json").write_text(json.dumps(begun), encoding="utf-8")
    outcome = go_on(run)
    assert "began on a log with the fingerprint 0123456789ab" in outcome.message
    assert re.search(r"not as it began: torch 1.0 then, \S+ now", outcome.out)
    # A copy of the same log has other times only.
    begun["settled"]["content"] = content
    (run / "begun.json").write_text(json.dumps(begun), encoding="utf-8")
    outcome = go_on(run)
    assert outcome.code == 0 and "have another place or time than when the run began" in outcome.out


def test_scalars_stand_once_each_where_they_belong(place: Path):
    found = scalars(place / "left alone")
    assert set(found.values()) == {1}
    steps = [step for (tag, step, _) in found if tag == "tensorboard:train/loss_step"]
    assert len(steps) > 3


@pytest.mark.slow
def test_runs_that_are_killed_again_and_again_end_as_those_that_are_not(tmp_path: Path):
    script = REPOSITORY / "benchmarks" / "resume_harness.py"
    done = subprocess.run(
        [sys.executable, str(script), "--runs", "4", "--minutes", "2", "--seed", "5"],
        env=os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1", "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout[done.stdout.index('{\n  "conditions"') :])
    assert found["equal"] == found["runs"] > 0 and found["kills"] > 0, found["wrong"]


CONSTANT = ["scheduler=constant", "logger=none", "callbacks.last.every_n_steps=null"]


@pytest.mark.parametrize(
    "fault", [None, pytest.param(Fault("step", 17, "term"), marks=pytest.mark.slow)], ids=["finished", "stopped"]
)
def test_a_run_with_more_epochs_ends_as_one_that_was_started_with_them(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: Fault | None
):
    with monkeypatch.context() as patched:
        if fault is not None:
            fault.plant(patched.setattr)
        begin(place, tmp_path / "two", *CONSTANT, "trainer.max_epochs=2")
    longer = go_on(tmp_path / "two", "trainer.max_epochs=4")
    assert longer.code == 0 and "ends as a run that was started with trainer.max_epochs=4" in longer.out, longer.err
    begin(place, tmp_path / "four", *CONSTANT, "trainer.max_epochs=4")
    # Which number a best model of the first epochs was started with is noted in it.
    found = [word for word in differences(tmp_path / "four", tmp_path / "two") if "max_epochs" not in word]
    assert found == []
    again = go_on(tmp_path / "two", "trainer.max_epochs=4")
    assert again.code == 0 and "is finished (4 epochs" in again.out and "nothing was changed" in again.out


def test_more_epochs_are_refused_where_what_was_learnt_depends_on_their_number(place: Path, tmp_path: Path):
    run = place / "left alone"
    before = {path: path.stat().st_mtime_ns for path in run.rglob("*")}
    refused = go_on(run, "trainer.max_epochs=9").message
    assert "its learning rate has followed the number of epochs" in refused
    assert (
        refused.endswith("trainer.max_epochs=9") and "Start another run: python train.py data=interactions" in refused
    )
    assert "a whole number above 0" in go_on(run, "trainer.max_epochs=many").message
    assert {path: path.stat().st_mtime_ns for path in run.rglob("*")} == before
    begin(place, tmp_path / "run", *CONSTANT, "trainer.max_epochs=2")
    assert "it has 2 epochs already" in go_on(tmp_path / "run", "trainer.max_epochs=1").message


@pytest.mark.parametrize("content", ["{}", "", '{"settings": 3}', "[]"])
def test_a_damaged_note_of_the_beginning_is_named_with_the_command_that_starts_anew(
    place: Path, tmp_path: Path, content: str
):
    run = tmp_path / "run"
    (run / ".hydra").mkdir(parents=True)
    for name in ("config.yaml", "overrides.yaml"):
        (run / ".hydra" / name).write_text((place / "left alone" / ".hydra" / name).read_text("utf-8"), "utf-8")
    (run / "begun.json").write_text(content, encoding="utf-8")
    refused = go_on(run).message
    assert refused.startswith(f"{run / 'begun.json'} is damaged") and "python train.py data=interactions" in refused


def started(*words: str, by: str = "hand") -> subprocess.Popen[str]:
    """`train.py` in two processes, started by Lightning or by torchrun."""
    environment = os.environ | {"PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"] if by == "torchrun" else []
    whole = [sys.executable, *launcher, "train.py", *words]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE if by == "torchrun" else None}
    return subprocess.Popen(whole, cwd=REPOSITORY, env=environment, text=True, start_new_session=True, **pipes)


@pytest.mark.slow
def test_two_processes_go_on_as_one_job(tmp_path: Path):
    rows_of(tmp_path)
    paths = [f"data.interactions={tmp_path / 'rows.csv'}", f"paths.data_dir={tmp_path / 'data'}"]
    ddp = [*SHORT, *paths, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu", "trainer.max_epochs=6"]

    alone, run = tmp_path / "alone", tmp_path / "run"
    assert started(*ddp, f"hydra.run.dir={alone}").communicate(timeout=300) and (alone / "metrics.json").is_file()

    job = started(*ddp, f"hydra.run.dir={run}", by="torchrun")
    until(job, "epoch 1/")
    workers = subprocess.run(["pgrep", "-P", str(job.pid), "-f", "train.py"], capture_output=True, text=True).stdout
    os.kill(max(map(int, workers.split())), signal.SIGTERM)  # one of the two hears it
    _, told = job.communicate(timeout=60)
    assert "interrupted; to go on: python train.py run=" in told and told.count("interrupted;") == 1

    job = started(f"run={run}")
    until(job, "epoch 4/")
    os.killpg(job.pid, signal.SIGKILL)
    job.communicate(timeout=60)
    assert not (run / "metrics.json").exists()

    said, _ = started(f"run={run}").communicate(timeout=300)
    assert "going on after" in said
    assert differences(alone, run) == []


def until(job: subprocess.Popen[str], words: str) -> None:
    """Wait for a line that begins so."""
    assert job.stdout is not None
    for line in job.stdout:
        if line.startswith(words):
            return
    raise AssertionError(f"it ended before {words}")
