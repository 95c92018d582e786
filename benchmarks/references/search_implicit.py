"""implicit: the search of its models' `recommend`, which leaves out seen items itself, on all cores."""

from __future__ import annotations

import implicit
import numpy as np
from implicit.cpu.topk import topk
from scipy.sparse import csr_matrix
from search_case import Case, Ints, take_turns


def search(case: Case) -> Ints:
    values = np.ones(len(case.seen_items), dtype=np.float32)
    shape = (len(case.user_BD), len(case.item_ID))
    seen = csr_matrix((values, case.seen_items.astype(np.int32), case.seen_offsets.astype(np.int32)), shape=shape)
    items, _ = topk(case.item_ID, case.user_BD, case.n, filter_query_items=seen, num_threads=0)
    return items.astype(np.int64)


if __name__ == "__main__":
    take_turns(search, implicit=implicit.__version__, numpy=np.__version__)
