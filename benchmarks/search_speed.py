"""Exact top 100 of 10,728 items for 7,176 users with seen items left out, beside matmul + mask + topk in plain torch.

Prints JSON: seconds, the best of five of each, and whether both gave the same lists.

    python benchmarks/search_speed.py [--device cuda] [--seen 400]
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable

import torch
from torch import Tensor

from towerrec.ragged import UserItems
from towerrec.retrieval.search import top_n

NUM_USERS, NUM_ITEMS, WIDTH, N = 7_176, 10_728, 128, 100


def plain(user_BD: Tensor, item_ID: Tensor, row: Tensor, item: Tensor) -> Tensor:
    """What one writes first: all scores at once, unordered among ties."""
    scores_BI = user_BD @ item_ID.T
    scores_BI[row, item] = -torch.inf
    return scores_BI.topk(N).indices


def best_of(work: Callable[[], Tensor], device: torch.device, times: int = 5) -> tuple[float, Tensor]:
    seconds = []
    for _ in range(times + 1):  # the first one warms up
        started = time.perf_counter()
        result = work()
        if device.type == "cuda":
            torch.cuda.synchronize()
        seconds.append(time.perf_counter() - started)
    return min(seconds[1:]), result


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seen", type=int, default=400, help="seen items per user")
    asked = parser.parse_args()
    device = torch.device(asked.device)
    generator = torch.Generator().manual_seed(0)
    user_BD = torch.randn(NUM_USERS, WIDTH, generator=generator).to(device)
    item_ID = torch.randn(NUM_ITEMS, WIDTH, generator=generator).to(device)
    row = torch.randint(0, NUM_USERS, (NUM_USERS * asked.seen,), generator=generator).to(device)
    item = torch.randint(0, NUM_ITEMS, (NUM_USERS * asked.seen,), generator=generator).to(device)
    seen = UserItems.from_pairs(row, item, num_users=NUM_USERS, num_items=NUM_ITEMS)
    ours, ours_lists = best_of(lambda: top_n(user_BD, item_ID, n=N, exclude=seen).items, device)
    theirs, their_lists = best_of(lambda: plain(user_BD, item_ID, row, item), device)
    print(
        json.dumps(
            {
                "device": asked.device,
                "threads": torch.get_num_threads(),
                "top_n_seconds": round(ours, 4),
                "plain_torch_seconds": round(theirs, 4),
                "same_items": float((ours_lists == their_lists).double().mean()),
            }
        )
    )


if __name__ == "__main__":
    main()
