"""Training and validation on one GPU, everything resident there: rates, seconds, peak memory, and who waits for whom.

    python benchmarks/gpu_training.py --json benchmarks/results/gpu_training.json
    python benchmarks/gpu_training.py --device cpu --rows 20000 --users 300 --items 500 --batch 1024

The rows are as many as those of the full log (11.6 M), of ids and 24 categorical features, under Lightning with
`--precision`. `copies` and `waits` are what the profiler saw in 20 steps: copies between host and device, and calls in
which the host waits for the device. The floor of a pointwise epoch is reading its rows and the vectors of their users
and items once and writing the gradients of these: `floor_seconds`, at the rate of a copy within the device.
"""

from __future__ import annotations

import argparse
import json
import logging
import time
import warnings
from pathlib import Path
from typing import Any

import lightning as L
import torch
from conditions import conditions
from training_speed import EpochRates, made_up

from towerrec.data.loader import BatchLoader, UserLoader
from towerrec.data.rows import Rows
from towerrec.module import RetrievalModule
from towerrec.nn.losses import BCE, FullSoftmax, InBatchSoftmax, LabelFacts, Loss
from towerrec.nn.negatives import NoNegatives
from towerrec.optim import Adam, Constant
from towerrec.ragged import UserItems
from towerrec.resident import RankingTask, Resident

GOALS = {
    "pointwise": "an epoch in <= 2 s",
    "in_batch_softmax": ">= 1 M positives/s with 8,192 in the batch",
    "full_softmax": ">= 300 k positives/s over 10,728 items",
    "validation": "<= 0.3 s over the whole catalogue",
}
_COPIES = ("Memcpy HtoD", "Memcpy DtoH")
_WAITS = ("cudaStreamSynchronize", "cudaDeviceSynchronize", "cudaEventSynchronize")
_DIM = 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"))
    parser.add_argument("--precision", default="bf16-mixed")
    parser.add_argument("--rows", type=int, default=11_557_554)
    parser.add_argument("--users", type=int, default=7176)
    parser.add_argument("--items", type=int, default=10728)
    parser.add_argument("--batch", type=int, default=65536, help="of the pointwise epoch")
    parser.add_argument("--softmax-batch", type=int, default=8192)
    parser.add_argument("--epochs", type=int, default=2, help="the rate is that of the last one")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    if asked.device == "cuda" and not torch.cuda.is_available():
        parser.error("no CUDA device is at hand: this needs one, or --device cpu with a few rows")
    logging.getLogger("lightning.pytorch").setLevel(logging.ERROR)
    warnings.filterwarnings("ignore")
    losses: dict[str, tuple[Loss, int]] = {
        "pointwise": (BCE(), asked.batch),
        "in_batch_softmax": (InBatchSoftmax(), asked.softmax_batch),
        "full_softmax": (FullSoftmax(), asked.softmax_batch),
    }
    result: dict[str, Any] = {
        "conditions": conditions() | {"device": _device_name(asked.device), "precision": asked.precision},
        "goals": GOALS,
        "floor_seconds": floor_seconds(asked),
    }
    for name, (loss, batch) in losses.items():
        result[name] = measure(loss, batch, asked)
        print(json.dumps({name: result[name]}), flush=True)
    if asked.json is not None:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measure(loss: Loss, batch: int, asked: argparse.Namespace) -> dict[str, Any]:
    """Epochs of a loss, one validation after the last, and a look at some steps."""
    on_gpu = asked.device == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats()
    module, rows = built(loss, asked)
    loader = BatchLoader(rows.to(asked.device), batch_size=batch, shuffle=True, kind=loss.rows, positive="> 0")
    rates, validation = EpochRates(), _Validation()
    trainer = L.Trainer(
        max_epochs=asked.epochs,
        check_val_every_n_epoch=asked.epochs,
        accelerator="gpu" if on_gpu else "cpu",
        devices=1,
        precision=asked.precision,
        num_sanity_val_steps=0,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        callbacks=[rates, validation],
    )
    users = UserLoader(torch.arange(asked.users), batch_size=4096).to(asked.device)
    trainer.fit(module, loader, users)
    return {
        "batch": batch,
        "rows_an_epoch": loader.num_rows,
        "rows_per_s": round(rates.rates[-1]),
        "epoch_seconds": round(loader.num_rows / rates.rates[-1], 3),
        "validation_seconds": round(validation.seconds, 3),
        "peak_device_memory_mib": round(torch.cuda.max_memory_allocated() / 2**20) if on_gpu else None,
        **looked_at(module.to(asked.device), loader, asked),
    }


class _Validation(L.Callback):
    """Seconds of the last validation."""

    seconds = 0.0

    def on_validation_start(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds = -_now(pl_module.device)

    def on_validation_end(self, trainer: L.Trainer, pl_module: L.LightningModule) -> None:
        self.seconds += _now(pl_module.device)


def built(loss: Loss, asked: argparse.Namespace) -> tuple[RetrievalModule, Rows]:
    """The module over made-up rows."""
    schema, users, items, rows = made_up(asked.rows, asked.users, asked.items)
    liked = rows.label > 0
    known = UserItems.from_pairs(
        rows.user_idx[liked], rows.item_idx[liked], num_users=asked.users, num_items=asked.items
    )
    counted = rows.item_idx[liked] if loss.rows == "positives" else rows.item_idx
    torch.manual_seed(0)
    module = RetrievalModule(
        schema=schema.to_dict(),
        model={"embedding_dim": _DIM, "user_hidden": [128], "item_hidden": [128]},
        loss=loss,
        negatives=NoNegatives(),
        optimizer=Adam(),
        scheduler=Constant(),
    )
    facts = LabelFacts(float(rows.label.mean()), 0.0, 1.0)
    counts = torch.bincount(counted, minlength=asked.items)
    module.attach(Resident(users, items, counts, known, facts, tasks={"val": RankingTask(known)}))
    return module, rows


def looked_at(
    module: RetrievalModule, loader: BatchLoader, asked: argparse.Namespace, *, steps: int = 20
) -> dict[str, Any]:
    """Copies between host and device and waits of the host in some steps; None where there is no device."""
    if asked.device == "cpu":
        return {"copies": None, "waits": None}
    module.scorer.to(torch.device(asked.device))
    optimizer = module.optimizer_settings.build(module.named_parameters())
    batches = iter(loader)

    def step() -> None:
        with torch.autocast("cuda", torch.bfloat16, enabled=asked.precision.startswith("bf16")):
            loss = module.loss(module.scorer.scored(next(batches), module.loss), module.scorer.known)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    step()
    activities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]
    # The last wait is the profiler's own.
    with torch.profiler.profile(activities=activities) as profile:
        for _ in range(min(steps, len(loader) - 1)):
            step()
    seen = {event.key: event.count for event in profile.key_averages()}
    return {
        kind: {key: count for key, count in seen.items() if key.startswith(names)}
        for kind, names in (("copies", _COPIES), ("waits", _WAITS))
    }


def floor_seconds(asked: argparse.Namespace) -> float:
    """Seconds to move what a pointwise epoch must move, at the rate of a copy within the device."""
    block = torch.empty(1 << (28 if asked.device == "cuda" else 22), device=asked.device)
    other = torch.empty_like(block)
    other.copy_(block)
    started = _now(block.device)
    for _ in range(10):
        other.copy_(block)
    bytes_per_s = 10 * 2 * block.numel() * block.element_size() / (_now(block.device) - started)
    # A row: two indices, label, its place in the order; a user's and an item's vector read, their gradients written.
    return round(asked.rows * (3 * 4 + 8 + 4 * _DIM * 4) / bytes_per_s, 4)


def _now(device: torch.device) -> float:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter()


def _device_name(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "cpu"


if __name__ == "__main__":
    main()
