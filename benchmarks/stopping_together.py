"""What it costs processes that train together to agree on stopping, and how long a signal to one of them waits.

    python benchmarks/stopping_together.py --processes 2 --batches 2000 --milliseconds 1 4

Two processes (gloo) take batches of a given length. Three ways: they never ask each other; before every batch, as
Lightning's own loop does (`_broadcast_sigterm_tensor`); as `towerrec.agreeing` does. Figures are medians of rounds that
take turns. Then one of them hears SIGTERM in the middle of the batches, and the time until both know is taken.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from statistics import median
from types import SimpleNamespace
from typing import Any, cast

import lightning as L
import torch
import torch.distributed as dist

os.environ.setdefault("OMP_NUM_THREADS", "1")

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "src"), str(ROOT / "benchmarks")]

from conditions import conditions  # noqa: E402

from towerrec import stopping  # noqa: E402
from towerrec.agreeing import Agreement  # noqa: E402

WAYS = ("never", "before every batch", "agreeing")


def wait(seconds: float) -> None:
    """A batch: the processor is busy for so long."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        pass


def epoch(way: str, trainer: L.Trainer, batches: int, seconds: float, *, signal_at: int = -1) -> tuple[float, float]:
    """Seconds of all batches, and from the signal until this process knows of it."""
    agreement, since, sent = Agreement(), time.perf_counter(), 0.0
    for batch in range(batches):
        if way == "before every batch":
            flag = torch.zeros(1, dtype=torch.int64)
            dist.broadcast(flag, src=0)
            flag.item()
        elif way == "agreeing":
            _, heard = agreement.at_batch(trainer, batch, late=False)
            if heard:
                return time.perf_counter() - since, time.perf_counter() - sent
        if batch == signal_at:
            sent = time.perf_counter()
            if dist.get_rank() == dist.get_world_size() - 1:
                os.kill(os.getpid(), signal.SIGTERM)
        wait(seconds)
        if batch % 16 == 15:  # gradients keep them together
            dist.barrier()
    return time.perf_counter() - since, float("nan")


def work(rank: int, processes: int, port: int, batches: int, lengths: list[float], answer: int) -> None:
    dist.init_process_group("gloo", init_method=f"tcp://127.0.0.1:{port}", rank=rank, world_size=processes)
    strategy = SimpleNamespace(root_device=torch.device("cpu"))
    trainer = cast(L.Trainer, SimpleNamespace(world_size=processes, strategy=strategy))
    stopping.listen(at_batches=True, together=True)
    found: dict[str, Any] = {}
    for length in lengths:
        rounds = {way: [] for way in WAYS}  # type: dict[str, list[float]]
        for _ in range(5):
            for way in WAYS:
                dist.barrier()
                rounds[way].append(epoch(way, trainer, batches, length / 1000)[0] / batches * 1e6)
        dist.barrier()
        heard = epoch("agreeing", trainer, 10**9, length / 1000, signal_at=batches // 2)[1]
        with stopping.heard():  # forget the signal
            pass
        stopping.listen(at_batches=True, together=True)
        bare = median(rounds["never"])
        found[f"{length:g} ms"] = {
            **{f"microseconds a batch more, {way}": round(median(rounds[way]) - bare, 1) for way in WAYS[1:]},
            "seconds from the signal until both know": round(heard, 2),
        }
    if rank == 0:
        os.write(answer, json.dumps(found).encode())
    dist.destroy_process_group()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=2)
    parser.add_argument("--batches", type=int, default=2000)
    parser.add_argument("--milliseconds", type=float, nargs="+", default=[1.0, 4.0])
    parser.add_argument("--write", action="store_true", help="write benchmarks/results/stopping_together.json")
    given = parser.parse_args()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    read, answer = os.pipe()
    children = []
    for rank in range(given.processes):
        pid = os.fork()
        if pid == 0:
            work(rank, given.processes, port, given.batches, given.milliseconds, answer)
            os._exit(0)
        children.append(pid)
    os.close(answer)
    found = {"conditions": conditions(), "processes": given.processes, **json.loads(os.read(read, 2**16))}
    for pid in children:
        os.waitpid(pid, 0)
    text = json.dumps(found, indent=2)
    print(text)
    if given.write:
        path = ROOT / "benchmarks" / "results" / "stopping_together.json"
        path.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
