"""Exact top 100 for 1 M users and 1 M items of 128 dimensions on one GPU, beside the GPU's own bfloat16 matrix rate.

The rate is that of square products of 8,192, measured in the same run before and after. `precision=bfloat16` finds
rough scores and their maxima over groups, scores the best anew in float32 and proves each list (`retrieval.rescoring`);
users that cannot be proven are searched in float32. The lists of `--checked` users are compared with a search in
float32. Prints JSON: seconds, the share of the matrix rate (2 U I D operations over the seconds), peak device memory.

    python benchmarks/gpu_retrieval.py [--users 1000000 --items 1000000] [--json FILE]
    python benchmarks/gpu_retrieval.py --device cpu --users 500 --items 5000 --square 256     # tries it out

The floor, in bytes: every rough score is written once and read once, 4 bytes for 256 operations, 0.83 s of 4.8 TB/s at
1 M x 1 M, where the products alone are 0.37 s at 700 TFLOP/s.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from conditions import conditions
from torch import Tensor

from towerrec.ragged import TopN
from towerrec.retrieval.candidates import Candidates
from towerrec.retrieval.rescoring import RoundedVectors
from towerrec.retrieval.search import top_n


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--users", type=int, default=1_000_000)
    parser.add_argument("--items", type=int, default=1_000_000)
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--n", type=int, default=100)
    parser.add_argument("--memory-mb", type=float, default=None, help="of scores held at once")
    parser.add_argument("--checked", type=int, default=10_000, help="users whose lists are compared with float32")
    parser.add_argument("--square", type=int, default=8_192, help="size of the products that measure the matrix rate")
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    result = measured(asked, torch.device(asked.device))
    print(json.dumps(result, indent=2))
    if asked.json:
        asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def measured(asked: argparse.Namespace, device: torch.device) -> dict[str, Any]:
    """The matrix rate, the search, the matrix rate again, and the comparison with float32."""
    generator = torch.Generator(device).manual_seed(0)
    user_UD = torch.randn(asked.users, asked.width, generator=generator, device=device)
    item_ID = torch.randn(asked.items, asked.width, generator=generator, device=device)

    def search(some_BD: Tensor, precision: str) -> TopN:
        return top_n(some_BD, item_ID, n=asked.n, memory_mb=asked.memory_mb, precision=precision)

    search(user_UD[: max(1, asked.users // 100)], "bfloat16")  # warms up
    before = matrix_rate(device, asked.square)
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    seconds, lists = timed(lambda: search(user_UD, "bfloat16"), device)
    peak = torch.cuda.max_memory_allocated(device) if device.type == "cuda" else None
    rate = (before + matrix_rate(device, asked.square)) / 2
    some = torch.randperm(asked.users, generator=generator, device=device)[: asked.checked]
    reference = search(user_UD[some], "float32")
    done = 2.0 * asked.users * asked.items * asked.width / seconds
    return {
        "conditions": conditions() | {"device": device_name(device)} | vars(asked) | {"json": None},
        "seconds": round(seconds, 4),
        "bfloat16_matrix_tflops": round(rate / 1e12, 3),
        "search_tflops": round(done / 1e12, 3),
        "share_of_the_matrix_rate": round(done / rate, 4),
        "unproven_share": unproven(user_UD[some], item_ID, asked.n),
        "same_items_as_float32": float((lists.items[some] == reference.items).double().mean()),
        "largest_relative_score_difference": float(
            ((lists.scores[some] - reference.scores).abs() / reference.scores.abs()).max()
        ),
        "peak_device_memory_bytes": peak,
    }


def unproven(user_BD: Tensor, item_ID: Tensor, n: int) -> float:
    """Share of users whose lists had to be searched in float32."""
    plan = Candidates(len(item_ID), None, None, None)
    users_B = torch.arange(len(user_BD), device=user_BD.device)
    return float(RoundedVectors(user_BD, item_ID).top_n(users_B, plan, n=n, chunk=512)[1].double().mean())


def matrix_rate(device: torch.device, size: int) -> float:
    """Operations a second of square bfloat16 products, the best of five."""
    left, right = (torch.randn(size, size, device=device).bfloat16() for _ in range(2))
    return 2.0 * size**3 / min(timed(lambda: left @ right, device)[0] for _ in range(6))


def timed(work: Callable[[], Any], device: torch.device) -> tuple[float, Any]:
    """Seconds until the device is done, and the result."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    result = work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started, result


def device_name(device: torch.device) -> str:
    return torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"


if __name__ == "__main__":
    main()
