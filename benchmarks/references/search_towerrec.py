"""towerrec's own search, in the place of a reference."""

from __future__ import annotations

import torch
from search_case import Case, Ints, take_turns

from towerrec.ragged import UserItems
from towerrec.retrieval.search import top_n


def search(case: Case) -> Ints:
    seen = UserItems(torch.from_numpy(case.seen_offsets), torch.from_numpy(case.seen_items), len(case.item_ID))
    return top_n(torch.from_numpy(case.user_BD), torch.from_numpy(case.item_ID), n=case.n, exclude=seen).items.numpy()


if __name__ == "__main__":
    take_turns(search, torch=torch.__version__)
