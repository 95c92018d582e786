"""What the store keeps of a row beside its label: how much it was worth, and how long the video was."""

import numpy as np
import polars as pl
import pytest
from memory_source import Memory, log, run

from towerrec.data.labels import Column, Implicit, Liked, WatchRatio
from towerrec.data.labels_debiased import DebiasedRank
from towerrec.data.splits import Given

FROM_WATCH_RATIO = [Liked(), WatchRatio(clip=1.5, log=True, positive=">= 1"), DebiasedRank(min_views=10)]


def prepared(folder, label, **columns):
    rows = log(200).with_columns(**columns)
    return run(folder, source=Memory(folder, log=rows), label=label, split=Given()), rows.filter(split=3)


@pytest.mark.parametrize("label", FROM_WATCH_RATIO)
def test_every_label_made_of_the_watch_ratio_keeps_it_as_the_grade(tmp_path, label):
    found, rows = prepared(tmp_path, label, duration_ms=pl.lit(2000))
    assert np.sort(found.store.grades("test").numpy()).tolist() == rows["watch_ratio"].sort().to_list()


def test_a_rating_is_kept_where_only_its_class_is_learnt(tmp_path):
    found, rows = prepared(tmp_path, Column(column="stars", positive=">= 4"), stars=pl.int_range(pl.len()) % 5 + 1)
    assert set(found.store.values("test").tolist()) == {0, 1}
    assert sorted(found.store.grades("test").tolist()) == rows["stars"].sort().to_list()


def test_without_anything_graded_the_label_stands_for_it(tmp_path):
    found, _ = prepared(tmp_path, Implicit())
    assert found.store.beside == ()
    assert set(found.store.grades("test").tolist()) == {1}


def test_seconds_are_kept_where_watch_ratios_are_predicted_and_unknown_ones_are_nan(tmp_path):
    length = pl.when(pl.int_range(pl.len()) % 3 == 0).then(None).otherwise(pl.int_range(pl.len()) * 100)
    found, rows = prepared(tmp_path, WatchRatio(), duration_ms=length)
    seconds, known = found.store.durations("test"), rows["duration_ms"].is_not_null()
    assert int(seconds.isnan().sum()) == int((~known).sum()) > 0
    assert float(seconds.nansum()) == pytest.approx(rows["duration_ms"].sum() / 1000)


def test_seconds_are_not_kept_where_a_class_is_predicted(tmp_path):
    assert prepared(tmp_path, Liked(), duration_ms=pl.lit(2000))[0].store.durations("test") is None
