"""Plain torch, as one writes it first: all scores at once, a mask, topk; unordered among ties."""

from __future__ import annotations

import torch
from search_case import Case, Ints, take_turns


def search(case: Case) -> Ints:
    scores_BI = torch.from_numpy(case.user_BD) @ torch.from_numpy(case.item_ID).T
    counts = torch.from_numpy(case.seen_offsets).diff()
    row = torch.repeat_interleave(torch.arange(len(counts)), counts)
    scores_BI[row, torch.from_numpy(case.seen_items)] = -torch.inf
    return scores_BI.topk(case.n).indices.numpy()


if __name__ == "__main__":
    take_turns(search, torch=torch.__version__)
