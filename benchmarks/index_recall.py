"""Recall and latency of the approximate indexes against exact search, by number of items, one thread.

10,728 items of a trained run (`--run DIR`; its own users), or made up like the others: users and items around a few
tastes, popular items longer and with a bias, as towers make them. Each index is set to a recall of .95 with 500 users
and measured with 500 others (`write_approximate`). Beside it, with the same users: the same graph and lists without
the column that makes lengths equal, at the widest setting tried.

    python benchmarks/index_recall.py [--run DIR] [--sizes 10728 100000 1000000] [--kinds ...] [--json FILE]

A size that is measured again takes the place of the old one in FILE.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from conditions import conditions

from towerrec import judging
from towerrec.data.catalogue import load_catalogue
from towerrec.retrieval import approximate_build
from towerrec.retrieval.approximate import KINDS, build_approximate, write_approximate
from towerrec.retrieval.approximate_build import kind_for
from towerrec.retrieval.approximate_measure import Truth
from towerrec.retrieval.index import ItemIndex
from towerrec.run_directory import RunDirectory

USERS, WIDTH = 1000, 64


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--run", type=Path, help="directory of a trained run, measured as a size of its own")
    parser.add_argument("--sizes", type=int, nargs="*", default=[10_728, 100_000, 1_000_000])
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sizes: dict[str, Any] = {}
    if asked.json is not None and asked.json.is_file():
        sizes = json.loads(asked.json.read_text(encoding="utf-8"))["sizes"]
    for name, made in [("run", asked.run)] * (asked.run is not None) + [(str(size), size) for size in asked.sizes]:
        user_UV, item_IV = of_run(made) if isinstance(made, Path) else synthetic(made)
        title = f"{len(item_IV):,} items, {'of a trained run' if name == 'run' else 'made up'}"
        held = sizes.get(title, {}).get("kinds", {})
        measured = {kind: of_kind(kind, user_UV, item_IV) for kind in asked.kinds}
        facts = {"items": len(item_IV), "width": item_IV.shape[1], "auto": kind_for(len(item_IV))}
        sizes[title] = facts | {"kinds": held | measured}
        result = {"conditions": conditions() | {"threads": 1}, "sizes": sizes}
        print(json.dumps({title: sizes[title]}, indent=2), flush=True)
        if asked.json is not None:
            asked.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")


def of_kind(kind: str, user_UV: torch.Tensor, item_IV: torch.Tensor) -> dict[str, Any]:
    """What `write_approximate` writes, less names of files, and the same index without the column."""
    index = ItemIndex.of(item_IV)
    with tempfile.TemporaryDirectory() as work:
        found = write_approximate(Path(work) / "faiss", index, user_UV, kind=kind)
    for key in ("format", "files", "asked", "ids"):
        del found[key]
    if kind == "flat" or len(item_IV) > 200_000:
        return found
    return found | {"without_the_column": without_the_column(kind, index, user_UV[:500], found["parameters"])}


def without_the_column(kind: str, index: ItemIndex, user_BV: torch.Tensor, set_to: dict[str, Any]) -> dict[str, float]:
    """Recall@100 of an index of the same kind whose further column is zero, set the same."""
    whole = approximate_build.widened
    approximate_build.widened = lambda vectors, *, share, width=None: whole(vectors, share=0.0, width=width)
    try:
        made = build_approximate(index, kind=kind)
    finally:
        approximate_build.widened = whole
    made.set_to(set_to["ef_search" if kind == "hnsw" else "probes"])
    truth = Truth(index, user_BV, (100,))
    return {"recall@100": round(truth.recall(lambda users, n: made.search(users, n=n), 100), 5)}


def of_run(directory: Path) -> tuple[torch.Tensor, torch.Tensor]:
    """Vectors of the users and the candidates of a run."""
    run = RunDirectory.open(directory)
    catalogue = load_catalogue(run.catalogue)
    scores = judging.load(run, checkpoint="best", device=torch.device("cpu"), catalogue=catalogue).scores
    user_UV = scores.users(torch.arange(len(catalogue.user_ids)))
    return user_UV, scores.items()[catalogue.in_log]


def synthetic(items: int, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Made-up towers: tastes by a Dirichlet, popularity by a power law that lengthens items and gives them a bias."""
    draw = np.random.default_rng(seed)
    tastes = max(8, int(items**0.5 / 2))
    center_TD = draw.standard_normal((tastes, WIDTH), dtype=np.float32)
    share_T = draw.dirichlet(np.full(tastes, 0.5))
    popular_I = np.log(draw.pareto(1.2, items) + 1).astype(np.float32)
    item_ID = center_TD[draw.choice(tastes, items, p=share_T)]
    item_ID += 0.7 * draw.standard_normal((items, WIDTH), dtype=np.float32)
    item_ID *= (1 + 0.3 * popular_I)[:, None] / WIDTH**0.5
    user_UD = center_TD[draw.choice(tastes, USERS, p=share_T)] + center_TD[draw.choice(tastes, USERS, p=share_T)]
    user_UD += 0.7 * draw.standard_normal((USERS, WIDTH), dtype=np.float32)
    user_UV = np.concatenate([user_UD * 2 / WIDTH**0.5, np.ones((USERS, 1), np.float32)], axis=1)
    return torch.from_numpy(user_UV), torch.from_numpy(np.concatenate([item_ID, 0.5 * popular_I[:, None]], axis=1))


if __name__ == "__main__":
    main()
