"""The value baselines on real watch ratios, beside what the notes of that sample say they score."""

from pathlib import Path

import polars as pl
import pytest
import torch

from towerrec.baselines.values import UserItemBias
from towerrec.metrics.functional import mae, rmse

SAMPLE = Path(__file__).parents[2].parent / "shared" / "data" / "kuairec-real" / "watch_ratio_sample.csv"


@pytest.mark.skipif(not SAMPLE.is_file(), reason="the sample of real watch ratios is not there")
def test_biases_of_users_and_items_score_what_they_are_known_to_score_on_real_watch_ratios():
    split = pytest.importorskip("sklearn.model_selection").train_test_split
    rows = pl.read_csv(SAMPLE)
    user, item = (rows[c].rank("dense").cast(pl.Int32).to_numpy() - 1 for c in ("user_id", "video_id"))
    ratio = rows["watch_ratio"].cast(pl.Float32).to_numpy()
    train, test = split(range(rows.height), test_size=0.2, random_state=42)
    predictor = UserItemBias().fit(
        lambda: [(user[train], item[train], ratio[train])], num_users=int(user.max()) + 1, num_items=int(item.max()) + 1
    )
    predicted = predictor.predict(torch.from_numpy(user[test]), torch.from_numpy(item[test]))
    actual = torch.from_numpy(ratio[test])
    constant = torch.full_like(predicted, float(ratio[train].mean()))
    assert float(rmse(constant, actual)) == pytest.approx(1.749, abs=0.001)
    assert float(mae(constant, actual)) == pytest.approx(0.507, abs=0.001)
    assert float(rmse(predicted, actual)) == pytest.approx(1.702, abs=0.002)
    assert float(mae(predicted, actual)) == pytest.approx(0.399, abs=0.002)
