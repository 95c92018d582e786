"""One epoch of `two_tower` over the full simulated log (11.6 M rows), whole process, beside the same epoch by hand.

    python benchmarks/epoch_speed.py --work data/epoch_speed --json benchmarks/results/epoch_speed.json

`towerrec` is `python train.py` from start to exit: it opens the prepared log, trains, validates, writes a checkpoint
and judges. `by hand` is a process that loads the same tensors and trains the same model for the same epoch with the
same optimiser, and does nothing else: no Lightning, no validation, no checkpoint. What an expert would do it does:
features are embedded once for every distinct user and item of a batch, categories of one side share a table, Adam is
fused. Both run in turn, `--rounds` times; the ratio is that of the median seconds, and peak memory is that of each
process.

The floor of an epoch on two cores is what its matrix products take: `matrix_products` in the output runs those of every
step, forward and backward, and nothing else.

Shape letters: B rows of a batch, N users or items, G distinct ones of a batch, F categories, L values of a list.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BATCH, HIDDEN, DIM, WIDTH = 4096, 64, 32, 8

# The prepared log as tensors: what `train.py` trains on.
_EXPORT = """
import os, sys, torch
from hydra import compose, initialize_config_dir
from towerrec import config, tasks
with initialize_config_dir(config_dir=os.path.abspath("conf"), version_base="1.3"):
    cfg = config.evaluate_config(compose("evaluate", ["baseline=random", *sys.argv[2:]]))
prepared = tasks.prepared_data(cfg).prepared
rows, sides = prepared.store.rows("train"), {}
for side, table, context in (("user", prepared.users, rows.user_context), ("item", prepared.items, rows.item_context)):
    sides[side] = {
        "specs": [(s.name, s.kind, s.cardinality, s.width, s.context) for s in prepared.schema.side(side)],
        "columns": {name: column.clone() for name, column in table.columns.items()},
        "context": {name: column.clone() for name, column in context.items()},
        "idx": (rows.user_idx if side == "user" else rows.item_idx).clone(),
    }
torch.save({"label": rows.label.clone(), **sides}, sys.argv[1])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "data" / "epoch_speed", help="prepared log, runs, tensors")
    parser.add_argument("--data", type=Path, help="folder with the simulated log and its cache; None: under --work")
    parser.add_argument("--scale", default="full", choices=("tiny", "small", "full"), help="of the simulated log")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", type=Path)
    parser.add_argument("--by-hand", type=Path, metavar="TENSORS", help=argparse.SUPPRESS)
    parser.add_argument("--matrix-products", type=Path, metavar="TENSORS", help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.by_hand is not None:
        print(json.dumps(by_hand(asked.by_hand)))
    elif asked.matrix_products is not None:
        print(json.dumps(matrix_products(asked.matrix_products)))
    else:
        compare(asked)


def compare(asked: argparse.Namespace) -> None:
    """Run both in turn; print and write the figures."""
    from conditions import conditions
    from full_size import _measured

    work = asked.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    data = work / "data" if asked.data is None else asked.data.resolve()
    log = ["data=demo", f"data.demo.scale={asked.scale}", f"paths.data_dir={data}", f"paths.log_dir={work / 'logs'}"]
    tensors = work / "tensors.pt"
    _measured(["-c", _EXPORT, str(tensors), *log])
    # The tiny log, for a look at this script, has too few items for lists of 100.
    few = ["eval.ks=[5,20]"] if asked.scale == "tiny" else []
    own, other = [], []
    for _ in range(asked.rounds):
        figures, said = _measured(
            [
                "train.py",
                *log,
                *few,
                f"loader.batch_size={BATCH}",
                "trainer.max_epochs=1",
                "loss=bce",
                "model=two_tower",
            ]
        )
        run = ROOT / next(line.split(":", 1)[1].strip() for line in said.splitlines() if "run directory:" in line)
        facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
        own.append(figures | {"fit_seconds": facts["seconds"], "rows_per_s": facts["rows_per_second"]})
        figures, said = _measured([str(Path(__file__)), "--by-hand", str(tensors)])
        other.append(figures | json.loads(said.splitlines()[-1]))
    floor = json.loads(_measured([str(Path(__file__)), "--matrix-products", str(tensors)])[1].splitlines()[-1])
    seconds = [statistics.median(run["seconds"] for run in runs) for runs in (own, other)]
    result = {
        "conditions": conditions() | {"scale": asked.scale, "batch": BATCH, "rounds": asked.rounds},
        "ratio": round(seconds[0] / seconds[1], 3),
        "goal": 1.3,
        "peak_memory_mib": max(run["peak_memory_mib"] for run in own),
        "towerrec": own,
        "by_hand": other,
        "matrix_products": floor,
    }
    print(json.dumps(result, indent=2))
    if asked.json is not None:
        asked.json.parent.mkdir(parents=True, exist_ok=True)
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def by_hand(tensors: Path) -> dict[str, Any]:
    """One epoch of binary cross-entropy over all rows."""
    import torch
    import torch.nn.functional as F
    from torch import Tensor, nn

    def distinct(idx_B: Tensor, num: int) -> tuple[Tensor, Tensor]:
        mark = torch.zeros(num, dtype=torch.bool).index_fill_(0, idx_B, True)
        idx_G = mark.nonzero()[:, 0]
        place = torch.empty(num, dtype=torch.int64)
        place[idx_G] = torch.arange(len(idx_G))
        return idx_G, place.index_select(0, idx_B)

    class Tower(nn.Module):
        def __init__(self, side: dict[str, Any]) -> None:
            super().__init__()
            specs, columns = side["specs"], side["columns"]
            self.idx, self.context = side["idx"], list(side["context"].values())
            own = [s for s in specs if not s[4]]
            categories = [s for s in own if s[1] == "categorical" and s[0] not in ("user_id", "item_id")]
            moments = [s for s in specs if s[4]]
            offsets = torch.tensor([0, *(s[2] for s in categories)]).cumsum(0)
            self.index_NF = torch.stack([columns[s[0]].long() for s in categories], 1) + offsets[:-1]
            self.lists = [columns[s[0]].long() for s in own if s[1] == "multi"]
            numbers = [columns[s[0]].float().view(-1, s[3]) for s in own if s[1] in ("numeric", "vector")]
            self.numbers_NX = torch.cat(numbers, 1) if numbers else None
            self.table = nn.Parameter(torch.randn(int(offsets[-1]), WIDTH) * 0.05)
            self.bags = nn.ParameterList(torch.randn(s[2], WIDTH) * 0.05 for s in own if s[1] == "multi")
            self.moments = nn.ParameterList(torch.randn(s[2], WIDTH) * 0.05 for s in moments)
            width = WIDTH * (len(categories) + len(self.bags) + len(moments)) + sum(n.shape[1] for n in numbers)
            ids = next(s[2] for s in specs if s[0] in ("user_id", "item_id"))
            self.id_N = next(columns[name].long() for name in ("user_id", "item_id") if name in columns)
            self.vectors, self.bias = nn.Parameter(torch.randn(ids, DIM) * 0.05), nn.Parameter(torch.zeros(ids, 1))
            self.layers = nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, DIM + 1))

        def forward(self, at_B: Tensor) -> tuple[Tensor, Tensor]:
            row_B = self.idx.index_select(0, at_B).long()
            idx_G, group_B = distinct(row_B, len(self.id_N))
            index_GF = self.index_NF.index_select(0, idx_G)
            parts = [self.table.index_select(0, index_GF.reshape(-1)).view(len(idx_G), -1)]
            parts += [
                F.embedding_bag(list_NL.index_select(0, idx_G), bag, mode="mean", padding_idx=0)
                for list_NL, bag in zip(self.lists, self.bags, strict=True)
            ]
            parts += [] if self.numbers_NX is None else [self.numbers_NX.index_select(0, idx_G)]
            rows = [torch.cat(parts, 1).index_select(0, group_B)]
            rows += [
                table.index_select(0, column.index_select(0, at_B).long())
                for column, table in zip(self.context, self.moments, strict=True)
            ]
            vector, bias = self.layers(torch.cat(rows, 1)).split([DIM, 1], 1)
            id_B = self.id_N.index_select(0, row_B)
            return vector + self.vectors.index_select(0, id_B), bias + self.bias.index_select(0, id_B)

    torch.manual_seed(0)
    saved = torch.load(tensors, weights_only=True)
    label, user, item = saved["label"], Tower(saved["user"]), Tower(saved["item"])
    shift = nn.Parameter(torch.zeros(()))
    optimizer = torch.optim.Adam([*user.parameters(), *item.parameters(), shift], lr=1e-3, fused=True)
    started, loss = time.perf_counter(), torch.zeros(())
    for at_B in torch.randperm(len(label)).split(BATCH):
        (user_BD, user_B1), (item_BD, item_B1) = user(at_B), item(at_B)
        score_B = ((user_BD * item_BD).sum(1, keepdim=True) + user_B1 + item_B1)[:, 0] + shift
        loss = F.binary_cross_entropy_with_logits(score_B, label.index_select(0, at_B))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    seconds = time.perf_counter() - started
    return {
        "fit_seconds": round(seconds, 1),
        "rows_per_s": round(len(label) / seconds, 1),
        "loss": float(loss.detach()),
    }


@dataclass(frozen=True)
class _Product:
    """Widths of a layer."""

    wide: int
    out: int


def matrix_products(tensors: Path, *, steps: int = 200) -> dict[str, Any]:
    """Seconds of an epoch if a step were its matrix products alone, over every row: forward, and twice as much back."""
    import torch

    saved = torch.load(tensors, weights_only=True)
    num_rows, layers = len(saved["label"]), []
    for side in ("user", "item"):
        inputs = [s for s in saved[side]["specs"] if s[0] not in ("user_id", "item_id")]
        width = sum(WIDTH if s[1] in ("categorical", "multi") else s[3] for s in inputs)
        layers += [_Product(width, HIDDEN), _Product(HIDDEN, DIM + 1)]
    made = [(torch.randn(BATCH, p.wide), torch.randn(p.wide, p.out), torch.randn(BATCH, p.out)) for p in layers]
    started = time.perf_counter()
    for _ in range(steps):
        for x, weight, grad in made:
            torch.mm(x, weight)
            torch.mm(grad, weight.T)
            torch.mm(x.T, grad)
    seconds = (time.perf_counter() - started) / steps * num_rows / BATCH
    return {"seconds": round(seconds, 1), "rows": num_rows}


if __name__ == "__main__":
    sys.path.insert(0, str(Path(__file__).parent))
    main()
