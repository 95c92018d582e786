import math

import polars as pl
import pytest
import torch

from towerrec.data.labels import Column, Implicit, Liked, WatchRatio
from towerrec.positive import positive_mask

LOG = pl.DataFrame({"watch_ratio": pl.Series([0.0, 1.9999, 2.0, 573.0], dtype=pl.Float32), "stars": [1, 3, 4, 5]})


def test_liked_reaches_its_threshold():
    assert Liked().apply(LOG).to_list() == [0, 0, 1, 1]
    assert Liked(min_watch_ratio=100).apply(LOG).to_list() == [0, 0, 0, 1]


@pytest.mark.parametrize("log", [False, True])
def test_the_positive_rule_of_the_watch_ratio_survives_the_log_scale_exactly(log):
    label = WatchRatio(log=log)
    applied = label.apply(LOG)
    assert positive_mask(applied, label.positive).to_list() == [False, False, True, True]
    assert positive_mask(applied.to_torch(), label.positive).tolist() == [False, False, True, True]


def test_clip_and_log_do_what_they_say_and_the_log_is_inverted():
    clipped = WatchRatio(clip=5, log=True).apply(LOG)
    assert clipped.to_list() == pytest.approx([0, math.log1p(1.9999), math.log(3), math.log(6)], rel=1e-6)
    back = WatchRatio(clip=5, log=True).inverse(clipped.to_torch())
    torch.testing.assert_close(back, torch.tensor([0.0, 1.9999, 2.0, 5.0]))
    assert WatchRatio(log=True).inverse_name == "expm1"
    assert WatchRatio().inverse_name == "identity"


def test_a_clip_below_the_positive_rule_is_refused():
    with pytest.raises(ValueError, match="leaves no row that is positive"):
        WatchRatio(clip=1.5)


def test_a_column_is_learned_as_it_is_or_as_its_rule():
    stars = Column(column="stars", positive=">= 4")
    assert stars.apply(LOG).to_list() == [0, 0, 1, 1]
    assert (stars.binary, stars.positive) == (True, "> 0")
    ratings = Column(column="stars", positive=">= 4", binary=False)
    assert ratings.apply(LOG).to_list() == [1, 3, 4, 5]
    assert (ratings.binary, ratings.positive) == (False, ">= 4")


def test_implicit_makes_every_row_a_positive():
    assert Implicit().apply(LOG).to_list() == [1, 1, 1, 1]


def test_a_missing_column_is_named_with_the_closest_one():
    with pytest.raises(ValueError, match="no column 'watch_ratio': did you mean 'watch_ratios'"):
        Liked().apply(LOG.rename({"watch_ratio": "watch_ratios"}))


@pytest.mark.parametrize("bad", [None, math.nan, math.inf])
@pytest.mark.parametrize("label", [Liked(), WatchRatio(log=True), Column(column="watch_ratio")])
def test_a_value_that_is_not_there_is_never_a_label(bad, label):
    with pytest.raises(ValueError, match=r"1 of 2 rows have no finite value"):
        label.apply(pl.DataFrame({"watch_ratio": [1.0, bad]}))


def test_text_is_no_label():
    with pytest.raises(ValueError, match="needs numbers"):
        Column(column="word").apply(pl.DataFrame({"word": ["1"]}))


def test_settings_change_with_every_option():
    labels = [WatchRatio(), WatchRatio(clip=5), WatchRatio(log=True), WatchRatio(positive="> 1"), Liked(), Implicit()]
    labels += [Liked(min_watch_ratio=1), Column(), Column(column="a"), Column(positive="> 3"), Column(binary=False)]
    assert len({str(label.settings()) for label in labels}) == len(labels)
