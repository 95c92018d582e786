"""Processes of one job, here threads of one: who they are, what they agree on before training, whose error is told."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Callable, Iterator

import pytest

from towerrec import distributed
from towerrec.distributed import Elsewhere, Job

TORCHRUN = {
    "TORCHELASTIC_RUN_ID": "none", "RANK": "3", "WORLD_SIZE": "4", "LOCAL_RANK": "1", "LOCAL_WORLD_SIZE": "2",
    "GROUP_RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "29500",
}  # fmt: skip
SRUN = {
    "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": "4", "SLURM_NTASKS_PER_NODE": "2",
    "SLURM_PROCID": "3", "SLURM_LOCALID": "1", "SLURM_NODEID": "1", "SLURM_NODELIST": "gpu[07-08]",
}  # fmt: skip


@pytest.fixture(autouse=True)
def started_alone() -> Iterator[None]:
    """An environment of its own: Lightning, too, notes down what it finds out."""
    before = dict(os.environ)
    yield
    os.environ.clear()
    os.environ.update(before)


def set_all(monkeypatch: pytest.MonkeyPatch, values: dict[str, str]) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name, value)


def jobs(*places: tuple[int, int, int]) -> list[Job]:
    """Processes by rank, local rank and node; the first one listens already."""
    port, world = free_port(), len(places)
    made = [Job(rank, world, local, 2, node, "127.0.0.1", port, "torchrun") for rank, local, node in places]
    assert made[0].rank == 0 and made[0].store is not None
    return made


def free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


def together(*parts: Callable[[], None]) -> list[BaseException]:
    """Run functions side by side; what they raised."""
    raised: list[BaseException] = []

    def guarded(part: Callable[[], None]) -> None:
        try:
            part()
        except BaseException as error:
            raised.append(error)

    threads = [threading.Thread(target=guarded, args=(part,)) for part in parts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=30)
    assert not any(thread.is_alive() for thread in threads), "a process waits forever"
    return raised


def test_a_process_alone_is_no_job():
    assert distributed.job() is None and distributed.rank() == 0 and not distributed.peers().several
    assert distributed.in_turn("work", lambda: 3) == 3
    assert distributed.join(["train.py", "-m"]) == ["train.py", "-m"]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (TORCHRUN, Job(3, 4, 1, 2, 1, "first", 29500, "torchrun")),
        (SRUN, Job(3, 4, 1, 2, 1, "gpu07", 19711, "srun")),
        (
            {"NODE_RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "29500"},
            Job(1, None, 0, None, 1, "first", 29500, "hand"),
        ),
    ],
    ids=["torchrun", "srun", "by hand"],
)
def test_who_started_the_processes_is_read_from_the_environment(
    monkeypatch: pytest.MonkeyPatch, values: dict[str, str], expected: Job
):
    set_all(monkeypatch, values)
    assert distributed.job() == expected
    assert distributed.rank() == expected.rank and distributed.local_rank() == expected.local_rank


def test_a_shell_within_an_allocation_and_a_child_of_lightning_are_no_jobs(monkeypatch: pytest.MonkeyPatch):
    set_all(monkeypatch, {**SRUN, "SLURM_JOB_NAME": "bash"})
    assert distributed.job() is None
    set_all(monkeypatch, {"NODE_RANK": "0", "LOCAL_RANK": "1", "MASTER_ADDR": "first", "MASTER_PORT": "1"})
    assert distributed.job() is None and distributed.rank() == 1


def test_a_node_that_does_not_know_the_first_one_is_told_what_it_lacks(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("NODE_RANK", "1")
    with pytest.raises(ValueError, match="set MASTER_ADDR and MASTER_PORT"):
        distributed.job()


@pytest.mark.parametrize(
    ("devices", "num_nodes", "expected"),
    [("auto", 1, (2, 2)), ("auto", 2, (2, 2)), (2, 2, (2, 2)), ([0, 3], 2, ([0, 3], 2))],
)
def test_the_trainer_takes_the_processes_that_were_started(devices: object, num_nodes: int, expected: object):
    job = Job(0, 4, 0, 2, 0, "first", 1, "torchrun")
    assert job.devices(devices, num_nodes) == expected  # type: ignore[arg-type]


@pytest.mark.parametrize(("devices", "num_nodes"), [(1, 2), (2, 1), ("auto", 3), (4, 1)])
def test_a_trainer_that_wants_other_processes_is_refused(devices: int | str, num_nodes: int):
    job = Job(0, 4, 0, 2, 0, "first", 1, "torchrun")
    with pytest.raises(
        ValueError, match="torchrun started 2 processes on each of 2 nodes: leave both out, or set them"
    ):
        job.devices(devices, num_nodes)


def test_files_are_made_by_the_first_process_and_read_by_the_others():
    first, second = jobs((0, 0, 0), (1, 1, 0))
    order: list[int] = []

    def late() -> None:
        time.sleep(0.3)
        order.append(0)

    assert together(lambda: second.in_turn("made", lambda: order.append(1)), lambda: first.in_turn("made", late)) == []
    assert order == [0, 1]


def test_on_every_node_one_process_works_before_the_others():
    order: list[int] = []

    def work(job: Job) -> Callable[[], None]:
        return lambda: job.in_turn("made", lambda: order.append(job.rank))

    assert together(*map(work, jobs((0, 0, 0), (1, 1, 0), (2, 0, 1), (3, 1, 1)))) == []
    assert order[0] == 0 and order.index(2) < order.index(3)


def test_who_waits_for_a_process_that_failed_is_not_left_waiting():
    first, second = jobs((0, 0, 0), (1, 1, 0))
    first.store.set("failed", "0")
    with pytest.raises(Elsewhere, match="process 0 failed"):
        second.in_turn("made", lambda: None)


def test_everybody_waits_for_everybody():
    at: list[float] = []

    def comes(job: Job) -> Callable[[], None]:
        def part() -> None:
            time.sleep(0.3 * job.rank)
            job.everybody("here")
            at.append(time.monotonic())

        return part

    start = time.monotonic()
    assert together(*map(comes, jobs((0, 0, 0), (1, 1, 0)))) == []
    assert min(at) - start >= 0.3
