"""Popularity just before a row: against its definition, and blind to itself, the future and the held-out rows."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from memory_source import DAY_MS, Memory, log, run

from towerrec.data.catalogue import catalogue_of, load_catalogue, save_catalogue, with_items
from towerrec.data.declarations import declaration
from towerrec.data.recent import latest_popularity, recent_popularity
from towerrec.schema import NO_TIMESTAMP
from towerrec.scoring import Moment

FEATURES = {
    "declared": {
        "user_id": {"side": "user", "kind": "id"},
        "item_id": {"side": "item", "kind": "id"},
        "now": {"kind": "recent", "half_life_days": 2, "buckets": 6},
        "lately": {"side": "item", "kind": "statistic", "of": "recent_positives", "half_life_days": 2},
        "age_days": {"kind": "age_days", "column": "born", "buckets": 4},
    }
}


def rows(num_rows: int = 400, seed: int = 0) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Items, whole-hour moments (so that many are equal; some unknown) and which rows count."""
    draw = np.random.default_rng(seed)
    time = draw.integers(0, 200, num_rows) * 3_600_000
    time[draw.random(num_rows) < 0.05] = NO_TIMESTAMP
    counted = draw.random(num_rows) < 0.4
    return torch.tensor(draw.integers(0, 7, num_rows)), torch.tensor(time), torch.tensor(counted)


def by_definition(item: list[int], time: list[int], counted: list[bool], half_life: float, num_items: int):
    values = []
    for mine, now in zip(item, time, strict=True):
        own = total = 0.0
        for other, then, counts in zip(item, time, counted, strict=True):
            if counts and NO_TIMESTAMP < then < now:
                weight = 0.5 ** ((now - then) / (half_life * DAY_MS))
                own, total = own + weight * (other == mine), total + weight
        values.append(num_items * own / total if total and now != NO_TIMESTAMP else 0.0)
    return values


@pytest.mark.parametrize("half_life", [0.01, 1.0, 30.0])
def test_popularity_is_the_items_share_of_the_decayed_earlier_positives(half_life: float):
    item, time, counted = rows()
    got = recent_popularity(item, time, counted, num_items=9, half_life_days=half_life)
    expected = by_definition(item.tolist(), time.tolist(), counted.tolist(), half_life, 9)
    np.testing.assert_allclose(got.numpy(), expected, rtol=1e-5, atol=1e-30)


def test_the_order_of_the_rows_says_nothing():
    item, time, counted = rows()
    order = torch.randperm(len(item), generator=torch.Generator().manual_seed(1))
    settings = {"num_items": 9, "half_life_days": 1.0}
    got = recent_popularity(item[order], time[order], counted[order], **settings)
    assert torch.allclose(got, recent_popularity(item, time, counted, **settings)[order])


def test_a_row_does_not_see_itself_or_anything_later_or_at_the_same_moment():
    item, time, counted = rows()
    settings = {"num_items": 9, "half_life_days": 1.0}
    before = recent_popularity(item, time, counted, **settings)
    for moment in (50, 120):
        later = time >= moment * 3_600_000
        other_item, other_counted = item.clone(), counted.clone()
        other_item[later], other_counted[later] = 8, ~counted[later]
        seen = recent_popularity(other_item, time, other_counted, **settings)
        assert torch.equal(seen[~later], before[~later])
        own = torch.where(later & (time == moment * 3_600_000))[0]
        assert len(own)
        again = recent_popularity(item, time, torch.where(later, ~counted, counted), **settings)
        assert torch.equal(again[own], before[own])


def test_after_the_last_positive_the_share_stands_still():
    item, time, counted = rows()
    last = latest_popularity(item[counted], time[counted], num_items=9, half_life_days=1.0)
    end = int(time.max())
    asked = torch.arange(9)
    for days in (1, 4000):
        together = recent_popularity(
            torch.cat([item, asked]),
            torch.cat([time, torch.full((9,), end + days * DAY_MS)]),
            torch.cat([counted, torch.zeros(9, dtype=torch.bool)]),
            num_items=9,
            half_life_days=1.0,
        )
        assert torch.allclose(together[-9:], last, rtol=1e-5)


def test_a_long_log_and_a_short_half_life_overflow_nothing():
    time = torch.arange(3000) * DAY_MS
    every = torch.ones(3000, dtype=torch.bool)
    got = recent_popularity(torch.zeros(3000, dtype=torch.int64), time, every, num_items=2, half_life_days=0.5)
    assert got[0] == 0 and torch.equal(got[1:], torch.full((2999,), 2.0))
    assert (
        recent_popularity(torch.zeros(3, dtype=torch.int64), time[:3], ~every[:3], num_items=1, half_life_days=1)[2]
        == 0
    )


@pytest.fixture
def prepared(tmp_path: Path):
    return run(tmp_path, features=FEATURES)


def column(prepared, split: str, name: str = "now") -> list[int]:
    return prepared.store.rows(split).item_context[name].tolist()


def test_features_without_the_held_out_rows_are_those_with_them(tmp_path: Path, prepared):
    only = log().filter(pl.col("split") == 1)
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
    # The last training row again as a test row, since a log without one is refused.
    kept = pl.concat([only, log().filter((pl.col("split") == 3) & (pl.col("watch_ratio") > 2)).head(1)])
    alone = run(tmp_path / "a", source=Memory(tmp_path / "a", log=kept), features=FEATURES)
    assert column(alone, "train") == column(prepared, "train")
    item = pl.DataFrame({"id": prepared.item_ids, "value": prepared.items.columns["lately"].numpy()})
    other = pl.DataFrame({"id": alone.item_ids, "value": alone.items.columns["lately"].numpy()})
    assert item.join(other, on="id")["value"].to_list() == item.join(other, on="id")["value_right"].to_list()


def test_labels_of_held_out_rows_change_no_feature(tmp_path: Path, prepared):
    flipped = log().with_columns(
        watch_ratio=pl.when(pl.col("split") > 1).then(4.0 - pl.col("watch_ratio")).otherwise("watch_ratio")
    )
    (tmp_path / "flipped").mkdir()
    other = run(tmp_path / "flipped", source=Memory(tmp_path / "flipped", log=flipped), features=FEATURES)
    for split in ("train", "val", "test"):
        assert column(other, split) == column(prepared, split)
    assert torch.equal(other.items.columns["lately"], prepared.items.columns["lately"])


def test_items_are_listed_with_the_popularity_of_the_last_training_moment_or_the_age_of_the_one_asked_for(
    tmp_path: Path, prepared
):
    save_catalogue(prepared, tmp_path / "catalogue")
    catalogue = load_catalogue(tmp_path / "catalogue")
    plain = Moment().item_context(catalogue, torch.device("cpu"))
    later = Moment(prepared.as_of_ms + 9 * DAY_MS).item_context(catalogue, torch.device("cpu"))
    assert torch.equal(plain["now"], later["now"]) and not torch.equal(plain["age_days"], later["age_days"])
    assert len(plain["now"].unique()) > 3
    grown = with_items(catalogue_of(prepared), pl.DataFrame({"item_id": [900], "born": ["2020-07-01"]}))
    assert Moment().item_context(grown, torch.device("cpu"))["now"][-1] == 1


@pytest.mark.parametrize(
    ("change", "differs"),
    [({"half_life_days": 0.1}, True), ({"buckets": 2}, True), ({}, False)],
)
def test_half_life_and_buckets_change_the_feature(tmp_path: Path, prepared, change: dict[str, float], differs: bool):
    declared = FEATURES["declared"] | {"now": FEATURES["declared"]["now"] | change}
    (tmp_path / "other").mkdir()
    other = run(tmp_path / "other", source=Memory(tmp_path / "other", log=log()), features={"declared": declared})
    assert (column(other, "train") != column(prepared, "train")) is differs


@pytest.mark.parametrize(
    ("plain", "words"),
    [
        ({"kind": "recent", "half_life_days": 0}, "half_life_days must be a positive number, got 0"),
        ({"kind": "recent", "buckets": 300}, "at most 200"),
        ({"kind": "recent", "side": "user"}, "belongs to side 'item'"),
        ({"kind": "statistic", "side": "item", "of": "views", "half_life_days": 2}, "no use for half_life_days"),
    ],
)
def test_a_mistake_in_the_declaration_is_named(plain: dict[str, object], words: str):
    with pytest.raises(ValueError, match=words):
        declaration("x", plain)


def test_a_log_without_times_refuses_them(tmp_path: Path):
    untimed = log().with_columns(timestamp_ms=pl.lit(None, dtype=pl.Int64))
    for name in ("now", "lately"):
        declared = {k: v for k, v in FEATURES["declared"].items() if k in ("user_id", "item_id", name)}
        with pytest.raises(ValueError, match=f"features.declared.{name}: the log has no timestamps"):
            run(tmp_path, source=Memory(tmp_path, log=untimed), features={"declared": declared})
