"""The scripts started as several processes: one run directory, one voice, the figures of one process."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
import torch
from commands import REPOSITORY, command
from conftest import TINY

from towerrec.checkpoint import load_model

TORCHRUN = [sys.executable, "-m", "torch.distributed.run"]


@dataclass(frozen=True)
class Place:
    """A folder with data that is prepared already."""

    root: Path

    @property
    def paths(self) -> list[str]:
        return [f"paths.data_dir={self.root / 'data'}", f"paths.log_dir={self.root / 'logs'}"]

    def train(self, *overrides: str) -> list[str]:
        return ["train.py", *TINY, *self.paths, "model=matrix_factorization", "optimizer=sgd", *overrides]


def port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def started(*commands: list[str], each: list[dict[str, str]] | None = None) -> list[subprocess.CompletedProcess[str]]:
    """Run commands side by side to their end, each with its environment."""
    environment = {**os.environ, "PYTHONPATH": str(REPOSITORY / "src"), "OMP_NUM_THREADS": "1"}
    running = [
        subprocess.Popen(
            words, cwd=REPOSITORY, env=environment | more, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        for words, more in zip(commands, each or [{}] * len(commands), strict=True)
    ]
    try:
        said = [process.communicate(timeout=240) for process in running]
    finally:
        for process in running:
            process.kill()
    return [
        subprocess.CompletedProcess(process.args, process.returncode, *texts)
        for process, texts in zip(running, said, strict=True)
    ]


def torchrun(*words: str, number: int = 2) -> subprocess.CompletedProcess[str]:
    return started([*TORCHRUN, "--nproc-per-node", str(number), "--master-port", port(), *words])[0]


def directory_of(done: subprocess.CompletedProcess[str]) -> Path:
    assert done.returncode == 0, done.stderr[-3000:]
    return Path(done.stdout.strip().splitlines()[-1].removeprefix("run directory: "))


def means(path: Path) -> dict[str, Any]:
    """The figures of a judgement, without their intervals."""
    content = json.loads(path.read_text())
    return {on: {name: figure["mean"] for name, figure in figures.items()} for on, figures in content.items()}


def assert_same_run(run: Path, other: Path) -> None:
    weights = load_model(other / "checkpoints" / "best.ckpt")[0].state_dict()
    for name, value in load_model(run / "checkpoints" / "best.ckpt")[0].state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=1e-4, atol=1e-5)
    ours, theirs = means(run / "metrics.json"), means(other / "metrics.json")
    assert ours.keys() == theirs.keys()
    for on in ours:
        assert ours[on] == pytest.approx(theirs[on], rel=1e-3)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place(tmp_path_factory.mktemp("launching"))


@pytest.fixture(scope="module")
def alone(place: Place) -> Path:
    """The run of one process."""
    outcome = command(
        *place.train("loader.batch_size=512", "loss=in_batch_softmax", f"hydra.run.dir={place.root / 'one'}")
    )
    assert outcome.code == 0, outcome.err
    return place.root / "one"


@pytest.fixture(scope="module")
def shared(place: Place) -> tuple[Path, subprocess.CompletedProcess[str]]:
    """The same training under torchrun, on data nobody has prepared; its directory and what was said."""
    fresh = Place(place.root / "fresh")
    done = torchrun(*fresh.train("loader.batch_size=256", "loss=in_batch_softmax", "trainer.devices=auto"))
    return directory_of(done), done


@pytest.mark.slow
def test_two_processes_of_torchrun_leave_the_run_of_one(alone: Path, shared: tuple[Path, Any]):
    run, done = shared
    assert_same_run(run, alone)
    facts = json.loads((run / "run.json").read_text())
    assert facts["devices"] == 2 and facts["rank"] == 0
    assert [p.name for p in run.parent.iterdir()] == [run.name], "every process takes the directory of the first"
    assert done.stdout.count("epoch 1/2") == 1 and done.stdout.count("data demo:") == 1


@pytest.mark.slow
def test_recommendations_of_two_processes_are_those_of_one_in_parts(place: Place, shared: tuple[Path, Any]):
    run, _ = shared
    done = torchrun("recommend.py", f"run={run}", "n=20", "device=cpu", place.paths[1])
    assert done.returncode == 0, done.stderr[-3000:]
    parts = sorted((run / "recommendations").iterdir())
    assert [p.name for p in parts] == ["part-00000.parquet", "part-00001.parquet"]
    assert command("recommend.py", f"run={run}", "n=20", "device=cpu", place.paths[1]).code == 0
    one = pl.read_parquet(run / "recommendations.parquet")
    joined = pl.concat([pl.read_parquet(part) for part in parts])
    assert joined.select("user_id", "item_id", "rank").equals(one.select("user_id", "item_id", "rank"))
    assert 0 < pl.read_parquet(parts[0]).height < joined.height and "2 processes" not in done.stderr


@pytest.mark.slow
def test_a_directory_of_parts_is_judged_as_one_file(place: Place, shared: tuple[Path, Any], tmp_path: Path):
    run, _ = shared
    rules = [*place.paths, "data=demo", "data.demo.scale=tiny", "eval.ks=[10]", "eval.num_resamples=20"]
    (tmp_path / "parts").mkdir()
    lists = pl.read_parquet(run / "catalogue" / "user_ids.parquet").to_series()
    items = pl.read_parquet(run / "catalogue" / "item_ids.parquet").to_series()
    table = pl.DataFrame({"user_id": lists[:100], "item_id": [items[i % len(items)] for i in range(100)]})
    table = table.with_columns(rank=pl.lit(1))
    table.write_parquet(tmp_path / "whole.parquet")
    table[:60].write_parquet(tmp_path / "parts" / "part-00000.parquet")
    table[60:].write_parquet(tmp_path / "parts" / "part-00001.parquet")
    for name in ("whole.parquet", "parts"):
        output = tmp_path / f"judged-{name}"
        outcome = command("evaluate.py", f"recommendations={tmp_path / name}", *rules, f"output={output}")
        assert outcome.code == 0, outcome.err
    whole, parts = (
        json.loads((tmp_path / f"judged-{n}" / "metrics.json").read_text()) for n in ("whole.parquet", "parts")
    )
    assert whole == parts


@pytest.mark.slow
def test_an_evaluation_by_two_processes_finds_the_figures_of_one(shared: tuple[Path, Any], tmp_path: Path):
    run, _ = shared
    words = [f"run={run}", f"paths.data_dir={run.parents[2] / 'data'}", f"paths.log_dir={tmp_path}", "eval.ks=[10,20]"]
    words += ["eval.num_resamples=20", "device=cpu", "prior.curve=[0,1]"]
    done = torchrun("evaluate.py", *words, f"output={tmp_path / 'two'}")
    assert done.returncode == 0, done.stderr[-3000:]
    assert command("evaluate.py", *words, f"output={tmp_path / 'one'}").code == 0
    two, one = (json.loads((tmp_path / name / "metrics.json").read_text()) for name in ("two", "one"))
    assert two == one
    assert (tmp_path / "two" / "report.html").is_file() and done.stdout.count("evaluation: ") == 1


@pytest.mark.slow
def test_two_nodes_of_torchrun_train_together(place: Place, alone: Path):
    words = place.train(
        "loader.batch_size=256", "loss=in_batch_softmax", "trainer.devices=1", "trainer.num_nodes=2",
        f"hydra.run.dir={place.root / 'nodes'}",
    )  # fmt: skip
    at = port()
    address = ["--nnodes", "2", "--nproc-per-node", "1", "--master-addr", "127.0.0.1", "--master-port", at]
    nodes = [[*TORCHRUN, *address, "--node-rank", node, *words] for node in ("0", "1")]
    first, second = started(*nodes)
    assert_same_run(directory_of(first), alone)
    assert second.returncode == 0 and second.stdout == ""


@pytest.mark.slow
def test_tasks_of_slurm_train_together(place: Place, alone: Path):
    words = [sys.executable, *place.train("loader.batch_size=256", "loss=in_batch_softmax", "trainer.devices=auto")]
    job = {
        "SLURM_JOB_ID": port(), "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "2", "SLURM_NTASKS_PER_NODE": "2",
        "SLURM_NNODES": "1", "SLURM_NODEID": "0", "SLURM_NODELIST": "localhost", "MASTER_PORT": port(),
    }  # fmt: skip
    tasks = [job | {"SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank)} for rank in range(2)]
    first, second = started(words, words, each=tasks)
    assert_same_run(directory_of(first), alone)
    assert second.returncode == 0 and second.stdout == ""


@pytest.mark.slow
def test_lightning_starts_the_processes_itself_also_for_a_refit_and_several_objectives(place: Place):
    shared = ["loss=multi", "refit=true", "negatives=none"]
    done = started([sys.executable, *place.train(*shared, "loader.batch_size=256", "trainer.devices=2")])[0]
    one = command(*place.train(*shared, "loader.batch_size=512", f"hydra.run.dir={place.root / 'refit'}"))
    assert one.code == 0, one.err
    assert_same_run(directory_of(done), place.root / "refit")
    assert json.loads((directory_of(done) / "run.json").read_text())["first_fit"]["best_epoch"] >= 1


@pytest.mark.slow
def test_processes_look_for_a_scale_together(place: Place):
    words = ["loss=multinomial", "model.scale=null", "model.similarity=cosine", "optimizer.lr=0.01"]
    done = torchrun(*place.train(*words, "loader.batch_size=32", "trainer.devices=auto"))
    one = command(*place.train(*words, "loader.batch_size=64"))
    assert one.code == 0, one.err
    chosen = [
        next(line for line in text.splitlines() if line.startswith("model.scale=")) for text in (done.stdout, one.out)
    ]
    assert chosen[0] == chosen[1]


@pytest.mark.slow
def test_jobs_of_a_sweep_start_processes_of_their_own(place: Place):
    words = place.train(
        "loader.batch_size=256", "trainer.devices=2", "seed=0,1", f"hydra.sweep.dir={place.root / 'sweep'}"
    )
    done = started([sys.executable, words[0], "-m", *words[1:]])[0]
    assert done.returncode == 0, done.stderr[-3000:]
    for number in ("0", "1"):
        facts = json.loads((place.root / "sweep" / number / "run.json").read_text())
        assert facts["devices"] == 2 and facts["seed"] == int(number)
    assert done.stdout.count("leaderboard: ") == 1
    # What the second process of a job says lies in the job's directory too.
    assert len(list((place.root / "sweep").glob("*/train_ddp_process_1.log"))) == 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (
            ["trainer.devices=3"],
            "error: trainer.devices=3 trainer.num_nodes=1, but torchrun started 2 processes on each",
        ),
        (["optimiser.lr=3"], "error: optimiser is not a key of the config: did you mean 'optimizer'?"),
        (["optimizer.lr=1e30", "loss=mse"], "error: training ended in epoch 1, step 2"),
    ],
    ids=["devices", "key", "diverged"],
)
def test_an_error_is_told_once_and_ends_all_processes(place: Place, words: list[str], expected: str):
    done = torchrun(*place.train("trainer.devices=auto", *words))
    assert done.returncode != 0
    assert done.stderr.count("error: ") == 1 and expected in done.stderr


@pytest.mark.slow
def test_help_is_shown_once(place: Place):
    done = torchrun("train.py", "--help")
    assert done.returncode == 0 and done.stdout.count("python train.py") > 0
    assert done.stdout.count("trainer: ") == 1
