"""Several processes that were started as one job, by torchrun, by SLURM's srun, or by hand on each of several nodes.

    torchrun --nproc-per-node 8 train.py ...                                one machine
    torchrun --nnodes 2 --nproc-per-node 8 --node-rank 0 --master-addr HOST --master-port 29500 train.py ...
    srun --ntasks-per-node=8 --gpus-per-node=8 --kill-on-bad-exit=1 python train.py ...
    NODE_RANK=0 MASTER_ADDR=HOST MASTER_PORT=29500 python train.py trainer.devices=8 trainer.num_nodes=2 ...

Each process runs the whole script. Training finds its own process group through Lightning; what has to be agreed before
there is one (which run directory, who prepares the log, whose error is told) is agreed through a key-value store at
`MASTER_ADDR:MASTER_PORT`, the place where the process group meets later. Imports torch only where there is such a job.

A cluster that takes its machines back, or warns before the time is up (`sbatch --signal=USR1@120`), stops all
processes before one batch (`agreeing`); a job that is started once more (`sbatch --requeue`) goes on there if its
command says `hydra.run.dir=DIR`.
"""

from __future__ import annotations

import os
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from torch.distributed import Store

    from towerrec.nn.peers import Peers

ResultT = TypeVar("ResultT")

_PATIENCE = timedelta(minutes=5)
_PAUSE = 0.1


class Elsewhere(Exception):
    """Another process of the job has failed and says why."""


@dataclass(frozen=True)
class Job:
    """This process among those of its job.

    Attributes:
        rank: Its number.
        world_size: How many there are; None where only Lightning will know (one was started by hand on each node).
        local_rank: Its number on its node.
        local_size: How many there are on its node; None as above.
        node: Number of the node.
        address: Host of rank 0.
        port: Where it listens.
        by: Who started it: `torchrun`, `srun` or `hand`.
    """

    rank: int
    world_size: int | None
    local_rank: int
    local_size: int | None
    node: int
    address: str
    port: int
    by: str

    @cached_property
    def store(self) -> Store:
        """What all processes of the job read and write."""
        # What the library itself would say of a connection that ends: our own messages say why.
        os.environ.setdefault("TORCH_CPP_LOG_LEVEL", "ERROR")
        from torch.distributed import PrefixStore, TCPStore

        # torchrun listens itself, in a process that outlives its workers and their restarts.
        agent = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
        store = TCPStore(
            self.address,
            self.port,
            is_master=self.rank == 0 and not agent,
            timeout=_PATIENCE,
            wait_for_workers=False,
            multi_tenant=True,
        )
        return PrefixStore(f"towerrec/{os.environ.get('TORCHELASTIC_RESTART_COUNT', '0')}", store)

    def wait(self, key: str) -> str:
        """What another process says under a key, however long that takes.

        Raises:
            Elsewhere: Some process failed meanwhile.
        """
        try:
            while not self.store.check([key]):
                if self.store.check(["failed"]):
                    raise Elsewhere(f"process {self.store.get('failed').decode()} failed")
                time.sleep(_PAUSE)
            return str(self.store.get(key).decode())
        except RuntimeError as error:
            raise Elsewhere(f"process 0 has gone: {error}") from error

    def devices(self, devices: int | str | list[int], num_nodes: int) -> tuple[int | str | list[int], int]:
        """`trainer.devices` and `trainer.num_nodes` as the job has them, where the config leaves them open.

        Raises:
            ValueError: The config asks for others than were started.
        """
        if self.world_size is None or self.local_size is None:
            return devices, num_nodes
        nodes = self.world_size // self.local_size
        if devices == "auto" and num_nodes in (1, nodes):
            return self.local_size, nodes
        number = len(devices) if isinstance(devices, list) else int(devices) if str(devices).isdigit() else devices
        if (number, num_nodes) != (self.local_size, nodes):
            raise ValueError(
                f"trainer.devices={devices} trainer.num_nodes={num_nodes}, but {self.by} started {self.local_size} "
                f"processes on each of {nodes} nodes: leave both out, or set them to {self.local_size} and {nodes}"
            )
        return devices, num_nodes

    def in_turn(self, name: str, work: Callable[[], ResultT]) -> ResultT:
        """Do the same work in every process: first in rank 0, then in one process of each other node, then in all.

        For work that leaves files: on a shared disk the later ones find those of the first, otherwise those of their
        node. Each `name` once.
        """
        mine = f"{name}/{self.node}"
        if self.rank != 0:
            self.wait(f"{name}/0")
            if self.local_rank != 0:
                self.wait(mine)
        result = work()
        if self.local_rank == 0:
            self.store.set(mine, "done")
        return result

    def everybody(self, name: str) -> None:
        """Wait until all processes have come here. Each `name` once."""
        assert self.world_size is not None, "known where processes were started one by one"
        if self.store.add(f"{name}/number", 1) == self.world_size:
            self.store.set(f"{name}/all", "here")
        self.wait(f"{name}/all")


def job() -> Job | None:
    """The job this process belongs to; None where it was started alone, or by Lightning as the child of one that was.

    Raises:
        ValueError: A rank without the others' place.
    """
    env = os.environ
    if "TORCHELASTIC_RUN_ID" in env:
        return _only(
            Job(
                rank=int(env["RANK"]),
                world_size=int(env["WORLD_SIZE"]),
                local_rank=int(env["LOCAL_RANK"]),
                local_size=int(env["LOCAL_WORLD_SIZE"]),
                node=int(env["GROUP_RANK"]),
                address=env["MASTER_ADDR"],
                port=int(env["MASTER_PORT"]),
                by="torchrun",
            )
        )
    # As Lightning tells them apart: an interactive shell within an allocation starts processes of its own.
    if int(env.get("SLURM_NTASKS", "1")) > 1 and env.get("SLURM_JOB_NAME") not in ("bash", "interactive"):
        from lightning.fabric.plugins.environments import SLURMEnvironment

        slurm = SLURMEnvironment()
        return _only(
            Job(
                rank=slurm.global_rank(),
                world_size=slurm.world_size(),
                local_rank=slurm.local_rank(),
                local_size=int(env["SLURM_NTASKS_PER_NODE"]),
                node=slurm.node_rank(),
                address=slurm.main_address,
                port=slurm.main_port,
                by="srun",
            )
        )
    if "NODE_RANK" in env and "LOCAL_RANK" not in env:
        if "MASTER_ADDR" not in env or "MASTER_PORT" not in env:
            raise ValueError(
                "NODE_RANK is set: set MASTER_ADDR and MASTER_PORT, the place of node 0, on every node too"
            )
        rank = int(env["NODE_RANK"])
        return _only(Job(rank, None, 0, None, rank, env["MASTER_ADDR"], int(env["MASTER_PORT"]), "hand"))
    return None


_job: list[Job] = []


def _only(found: Job) -> Job:
    """The same object for the whole process: it holds the connection."""
    if not _job or _job[0] != found:
        _job[:] = [found]
    return _job[0]


def rank() -> int:
    """0 in the process that speaks and writes for all of its job."""
    mine = job()
    if mine is not None:
        return mine.rank
    return int(os.environ.get("LOCAL_RANK", "0")) + int(os.environ.get("NODE_RANK", "0"))


def join(argv: list[str]) -> list[str] | None:
    """The arguments of this process, which takes the run directory of rank 0 for its own; None: nothing to run.

    Raises:
        ValueError: A sweep, whose jobs would have to start processes of their own.
        Elsewhere: Rank 0 failed before it had a directory.
    """
    mine = job()
    if mine is None:
        return argv
    if {"-m", "--multirun"} & set(argv):
        raise ValueError(
            f"processes started by {mine.by} train one model together: leave out -m, or start a sweep alone"
        )
    if mine.rank == 0:
        return argv
    directory = mine.wait("directory")
    if not directory:
        return None
    quoted = directory.replace("\\", "\\\\").replace('"', '\\"')
    # No second .hydra/, and a log file of its own.
    return [*argv, f'hydra.run.dir="{quoted}"', f"hydra.job.name=rank{mine.rank}", "hydra.output_subdir=null"]


def announce(directory: str) -> None:
    """Say as rank 0 which run directory it is."""
    mine = job()
    if mine is not None and mine.rank == 0:
        mine.store.set("directory", directory)


def local_rank() -> int:
    """Number of this process on its machine."""
    mine = job()
    return int(os.environ.get("LOCAL_RANK", "0")) if mine is None else mine.local_rank


def peers() -> Peers:
    """The processes among which work is shared out.

    Raises:
        ValueError: Processes that were started by hand, of which nobody knows how many there are.
    """
    from towerrec.nn.peers import ALONE, Peers

    mine = job()
    if mine is None:
        return ALONE
    if mine.world_size is None:
        raise ValueError("NODE_RANK is for training alone: start this on several nodes by torchrun or srun")
    return Peers(mine.rank, mine.world_size)


def meet() -> Peers:
    """The same, brought together: what they hold on the CPU can then be gathered."""
    mine, all_of_us = job(), peers()
    if mine is not None and all_of_us.several:
        from torch.distributed import init_process_group

        init_process_group("gloo", store=mine.store, rank=all_of_us.rank, world_size=all_of_us.world_size)
    return all_of_us


def part() -> None:
    """End the process group of a training, if there was one."""
    torch = sys.modules.get("torch")
    if torch is not None and torch.distributed.is_initialized():
        torch.distributed.destroy_process_group()


def in_turn(name: str, work: Callable[[], ResultT]) -> ResultT:
    """See `Job.in_turn`; alone, simply do it."""
    mine = job()
    return work() if mine is None else mine.in_turn(name, work)


def first_to_fail() -> bool:
    """Whether this process shall tell its error: no other one of its job did so before."""
    found = job()
    if found is None and "LOCAL_RANK" not in os.environ:
        return True
    try:
        store = _store_of_lightning() if found is None else found.store
        me = str(rank())
        return bool(store.compare_set("failed", "", me).decode() == me)
    except (OSError, RuntimeError):
        # Rank 0 has gone, and has told why.
        return rank() == 0


def leave() -> None:
    """End of this process's part: those who still wait for a directory have nothing to run."""
    mine = job()
    if mine is not None and mine.rank == 0 and not mine.store.check(["directory"]):
        mine.store.set("directory", "")


def _store_of_lightning() -> Store:
    """The place where processes that Lightning started have met."""
    from torch.distributed import PrefixStore, TCPStore

    address, port = os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"])
    with socket.create_connection((address, port), timeout=1.0):
        pass
    return PrefixStore("towerrec", TCPStore(address, port, is_master=False, timeout=timedelta(seconds=5)))
