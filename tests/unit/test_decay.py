"""Forgetting by half-life against its definition."""

import pytest
import torch

from towerrec.decay import DAY_MS, decay_weights, decayed_counts, latest
from towerrec.schema import NO_TIMESTAMP

TIMES = torch.tensor([0, DAY_MS, 3 * DAY_MS, 4 * DAY_MS, NO_TIMESTAMP])


def test_a_row_counts_half_for_every_half_life_and_nothing_without_a_time():
    got = decay_weights(TIMES, as_of_ms=3 * DAY_MS, half_life_days=2.0)
    assert got.tolist() == pytest.approx([0.5**1.5, 0.5, 1.0, 1.0, 0.0])


def test_counts_are_the_weights_added_up_by_item():
    got = decayed_counts(torch.tensor([2, 0, 2, 2, 0]), TIMES, num_items=4, as_of_ms=4 * DAY_MS, half_life_days=1.0)
    assert got.tolist() == pytest.approx([0.5**3, 0, 0.5**4 + 0.5 + 1, 0])


def test_the_latest_moment_passes_over_rows_without_time():
    assert latest(TIMES) == 4 * DAY_MS
    assert latest(TIMES[-1:]) is None
    assert latest(TIMES[:0]) is None


@pytest.mark.parametrize("half_life", [0.0, -1.0, float("nan")])
def test_a_half_life_must_be_positive(half_life: float):
    with pytest.raises(ValueError, match="half_life_days must be positive"):
        decay_weights(TIMES, as_of_ms=0, half_life_days=half_life)
