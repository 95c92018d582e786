"""A retriever against slow references: brute force over scores, one user at a time, sets of ids."""

from __future__ import annotations

import datetime
import logging
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
import torch
from memory_source import DAY_MS, START_MS, run
from polars.testing import assert_frame_equal

import towerrec
from towerrec import dated_items
from towerrec.data.catalogue import Catalogue, catalogue_of
from towerrec.nn.two_tower import build_two_tower
from towerrec.retriever import Retriever
from towerrec.scoring import TowerScores

KINDS: dict[str, dict[str, Any]] = {
    "features": {},
    "history": {"history_dim": 4},
    "profile": {"profile": "rows", "use_user_id": False},
    "ids": {"use_features": False, "user_hidden": [], "item_hidden": []},
}
NEW_ITEM = pl.DataFrame(
    {"item_id": [900], "tags": [[4]], "caption": ["word3 other"], "length": [0.5], "born": ["2020-07-01"]}
)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return run(tmp_path_factory.mktemp("memory"))


def retriever(prepared: Any, kind: str = "features") -> Retriever:
    """A model that learnt nothing: vectors at random say as much about serving as trained ones."""
    catalogue = catalogue_of(prepared, profile="rows" if kind == "profile" else "none")
    return over(catalogue, kind)


def over(catalogue: Catalogue, kind: str) -> Retriever:
    torch.manual_seed(0)
    settings = {"name": "two_tower", "embedding_dim": 8, "init_std": 0.5, **KINDS[kind]}
    scores = TowerScores(
        build_two_tower(catalogue.schema, settings),
        catalogue,
        history=catalogue.history,
        history_length=5,
        profiles=catalogue.profiles,
        device=torch.device("cpu"),
    )
    return Retriever(scores, catalogue, name="two_tower")


def by_hand(asked: Retriever, users: list[int], n: int, *, may: Any, **how: Any) -> list[tuple[int, int, int]]:
    """(user, item, rank) by sorting the scores of all pairs, one user after the other; `may(user, item)` admits."""
    rows = []
    for user in sorted(users):
        items = asked.item_ids.to_list()
        scored = asked.score(pl.DataFrame({"user_id": [user] * len(items), "item_id": items}), **how)["score"].to_list()
        order = sorted(range(len(items)), key=lambda at: (-scored[at], at))
        kept = [items[at] for at in order if may(user, items[at])][:n]
        rows += [(user, item, rank) for rank, item in enumerate(kept, start=1)]
    return rows


def seen_of(asked: Retriever) -> set[tuple[int, int]]:
    seen, users, items = asked.catalogue.seen, asked.user_ids.to_list(), asked.item_ids.to_list()
    owner = np.repeat(np.arange(len(users)), seen.counts.numpy())
    return {(users[u], items[i]) for u, i in zip(owner.tolist(), seen.items.tolist(), strict=True)}


def ranks(table: pl.DataFrame) -> list[tuple[int, int, int]]:
    return table.select("user_id", "item_id", "rank").rows()


# --- what may be listed ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
def test_lists_are_the_best_scores_of_what_the_user_has_not_seen(prepared, kind):
    asked = retriever(prepared, kind)
    seen, users = seen_of(asked), [7, 0, 29]
    expected = by_hand(asked, users, 6, may=lambda user, item: (user, item) not in seen)
    assert ranks(asked.recommend(users, n=6)) == expected
    everything = asked.recommend(users, n=40, exclude_seen=False)
    assert everything.group_by("user_id").len()["len"].to_list() == [40, 40, 40]


def test_allow_and_deny_lists_hold_for_everybody_or_for_single_users_and_deny_wins(prepared):
    asked = retriever(prepared)
    seen, users = seen_of(asked), [3, 4, 5]
    few, none = [100, 101, 102, 103, 104, 104], [101, 139]
    own = pl.DataFrame({"user_id": [3, 3, 5, 9], "item_id": [110, 111, 111, 112]})
    cases = [
        ({"allow": few}, lambda u, i: i in few),
        ({"deny": none}, lambda u, i: i not in none),
        ({"allow": few, "deny": none}, lambda u, i: i in few and i not in none),
        ({"allow": own}, lambda u, i: (u, i) in own.rows()),
        ({"deny": own}, lambda u, i: (u, i) not in own.rows()),
        ({"allow": own, "deny": [111]}, lambda u, i: (u, i) in own.rows() and i != 111),
        ({"allow": few, "deny": own.with_columns(item_id=100)}, lambda u, i: i in few and (u == 4 or i != 100)),
        ({"allow": own, "deny": own.head(1)}, lambda u, i: (u, i) in own.rows()[1:]),
    ]
    for lists, rule in cases:
        for exclude_seen in (True, False):
            gone = seen if exclude_seen else set()
            expected = by_hand(asked, users, 40, may=lambda u, i, g=gone, r=rule: (u, i) not in g and r(u, i))
            assert ranks(asked.recommend(users, n=40, exclude_seen=exclude_seen, **lists)) == expected, lists


def test_a_user_without_any_item_left_has_no_rows_and_one_line_counts_the_short_lists(prepared, caplog):
    asked = retriever(prepared)
    gone = pl.DataFrame({"user_id": [2] * 40, "item_id": range(100, 140)})
    with caplog.at_level(logging.INFO):
        table = asked.recommend([1, 2, 3], n=39, deny=gone, exclude_seen=False)
    assert table["user_id"].unique().to_list() == [1, 3] and table.height == 78
    assert "1 of 3 users get fewer than 39 items, 1 of them none at all" in caplog.text


def test_an_item_that_no_row_of_the_log_has_is_listed_only_where_it_is_allowed_by_name(prepared):
    catalogue = catalogue_of(prepared)
    catalogue.in_log[5] = False
    asked = over(catalogue, "features")
    assert 105 not in set(asked.recommend(n=40, exclude_seen=False)["item_id"])
    assert set(asked.recommend(n=40, exclude_seen=False, allow=[105])["item_id"]) == {105}


def test_users_are_asked_once_and_listed_by_id_and_equal_scores_by_item(prepared):
    asked = retriever(prepared, "ids")
    for parameter in asked.scores.model.parameters():
        torch.nn.init.zeros_(parameter)
    table = asked.recommend([9, 3, 9, 3], n=3, exclude_seen=False)
    assert ranks(table) == [(3, 100, 1), (3, 101, 2), (3, 102, 3), (9, 100, 1), (9, 101, 2), (9, 102, 3)]


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"users": []}, "users holds no users"),
        ({"users": [1, 999]}, r"users: 1 of 2 ids are in no table of the run \(such as \[999\]\).*city, age"),
        ({"users": ["x"]}, "users: the ids in 'user_id' are not of the log's type"),
        ({"users": [1.5]}, "decimal numbers"),
        ({"users": [1, None]}, "1 rows have no user_id"),
        ({"users": 5}, "users must be a file, a polars DataFrame or ids"),
        ({"users": {"user_id": [1]}}, "users must be a file, a polars DataFrame or ids"),
        ({"users": pl.LazyFrame({"user_id": [1]})}, "users must be a file, a polars DataFrame or ids"),
        ({"users": pl.DataFrame({"user": [1]})}, "users has no column 'user_id'"),
        ({"allow": []}, r"allow \(candidates=\) is empty"),
        (
            {"allow": [100, 5]},
            r"allow \(candidates=\): 1 of 2 ids are in no table of the run \(such as \[5\]\).*new items",
        ),
        ({"deny": pl.DataFrame({"user_id": [999], "item_id": [100]})}, r"deny: 1 of 1 ids .*\[999\]"),
        ({"allow": "nowhere.csv"}, "nowhere.csv: there is no such file"),
        ({"at": "tomorrow"}, "at=tomorrow is not a moment"),
        ({"users": "7"}, r"users=7 is an id and no file: give ids as a list, \[7\]"),
        (
            {"users": pl.DataFrame({"user_id": [1, 2], "at": ["2020-07-01", "2020-07-01T08:00+09:00"]})},
            "write all alike",
        ),
        ({"users": pl.DataFrame({"user_id": [1], "at": ["soon"]})}, "users: column 'at': 'soon' is not a time"),
        ({"users": pl.DataFrame({"user_id": [1, 2], "at": ["2020-07-01 08:00", "soon"]})}, "'soon' is not a time"),
        ({"users": pl.DataFrame({"user_id": [1, 1], "at": ["2020-07-01", "2020-07-02"]})}, "more than one moment"),
        ({"history": pl.DataFrame({"user_id": [1]})}, "history has no column 'item_id'"),
        ({"history": pl.DataFrame({"user_id": [1], "item_id": [100], "label": ["yes"]})}, "'label' needs a number"),
        ({"prior": {"wieght": 1.0}}, "prior has no key 'wieght': did you mean 'weight'"),
        ({"prior": {"of": "age"}}, "prior.of=age is not known"),
        ({"n": 0}, "n, the length of a list, must be at least 1"),
    ],
)
def test_a_request_that_cannot_be_met_says_why(prepared, how, words):
    with pytest.raises(ValueError, match=words):
        retriever(prepared).recommend(**how)


def test_whoever_asks_for_more_than_there_is_gets_what_there_is_and_pays_for_no_more(prepared):
    asked = retriever(prepared)
    assert_frame_equal(asked.recommend(n=10**12), asked.recommend(n=40))
    assert_frame_equal(asked.similar(n=10**12), asked.similar(n=39))


def test_files_may_call_their_columns_as_the_log_does(prepared, tmp_path, caplog):
    asked = over(catalogue_of(prepared), "history")
    names = {"user": "kunde", "item": "film", "label": "watch_ratio", "timestamp": "wann"}
    asked.catalogue.meta = asked.catalogue.meta | {"columns": names}
    ours = {"kunde": "user_id", "film": "item_id", "watch_ratio": "label", "wann": "timestamp"}
    best = asked.recommend([3], n=2)["item_id"].to_list()
    shown = {"kunde": [3, 3, 4], "film": [*best, 107], "watch_ratio": [3, 0, 3], "wann": ["2020-07-08"] * 3}
    rows = pl.DataFrame(shown)
    rows.write_csv(tmp_path / "log.csv")
    log, renamed, path = rows.select("kunde", "film"), rows.rename(ours), str(tmp_path / "log.csv")
    for theirs, here in (
        ({"users": log.head(1)}, {"users": [3]}),
        ({"allow": path}, {"allow": renamed}),
        ({"deny": log}, {"deny": renamed}),
        ({"history": path}, {"history": renamed}),
        ({"users": [3], "history": rows}, {"users": [3], "history": renamed}),
    ):
        assert_frame_equal(asked.recommend(n=5, **theirs), asked.recommend(n=5, **here))
    liked = asked.recommend([3], n=5, history=renamed.drop("label"))
    assert not liked.equals(asked.recommend([3], n=5, history=rows)), "a label of the log was not read"
    assert_frame_equal(asked.score(log), asked.score(renamed))
    assert_frame_equal(asked.similar(log.select("film"), n=3), asked.similar([*best, 107], n=3))
    grown = asked.with_items(NEW_ITEM.rename({"item_id": "film"}))
    assert_frame_equal(grown.recommend(n=3), asked.with_items(NEW_ITEM).recommend(n=3))
    with pytest.raises(ValueError, match="the column 'kunde' must be left out here"):
        asked.similar(allow=log)
    with pytest.raises(ValueError, match="column 'watch_ratio' needs a number in every row"):
        asked.recommend(history=rows.with_columns(watch_ratio=pl.lit("much")))


@pytest.mark.parametrize("zeros", [False, True])
def test_ids_of_text_keep_their_zeros_in_every_column_of_a_file(prepared, tmp_path, zeros):
    catalogue = catalogue_of(prepared)
    text = ("00" if zeros else "") + pl.col("id").cast(pl.String)
    users, items = (
        ids.rename("id").to_frame().select(text).to_series() for ids in (catalogue.user_ids, catalogue.item_ids)
    )
    asked = over(replace(catalogue, user_ids=users, item_ids=items), "features")
    pairs = asked.recommend(users[3:5], n=1).select("user_id", "item_id")
    pairs.write_csv(tmp_path / "pairs.csv")
    for name in ("allow", "deny", "history"):
        got, expected = (
            asked.recommend(users[3:5], n=5, **{name: given}) for given in (str(tmp_path / "pairs.csv"), pairs)
        )
        assert_frame_equal(got, expected)
        assert not got.equals(asked.recommend(users[3:5], n=5))


def test_an_empty_deny_list_or_history_in_memory_changes_nothing(prepared):
    asked = retriever(prepared)
    nothing = pl.DataFrame(schema={"user_id": pl.Int64, "item_id": pl.Int64})
    assert_frame_equal(asked.recommend(n=3, deny=[], history=nothing), asked.recommend(n=3))


# --- when ------------------------------------------------------------------------------------------------------------


MOMENTS = ["2020-07-01T05:00", None, "2020-07-09T23:59", "2021-01-01T00:00", "2020-07-09T01:00", "2020-06-05T05:00"]


@pytest.mark.parametrize("prior", [None, {"weight": 1.5, "of": "youth"}, {"weight": 1.0}])
@pytest.mark.parametrize("kept_bytes", [1 << 29, 1])
def test_each_user_asks_at_a_moment_of_his_own_as_if_alone(prepared, prior, kept_bytes, monkeypatch):
    monkeypatch.setattr(dated_items, "_KEPT_BYTES", kept_bytes)
    asked = retriever(prepared)
    users = [12, 3, 25, 0, 28, 6]
    together = asked.recommend(pl.DataFrame({"user_id": users, "at": MOMENTS}), n=5, prior=prior, batch_users=4)
    alone = [asked.recommend([u], n=5, at=at, prior=prior) for u, at in zip(users, MOMENTS, strict=True)]
    assert_frame_equal(together, pl.concat(alone).sort("user_id", "rank"), rel_tol=1e-4, abs_tol=1e-5)
    if prior != {"weight": 1.0}:
        assert not together.equals(asked.recommend(users, n=5, prior=prior))


def test_where_no_row_says_when_the_request_does_and_any_form_of_a_time_is_read(prepared):
    asked = retriever(prepared)
    moment = datetime.datetime(2020, 7, 9, 21, 30, tzinfo=datetime.UTC)
    expected = asked.recommend([4, 5], n=3, at="2020-07-09T21:30")
    assert not expected.equals(asked.recommend([4, 5], n=3))
    for column in ([moment, None], [int(moment.timestamp()), None], ["2020-07-09 21:30:00", None]):
        frame = pl.DataFrame({"user_id": [4, 5], "at": column})
        assert_frame_equal(asked.recommend(frame, n=3, at=moment), expected)
    abroad = datetime.datetime(2020, 7, 10, 5, 30, tzinfo=datetime.timezone(datetime.timedelta(hours=8)))
    assert_frame_equal(asked.recommend([4, 5], n=3, at=abroad), expected)


def test_a_model_that_reads_no_moment_says_so(prepared, caplog):
    asked = retriever(prepared, "ids")
    assert_frame_equal(asked.recommend(n=2, at="2020-07-09T21:30"), asked.recommend(n=2))
    assert "at: the model reads neither hour and weekday nor the age of items" in caplog.text


# --- what users did since, and new users -----------------------------------------------------------------------------


def rows_of(catalogue: Catalogue, user: int) -> pl.DataFrame:
    """What the run knows of a user that its model may read, in any order."""
    item, moment = catalogue.history.rows()
    own = slice(int(catalogue.history.first[user]), int(catalogue.history.first[user + 1]))
    rows = pl.DataFrame({"item": item[own].numpy(), "label": 1.0, "timestamp": moment[own].numpy()})
    if catalogue.profiles is not None:
        own = slice(int(catalogue.profiles.offsets[user]), int(catalogue.profiles.offsets[user + 1]))
        shown = {
            "item": catalogue.profiles.items[own].numpy(),
            "label": catalogue.profiles.values[own].double().numpy(),
        }
        rows = pl.DataFrame(shown).with_columns(timestamp=pl.lit(START_MS))
    named = rows.select(item_id=catalogue.item_ids.gather(rows["item"]), label="label", timestamp="timestamp")
    return named.sample(fraction=1.0, shuffle=True, seed=0)


@pytest.mark.parametrize("kind", ["history", "profile"])
def test_a_new_user_with_the_features_and_rows_of_a_known_one_gets_his_list(prepared, kind):
    user, catalogue = 11, catalogue_of(prepared, profile="rows" if kind == "profile" else "none")
    twin = prepared.side("user").filter(user_id=user).with_columns(user_id=pl.lit(5000))
    for name, column in catalogue.encoders.encode("user", twin).columns.items():
        # The run also knows his id and how active he was.
        catalogue.users.columns[name] = catalogue.users.columns[name].clone()
        catalogue.users.columns[name][user] = column[0]
    asked = over(catalogue, kind)
    history = rows_of(catalogue, user).with_columns(user_id=pl.lit(5000))
    got = asked.recommend(twin, n=40, history=history, exclude_seen=False)
    expected = asked.recommend([user], n=40, exclude_seen=False)
    assert got["item_id"].to_list() == expected["item_id"].to_list()
    np.testing.assert_allclose(got["score"], expected["score"], rtol=1e-4, atol=1e-6)
    assert got["user_id"].unique().to_list() == [5000]
    alone = asked.recommend([5000], n=40, history=history, exclude_seen=False)["score"].to_list()
    without = asked.recommend(twin, n=40, exclude_seen=False)["score"].to_list()
    assert alone != pytest.approx(without, rel=1e-3) and alone != pytest.approx(expected["score"].to_list(), rel=1e-3)


@pytest.mark.parametrize("kind", ["history", "profile"])
def test_what_known_users_did_since_is_read_behind_what_the_run_knows(prepared, kind):
    asked = retriever(prepared, kind)
    seen = seen_of(asked)
    liked, shown = ([i for i in range(100, 135) if (user, i) not in seen][:2] for user in (3, 8))
    since = pl.DataFrame({"user_id": [3, 8, 3], "item_id": [liked[0], shown[0], liked[1]], "label": [1, 0, 1]})
    before = asked.recommend([3, 8, 20], n=40, exclude_seen=False)
    after = asked.recommend([3, 8, 20], n=40, exclude_seen=False, history=since)

    def moved(user: int) -> bool:
        one, other = (table.filter(user_id=user)["score"].to_list() for table in (before, after))
        return one != pytest.approx(other, rel=1e-4)

    assert [moved(3), moved(8), moved(20)] == [True, kind == "profile", False]
    every = asked.recommend(n=40, exclude_seen=False, history=since)
    assert_frame_equal(every.filter(pl.col("user_id").is_in([3, 8, 20])), after, rel_tol=1e-4, abs_tol=1e-5)
    assert every["user_id"].n_unique() == 30
    listed = asked.recommend([3, 8], n=40, history=since)
    assert not set(listed.filter(user_id=3)["item_id"]) & set(liked)
    assert shown[0] not in set(listed.filter(user_id=8)["item_id"])


def test_the_last_positives_are_those_of_the_latest_times_or_of_the_last_rows(prepared):
    asked = retriever(prepared, "history")
    late = START_MS + 30 * DAY_MS
    timed = pl.DataFrame({"user_id": [3] * 3, "item_id": [105, 106, 107], "timestamp": [late + 2, late, late + 1]})
    request = asked.request([3], history=timed)
    latest = request.catalogue.history.latest(torch.tensor([0]), length=5)[0].tolist()
    assert [asked.item_ids[i] for i in latest[:3]] == [105, 107, 106]
    known = asked.catalogue.history.latest(torch.tensor([3]), length=2)[0].tolist()
    assert latest[3:] == known
    request = asked.request([3], history=timed.drop("timestamp"))
    assert request.catalogue.history.latest(torch.tensor([0]), length=3)[0].tolist() == [7, 6, 5]
    early = asked.request([3], history=timed.with_columns(timestamp=pl.lit(START_MS - DAY_MS)))
    assert early.catalogue.history.latest(torch.tensor([0]), length=2)[0].tolist() == known


def test_a_row_is_a_positive_by_its_label_by_the_runs_own_columns_or_for_being_there(prepared):
    asked = retriever(prepared, "profile")
    rows = pl.DataFrame({"user_id": [3, 3], "item_id": [105, 106]})
    for more, liked in (
        ({}, [5, 6]),
        ({"label": [0, 1]}, [6]),
        ({"label": [False, True]}, [6]),
        ({"watch_ratio": [2.5, 0.3]}, [5]),  # the run's label: liked from 2.0 on
    ):
        frame = rows.with_columns(pl.Series(name, values) for name, values in more.items())
        lists = asked.request([3], history=frame).catalogue.profiles
        new = dict(zip(lists.items.tolist(), lists.values.tolist(), strict=True))
        before = asked.catalogue.profiles.take(torch.tensor([3]))
        known = dict(zip(before.items.tolist(), before.values.tolist(), strict=True))
        assert [i for i in (5, 6) if new[i] == 1.0 and known.get(i) != 1.0] == [i for i in liked if known.get(i) != 1.0]
    with pytest.raises(ValueError, match=r"history: .*no finite value"):
        asked.recommend([3], history=rows.with_columns(watch_ratio=pl.lit(None, pl.Float32)))


def test_rows_of_unknown_items_are_named_and_passed_over_and_of_users_who_do_not_ask_unheard(prepared, caplog):
    asked = retriever(prepared, "profile")
    rows = pl.DataFrame({"user_id": [3, 3, 4, 77], "item_id": [105, 9999, 106, 107]})
    got = asked.recommend([3], n=40, history=rows)
    assert "1 of 4 rows are passed over, of 1 items in no table of the run (such as [9999])" in caplog.text
    assert_frame_equal(got, asked.recommend([3], n=40, history=rows.head(1)))
    assert 77 in set(asked.recommend(n=1, history=rows)["user_id"])


@pytest.mark.parametrize("kind", ["features", "ids"])
def test_a_model_that_reads_no_rows_says_that_they_only_count_as_seen(prepared, kind, caplog):
    asked = retriever(prepared, kind)
    rows = pl.DataFrame({"user_id": [3], "item_id": asked.recommend([3], n=1)["item_id"]})
    got = asked.recommend([3], n=39, history=rows)
    assert "reads neither histories nor profiles, so these rows only count as seen" in caplog.text
    assert_frame_equal(got.drop("rank"), asked.recommend([3], n=40)[1:].drop("rank"), rel_tol=1e-4, abs_tol=1e-5)


def test_new_users_are_served_by_features_and_the_scores_of_others_stay_as_they_are(prepared):
    asked = retriever(prepared)
    new = prepared.side("user").head(2).with_columns(user_id=pl.Series([700, 701]))
    prior = {"weight": 2.0}
    both = asked.recommend(pl.concat([new, prepared.side("user")[5:6]]), n=4, prior=prior)
    assert both["user_id"].unique().to_list() == [5, 700, 701]
    assert_frame_equal(both.filter(user_id=5), asked.recommend([5], n=4, prior=prior), rel_tol=1e-4, abs_tol=1e-5)
    denied = asked.recommend(new, n=40, deny=pl.DataFrame({"user_id": [700, 5], "item_id": [100, 101]}))
    assert 100 not in set(denied.filter(user_id=700)["item_id"]) and 100 in set(denied.filter(user_id=701)["item_id"])
    with pytest.raises(ValueError, match=r"1 of 2 ids are in no table .*\[701\].*or their history"):
        asked.recommend([700, 701], history=pl.DataFrame({"user_id": [700], "item_id": [100]}))


def test_scores_of_new_users_are_those_of_their_lists(prepared):
    asked = retriever(prepared)
    new = prepared.side("user").head(2).with_columns(user_id=pl.Series([700, 701]))
    lists = pl.concat([asked.recommend(new, n=4), asked.recommend([5], n=4)])
    got = asked.score(lists.select("user_id", "item_id"), users=new)
    np.testing.assert_allclose(got["score"], lists["score"], rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match=r"pairs: beside users: 1 of 2 ids .*\[701\].*give their rows there too"):
        asked.score(lists.select("user_id", "item_id"), users=new.head(1))


def test_two_rows_of_one_new_user_that_differ_are_told_and_the_first_counts(prepared, caplog):
    asked = retriever(prepared)
    new = prepared.side("user").head(2).with_columns(user_id=pl.lit(700))
    assert_frame_equal(asked.recommend(new, n=4), asked.recommend(new.head(1), n=4))
    assert (
        "users: 1 new users have rows with different features (such as [700]): the first row of each counts"
        in caplog.text
    )
    caplog.clear()
    asked.recommend(pl.concat([new.head(1), new.head(1)]), n=4)
    assert "different features" not in caplog.text


def test_a_prior_that_was_asked_for_before_is_the_same_again(prepared):
    asked = retriever(prepared)
    for half_life in (0.5, None, 0.5, 3.0):
        prior = {"weight": 3.0, "half_life_days": half_life}
        assert_frame_equal(asked.recommend(n=5, prior=prior), retriever(prepared).recommend(n=5, prior=prior))


def test_new_users_of_a_model_of_ids_are_alike_and_it_says_so(prepared, caplog):
    asked = retriever(prepared, "ids")
    new = prepared.side("user").head(2).with_columns(user_id=pl.Series([700, 701]))
    table = asked.recommend(new, n=5)
    assert "reads nothing of a user but his id, so 2 new users all have one vector" in caplog.text
    assert table.filter(user_id=700)["item_id"].equals(table.filter(user_id=701)["item_id"])


# --- items -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", list(KINDS))
def test_similar_items_are_those_of_the_largest_cosine_without_biases(prepared, kind):
    asked = retriever(prepared, kind)
    vectors = asked.scores.items().numpy()[:, :8]
    cosine = lambda a, b: a @ b / max(np.linalg.norm(a) * np.linalg.norm(b), 1e-12)  # noqa: E731
    expected = []
    for item in (103, 120):
        others = [i for i in range(40) if i not in (item - 100, 7)]
        scored = {i: cosine(vectors[item - 100], vectors[i]) for i in others}
        best = sorted(others, key=lambda i: (-scored[i], i))[:4]
        expected += [(item, i + 100, rank, scored[i]) for rank, i in enumerate(best, start=1)]
    table = asked.similar([120, 103, 120], n=4, deny=[107])
    assert table.columns == ["item_id", "similar_item_id", "rank", "score"]
    assert table.drop("score").rows() == [row[:3] for row in expected]
    np.testing.assert_allclose(table["score"], [row[3] for row in expected], rtol=1e-4)
    assert asked.similar(n=39)["item_id"].n_unique() == 40
    assert set(asked.similar([100], allow=[100, 101, 102])["similar_item_id"]) == {101, 102}


def test_similar_items_follow_the_moment_where_age_is_read_and_know_no_users(prepared):
    asked = retriever(prepared)
    assert not asked.similar(n=3).equals(asked.similar(n=3, at="2021-01-01"))
    for name in ("allow", "deny"):
        with pytest.raises(ValueError, match=rf"{name}: items are alike for everybody.*'user_id'"):
            asked.similar(**{name: pl.DataFrame({"user_id": [1], "item_id": [100]})})
    with pytest.raises(ValueError, match=r"items: 1 of 1 ids are in no table of the run \(such as \[5\]\)"):
        asked.similar([5])
    with pytest.raises(ValueError, match="items holds no items"):
        asked.similar([])


@pytest.mark.parametrize("kind", list(KINDS))
def test_new_items_join_the_candidates_and_leave_the_scores_of_others_alone(prepared, kind, caplog):
    asked = retriever(prepared, kind)
    grown = asked.with_items(NEW_ITEM)
    table = grown.recommend(n=41, exclude_seen=False)
    assert table.height == 30 * 41 and (table["item_id"] == 900).sum() == 30
    before = asked.recommend(n=41, exclude_seen=False)
    both = table.join(before, on=["user_id", "item_id"])
    assert both.height == 30 * 40
    np.testing.assert_allclose(both["score"], both["score_right"], rtol=1e-4, atol=1e-5)
    assert 900 in set(grown.similar([900, 101], n=40)["item_id"])
    assert len(asked.item_ids) == 40
    assert ("reads nothing of an item but its id" in caplog.text) == (kind == "ids")
    rows = pl.DataFrame({"user_id": [3, 3], "item_id": [900, 105], "label": [1, 0]})
    assert 900 not in set(grown.recommend([3], n=41, history=rows)["item_id"])
    with pytest.raises(ValueError, match="are in the catalogue already"):
        grown.with_items(NEW_ITEM)
    with pytest.raises(ValueError, match="items lacks the feature columns tags"):
        asked.with_items(NEW_ITEM.drop("tags"))


# --- scores, and the rest --------------------------------------------------------------------------------------------


def test_scores_of_pairs_are_those_of_the_lists_at_any_moment_and_in_their_order(prepared):
    asked = retriever(prepared)
    frame = pl.DataFrame({"user_id": [12, 3, 25], "at": MOMENTS[:3]})
    for prior in (None, {"weight": 1.0, "of": "youth"}):
        lists = asked.recommend(frame, n=5, prior=prior).sample(fraction=1.0, shuffle=True, seed=1)
        pairs = lists.select("user_id", "item_id").join(frame, on="user_id", maintain_order="left")
        got = asked.score(pairs, prior=prior)
        assert_frame_equal(got.select("user_id", "item_id"), lists.select("user_id", "item_id"))
        np.testing.assert_allclose(got["score"], lists["score"], rtol=1e-4, atol=1e-6)
    at = asked.score(pairs.drop("at"), at="2020-07-09T23:59")["score"]
    assert at.to_list() != asked.score(pairs.drop("at"))["score"].to_list()
    with pytest.raises(ValueError, match=r"pairs: 1 of 1 ids are in no table of the run \(such as \[5\]\)"):
        asked.score(pl.DataFrame({"user_id": [1], "item_id": [5]}))


def test_a_retriever_says_what_it_is(prepared):
    assert repr(retriever(prepared)) == "<Retriever: two_tower, 30 users, 40 of 40 items to list, cpu>"


def test_the_package_is_imported_without_waiting_for_torch_until_a_retriever_is_needed():
    program = "import sys, towerrec; print({'torch', 'polars'} & set(sys.modules))"
    source = Path(__file__).parents[2] / "src"
    done = subprocess.run([sys.executable, "-c", program], cwd=source, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["set()"]
    assert towerrec.Retriever is Retriever
    with pytest.raises(AttributeError, match="has no attribute 'Retreiver'"):
        _ = towerrec.Retreiver
