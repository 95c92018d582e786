"""torchmetrics: torch ranks, its retrieval metrics loop over the users; only listed items are handed over.

Their scores are made positive ranks (what scores 0 or less counts as not retrieved there). Recall and NDCG then know
only the relevant items of the list, so those two figures are not what the other programs find.
"""

from __future__ import annotations

import torch
import torchmetrics
from metrics_case import KS, Case, Figures, arguments, take_turns
from torchmetrics.retrieval import (
    RetrievalMAP,
    RetrievalMRR,
    RetrievalNormalizedDCG,
    RetrievalPrecision,
    RetrievalRecall,
)

KINDS = {
    "precision": RetrievalPrecision,
    "recall": RetrievalRecall,
    "ndcg": RetrievalNormalizedDCG,
    "map": RetrievalMAP,
    "mrr": RetrievalMRR,
}


def main() -> None:
    asked = arguments()
    case = Case.load(asked.case)
    score_UI, seen_UI = torch.from_numpy(case.score_UI), torch.from_numpy(case.seen_UI)
    relevant_UI = torch.from_numpy(case.relevant_UI)
    n = max(KS)
    user_Un = torch.arange(len(score_UI))[:, None].expand(-1, n)
    rank_Un = torch.arange(n, 0, -1).float().expand(len(score_UI), -1)

    def judge() -> Figures:
        lists = score_UI.masked_fill(seen_UI, -torch.inf).topk(n).indices
        hits = relevant_UI.gather(1, lists)
        return {
            f"{name}@{k}": float(kind(top_k=k)(rank_Un.flatten(), hits.flatten(), indexes=user_Un.flatten()))
            for name, kind in KINDS.items()
            for k in KS
        }

    take_turns(judge, asked, len(score_UI), torchmetrics=torchmetrics.__version__, torch=torch.__version__)


if __name__ == "__main__":
    main()
