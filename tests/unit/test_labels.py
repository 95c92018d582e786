import math

import polars as pl
import pytest
import torch

from towerrec.data.labels import Column, Implicit, Liked, WatchRatio, invert
from towerrec.data.labels_saved import label_from_dict, label_to_dict
from towerrec.positive import positive_mask

LOG = pl.DataFrame({"watch_ratio": pl.Series([0.0, 1.9999, 2.0, 573.0], dtype=pl.Float32), "stars": [1, 3, 4, 5]})


def test_liked_reaches_its_threshold():
    assert Liked().apply(LOG).to_list() == [0, 0, 1, 1]
    assert Liked(min_watch_ratio=100).apply(LOG).to_list() == [0, 0, 0, 1]


@pytest.mark.parametrize("options", [{}, {"log": True}, {"log": True, "shift": 0.3}], ids=str)
def test_the_positive_rule_of_the_watch_ratio_survives_the_log_scale_exactly(options):
    label = WatchRatio(**options)
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


def test_the_shift_of_the_log_is_inverted_by_the_name_that_is_kept():
    label = WatchRatio(log=True, shift=0.3)
    applied = label.apply(LOG)
    assert applied.to_list() == pytest.approx([math.log(x + 0.3) for x in (0, 1.9999, 2, 573)], rel=1e-6)
    ratios = torch.tensor([0.0, 1.9999, 2.0, 573.0])
    for inverse in (label.inverse, label_from_dict(label_to_dict(label)).inverse):
        torch.testing.assert_close(inverse(applied.to_torch()), ratios, rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(invert(applied.to_torch(), "exp-0.3"), ratios, rtol=1e-5, atol=1e-6)
    assert label.inverse_name == "exp-0.3"
    tiny = WatchRatio(log=True, shift=1e-7)
    torch.testing.assert_close(tiny.inverse(tiny.apply(LOG).to_torch()), ratios, rtol=1e-5, atol=1e-6)


def test_a_log_label_that_was_kept_before_there_was_a_shift_is_log1p():
    kept = {"name": "watch_ratio", "settings": {"clip": None, "log": True, "positive": ">= 2"}, "fitted": {}}
    label = label_from_dict(kept)
    assert (label.inverse_name, label.apply(LOG).to_list()) == ("expm1", WatchRatio(log=True).apply(LOG).to_list())


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"log": True, "shift": 0.0}, "label.shift must be above 0"),
        ({"shift": 0.3}, "under label.log=true only"),
        ({"log": True, "shift": 0.3, "positive": "> -0.5"}, "threshold must be above -0.3"),
    ],
)
def test_a_shift_without_a_logarithm_is_refused(options, message):
    with pytest.raises(ValueError, match=message):
        WatchRatio(**options)


@pytest.mark.parametrize("name", ["log", "exp", "exp-"])
def test_an_inverse_that_nobody_knows_is_named(name):
    with pytest.raises(ValueError, match=f"label inverse '{name}' is not known"):
        invert(torch.zeros(1), name)


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
    labels += [WatchRatio(log=True, shift=0.3)]
    labels += [Liked(min_watch_ratio=1), Column(), Column(column="a"), Column(positive="> 3"), Column(binary=False)]
    assert len({str(label.settings()) for label in labels}) == len(labels)
