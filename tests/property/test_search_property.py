"""Search against a full sort on whatever Hypothesis comes up with."""

import numpy as np
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from towerrec.retrieval.search import top_n_by

SCORES = hnp.arrays(
    np.float32,
    st.tuples(st.integers(1, 5), st.integers(1, 60)),
    elements=st.sampled_from([-np.inf, -1e30, -1.0, -0.0, 0.0, 0.5, 1.0, 3e38]),
)


@settings(max_examples=200, deadline=None)
@given(scores=SCORES, n=st.integers(1, 70), chunk=st.integers(1, 6))
def test_lists_are_the_head_of_a_stable_sort(scores: np.ndarray, n: int, chunk: int):
    table = torch.from_numpy(scores.copy())
    got = top_n_by(lambda u: table[u], torch.arange(len(scores)), num_items=scores.shape[1], n=n, chunk=chunk)
    for row, items, values in zip(scores, got.items.tolist(), got.scores.tolist(), strict=True):
        order = [int(i) for i in np.argsort(-row, kind="stable") if row[i] > -np.inf][:n]
        assert items == order + [-1] * (n - len(order))
        assert values[: len(order)] == row[order].tolist()
