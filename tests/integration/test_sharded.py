"""Id tables shared out over two processes: training is that with whole tables, and each process holds only its rows."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
import torch
import torch.distributed as dist
from commands import REPOSITORY
from conftest import TINY, Workplace
from planted import tables_of
from row_shards import free_port
from sharded_processes import CASES, EPOCHS, STEPS, fitted, module_for
from torch import Tensor

from towerrec.checkpoint import load_model
from towerrec.sharding import ShardedTables, _obstacles

HERE = Path(__file__).parent
USER, ITEM = "model.user_tower.id_vectors", "model.item_tower.id_vectors"
SHARDED = (USER, ITEM, USER.replace("vectors", "biases"), ITEM.replace("vectors", "biases"))


@dataclass(frozen=True)
class Pair:
    """What two processes found, by case, and where their checkpoints lie."""

    directory: Path
    ranks: tuple[dict[str, Any], dict[str, Any]]

    def joined(self, case: str, of: str) -> dict[str, Tensor]:
        """Weights or gradients, the blocks of both processes one under the other."""
        first, second = (rank[case][of] for rank in self.ranks)
        cut = {n for n in first if first[n].shape != self.ranks[0][f"{case.split()[0]} whole"][of][n].shape}
        return {n: torch.cat([first[n], second[n]]) if n in cut else first[n] for n in first}


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> Pair:
    directory = tmp_path_factory.mktemp("sharded")
    path = os.pathsep.join([str(REPOSITORY / "src"), str(HERE.parent / "unit")])
    address = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port()), "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    command = [sys.executable, str(HERE / "sharded_processes.py"), str(directory)]
    both = [
        subprocess.Popen(
            command,
            env=os.environ | address | {"LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        for rank in (0, 1)
    ]
    for process in both:
        try:
            _, err = process.communicate(timeout=300)
        finally:
            for other in both:
                other.kill() if process.returncode != 0 else None
        assert process.returncode == 0, err.decode()[-3000:]
    found = tuple(torch.load(directory / f"rank{rank}.pt", weights_only=True) for rank in (0, 1))
    return Pair(directory, (found[0], found[1]))


pytestmark = pytest.mark.slow


def assert_same(got: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    assert got.keys() == expected.keys() != set()
    for name, value in expected.items():
        torch.testing.assert_close(got[name], value, rtol=1e-4, atol=2e-6, msg=lambda m, n=name: f"{n}: {m}")


@pytest.mark.parametrize("case", CASES)
def test_losses_gradients_weights_and_figures_are_those_of_whole_tables(pair: Pair, case: str):
    for rank in pair.ranks:
        assert len(rank[case]["losses"]) == STEPS * EPOCHS
        torch.testing.assert_close(rank[case]["losses"], rank[f"{case} whole"]["losses"], rtol=1e-5, atol=1e-6)
        assert rank[case]["figures"] == pytest.approx(rank[f"{case} whole"]["figures"], rel=1e-4)
    for of in ("gradients", "weights"):
        assert_same(pair.joined(case, of), pair.ranks[0][f"{case} whole"][of])


@pytest.mark.parametrize("case", ["bce", "members", "softmax"])
def test_two_processes_do_what_one_does_with_the_same_global_batch(pair: Pair, case: str):
    _, _, alone = fitted(case, rank=0, world=1, strategy="auto")
    losses = torch.stack([rank[case]["losses"] for rank in pair.ranks]).mean(0)
    torch.testing.assert_close(losses, alone["losses"], rtol=1e-4, atol=1e-6)
    assert_same(pair.joined(case, "weights"), alone["weights"])
    assert_same(pair.joined(case, "gradients"), alone["gradients"])
    assert pair.ranks[0][case]["figures"] == pytest.approx(alone["figures"], rel=1e-3)


def test_each_process_holds_its_rows_and_their_optimiser_state_only(pair: Pair):
    rows = [{name: rank["bce"]["weights"][name].shape[0] for name in SHARDED} for rank in pair.ranks]
    assert rows[0] == {USER: 61, ITEM: 41, SHARDED[2]: 61, SHARDED[3]: 41}  # of 122 users and 82 items
    assert rows[0] == rows[1]
    of_items = [
        shape for state in pair.ranks[1]["bce"]["state"] for shape in state if len(shape) == 2 and shape[1] == 16
    ]
    assert (122, 16) not in of_items and (82, 16) not in of_items
    assert of_items.count((61, 16)) == 2 and of_items.count((41, 16)) == 2  # Adam's two means


def test_tables_below_min_rows_stay_whole(pair: Pair):
    weights = pair.ranks[0]["dropout"]["weights"]
    assert weights[USER].shape[0] == 61 and weights[ITEM].shape[0] == 82


@pytest.mark.parametrize("case", CASES)
def test_a_checkpoint_holds_whole_tables_and_loads_without_processes(pair: Pair, case: str):
    path = pair.directory / case / "last.ckpt"
    content = torch.load(path, weights_only=True)
    expected = pair.joined(case, "weights")
    assert_same({name: content["state_dict"][name] for name in expected}, expected)
    states = content["optimizer_states"][0]["state"].values()
    whole = pair.ranks[0][f"{case} whole"]["state"]
    assert [[tuple(v.shape) for v in state.values()] for state in states] == whole
    model, _ = load_model(path)
    reference = module_for(CASES[case])
    reference.load_state_dict(expected, strict=False)
    users, _ = tables_of()
    profile = model.user_vectors(model.pack("user", users))
    torch.testing.assert_close(profile, reference.model.eval().user_vectors(reference.model.pack("user", users)))


def test_a_resumed_run_equals_an_uninterrupted_one(pair: Pair):
    for rank in pair.ranks:
        torch.testing.assert_close(rank["resumed"]["losses"], rank["bce"]["losses"][STEPS:], rtol=0.0, atol=0.0)
        for name, weight in rank["bce"]["weights"].items():
            assert torch.equal(rank["resumed"]["weights"][name], weight), name


def test_a_sharded_checkpoint_resumes_in_one_process(pair: Pair):
    _, _, resumed = fitted(
        "bce", rank=0, world=1, strategy="auto", ckpt_path=str(pair.directory / "half" / "last.ckpt")
    )
    assert_same(resumed["weights"], pair.joined("bce", "weights"))


def test_gradients_may_be_clipped_by_value(pair: Pair):
    clipped, free = (pair.ranks[0][case]["gradients"][USER].abs().max() for case in ("clipped", "bce"))
    assert clipped <= 1e-4 < free


@pytest.mark.parametrize(
    ("case", "words"),
    [
        ("catalogue", "loss=full_softmax reads the vectors of all items"),
        ("profile", "model.profile=rows reads the vectors of all items"),
        ("history", "set model.history_dim=0"),
        ("pieces", "loader.micro_batch"),
        ("norm", "trainer.gradient_clip_algorithm=value"),
        ("small", "min_rows=123 rows, the largest has 122: choose trainer=ddp"),
    ],
)
def test_what_needs_whole_tables_is_refused_with_a_remedy(pair: Pair, case: str, words: str):
    for rank in pair.ranks:
        assert words in rank["refusals"][case]


def test_16_bit_floats_are_refused_as_processes_would_skip_different_steps():
    trainer = SimpleNamespace(precision="16-mixed", gradient_clip_val=None, gradient_clip_algorithm=None)
    found = [text for wrong, text in _obstacles(module_for(CASES["bce"]), {}, cast(Any, trainer)) if wrong]
    assert len(found) == 1 and "trainer.precision=bf16-mixed" in found[0]


@pytest.fixture
def alone() -> Iterator[None]:
    """Lightning keeps the address of a group in the environment, which later processes would take for theirs."""
    before = dict(os.environ)
    yield
    dist.destroy_process_group()
    os.environ.clear()
    os.environ.update(before)


def test_one_process_has_nobody_to_share_with(alone: None):
    with pytest.raises(ValueError, match=r"set trainer\.devices=2 or more"):
        fitted("bce", rank=0, world=1, strategy=ShardedTables(min_rows=1))


def test_the_command_trains_judges_and_recommends(workplace: Workplace, tmp_path: Path):
    places = [f"paths.data_dir={workplace.root / 'data'}", f"paths.log_dir={tmp_path / 'logs'}"]
    tiny = [word for word in TINY if not word.startswith("trainer.devices")]

    def run(*words: str) -> str:
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(REPOSITORY / "src")}
        done = subprocess.run(
            [sys.executable, *words], cwd=REPOSITORY, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return done.stdout

    shared_out = run("train.py", "trainer=sharded", "trainer.strategy.min_rows=150", *tiny, *places)
    assert "sharded over 2 processes" in shared_out
    directory = shared_out.strip().splitlines()[-1].removeprefix("run directory: ")
    lists = tmp_path / "lists.csv"
    run("recommend.py", f"run={directory}", "n=5", "format=csv", f"output={lists}")
    assert len(lists.read_text().splitlines()) == 1 + 150 * 5
    run("evaluate.py", f"run={directory}", "eval.num_resamples=20", *places)
