"""A sweep whose jobs run side by side in two processes: nothing shared but the prepared log, nothing left behind."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
import pytest
from commands import REPOSITORY
from conftest import TINY, Workplace
from watching import SEEN

pytest.importorskip(
    "hydra_plugins.hydra_joblib_launcher",
    reason='jobs side by side need pip install -e ".[sweeps]"',
    exc_type=ImportError,
)
pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class Sweep:
    """What a sweep left and printed."""

    directory: Path
    code: int
    out: str
    err: str

    def of_jobs(self, name: str) -> dict[int, dict[str, Any]]:
        """A JSON file of every job that has it."""
        found = sorted(self.directory.glob(f"*/{name}"), key=lambda path: int(path.parent.name))
        return {int(path.parent.name): json.loads(path.read_text(encoding="utf-8")) for path in found}


def swept(root: Path, *words: str) -> Sweep:
    """`python train.py -m` with two jobs at once, in a process of its own."""
    inherited = {name: value for name, value in os.environ.items() if name not in ("OMP_NUM_THREADS", "PYTHONPATH")}
    path = os.pathsep.join([str(REPOSITORY / "src"), str(Path(__file__).parent)])
    command = [
        sys.executable, "train.py", "-m", "hydra/launcher=joblib", "hydra.launcher.n_jobs=2", *TINY,
        "trainer.max_epochs=1", "eval.baselines=[]", f"hydra.sweep.dir={root / 'sweep'}",
        f"paths.data_dir={root / 'data'}", f"paths.cache_dir={root / 'cache'}", f"paths.log_dir={root / 'logs'}",
        *words,
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=REPOSITORY, env=inherited | {"PYTHONPATH": path}, capture_output=True, text=True, timeout=500
    )
    return Sweep(root / "sweep", done.returncode, done.stdout, done.stderr)


@pytest.fixture(scope="module")
def sweep(tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    watch = "+hydra.callbacks.watch._target_=watching.Watch"
    return swept(tmp_path_factory.mktemp("parallel"), "seed=0,1,2,3", "model.embedding_dim=8,0", watch)


def test_each_job_has_its_own_directory_and_a_failed_one_does_not_lose_the_others(sweep: Sweep):
    facts = sweep.of_jobs("run.json")
    assert list(facts) == [0, 2, 4, 6], sweep.err
    assert [facts[job]["seed"] for job in facts] == [0, 1, 2, 3]
    for job in facts:
        assert (sweep.directory / str(job) / "checkpoints" / "best.ckpt").is_file()
    assert sweep.code == 1
    for job in (1, 3, 5, 7):
        assert f"job {job} failed (" in sweep.err
        assert f"error: job {job} of the sweep failed" in sweep.err
        assert "must be at least 1" in (sweep.directory / str(job) / "train.log").read_text(encoding="utf-8")
    assert "Traceback" not in sweep.err


def test_the_leaderboard_is_written_over_all_jobs(sweep: Sweep):
    board = pl.read_parquet(sweep.directory / "leaderboard.parquet")
    assert board["jobs"].to_list() == [[0, 2, 4, 6], [1, 3, 5, 7]]
    assert board["status"].to_list() == ["finished", "failed"]
    assert f"leaderboard: {sweep.directory / 'leaderboard.md'}" in sweep.out
    assert sorted(p.name for p in sweep.directory.iterdir()) == [
        *"01234567", "leaderboard.html", "leaderboard.md", "leaderboard.parquet", "multirun.yaml",
    ]  # fmt: skip


def test_jobs_ran_in_two_processes_that_share_the_cores(sweep: Sweep):
    seen = sweep.of_jobs(SEEN)
    assert len({facts["process"] for facts in seen.values()}) == 2
    share = max((os.cpu_count() or 1) // 2, 1)
    assert {facts["torch_threads"] for facts in seen.values()} == {share}
    assert {facts["polars_threads"] for facts in seen.values()} == {share}


def test_the_log_is_simulated_and_prepared_once(sweep: Sweep):
    assert sweep.out.count("simulating the tiny log") == 1
    assert sum(not facts["prepared_from_cache"] for facts in sweep.of_jobs("run.json").values()) <= 1
    cache = sweep.directory.parent / "cache"
    assert len(list(cache.iterdir())) == 1, "one log, no locks, nothing half built"


def test_memory_does_not_grow_from_job_to_job(sweep: Sweep):
    of_process: dict[int, list[dict[str, Any]]] = {}
    for facts in sweep.of_jobs(SEEN).values():
        of_process.setdefault(facts["process"], []).append(facts)
    for seen in of_process.values():
        after_first = seen[1]  # what libraries keep for themselves is there by then
        for facts in seen[2:]:
            assert facts["tensor_bytes"] <= after_first["tensor_bytes"]
            assert facts["resident_bytes"] <= 1.15 * after_first["resident_bytes"]


def test_a_job_does_side_by_side_what_it_does_alone(sweep: Sweep, workplace: Workplace):
    outcome = workplace.train("trainer.max_epochs=1", "eval.baselines=[]", "seed=1", "model.embedding_dim=8")
    alone = Path(outcome.last_line.removeprefix("run directory: "))
    found = json.loads((REPOSITORY / alone / "metrics.json").read_text(encoding="utf-8"))["test"]
    figures = sweep.of_jobs("metrics.json")[2]["test"]
    for name in ("rmse", "ndcg@20"):
        assert figures[name]["mean"] == pytest.approx(found[name]["mean"], rel=1e-3)


def test_jobs_side_by_side_train_in_one_process_each(tmp_path: Path):
    refused = swept(tmp_path, "seed=0,1", "trainer.devices=2", "trainer.strategy=ddp")
    assert refused.code == 1
    assert refused.err.count("leave out hydra/launcher and have one job after another") == 2
