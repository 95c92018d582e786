"""towerrec's own judgement, in the place of a reference; `--resamples` adds the bootstrap intervals of all figures."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from metrics_case import KS, Case, Figures, arguments, take_turns
from torch import Tensor

from towerrec.metrics.functional import hits_of, ranking_metrics
from towerrec.ragged import UserItems
from towerrec.report import bootstrap
from towerrec.report.judge import judge as judged
from towerrec.report.judge import summarise
from towerrec.retrieval.search import top_n_by


def packed(mask_UI: npt.NDArray[np.bool_]) -> UserItems:
    user, item = (torch.from_numpy(index) for index in mask_UI.nonzero())
    return UserItems.from_pairs(user, item, num_users=len(mask_UI), num_items=mask_UI.shape[1])


def main() -> None:
    asked = arguments()
    case = Case.load(asked.case)
    score_UI = torch.from_numpy(case.score_UI)
    num_users, num_items = score_UI.shape
    users, seen, relevant = torch.arange(num_users), packed(case.seen_UI), packed(case.relevant_UI)

    def scorer(user_idx_B: Tensor) -> Tensor:
        return score_UI[int(user_idx_B[0]) : int(user_idx_B[-1]) + 1].clone()  # the search overwrites what was seen

    def judge() -> Figures:
        lists = top_n_by(scorer, users, num_items=num_items, n=max(KS), exclude=seen)
        if asked.resamples:
            bootstrap._kept.cache_clear()  # kept for the next system of a judgement: here none
            summary = summarise(judged(lists, relevant, users, KS), num_resamples=asked.resamples)
            return {name: figure["mean"] for name, figure in summary.items()}
        hits_UK = hits_of(lists.items, relevant, users)
        return {name: float(value.nanmean()) for name, value in ranking_metrics(hits_UK, relevant.counts, KS).items()}

    take_turns(judge, asked, num_users, torch=torch.__version__)


if __name__ == "__main__":
    main()
