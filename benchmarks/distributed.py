"""Two processes on this machine against one: do they learn the same, and how many rows a second do they take?

    python benchmarks/distributed.py [--rounds 3] [--batch 8192] [--rows 400000]

Trains the same made-up rows (ids and 24 categorical features) at the same global batch in turn: one process on one
thread, one on two threads, two processes on one thread each under DDP (gloo). Prints one JSON object: the largest
differences between one process and two (losses of every step, weights, with plain SGD), rates and their ratios, and the
floor: what a step must send, and how long these collectives alone take between the same two processes. What two
processes lose beyond the floor is work done twice: each encodes the users and items that both halves of a batch hold
(`rows_encoded_a_step`), and each takes the optimiser's step over all weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning as L
import torch
import torch.distributed as dist
from conditions import conditions
from torch import Tensor
from training_speed import made_up

from towerrec.callbacks import Throughput
from towerrec.data.loader import BatchLoader
from towerrec.module import RetrievalModule
from towerrec.nn.losses import BCE, FullSoftmax, InBatchSoftmax, LabelFacts, Loss
from towerrec.nn.negatives import NoNegatives
from towerrec.nn.peers import Peers
from towerrec.optim import SGD, Constant
from towerrec.ragged import UserItems
from towerrec.resident import Resident
from towerrec.schema import Batch

USERS, ITEMS, WIDTH = 7176, 10728, 64
WAYS = {"one process, one thread": (1, 1), "one process, two threads": (1, 2), "two processes, one thread each": (2, 1)}
LOSSES: dict[str, Callable[[], Loss]] = {
    "bce": BCE,
    "in_batch_softmax": InBatchSoftmax,
    "full_softmax": FullSoftmax,
}


class Steps(L.Callback):
    """Keeps the loss of every step."""

    def __init__(self) -> None:
        self.losses: list[Tensor] = []

    def on_train_batch_end(
        self, trainer: L.Trainer, pl_module: L.LightningModule, outputs: Any, batch: Batch, batch_idx: int
    ) -> None:
        self.losses.append(outputs["loss"].detach())


def share(args: argparse.Namespace) -> None:
    """What one process does: train its share, measure what it sent, leave a file."""
    rank, world = int(os.environ.get("LOCAL_RANK", "0")), int(os.environ.get("WORLD_SIZE", "1"))
    torch.set_num_threads(args.threads)
    schema, users, items, rows = made_up(args.rows, USERS, ITEMS)
    loss = LOSSES[args.share]()
    liked = rows.label > 0
    known = UserItems.from_pairs(rows.user_idx[liked], rows.item_idx[liked], num_users=USERS, num_items=ITEMS)
    counted = rows.item_idx[liked] if loss.rows == "positives" else rows.item_idx
    torch.manual_seed(0)
    module = RetrievalModule(
        schema=schema.to_dict(),
        model={"embedding_dim": WIDTH, "feature_dim": 8, "user_hidden": [128], "item_hidden": [128]},
        loss=loss,
        negatives=NoNegatives(),
        optimizer=SGD(lr=0.1),
        scheduler=Constant(),
    )
    counts = torch.bincount(counted, minlength=ITEMS)
    module.attach(Resident(users, items, counts, known, LabelFacts(float(rows.label.mean()), 0.0, 1.0)))
    loader = BatchLoader(
        rows, batch_size=args.batch // world, shuffle=True, kind=loss.rows, positive="> 0", rank=rank, world_size=world
    )
    rate, steps = Throughput(), Steps()
    trainer = L.Trainer(
        max_epochs=args.epochs,
        accelerator="cpu",
        devices=world,
        strategy="ddp" if world > 1 else "auto",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        use_distributed_sampler=False,
        callbacks=[rate, steps],
    )
    trainer.fit(module, train_dataloaders=loader)
    found = {
        "rows_per_s": rate.rows_per_s,
        "seconds_a_step": loader.num_rows * args.epochs / rate.rows_per_s / len(steps.losses),
        "encoded": encoded(next(iter(loader)), loss),
        "losses": torch.stack(steps.losses),
        "weights": {name: value.detach() for name, value in module.named_parameters()},
        "floor": floor(module, args.batch // world, Peers(rank, world)) if world > 1 else {},
    }
    torch.save(found, args.out / f"{rank}.pt")


def encoded(batch: Batch, loss: Loss) -> int:
    """Rows of the two tables that a process encodes for a batch: distinct users, and distinct items or all."""
    items = ITEMS if loss.compares == "catalogue" else len(batch.item_idx.unique())
    return len(batch.user_idx.unique()) + items


def floor(module: RetrievalModule, batch: int, peers: Peers) -> dict[str, float]:
    """Bytes that a process sends and receives in a step, and the seconds that the bare collectives take."""
    flat = torch.zeros(sum(p.numel() for p in module.parameters() if p.requires_grad))
    vectors = torch.randn(min(batch, ITEMS), WIDTH, requires_grad=True)
    gathers = module.loss.gather
    # Of a sum over W processes each sends and receives 2 (W - 1) / W of it; of gathered parts the W - 1 others.
    others = peers.world_size - 1
    gradient = 2 * others / peers.world_size * flat.numel() * 4
    candidates = others * (2 * vectors.numel() * 4 + batch * 16) if gathers else 0
    seconds = []
    for _ in range(20):
        dist.barrier()
        start = time.perf_counter()
        dist.all_reduce(flat)
        if gathers:
            peers.collect(vectors).sum().backward()
        seconds.append(time.perf_counter() - start)
    return {"bytes_gradient": gradient, "bytes_candidates": candidates, "seconds": statistics.median(seconds)}


def run(loss: str, way: str, args: argparse.Namespace) -> list[dict[str, Any]]:
    """Train in some way; what each process left."""
    processes, threads = WAYS[way]
    with socket.socket() as s, tempfile.TemporaryDirectory() as out:
        s.bind(("127.0.0.1", 0))
        port = str(s.getsockname()[1])
        s.close()
        words = [sys.executable, __file__, "--share", loss, "--threads", str(threads), "--out", out]
        words += ["--batch", str(args.batch), "--rows", str(args.rows), "--epochs", str(args.epochs)]
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(processes)}
        threads_of = {"OMP_NUM_THREADS": str(threads)}
        started = []
        for rank in range(processes):
            own = {**place, "LOCAL_RANK": str(rank)} if processes > 1 else {}
            started.append(subprocess.Popen(words, env={**os.environ, **threads_of, **own}))
        if any(process.wait() for process in started):
            sys.exit(f"{loss}, {way}: a process failed")
        return [torch.load(Path(out) / f"{rank}.pt") for rank in range(processes)]


def compared(one: dict[str, Any], two: list[dict[str, Any]]) -> dict[str, float]:
    """The largest differences between one process and two."""
    losses = torch.stack([share["losses"] for share in two]).mean(0)
    weights = max(float((two[0]["weights"][n] - v).abs().max()) for n, v in one["weights"].items())
    return {
        "losses": float((losses - one["losses"]).abs().max()),
        "loss_of_the_last_step": float(one["losses"][-1]),
        "weights": weights,
        "largest_weight": max(float(v.abs().max()) for v in one["weights"].values()),
    }


def measured(loss: str, args: argparse.Namespace) -> dict[str, Any]:
    """All ways in turn, `rounds` times."""
    rounds = [{way: run(loss, way, args) for way in WAYS} for _ in range(args.rounds)]
    rate = {way: statistics.median(turn[way][0]["rows_per_s"] for turn in rounds) for way in WAYS}
    one, two_threads, two = (rate[way] for way in WAYS)
    last = rounds[-1]
    alone, shares = last["one process, one thread"][0], last["two processes, one thread each"]
    sent, step = shares[0]["floor"], shares[0]["seconds_a_step"]
    return {
        "loss": loss,
        "largest_differences": compared(alone, shares),
        "rows_per_s": {way: round(value) for way, value in rate.items()},
        "two_processes_to_one": round(two / one, 3),
        "two_processes_to_two_threads": round(two / two_threads, 3),
        "megabytes_a_step": {key: round(sent[f"bytes_{key}"] / 1e6, 2) for key in ("gradient", "candidates")},
        "rows_encoded_a_step": {"one process": alone["encoded"], "two together": sum(s["encoded"] for s in shares)},
        "milliseconds_a_step": {"all": round(1e3 * step, 1), "bare collectives": round(1e3 * sent["seconds"], 1)},
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--batch", type=int, default=8192, help="rows of all processes a step")
    parser.add_argument("--rows", type=int, default=400_000)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--loss", nargs="+", default=list(LOSSES), choices=LOSSES)
    parser.add_argument("--share", help=argparse.SUPPRESS)
    parser.add_argument("--threads", type=int, default=1, help=argparse.SUPPRESS)
    parser.add_argument("--out", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    logging.getLogger("lightning").setLevel(logging.ERROR)
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    if args.share is not None:
        share(args)
        return
    size = {"batch": args.batch, "rows": args.rows, "epochs": args.epochs, "users": USERS, "items": ITEMS}
    found = [measured(loss, args) for loss in args.loss]
    print(json.dumps({"conditions": conditions(), "size": size, "measured": found}, indent=1))


if __name__ == "__main__":
    main()
