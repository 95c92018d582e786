"""The floor: mask, torch.topk and a gather of what is relevant; no metric is computed."""

from __future__ import annotations

import torch
from metrics_case import KS, Case, Figures, arguments, take_turns


def main() -> None:
    asked = arguments()
    case = Case.load(asked.case)
    score_UI, seen_UI = torch.from_numpy(case.score_UI), torch.from_numpy(case.seen_UI)
    relevant_UI = torch.from_numpy(case.relevant_UI)

    def judge() -> Figures:
        lists = score_UI.masked_fill(seen_UI, -torch.inf).topk(max(KS)).indices
        return {f"precision@{max(KS)}": float(relevant_UI.gather(1, lists).double().mean())}

    take_turns(judge, asked, len(score_UI), torch=torch.__version__)


if __name__ == "__main__":
    main()
