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


@pytest.fixture(scope="module")
def shares(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    """What each of two real processes made of all cases."""
    folder, port = tmp_path_factory.mktemp("shares"), free_port()
    command = [sys.executable, str(HERE / "sharing_processes.py"), str(folder)]
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
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
    said = [process.communicate(timeout=300)[0] for process in processes]
    assert all(process.returncode == 0 for process in processes), "\n".join(said)[-4000:]
    return [torch.load(folder / f"rank{rank}.pt") for rank in range(2)]


@pytest.mark.parametrize("name", CASES)
def test_two_processes_learn_what_one_learns_of_the_same_batches(name: str, shares: list[dict[str, Any]]):
    one, (first, second) = fitted(CASES[name]), (share[name] for share in shares)
    torch.testing.assert_close((first["losses"] + second["losses"]) / 2, one["losses"], rtol=1e-4, atol=1e-5)
    for key, value in one["weights"].items():
        assert torch.equal(first["weights"][key], second["weights"][key]), key
        torch.testing.assert_close(
            first["weights"][key], value, rtol=1e-3, atol=1e-4, msg=lambda m, key=key: f"{key}: {m}"
        )
    assert first["figures"] == second["figures"] | {k: v for k, v in first["figures"].items() if "rows_per_s" in k}
    assert first["figures"] == pytest.approx(one["figures"], rel=1e-4, abs=1e-5)
