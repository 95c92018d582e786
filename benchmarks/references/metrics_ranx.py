"""ranx: NumPy ranks, ranx's compiled metrics read its own arrays of (item, score) pairs; MRR is cut by the list."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
from metrics_case import KS, Case, Figures, arguments, take_turns
from numba.typed import List
from ranx.metrics import average_precision, ndcg, precision, recall, reciprocal_rank


def main() -> None:
    asked = arguments()
    case = Case.load(asked.case)
    relevant = List()
    for row in case.relevant_UI:
        items = row.nonzero()[0].astype(np.float64)
        relevant.append(np.stack([items, np.ones(len(items))], axis=1))

    def judge() -> Figures:
        lists = case.top()
        scores = np.take_along_axis(case.score_UI, lists, axis=1)
        run = np.stack([lists.astype(np.float64), scores.astype(np.float64)], axis=2)
        figures = {}
        for k in KS:
            figures[f"precision@{k}"] = precision(relevant, run, k).mean()
            figures[f"recall@{k}"] = recall(relevant, run, k).mean()
            figures[f"ndcg@{k}"] = ndcg(relevant, run, k).mean()
            figures[f"map@{k}"] = average_precision(relevant, run, k).mean()
            figures[f"mrr@{k}"] = reciprocal_rank(relevant, run[:, :k], k).mean()
        return {name: float(value) for name, value in figures.items()}

    take_turns(judge, asked, len(case.score_UI), ranx=version("ranx"), numpy=np.__version__)


if __name__ == "__main__":
    main()
