"""Two processes with half a batch each do what one does with the whole: losses, weights and figures."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from commands import REPOSITORY
from sharing_processes import CASES, fitted
from torch import Tensor

HERE = Path(__file__).parent
TESTS = HERE.parent


def free_port() -> str:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return str(s.getsockname()[1])


def environment(**more: str) -> dict[str, str]:
    """That of a fresh process on one thread."""
    path = os.pathsep.join([str(REPOSITORY / "src"), str(TESTS), str(TESTS / "unit"), str(HERE)])
    return {**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1", **more}


def in_two_processes(folder: Path, names: list[str]) -> list[dict[str, Any]]:
    """What each of two real processes made of some cases."""
    command = [sys.executable, str(HERE / "sharing_processes.py"), str(folder), *names]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": free_port()}
    processes = [
        subprocess.Popen(
            command,
            env=environment(LOCAL_RANK=str(rank), **place),
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        for rank in range(2)
    ]
    try:
        said = [process.communicate(timeout=200)[0] for process in processes]
    finally:
        for process in processes:
            process.kill()
    assert all(process.returncode == 0 for process in processes), "\n".join(said)[-4000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


ALONE = "in-batch softmax, not gathered"
FEW = ["bce with negatives", "in-batch softmax", "several, batches without positives"]
OTHERS = [name for name in CASES if name not in (*FEW, ALONE)]


@pytest.fixture(scope="module")
def few(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return in_two_processes(tmp_path_factory.mktemp("few"), [*FEW, ALONE])


@pytest.fixture(scope="module")
def others(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return in_two_processes(tmp_path_factory.mktemp("others"), OTHERS)


def mean_losses(name: str, shares: list[dict[str, Any]]) -> Tensor:
    """The losses of the steps over the rows of both processes."""
    return torch.stack([share[name]["losses"] for share in shares]).mean(0)


def assert_as_one(name: str, shares: list[dict[str, Any]]) -> None:
    one, (first, second) = fitted(CASES[name]), (share[name] for share in shares)
    torch.testing.assert_close(mean_losses(name, shares), one["losses"], rtol=1e-5, atol=1e-5)
    for key, value in one["weights"].items():
        assert torch.equal(first["weights"][key], second["weights"][key]), key
        torch.testing.assert_close(first["weights"][key], value, rtol=1e-4, atol=1e-5)
    assert first["figures"] == second["figures"]
    assert first["figures"] == pytest.approx(one["figures"], rel=1e-5, abs=1e-6)


@pytest.mark.parametrize("name", FEW)
def test_two_processes_learn_what_one_learns_of_the_same_batches(name: str, few: list[dict[str, Any]]):
    assert_as_one(name, few)


@pytest.mark.slow
@pytest.mark.parametrize("name", OTHERS)
def test_they_do_so_with_every_kind_of_loss_and_negatives(name: str, others: list[dict[str, Any]]):
    assert_as_one(name, others)


def test_items_are_gathered_only_where_the_loss_says_so(few: list[dict[str, Any]]):
    gathered, own = mean_losses("in-batch softmax", few), mean_losses(ALONE, few)
    assert (gathered - own).abs().min() > 1e-3
    first, second = (share[ALONE] for share in few)
    assert all(torch.equal(first["weights"][key], value) for key, value in second["weights"].items())
