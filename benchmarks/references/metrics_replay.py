"""RePlay: torch ranks, its `TorchMetricsBuilder` judges, the way its validation callback does, in batches of users."""

from __future__ import annotations

from importlib.metadata import version

import numpy as np
import torch
from metrics_case import KS, Case, Figures, arguments, take_turns
from replay.metrics.torch_metrics_builder import TorchMetricsBuilder

_USERS = 64  # it compares every place with every relevant item: larger batches are slower


def main() -> None:
    asked = arguments()
    case = Case.load(asked.case)
    score_UI, seen_UI = torch.from_numpy(case.score_UI), torch.from_numpy(case.seen_UI)
    counts = case.relevant_UI.sum(1)
    relevant = np.full((len(counts), counts.max()), -1)
    relevant[np.arange(counts.max()) < counts[:, None]] = case.relevant_UI.nonzero()[1]
    truth = torch.from_numpy(relevant)

    def judge() -> Figures:
        builder = TorchMetricsBuilder(["precision", "recall", "ndcg", "map", "mrr"], list(KS))
        lists = score_UI.masked_fill(seen_UI, -torch.inf).topk(max(KS)).indices
        for some, wanted in zip(lists.split(_USERS), truth.split(_USERS), strict=True):
            builder.add_prediction(some, wanted)
        return dict(builder.get_metrics())

    take_turns(judge, asked, len(case.score_UI), replay=version("replay-rec"), torch=torch.__version__)


if __name__ == "__main__":
    main()
