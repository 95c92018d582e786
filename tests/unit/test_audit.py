"""Every check of the leak audit finds the leak that it is for where it is planted, and nothing in an honest log."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch
from memory_source import DAY_MS, FEATURES, START_MS, Memory, log, run

from towerrec import auditing
from towerrec.data import encode
from towerrec.data.audit import KEPT, audit
from towerrec.data.cleaning import Cleaning
from towerrec.data.history import UserHistory
from towerrec.data.labels import Liked
from towerrec.data.labels_debiased import Debiased
from towerrec.data.labels_residual import DebiasedResidual
from towerrec.data.splits import Given, RandomRows
from towerrec.data.splits_cold import ColdItems, ColdUsers
from towerrec.data.splits_rolling import Rolling
from towerrec.data.splits_time import GlobalTime, LeaveLast
from towerrec.data.store import InteractionStore
from towerrec.nn.profile import Profile
from towerrec.ragged import UserItems

RECENT = {"declared": {**FEATURES["declared"], "now": {"kind": "recent", "half_life_days": 1.0, "buckets": 4}}}
LATER = 400 * DAY_MS


class Watched(Memory):
    """The same with how long the videos are, for labels that compare views of equal length."""

    def read(self):
        tables = super().read()
        duration = 5_000.0 + 1_000.0 * (pl.col("item_id") % 10)
        return replace(tables, interactions=tables.interactions.with_columns(duration_ms=duration))


class Made:
    """A prepared log and how it was made."""

    def __init__(self, folder, *, split=None, label=None, features=FEATURES, cleaning=None, rows=None, kind=Memory):
        self.source = kind(folder, log=log() if rows is None else rows)
        self.how = {"split": split or Given(), "label": label or Liked(min_watch_ratio=2.0), "cleaning": cleaning}
        self.features = features
        self.prepared = run(folder, source=self.source, features=features, **self.how)

    def findings(self):
        return {f.check: f for f in audit(self.prepared, source=self.source, features=self.features, **self.how)}

    def leaks(self):
        return {name for name, finding in self.findings().items() if finding.outcome == "failed"}

    def change(self, column, place, value):
        """Write a value into a column of the store, behind everybody's back."""
        path = self.prepared.store.directory / f"{column}.npy"
        values = np.load(path)
        values[place] = value
        np.save(path, values)


SPLITS = {
    "given": Given(),
    "time": GlobalTime(val=0.1, test=0.2),
    "rolling": Rolling(window=1, start=0.6),
    "leave_last": LeaveLast(val=1, test=2),
    "leave_last by file": LeaveLast(order="file"),
    "random": RandomRows(val=0.1, test=0.2),
    "cold_users": ColdUsers(),
    "cold_items": ColdItems(),
}


@pytest.mark.parametrize("name", SPLITS)
def test_an_honest_log_passes_every_check(tmp_path, name):
    made = Made(tmp_path, split=SPLITS[name], features=RECENT)
    found = made.findings()
    assert not made.leaks(), found
    promises = name in ("time", "rolling", "leave_last")
    assert found["future rows"].outcome == ("passed" if promises else "stated")
    assert found["ids kept apart"].outcome == ("passed" if name.startswith("cold") else "nothing to check")
    assert found["features of a later moment"].text.startswith("hour, age_days, now: in every row")


@pytest.mark.parametrize("label", [Debiased(min_views=50), DebiasedResidual(min_views=50, standardise=True)])
def test_an_honest_label_that_learns_passes(tmp_path, label):
    made = Made(tmp_path, label=label, kind=Watched)
    assert made.findings()["label from held-out rows"].outcome == "passed" and not made.leaks()


def test_shares_of_later_rows_are_stated_where_a_split_does_not_go_by_time(tmp_path):
    rows = log().with_columns(timestamp_ms=pl.int_range(START_MS, START_MS + 600 * 1000, 1000))
    rows = rows.with_columns(split=pl.Series([1] * 300 + [3] * 200 + [1] * 100, dtype=pl.UInt8))
    finding = Made(tmp_path, rows=rows).findings()["future rows"]
    assert finding.outcome == "stated" and finding.rows == 0
    # A quarter of the 400 training rows come after the test rows.
    assert "25.0% of the training rows are later than the first test row" in finding.text
    assert "25.0% later than the middle one" in finding.text


@pytest.mark.parametrize("name", ["time", "rolling", "leave_last"])
def test_a_training_row_of_the_future_is_found_with_its_ids(tmp_path, name):
    made = Made(tmp_path, split=SPLITS[name])
    store = made.prepared.store
    place = int(store.offsets["train"][1]) - 1
    made.change("timestamp_ms", place, int(store.rows("test").timestamp_ms.max()) + DAY_MS)
    finding = made.findings()["future rows"]
    assert finding.outcome == "failed" and finding.rows >= 1
    user = made.prepared.user_ids[int(store.mapped("user_idx", "train")[-1])]
    assert f"user {user}, item " in finding.text and "2020" in finding.text


def test_a_row_without_a_time_is_no_row_of_the_past(tmp_path):
    made = Made(tmp_path, split=SPLITS["time"])
    made.change("timestamp_ms", 0, -(2**63))
    assert "1 rows have no time" in made.findings()["future rows"].text


def test_the_same_event_on_two_sides_is_found_and_a_second_view_is_not(tmp_path):
    rows = log()
    honest = Made(tmp_path / "a" if (tmp_path / "a").mkdir() is None else tmp_path, rows=rows)
    assert honest.findings()["duplicates across splits"].outcome == "passed"
    held_out = rows.filter(pl.col("split") == 3).head(4)
    twice = held_out.with_columns(split=pl.lit(1, dtype=pl.UInt8), watch_ratio=pl.col("watch_ratio") + 1)
    again = held_out.with_columns(split=pl.lit(1, dtype=pl.UInt8), timestamp_ms=pl.col("timestamp_ms") - 1)
    leaky, watched_again = (tmp_path / name for name in ("b", "c"))
    leaky.mkdir(), watched_again.mkdir()
    careless = Cleaning(exact_duplicates=False, near_duplicates=False)
    made = Made(leaky, rows=pl.concat([rows, twice]), cleaning=careless)
    finding = made.findings()["duplicates across splits"]
    assert (finding.outcome, finding.rows) == ("failed", 4) and "cleaning.near_duplicates=true" in finding.remedy
    assert not Made(watched_again, rows=pl.concat([rows, again])).leaks()


def test_pairs_of_a_log_without_times_are_stated_and_a_leak_where_they_are_unique(tmp_path):
    rows = log().drop("timestamp_ms")
    features = {"declared": {name: FEATURES["declared"][name] for name in ("user_id", "item_id")}}
    made = Made(tmp_path, rows=rows, features=features)
    finding = made.findings()["duplicates across splits"]
    pairs = set(rows.filter(pl.col("split") == 1).select("user_id", "item_id").iter_rows())
    val = set(rows.filter(pl.col("split") == 2).select("user_id", "item_id").iter_rows())
    repeats = sum(pair in pairs for pair in rows.filter(pl.col("split") == 2).select("user_id", "item_id").iter_rows())
    repeats += sum(
        (pair in pairs) + (pair in val)
        for pair in rows.filter(pl.col("split") == 3).select("user_id", "item_id").iter_rows()
    )
    assert finding.outcome == "stated" and finding.text.startswith(f"{repeats:,} held-out rows without a time")
    one_row = tmp_path / "mean"
    one_row.mkdir()
    made = Made(
        one_row,
        rows=rows.drop("split"),
        split=RandomRows(),
        features=features,
        cleaning=Cleaning(repeated_pairs="mean"),
    )
    assert made.findings()["duplicates across splits"].outcome == "passed"
    # A test row becomes one of a pair that training has.
    store = made.prepared.store
    user = store.mapped("user_idx", "train")[-1]
    made.change("user_idx", store.offsets["test"][1] - 1, user)
    made.change("item_idx", store.offsets["test"][1] - 1, store.mapped("item_idx", "train")[-1])
    assert "have the same pair of user and item" in made.findings()["duplicates across splits"].text


@pytest.mark.parametrize(("name", "column"), [("cold_users", "user_idx"), ("cold_items", "item_idx")])
def test_an_id_that_was_to_be_kept_apart_is_found(tmp_path, name, column):
    made = Made(tmp_path, split=SPLITS[name])
    store = made.prepared.store
    made.change(column, store.offsets["test"][1] - 1, store.mapped(column, "train")[-1])
    finding = made.findings()["ids kept apart"]
    assert (finding.outcome, finding.rows) == ("failed", 1)


def test_a_history_that_ends_with_its_row_is_found(tmp_path, monkeypatch):
    made = Made(tmp_path, split=SPLITS["time"])
    honest = UserHistory.windows

    def with_the_row(self, user_idx_R, timestamp_ms_R):
        return honest(self, user_idx_R, timestamp_ms_R + 1)

    monkeypatch.setattr(UserHistory, "windows", with_the_row)
    assert made.leaks() == {"target in history"}


def test_a_history_that_holds_its_target_is_found(tmp_path, monkeypatch):
    # A second view of a video some time later: its first view is in the history, and the loader is to leave it out.
    rows = log().with_columns(item_id=pl.col("item_id") % 3 + 100)
    made = Made(tmp_path, rows=rows, split=SPLITS["time"])
    assert not made.leaks()
    monkeypatch.setattr("towerrec.data.loader.without_target", lambda window, item_idx: window)
    (made.prepared.directory / KEPT).unlink()
    assert made.leaks() == {"target in history"}


def test_held_out_rows_in_histories_and_profiles_are_found(tmp_path, monkeypatch):
    made = Made(tmp_path)
    store = made.prepared.store
    joined = replace(store, offsets={**store.offsets, "train": (0, store.offsets["test"][1])})

    def all_rows(self, split, rule, *, positives_only):
        return UserItems.from_pairs(
            joined.rows("train").user_idx,
            joined.rows("train").item_idx,
            num_users=store.num_users,
            num_items=store.num_items,
            values=torch.ones(joined.num_rows("train")),
        )

    with monkeypatch.context() as tampered:
        tampered.setattr(InteractionStore, "profiles", all_rows)
        assert made.leaks() == {"held-out rows in profiles"}
    (made.prepared.directory / KEPT).unlink()
    rows = joined.rows("train")
    order = torch.from_numpy(np.lexsort((rows.timestamp_ms.numpy(), rows.user_idx.numpy())))
    liked = order[rows.label[order] > 0]
    history = UserHistory.build(
        rows.user_idx[liked], rows.item_idx[liked], rows.timestamp_ms[liked], num_users=store.num_users
    )
    monkeypatch.setattr(InteractionStore, "history", lambda self, rule: history)
    finding = made.findings()["held-out rows in profiles"]
    assert finding.outcome == "failed" and "in the histories of users" in finding.text


def test_features_that_counted_held_out_rows_are_found_by_name(tmp_path, monkeypatch):
    with monkeypatch.context() as careless:
        # Everything is counted, as it is where somebody computes popularity before splitting.
        careless.setattr(encode.Log, "train", property(lambda self: self.split > 0))
        made = Made(tmp_path, features=RECENT)
    finding = made.findings()["statistics from held-out rows"]
    assert finding.outcome == "failed" and finding.rows > 0 and "features.drop" in finding.remedy
    # Users 25 to 29 and items 135 to 139 stand in held-out rows alone.
    for name in ("user_id: vocabulary is", "user_activity", "item_rate", "now", "as_of_ms"):
        assert name in finding.text


@pytest.mark.parametrize("feature", ["user_activity", "item_rate"])
def test_one_tampered_value_of_a_table_is_found(tmp_path, feature):
    made = Made(tmp_path)
    table = made.prepared.users if feature == "user_activity" else made.prepared.items
    table.columns[feature] = table.columns[feature].clone()
    table.columns[feature][3] += 0.5
    finding = made.findings()["statistics from held-out rows"]
    ids = made.prepared.user_ids if feature == "user_activity" else made.prepared.item_ids
    assert finding.rows == 1 and f"{feature}: 1 rows" in finding.text and f"such as {ids[3]}" in finding.text


def test_daily_counters_of_the_judged_days_are_found(tmp_path, monkeypatch):
    with monkeypatch.context() as careless:
        honest = encode.first_unseen_day
        careless.setattr("towerrec.data.build.first_unseen_day", lambda rows, zone: honest(rows, zone).replace(month=9))
        made = Made(tmp_path)
    finding = made.findings()["statistics from held-out rows"]
    assert finding.outcome == "failed" and "plays" in finding.text


@pytest.mark.parametrize("name", ["hour", "age_days", "now"])
def test_a_feature_of_another_moment_is_found(tmp_path, name):
    made = Made(tmp_path, features=RECENT)
    path = made.prepared.store.directory / f"context_{name}.npy"
    made.change(f"context_{name}", -1, np.load(path)[-1] + 1)
    finding = made.findings()["features of a later moment"]
    assert (finding.outcome, finding.rows) == ("failed", 1) and f"{name} in 1 rows" in finding.text


def test_popularity_that_saw_the_held_out_rows_is_found(tmp_path, monkeypatch):
    with monkeypatch.context() as careless:
        honest = encode.recent_rows

        def of_all(declared, rows, **more):
            return honest(declared, replace(rows, split=np.ones_like(rows.split)), **more)

        careless.setattr("towerrec.data.build.recent_rows", of_all)
        made = Made(tmp_path, features=RECENT)
    assert "features of a later moment" in made.leaks()


@pytest.mark.parametrize("label", [Debiased(min_views=50), DebiasedResidual(min_views=50)])
def test_a_label_fitted_on_held_out_rows_is_found(tmp_path, monkeypatch, label):
    with monkeypatch.context() as careless:
        honest = type(label).fit

        def of_more(self, train):
            return honest(self, pl.concat([train, train.head(200).with_columns(pl.col("watch_ratio") / 2)]))

        careless.setattr(type(label), "fit", of_more)
        made = Made(tmp_path, label=label, kind=Watched)
    assert made.leaks() == {"label from held-out rows"}


def test_a_profile_that_holds_what_its_batch_asks_for_is_found(tmp_path, monkeypatch):
    prepared = Made(tmp_path).prepared
    assert auditing.target_in_profile(prepared).outcome == "passed"
    monkeypatch.setattr(Profile, "without", lambda self, group_B, item_idx_B: self)
    assert auditing.target_in_profile(prepared).outcome == "failed"


def test_findings_are_kept_until_a_file_of_the_log_changes(tmp_path):
    made = Made(tmp_path)
    found = made.findings()
    reads = made.source.reads
    assert made.findings() == found and made.source.reads == reads
    kept = made.prepared.directory / KEPT
    assert json.loads(kept.read_text())["findings"][0]["check"] == "future rows"
    made.change("context_hour", 0, 0)
    assert made.leaks() == {"features of a later moment"} and made.source.reads == reads + 1
    kept.write_text("broken")
    assert made.leaks() == {"features of a later moment"}


def test_a_leak_is_an_error_that_says_what_how_many_and_what_to_do(tmp_path, caplog):
    made = Made(tmp_path)
    made.change("context_hour", 0, 99)
    found = list(made.findings().values())
    with pytest.raises(
        ValueError, match=r"features of a later moment: .*hour in 1 rows.*What to do: delete the cached"
    ):
        auditing.concluded(found, "fail")
    with caplog.at_level("INFO"):
        said = auditing.concluded(found, "warn")
    assert "LEAKS (audit=warn)" in caplog.text and "leak audit: 4 passed, 1 stated, 1 failed" in caplog.text
    assert [entry["outcome"] for entry in said if entry["check"] == "features of a later moment"] == ["failed"]


def test_a_log_on_disk_is_audited_in_blocks_to_the_same_findings(tmp_path):
    made = Made(tmp_path, split=SPLITS["time"])
    whole = made.findings()
    (made.prepared.directory / KEPT).unlink()
    made.prepared = replace(made.prepared, store=replace(made.prepared.store, on_disk=True, block_rows=37))
    assert made.findings() == whole
    (made.prepared.directory / KEPT).unlink()
    made.change("timestamp_ms", 0, START_MS + LATER)
    assert "future rows" in made.leaks()
