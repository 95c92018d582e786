"""Kill runs at random moments and at chosen points, have them go on, and compare with the run that was left alone.

    python benchmarks/resume_harness.py --runs 120 --minutes 40

Every run is stopped several times: by SIGKILL at a random moment of the clock; by SIGKILL at a point (within a step, a
validation, the writing of a checkpoint, of the curves, of the prepared log, in the judgement); by an exception or a
full disk there; by SIGTERM and SIGINT. Then `python train.py run=DIR` goes on until it is finished. Processes are
forked from one that has imported everything, so a start costs little; what they do is what the script does.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import runpy
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "tests" / "unit"), str(ROOT / "benchmarks")]

import resume_faults  # noqa: E402
from conditions import conditions  # noqa: E402
from same_run import differences  # noqa: E402

import towerrec.tasks  # noqa: E402, F401 - forked processes have it

ROWS = ["data=interactions", "data.columns.timestamp=time", "split=where", "features=ids", "trainer.accelerator=cpu"]
ROWS += ['split.train="fold < 6"', 'split.val="fold = 6 or fold = 7"', 'split.test="fold > 7"', "progress=off"]
ROWS += ["eval.ks=[5,10]", "eval.num_resamples=20", "loader.batch_size=64", "trainer.log_every_n_steps=5", "audit=warn"]
LIKES = ["label=implicit", "loss=multinomial", "eval.candidates=catalogue", "optimizer.lr=0.05", "loader.batch_size=8"]
SOFTMAX = [
    "label=column",
    "data.columns.label=liked",
    "label.binary=true",
    "loss=in_batch_softmax",
    "optimizer.lr=0.01",
]
RATINGS = ["label=column", "label.binary=false", "label.positive='> 1.5'", "data.columns.label=rating"]
CONFIGS = {
    "bce, dropout, cosine schedule": ["label=column", "data.columns.label=liked", "label.binary=true", "loss=bce",
        "model.dropout=0.2", "model.user_hidden=[16]", "scheduler=cosine", "trainer.max_epochs=5"],
    "softmax over users, probed scale": [*LIKES, "trainer.max_epochs=6"],
    "mixed negatives, within epochs": [*SOFTMAX, "negatives=mixed", "+negatives@negatives.sources.cache=cross_batch",
        "callbacks.last.every_n_steps=2", "trainer.max_epochs=3"],
    "refit, poisson": [*RATINGS, "loss=poisson", "refit=true", "scheduler=linear", "trainer.max_epochs=4"],
    "three members, micro batches": [*RATINGS, "loss=mse", "model.members=3", "loader.micro_batch=16",
        "trainer.max_epochs=3"],
    "two objectives, early stopping": ["label=column", "data.columns.label=liked", "label.binary=true", "loss=multi",
        "trainer.max_epochs=12", "callbacks.early_stopping.patience=1", "optimizer.lr=0.02"],
    "history, rows on disk, within epochs": [*SOFTMAX, "model=two_tower_history", "loader=history",
        "loader.buffer_rows=192", "callbacks.last.every_n_steps=3", "trainer.max_epochs=3"],
    "validation within epochs, added gradients": [*RATINGS, "loss=huber", "trainer.val_check_interval=4",
        "trainer.accumulate_grad_batches=2", "callbacks.last.every_n_steps=2", "optimizer=rowwise_adagrad",
        "trainer.max_epochs=3"],
    "prepared in chunks, clipped gradients, half precision": [*RATINGS, "loss=mse", "data.streaming=true",
        "data.chunk_rows=300", "loader.buffer_rows=192", "trainer.gradient_clip_val=0.1",
        "trainer.precision=bf16-mixed", "optimizer.fused=false", "scheduler=cosine", "callbacks.last.every_n_steps=3",
        "trainer.max_epochs=3"],
    "four members, hard negatives, few batches": [*SOFTMAX, "model.members=4", "negatives=hard", "model.id_dropout=0.2",
        "trainer.limit_train_batches=5", "callbacks.last.every_n_steps=2", "trainer.max_epochs=4"],
    "averaged weights, validation of every other epoch": [*RATINGS, "loss=mse", "scheduler=linear",
        "+callbacks.average._target_=lightning.pytorch.callbacks.EMAWeightAveraging", "+callbacks.average.decay=0.9",
        "trainer.check_val_every_n_epoch=2", "callbacks.last.every_n_steps=4", "trainer.max_epochs=4"],
    "weights of the last epochs averaged, scheduler swapped": [*RATINGS, "loss=mse", "model.dropout=0.1",
        "+callbacks.average._target_=lightning.pytorch.callbacks.StochasticWeightAveraging",
        "+callbacks.average.swa_lrs=0.002", "+callbacks.average.swa_epoch_start=2",
        "+callbacks.average.annealing_epochs=2", "callbacks.last.every_n_steps=4", "trainer.max_epochs=5"],
    "softmax over users, four members, refit, within epochs": [*LIKES, "model.scale=5", "model.members=4",
        "refit=true", "trainer.gradient_clip_val=1", "callbacks.last.every_n_steps=2", "trainer.max_epochs=4"],
    "mixed negatives with former batches, hard ones, added gradients": [*SOFTMAX, "negatives=mixed",
        "+negatives@negatives.sources.cache=cross_batch", "+negatives@negatives.sources.hard=hard",
        "trainer.accumulate_grad_batches=3", "trainer.val_check_interval=0.5", "callbacks.last.every_n_steps=3",
        "scheduler=cosine", "logger=csv", "trainer.max_epochs=3"],
    "transformer over histories, adamw": [*SOFTMAX, "model=two_tower_transformer", "loader=history",
        "optimizer=adamw", "model.dropout=0.1", "callbacks.last.every_n_steps=3", "trainer.max_epochs=2"],
}  # fmt: skip


def log_of(folder: Path) -> Path:
    """A few hundred rows whose tastes can be learnt, and whose preparation and judging take a second."""
    draw = random.Random(0)
    lines = ["user_id,item_id,rating,liked,time,fold"]
    for i in range(1200):
        user, item = divmod(i, 30)
        liked = ((user + item) % 2) ^ (draw.random() < 0.15)
        lines.append(
            f"{user},{item},{liked + 1.0},{liked},{1_600_000_000 + draw.randrange(10**6)},{draw.randrange(10)}"
        )
    path = folder / "rows.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


class Command:
    """`python train.py <words>` in a forked process, with a fault in it."""

    def __init__(self, words: list[str], output: Path, fault: resume_faults.Fault | None = None) -> None:
        self.pid = os.fork()
        if self.pid == 0:
            self._child(words, output, fault)

    @staticmethod
    def _child(words: list[str], output: Path, fault: resume_faults.Fault | None) -> None:
        code = 1
        try:
            out = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
            os.dup2(out, 1)
            os.dup2(out, 2)
            os.chdir(ROOT)
            sys.argv = [str(ROOT / "train.py"), *words]
            if fault is not None:
                fault.plant()
            try:
                runpy.run_path(str(ROOT / "train.py"), run_name="__main__")
                code = 0
            except SystemExit as stop:
                code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stdout.flush()
            os._exit(code)

    def wait(self, seconds: float | None = None, then: int = signal.SIGKILL) -> int:
        """Its exit code (negative: the signal that ended it); after some seconds it gets a signal."""
        began, sent = time.monotonic(), False
        while True:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
            passed = time.monotonic() - began
            if not sent and seconds is not None and passed >= seconds:
                os.kill(self.pid, then)
                sent = True
            if passed > 90:
                os.kill(self.pid, signal.SIGKILL)
                raise TimeoutError(f"process {self.pid} hung")
            time.sleep(0.002)


def first_words(name: str, place: Path, run: Path, data: Path) -> list[str]:
    rows = place / "rows.csv"
    paths = [f"data.interactions={rows}", f"paths.data_dir={data}", f"paths.log_dir={place / 'logs'}"]
    return [*ROWS, *CONFIGS[name], *paths, f"hydra.run.dir={run}"]


def reference(name: str, place: Path) -> tuple[Path, float]:
    """The run that is left alone, and its seconds."""
    run = place / f"reference {list(CONFIGS).index(name)}"
    began = time.monotonic()
    code = Command(first_words(name, place, run, place / "data-reference"), place / "reference.txt").wait()
    assert code == 0, f"{name}: {(place / 'reference.txt').read_text()[-3000:]}"
    return run, time.monotonic() - began


def harassed(name: str, place: Path, seconds: float, draw: random.Random, number: int) -> tuple[Path, list[str], str]:
    """A run that was killed several times and then finished: its directory, how it was stopped, what went wrong."""
    run, data = place / f"run {number}", place / f"data-{number}"
    output, kinds = place / f"output-{number}.txt", []
    words = first_words(name, place, run, data)
    for _ in range(draw.randrange(1, 6)):
        kind, fault, after, by = resume_faults.drawn(draw, seconds)
        code = Command(words, output, fault).wait(after, by)
        if code == 0:
            break  # it was faster than its fault
        kinds.append(kind)
        if (run / "begun.json").is_file():
            words = [f"run={run}", "progress=off"]
    code = Command(words, output).wait()
    shutil.rmtree(data, ignore_errors=True)
    return run, kinds, "" if code == 0 else f"exit code {code}: {output.read_text()[-1500:]}"


def compared(expected: Path, run: Path, answer: Path) -> list[str]:
    """`same_run.differences`, found in a process of its own: threads that it starts would be in no later fork."""
    pid = os.fork()
    if pid == 0:
        try:
            answer.write_text(json.dumps(differences(expected, run)), encoding="utf-8")
        except BaseException:
            answer.write_text(json.dumps([traceback.format_exc()]), encoding="utf-8")
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    found: list[str] = json.loads(answer.read_text(encoding="utf-8"))
    return found


def measure(runs: int, minutes: float, seed: int, only: str | None) -> dict[str, Any]:
    draw, place = random.Random(seed), Path(tempfile.mkdtemp(prefix="resume-"))
    names = [name for name in CONFIGS if only is None or only in name]
    kills: Counter[str] = Counter()
    equal, tried, wrong = 0, Counter[str](), []
    began = time.monotonic()
    try:
        log_of(place)
        references = {name: reference(name, place) for name in names[:runs]}
        for number in range(runs):
            if time.monotonic() - began > 60 * minutes:
                break
            name = names[number % len(names)]
            expected, seconds = references[name]
            run, kinds, failed = harassed(name, place, seconds, draw, number)
            found = [failed] if failed else compared(expected, run, place / "compared.json")
            kills.update(kinds)
            tried[name] += 1
            equal += not found
            if found:
                wrong.append({"config": name, "stopped": kinds, "differences": found[:8]})
                print(json.dumps(wrong[-1], indent=1), flush=True)
            else:
                shutil.rmtree(run)
                (place / f"output-{number}.txt").unlink(missing_ok=True)
            print(
                f"{number + 1}: {name}: {', '.join(kinds) or 'not stopped'}: {'equal' if not found else 'NOT'}",
                flush=True,
            )
    finally:
        if not wrong:
            shutil.rmtree(place, ignore_errors=True)
    return {
        "conditions": conditions(),
        "runs": sum(tried.values()),
        "equal": equal,
        "kills": sum(kills.values()),
        "by_kind": dict(sorted(kills.items())),
        "by_config": dict(tried),
        "minutes": round((time.monotonic() - began) / 60, 1),
        "wrong": wrong,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=100)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", help="part of the name of a config")
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/resume.json")
    given = parser.parse_args()
    found = measure(given.runs, given.minutes, given.seed, given.only)
    text = json.dumps(found, indent=2)
    print(text)
    if given.write:
        (ROOT / "benchmarks" / "results" / "resume.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
