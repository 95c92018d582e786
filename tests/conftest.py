"""One trained run for all tests that only look at it or ask it something."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import pytest
import resvg_py
import torch
from commands import Outcome, command

from towerrec.tensorboard.pictures import Chart

# Half a minute or more each, longest first. Dealt out at the beginning they leave the short ones for the end, when one
# worker would wait for the other.
LONG_FILES = (
    "test_launching", "test_configs", "test_fuzz_tables", "test_resume", "test_sharded", "test_sweeps",
    "test_retrieval_benchmarks", "test_programs", "test_degenerate_logs", "test_fuzz_ours", "test_bad_input",
    "test_sweeps_parallel", "test_continuing", "test_commands", "test_statistics_commands", "test_tensorboard_pages",
    "test_determinism", "test_distributed", "test_refit", "test_windows", "test_long_run", "test_progress_commands",
    "test_gpu_training", "test_protocols", "test_asking_commands", "test_benchmark_commands", "test_export_commands",
)  # fmt: skip


BLANK = bytes(resvg_py.svg_to_bytes(svg_string='<svg xmlns="http://www.w3.org/2000/svg" width="1" height="1"/>'))


def pytest_configure(config: pytest.Config) -> None:
    """Tests side by side have one thread each, and so have the processes they start."""
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)
        os.environ.setdefault("OMP_NUM_THREADS", "1")
    # xdist would deal out the files by their number of tests, so that long files of one test come last.
    config.option.loadscopereorder = False


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Side by side the long files begin."""
    if hasattr(config, "workerinput"):
        place = {name: at for at, name in enumerate(LONG_FILES)}
        items.sort(key=lambda item: place.get(item.path.stem, len(place)))


@pytest.fixture(autouse=True)
def blank_pictures(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """To draw the report's two dozen charts for TensorBoard takes a quarter of a tiny run: left to tests of TensorBoard
    and to what is trained for several tests."""
    if "tensorboard" not in request.node.path.stem:
        monkeypatch.setattr(Chart, "png", BLANK)


@dataclass(frozen=True)
class Workplace:
    """Folders of their own, and the settings that make a command finish in a second."""

    root: Path

    @property
    def paths(self) -> list[str]:
        return [f"paths.data_dir={self.root / 'data'}", f"paths.log_dir={self.root / 'logs'}"]

    def train(self, *overrides: str, sweep: bool = False) -> Outcome:
        """`python train.py [-m]` on the tiny demo log, for two epochs."""
        return command("train.py", *(["-m"] if sweep else []), *TINY, *self.paths, *overrides)

    def recommend(self, *overrides: str) -> Outcome:
        return command("recommend.py", self.paths[1], *overrides)

    def evaluate(self, *overrides: str) -> Outcome:
        return command("evaluate.py", *self.paths, "eval.num_resamples=50", *overrides)


@dataclass(frozen=True)
class DemoRun:
    """A finished run and what it printed."""

    directory: Path
    outcome: Outcome


TINY = [
    "data=demo",
    "data.demo.scale=tiny",
    "eval.ks=[10,20]",
    "eval.num_resamples=50",
    "trainer.max_epochs=2",
    "trainer.accelerator=cpu",
    "trainer.devices=1",
]


@pytest.fixture(scope="session")
def workplace(tmp_path_factory: pytest.TempPathFactory) -> Workplace:
    """Data and logs that all tests of a session share."""
    return Workplace(tmp_path_factory.mktemp("workplace"))


@pytest.fixture(scope="session")
def demo_run(workplace: Workplace) -> DemoRun:
    """A run on the tiny demo log; tests read it and write beside it, never into it."""
    outcome = workplace.train()
    assert outcome.code == 0, outcome.err
    return DemoRun(Path(outcome.last_line.removeprefix("run directory: ")), outcome)
