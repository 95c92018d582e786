"""Slices: groups by hand, ratios beside loops, intervals that resample users, sentences."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch

from towerrec.grouping import bands, of_values, two
from towerrec.ragged import UserItems
from towerrec.report.interpret_slices import interpret_slices
from towerrec.report.judge import Judged
from towerrec.report.slices import Groups, Ranked, item_slices, user_slices


def members(groups: Groups) -> dict[str, list[int]]:
    """Rows of every group by its label."""
    return {label: groups.member_NG[:, i].nonzero()[:, 0].tolist() for i, label in enumerate(groups.labels)}


# --- groups ----------------------------------------------------------------------------------------------------------


def test_a_number_is_cut_at_quantiles_and_equal_numbers_stay_together():
    found = bands("s", "user", torch.tensor([5, 1, 1, 1, 9, 7]), 3)
    assert members(found) == {"1 to 5": [0, 1, 2, 3], "7 to 9": [4, 5]}


def test_zeros_are_a_group_of_their_own_where_they_mean_something_else():
    found = bands("s", "user", torch.tensor([0, 4, 0, 8]), 2, apart="none")
    assert members(found) == {"none": [0, 2], "4": [1], "8": [3]}


def test_what_is_not_known_is_the_last_group():
    found = bands("s", "item", torch.tensor([math.nan, 1.25, 30.0]), 2, unit=" s")
    assert members(found) == {"1.25 s": [1], "30 s": [2], "unknown": [0]}


def test_quantiles_are_those_of_the_candidates_alone():
    among = torch.tensor([True, True, False, False])
    found = bands("s", "item", torch.tensor([1, 2, 50, 60]), 2, among)
    assert members(found) == {"1": [0], "2": [1, 2, 3]}


def test_one_value_is_one_group_and_no_value_none():
    assert members(bands("s", "user", torch.tensor([4, 4]), 5)) == {"4": [0, 1]}
    assert members(bands("s", "user", torch.tensor([math.nan]), 5)) == {"unknown": [0]}


def test_values_beyond_the_largest_are_one_group_and_an_item_may_be_in_several():
    values = torch.tensor([[0, 1], [1, -1], [2, 3], [-1, -1], [1, 2]])
    found = members(of_values("s", "item", values, ["a", "b", "c", "d"], 1))
    assert found == {"b": [0, 1, 4], "others": [0, 2, 4], "none": [3]}
    among = torch.tensor([False, False, True, True, False])
    assert next(iter(members(of_values("s", "item", values, ["a", "b", "c", "d"], 1, among)))) == "c"


def test_a_yes_or_no_makes_two_groups():
    assert members(two("s", "item", torch.tensor([True, False]), "cold", "known")) == {"cold": [0], "known": [1]}


# --- figures of groups -----------------------------------------------------------------------------------------------


def judged(name: str, values: list[float]) -> Judged:
    return Judged(name, pl.DataFrame({"user_idx": range(len(values)), "ndcg@2": values}), {})


def test_a_group_of_users_has_the_mean_of_its_users_and_is_marked_where_it_is_small():
    groups = [two("s", "user", torch.arange(60) < 10, "first", "rest")]
    table = user_slices([judged("a", [1.0] * 10 + [0.0, 1.0] * 25)], groups, ["ndcg@2"], num_resamples=200, seed=0)
    first, rest = table.to_dicts()
    assert (first["group"], first["order"], first["users"], first["items"], first["small"]) == (
        "first",
        0,
        10,
        None,
        True,
    )
    assert (first["mean"], first["low"], first["high"]) == (1, 1, 1)
    assert (rest["users"], rest["small"], rest["mean"]) == (50, False, 0.5)
    # A share of one half of 50 users has a standard error of .07.
    assert 0.32 < rest["low"] < 0.42 and 0.58 < rest["high"] < 0.68


def test_a_group_without_users_is_left_out():
    groups = [two("s", "user", torch.ones(3, dtype=torch.bool), "all", "nobody")]
    table = user_slices([judged("a", [1.0, 0.0, 1.0])], groups, ["ndcg@2"], num_resamples=10, seed=0)
    assert table["group"].to_list() == ["all"]


LISTS = torch.tensor([[0, 1, 2], [3, 0, -1], [-1, -1, -1]])
RELEVANT = UserItems.from_pairs(torch.tensor([0, 0, 1, 2]), torch.tensor([1, 3, 3, 0]), num_users=3, num_items=5)
EVEN = two("parity", "item", torch.tensor([True, False, True, False, True]), "even", "odd")


def ranked(allowed: Any = None, exclude: UserItems | None = None) -> Ranked:
    return Ranked({"a": LISTS}, RELEVANT, torch.arange(3), allowed, exclude, torch.ones(5, dtype=torch.bool))


def figure(table: pl.DataFrame, group: str, metric: str) -> float:
    return table.filter((pl.col("group") == group) & (pl.col("metric") == metric))["mean"].item()


def test_groups_of_items_worked_by_hand():
    table = item_slices(ranked(), [EVEN], 2, num_resamples=50, seed=0)
    # Places up to 2: items 0, 1 and 3, 0; relevant: 1, 3, 3 (odd) and 0 (even), of which 1 and one 3 are listed.
    assert figure(table, "odd", "item_recall@2") == pytest.approx(2 / 3)
    assert figure(table, "even", "item_recall@2") == 0
    assert figure(table, "even", "share_of_exposure@2") == pytest.approx(1 / 2)
    assert figure(table, "even", "share_of_relevant") == pytest.approx(1 / 4)
    assert figure(table, "even", "share_of_candidates") == pytest.approx(3 / 5)
    row = table.filter((pl.col("group") == "odd") & (pl.col("metric") == "item_recall@2")).to_dicts()[0]
    assert (row["users"], row["items"], row["small"], row["system"]) == (2, 2, True, "a")
    assert table.filter(pl.col("metric") == "share_of_relevant")["system"].null_count() == 2


def test_a_longer_cut_shows_more_places():
    table = item_slices(ranked(), [EVEN], 3, num_resamples=50, seed=0)
    assert figure(table, "even", "share_of_exposure@3") == pytest.approx(3 / 5)


def test_shares_of_candidates_are_those_of_the_users_own():
    own = UserItems.from_pairs(torch.tensor([0, 0, 1]), torch.tensor([0, 1, 1]), num_users=3, num_items=5)
    assert figure(item_slices(ranked(own), [EVEN], 2, num_resamples=9, seed=0), "even", "share_of_candidates") == (
        pytest.approx(1 / 3)
    )
    allowed = torch.tensor([True, True, False, True, True])
    table = item_slices(ranked(allowed, own), [EVEN], 2, num_resamples=9, seed=0)
    # Nine of twelve are left: item 0 of two users, item 1 of one, items 3 and 4 of three.
    assert figure(table, "even", "share_of_candidates") == pytest.approx(5 / 9)


def test_a_group_nothing_of_which_is_relevant_has_no_recall_and_one_without_candidate_is_left_out():
    rare = Groups("s", "item", ["item 2", "nothing"], torch.stack([torch.arange(5) == 2, torch.zeros(5).bool()], 1))
    table = item_slices(ranked(), [rare], 2, num_resamples=9, seed=0)
    assert set(table["group"]) == {"item 2"}
    assert "item_recall@2" not in table["metric"].to_list()


def test_one_user_has_intervals_of_no_width():
    one = Ranked({"a": LISTS[:1]}, RELEVANT, torch.arange(1), None, None, torch.ones(5, dtype=torch.bool))
    table = item_slices(one, [EVEN], 2, num_resamples=20, seed=0)
    assert (table["low"] == table["mean"]).all() and (table["high"] == table["mean"]).all()


def test_intervals_of_ratios_resample_users_with_both_sums():
    """A slow reference: draw users, add up what they found and what they wanted, divide."""
    generator = torch.Generator().manual_seed(0)
    users, num_items = 80, 30
    lists = torch.stack([torch.randperm(num_items, generator=generator)[:5] for _ in range(users)])
    pairs = (
        torch.randint(0, users, (400,), generator=generator),
        torch.randint(0, num_items, (400,), generator=generator),
    )
    relevant = UserItems.from_pairs(*pairs, num_users=users, num_items=num_items)
    low = two("s", "item", torch.arange(num_items) < 10, "low", "high")
    given = Ranked({"a": lists}, relevant, torch.arange(users), None, None, torch.ones(num_items, dtype=torch.bool))
    row = item_slices(given, [low], 5, num_resamples=1000, seed=1).filter(
        (pl.col("group") == "low") & (pl.col("metric") == "item_recall@5")
    )
    wanted = [{i for i in relevant.pairs_of(torch.tensor([u]))[1].tolist() if i < 10} for u in range(users)]
    hits = np.array([len(wanted[u] & set(lists[u].tolist())) for u in range(users)])
    number = np.array([len(w) for w in wanted])
    assert row["mean"].item() == pytest.approx(hits.sum() / number.sum())
    rng = np.random.default_rng(7)
    drawn = [rng.integers(0, users, users) for _ in range(2000)]
    ends = np.percentile([hits[d].sum() / number[d].sum() for d in drawn], [2.5, 97.5])
    np.testing.assert_allclose([row["low"].item(), row["high"].item()], ends, atol=0.012)


# --- sentences -------------------------------------------------------------------------------------------------------


def rows_of(
    name: str, metric: str, values: list[tuple[str, float, float, float]], *, system: str | None
) -> pl.DataFrame:
    side = "item" if "share" in metric or "item" in metric else "user"
    return pl.DataFrame(
        [
            {
                "side": side,
                "slice": name,
                "group": group,
                "order": i,
                "system": system,
                "metric": metric,
                "users": 50,
                "items": 50 if side == "item" else None,
                "mean": mean,
                "low": low,
                "high": high,
                "small": False,
            }
            for i, (group, mean, low, high) in enumerate(values)
        ],
        schema_overrides={"system": pl.String, "items": pl.Int64},
    )


def test_new_users_and_users_of_unequal_activity_are_spoken_of():
    table = pl.concat(
        [
            rows_of("new_users", "ndcg@20", [("new", 0.1, 0.05, 0.15), ("known", 0.3, 0.25, 0.35)], system="m"),
            rows_of("activity", "ndcg@20", [("1 to 3", 0.2, 0.15, 0.25), ("9 to 40", 0.4, 0.35, 0.45)], system="m"),
            rows_of("history", "ndcg@20", [("1", 0.2, 0.1, 0.3), ("2", 0.25, 0.2, 0.35)], system="m"),
        ]
    )
    first, second = interpret_slices(table, "m")
    assert first == (
        "New users (50 without a training row) get 0.1000 (0.0500 to 0.1500) NDCG@20, known ones 0.3000 (0.2500 to "
        "0.3500)."
    )
    assert second.startswith("Users with more training rows are served better: NDCG@20 is 0.2000")


def test_training_rows_that_are_all_positives_are_spoken_of_once():
    groups = [("1 to 3", 0.2, 0.15, 0.25), ("9 to 40", 0.4, 0.35, 0.45)]
    table = pl.concat([rows_of(name, "ndcg@20", groups, system="m") for name in ("activity", "history")])
    assert len(interpret_slices(table, "m")) == 1


def test_cold_items_are_spoken_of_by_what_is_wanted_and_what_is_shown():
    def cold(metric: str, value: float, system: str | None) -> pl.DataFrame:
        return rows_of(
            "cold_items", metric, [("cold (no training row)", value, 0, 1), ("known", 0, 0, 1)], system=system
        )

    shares = [cold("share_of_relevant", 0.2, None), cold("share_of_exposure@20", 0.05, "m")]
    assert interpret_slices(pl.concat([*shares, cold("item_recall@20", 0.01, "m")]), "m") == [
        "Items without a training row are 20.0% of the relevant items and hold 5.0% of the places; 1.0% of those "
        "relevant are listed."
    ]


def test_small_groups_are_not_spoken_of():
    table = rows_of("new_users", "ndcg@20", [("new", 0.1, 0.05, 0.15), ("known", 0.3, 0.25, 0.35)], system="m")
    assert interpret_slices(table.with_columns(small=pl.col("order") == 0), "m") == []
