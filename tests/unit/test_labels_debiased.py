import json
import math

import numpy as np
import polars as pl
import pytest
import torch
from memory_source import Memory, log, run

from towerrec.data.labels import Column, Implicit, Liked, WatchRatio
from towerrec.data.labels_buckets import DurationBuckets
from towerrec.data.labels_debiased import Debiased, DebiasedRank
from towerrec.data.labels_residual import DebiasedResidual
from towerrec.data.labels_saved import label_from_dict, label_to_dict
from towerrec.positive import positive_mask

# Two lengths, five views each: ratios of the short video are ten times those of the long one.
SHORT, LONG = [1.0, 2.0, 3.0, 4.0, 5.0], [0.1, 0.2, 0.3, 0.4, 0.5]
VIEWS = pl.DataFrame(
    {
        "watch_ratio": pl.Series(SHORT + LONG, dtype=pl.Float32),
        "duration_ms": pl.Series([5_000] * 5 + [50_000] * 5, dtype=pl.Int32),
    }
)


def views(count, seed=0):
    """Watch time that does not depend on duration, so that the ratio does."""
    coin = np.random.default_rng(seed)
    duration = np.exp(coin.uniform(np.log(1_000), np.log(200_000), count))
    return pl.DataFrame({"watch_ratio": coin.gamma(2, 4_000, count) / duration, "duration_ms": duration})


def buckets_slowly(durations, max_width, min_views):
    """The definition: equal steps on the log scale, joined from the left, the rest to the last."""
    low, high = min(durations), max(durations)
    steps = 1
    while (high / low) ** (1 / steps) > max_width:
        steps += 1
    bounds = [low * (high / low) ** (i / steps) for i in range(1, steps)] + [math.inf]
    found, start = [], 0.0
    for bound in bounds:
        members = [d for d in durations if start <= d < bound]
        if len(members) >= min_views:
            found.append([start, bound])
            start = bound
    if start < math.inf:
        if found:
            found[-1][1] = math.inf
        else:
            found = [[0.0, math.inf]]
    return [end for _, end in found[:-1]]


@pytest.mark.parametrize(("max_width", "min_views"), [(1.15, 60), (1.5, 1), (1.15, 700), (1.15, 10_000)])
def test_buckets_are_log_spaced_and_joined_until_each_holds_enough_views(max_width, min_views):
    durations = views(2_000)["duration_ms"].to_numpy()
    buckets = DurationBuckets.fit(durations, max_width=max_width, min_views=min_views)
    assert buckets.edges_ms == pytest.approx(buckets_slowly(durations.tolist(), max_width, min_views))
    held = np.bincount(buckets.of(durations), minlength=len(buckets))
    assert held.min() >= min(min_views, 2_000)


def test_an_edge_belongs_to_the_longer_bucket_and_everything_outside_to_the_outer_ones():
    assert DurationBuckets((10.0, 20.0)).of(np.array([0.1, 9.9, 10.0, 19.9, 20.0, 1e9])).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_view_is_liked_above_the_quantile_of_its_own_length():
    label = Debiased(quantile=0.7, min_views=5).fit(VIEWS)
    # The .7 quantile of five values lies at place 2.8: 3.8 and .38.
    assert label.fitted()["figures"]["threshold"] == pytest.approx([3.8, 0.38])
    assert label.apply(VIEWS).to_list() == [0, 0, 0, 1, 1, 0, 0, 0, 1, 1]
    assert Debiased(quantile=0.1, min_views=5).fit(VIEWS).apply(VIEWS).to_list() == [0, 1, 1, 1, 1] * 2
    # One bucket for all is the quantile of the raw ratio.
    assert Debiased(quantile=0.5, min_views=10).fit(VIEWS).apply(VIEWS).to_list() == [1] * 5 + [0] * 5


def test_a_view_at_the_threshold_is_not_above_it():
    label = Debiased(quantile=0.5, min_views=5).fit(VIEWS)
    assert label.apply(VIEWS).to_list() == [0, 0, 0, 1, 1] * 2


def test_narrower_buckets_follow_the_duration_closer():
    log = views(20_000)
    wide, narrow = (Debiased(max_width=w, min_views=100).fit(log) for w in (10.0, 1.1))
    assert len(wide.buckets) < len(narrow.buckets)

    def spread(label):
        rates = log.with_columns(label.apply(log)).sort("duration_ms")["label"].to_numpy().reshape(10, -1).mean(1)
        return rates.max() - rates.min()

    assert spread(narrow) < 0.05 < 0.3 < spread(wide)


def test_the_rank_is_the_share_of_views_of_that_length_not_watched_longer():
    label = DebiasedRank(resolution=4, min_views=5).fit(VIEWS)
    assert label.apply(VIEWS).to_list() == pytest.approx([0, 0.25, 0.5, 0.75, 1] * 2)
    other = pl.DataFrame({"watch_ratio": [2.5, 9.0, 0.0, 0.25], "duration_ms": [5_100, 1, 5_000, 90_000]})
    assert label.apply(other).to_list() == pytest.approx([0.375, 1, 0, 0.375])
    assert (label.binary, label.positive) == (False, "> 0.8")


def test_the_rank_above_the_quantile_is_what_debiased_likes():
    train, other = views(20_000), views(3_000, seed=1)
    liked = Debiased(quantile=0.8, min_views=500).fit(train).apply(other)
    rank = DebiasedRank(resolution=1_000, min_views=500).fit(train)
    assert (positive_mask(rank.apply(other), rank.positive).cast(pl.Float32) == liked).all()
    coarse = DebiasedRank(resolution=2, min_views=500).fit(train).apply(other)
    assert not coarse.equals(rank.apply(other))


def residual_slowly(ratio, peers, *, log, standardise, clip):
    def f(x):
        x = x if clip is None else min(x, clip)
        return math.log(1 + x) if log else x

    values = [f(x) for x in peers]
    mean = sum(values) / len(values)
    sd = math.sqrt(sum((v - mean) ** 2 for v in values) / len(values))
    return (f(ratio) - mean) / (sd if standardise else 1)


@pytest.mark.parametrize("log", [True, False])
@pytest.mark.parametrize("standardise", [True, False])
@pytest.mark.parametrize("clip", [None, 2.5])
def test_the_residual_is_taken_from_the_mean_of_its_own_length(log, standardise, clip):
    options = {"log": log, "standardise": standardise, "clip": clip}
    label = DebiasedResidual(min_views=5, **options).fit(VIEWS)
    expected = [residual_slowly(x, part, **options) for part in (SHORT, LONG) for x in part]
    assert label.apply(VIEWS).to_list() == pytest.approx(expected, rel=1e-5, abs=1e-6)


def test_views_that_are_all_alike_have_no_residual():
    same = VIEWS.with_columns(watch_ratio=pl.lit(2.0))
    assert DebiasedResidual(standardise=True, min_views=5).fit(same).apply(same).to_list() == [0.0] * 10


@pytest.mark.parametrize("label", [Debiased(), DebiasedRank(), DebiasedResidual()])
@pytest.mark.parametrize(
    "bad", [{"duration_ms": None}, {"duration_ms": 0}, {"watch_ratio": None}, {"watch_ratio": math.nan}]
)
def test_a_view_that_cannot_be_compared_is_never_labelled(label, bad):
    label.fit(VIEWS)
    row = {"watch_ratio": 1.0, "duration_ms": 5_000} | bad
    with pytest.raises(ValueError, match=rf"label={label.name}: 1 of 2 rows have no finite value"):
        label.apply(pl.DataFrame([{"watch_ratio": 1.0, "duration_ms": 5_000}, row]))


def test_a_log_without_durations_is_told_so_and_an_unfitted_label_too():
    with pytest.raises(ValueError, match="label=debiased: the log has no column 'duration_ms'"):
        Debiased().fit(VIEWS.drop("duration_ms"))
    with pytest.raises(ValueError, match="learnt nothing yet"):
        Debiased().apply(VIEWS)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Debiased(quantile=1.0), "quantile must lie between"),
        (lambda: Debiased(max_width=1.0), "max_width must be above 1"),
        (lambda: DebiasedRank(min_views=0), "min_views must be at least 1"),
        (lambda: DebiasedRank(resolution=1), "resolution must be at least 2"),
        (lambda: DebiasedRank(positive="often"), "not understood"),
        (lambda: DebiasedResidual(clip=-1.0), "clip must be above 0"),
    ],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


FITTED = [
    Liked(min_watch_ratio=0.3),
    WatchRatio(clip=4, log=True, positive=">= 1"),
    Column(column="watch_ratio", positive="> 0.3"),
    Implicit(),
    Debiased(quantile=0.6, min_views=5),
    DebiasedRank(resolution=7, min_views=5),
    DebiasedResidual(standardise=True, min_views=5),
]


@pytest.mark.parametrize("label", FITTED, ids=lambda label: label.name)
def test_a_label_comes_back_from_json_and_labels_further_rows_the_same(label):
    label.fit(VIEWS)
    again = label_from_dict(json.loads(json.dumps(label_to_dict(label))))
    assert again.apply(VIEWS).equals(label.apply(VIEWS))
    assert (again.positive, again.settings()) == (label.positive, label.settings())


def test_settings_change_with_every_option_of_the_debiased_labels():
    labels = [Debiased(), Debiased(quantile=0.7), Debiased(max_width=1.2), Debiased(min_views=9), DebiasedRank()]
    labels += [DebiasedRank(resolution=9), DebiasedRank(positive="> 0.7"), DebiasedResidual(), DebiasedResidual(clip=2)]
    labels += [DebiasedResidual(log=False), DebiasedResidual(standardise=True), DebiasedResidual(positive="> 1")]
    assert len({str(label.settings()) for label in labels}) == len(labels)


def lengths(rows):
    return rows.with_columns(duration_ms=(pl.col("item_id") * 977 % 60_000 + 1_000).cast(pl.Int32))


@pytest.mark.parametrize("kind", [Debiased, DebiasedRank, DebiasedResidual])
def test_held_out_rows_change_no_threshold_and_the_prepared_log_keeps_them(tmp_path, kind):
    rows = lengths(log())
    lies = rows.with_columns(
        watch_ratio=pl.when(pl.col("split") == 1).then("watch_ratio").otherwise(9.0).cast(pl.Float32),
        duration_ms=pl.when(pl.col("split") == 1).then("duration_ms").otherwise(77).cast(pl.Int32),
    )
    kept = []
    for number, source_rows in enumerate((rows, lies)):
        folder = tmp_path / str(number)
        folder.mkdir()
        prepared = run(folder, source=Memory(folder, log=source_rows), label=kind(min_views=40))
        kept.append(prepared.meta["label_fitted"])
        assert prepared.report["label"]["duration_buckets"] == len(kept[-1]["fitted"]["edges_ms"]) + 1 > 3
    assert kept[0] == kept[1]
    # The kept label says of a training row what the store says.
    train = rows.filter(pl.col("split") == 1).sort("user_id", "timestamp_ms", maintain_order=True)
    again = label_from_dict(kept[0]).apply(train)
    assert torch.equal(
        again.to_torch(),
        run(tmp_path / "0", source=Memory(tmp_path / "0", log=rows), label=kind(min_views=40))
        .store.rows("train")
        .label,
    )


@pytest.mark.parametrize("options", [{}, {"standardise": True}, {"log": False, "standardise": True}])
def test_a_predicted_residual_becomes_a_watch_ratio_again(tmp_path, options):
    source = Memory(tmp_path, log=lengths(log()))
    label = DebiasedResidual(min_views=40, **options)
    prepared = run(tmp_path, source=source, label=label)
    for split in ("train", "test"):
        stored = prepared.store.rows(split).label
        ratio = label.inverse(prepared.store.without_terms(stored, split))
        torch.testing.assert_close(ratio, prepared.store.values(split), rtol=1e-5, atol=1e-5)
        assert not torch.allclose(label.inverse(stored), ratio)


def test_labels_that_lead_back_to_nothing_have_no_terms(tmp_path):
    prepared = run(tmp_path, source=Memory(tmp_path, log=lengths(log())), label=Debiased(min_views=40))
    label_R = prepared.store.rows("test").label
    assert prepared.store.without_terms(label_R, "test") is label_R
    assert torch.equal(prepared.store.values("test"), label_R)
