import datetime

import numpy as np
import polars as pl
import pytest
import torch
from memory_source import DAY_MS, FEATURES, START_MS, Memory, log, run

from towerrec.data import prepare as prepare_module
from towerrec.data.encode import first_unseen_day
from towerrec.data.labels import Liked
from towerrec.data.splits import RandomRows
from towerrec.data.tables import Tables


def test_the_store_holds_the_rows_of_the_log_with_their_ids_labels_and_moments(tmp_path):
    rows = log()
    prepared = run(tmp_path, source=Memory(tmp_path, log=rows))
    for code, split in enumerate(("train", "val", "test"), start=1):
        stored = prepared.store.rows(split)
        got = pl.DataFrame(
            {
                "user_id": prepared.user_ids.gather(stored.user_idx.numpy()),
                "item_id": prepared.item_ids.gather(stored.item_idx.numpy()),
                "timestamp_ms": stored.timestamp_ms.numpy(),
                "label": stored.label.numpy(),
                "hour": stored.user_context["hour"].numpy(),
            }
        )
        expected = rows.filter(pl.col("split") == code).select(
            "user_id",
            "item_id",
            "timestamp_ms",
            label=(pl.col("watch_ratio") >= 2).cast(pl.Float32),
            hour=(pl.col("timestamp_ms").cast(pl.Datetime("ms")).dt.hour() + 2).cast(pl.UInt8),
        )
        assert got.equals(expected.sort("user_id", "timestamp_ms", maintain_order=True))
    assert prepared.as_of_ms == rows.filter(pl.col("split") == 1)["timestamp_ms"].max()
    assert (prepared.schema.num_users, prepared.schema.num_items) == (30, 40)
    assert prepared.report["features"]["left_out"] == {}


def test_features_without_the_held_out_rows_are_the_same_as_with_them(tmp_path):
    rows = log()
    # What the held-out rows say may change at will; only their ids and times are known before the split.
    lies = rows.with_columns(
        watch_ratio=pl.when(pl.col("split") == 1).then("watch_ratio").otherwise(3.9 - pl.col("watch_ratio"))
    )
    twice = pl.concat([rows, rows.filter(pl.col("split") != 1).with_columns(pl.col("timestamp_ms") + 1)])
    # One row of each held-out split must stay; it holds the first held-out moment.
    held_out = rows.filter(pl.col("split") != 1).sort("timestamp_ms")
    few = pl.concat([rows.filter(pl.col("split") == 1), *(held_out.filter(split=code).head(3) for code in (2, 3))])
    reference = run(tmp_path, source=Memory(tmp_path, log=rows))
    for number, other_rows in enumerate((lies, twice, few), start=1):
        folder = tmp_path / str(number)
        folder.mkdir()
        other = run(folder, source=Memory(folder, log=other_rows))
        assert other.encoders == reference.encoders
        for name in ("users", "items"):
            expected, got = getattr(reference, name).columns, getattr(other, name).columns
            assert all(torch.equal(got[column], expected[column]) for column in expected), number


def test_ids_without_training_rows_are_unknown_to_the_id_features_and_have_no_popularity(tmp_path):
    prepared = run(tmp_path)
    assert (prepared.users.columns["user_id"][25:] == 1).all()
    assert prepared.users.columns["user_id"][:25].tolist() == list(range(2, 27))
    assert (prepared.items.columns["item_rate"][35:] == 0).all()
    assert (prepared.items.columns["item_rate"][:35] != 0).any()
    assert (prepared.items.columns["plays"][35:] != 0).any()


def test_daily_counters_end_before_the_first_held_out_day_and_before_the_last_training_day(tmp_path):
    class Rows:
        timestamp_ms = np.array([START_MS, START_MS + 5 * DAY_MS, START_MS + 3 * DAY_MS, -(2**63)])
        train = np.array([True, True, False, False])

    assert first_unseen_day(Rows, "UTC") == datetime.date(2020, 7, 4)
    Rows.train = np.array([True, True, True, False])
    assert first_unseen_day(Rows, "UTC") == datetime.date(2020, 7, 6)
    Rows.timestamp_ms = np.full(4, -(2**63))
    assert first_unseen_day(Rows, "UTC") is None


def test_a_second_start_reads_the_cache_and_any_change_builds_anew(tmp_path):
    source = Memory(tmp_path, log=log())
    first = run(tmp_path, source=source)
    second = run(tmp_path, source=source)
    assert (first.from_cache, second.from_cache, source.reads) == (False, True, 1)
    assert second.fingerprint == first.fingerprint
    assert torch.equal(second.store.rows("train").label, first.store.rows("train").label)
    assert second.item_ids.equals(first.item_ids)
    changes = [
        {"label": Liked(min_watch_ratio=1.0)},
        {"split": RandomRows(val=0.1, test=0.2, seed=3)},
        {"split": RandomRows(val=0.1, test=0.2, seed=4)},
        {"features": FEATURES | {"drop": ["daily"]}},
        {"source": Memory(tmp_path, log=log(), seed=5)},
    ]
    keys = {first.fingerprint} | {run(tmp_path, **{"source": source, **change}).fingerprint for change in changes}
    assert len(keys) == 6
    source.path.write_text("other rows")
    assert not run(tmp_path, source=source).from_cache


def test_a_new_version_of_the_format_does_not_read_old_caches(tmp_path, monkeypatch):
    source = Memory(tmp_path, log=log())
    run(tmp_path, source=source)
    monkeypatch.setattr(prepare_module, "CACHE_VERSION", prepare_module.CACHE_VERSION + 1)
    assert not run(tmp_path, source=source).from_cache


def test_a_file_that_changes_while_it_is_read_is_refused_and_nothing_is_kept(tmp_path):
    class Growing(Memory):
        def read(self) -> Tables:
            tables = super().read()
            if self.reads == 1:
                self.path.write_text("rows and more rows")
            return tables

    source = Growing(tmp_path, log=log())
    with pytest.raises(ValueError, match=r"log.bin: changed while the log was prepared"):
        run(tmp_path, source=source)
    assert [path for path in (tmp_path / "cache").iterdir() if path.is_dir()] == []
    assert not run(tmp_path, source=source).from_cache


def test_a_cut_column_is_built_again_and_not_read(tmp_path):
    first = run(tmp_path)
    labels = first.store.rows("train").label.clone()
    column = first.directory / "store" / "label.npy"
    column.write_bytes(column.read_bytes()[:-4])
    again = run(tmp_path)
    assert not again.from_cache
    assert torch.equal(again.store.rows("train").label, labels)


def test_groups_are_dropped_by_one_word_and_the_report_names_what_the_data_lacks(tmp_path):
    features = {
        **FEATURES,
        "drop": ["popularity", "time", "hour"],
        "missing": "drop",
        "declared": {**FEATURES["declared"], "height": {"side": "user", "kind": "numeric"}},
    }
    prepared = run(tmp_path, features=features)
    assert [s.name for s in prepared.schema.features] == [
        *("user_id", "city", "age"),
        *("item_id", "tags", "caption", "length", "plays"),
    ]
    assert list(prepared.report["features"]["left_out"]) == ["height"]
    assert prepared.store.rows("train").user_context == {}


def test_vectors_of_the_users_own_file_are_joined_by_id(tmp_path):
    path = tmp_path / "vectors.parquet"
    pl.DataFrame({"video": [101, 100, 999], "clip": [[1.0, 2.0], [3.0, 4.0], [9.0, 9.0]]}).write_parquet(path)
    plain = {"side": "item", "kind": "vector", "path": str(path), "id_column": "video", "column": "clip"}
    features = {"declared": {**FEATURES["declared"], "look": plain}}
    source = Memory(tmp_path, log=log())
    prepared = run(tmp_path, source=source, features=features)
    assert prepared.items.columns["look"][:3].tolist() == [[3.0, 4.0], [1.0, 2.0], [0.0, 0.0]]
    pl.DataFrame({"video": [101], "clip": [[7.0, 2.0]]}).write_parquet(path)
    assert run(tmp_path, source=source, features=features).items.columns["look"][1].tolist() == [7.0, 2.0]
    pl.DataFrame({"video": [101, 101], "clip": [[7.0, 2.0], [7.0, 2.0]]}).write_parquet(path)
    with pytest.raises(ValueError, match="holds ids twice"):
        run(tmp_path, source=source, features=features)
    path.unlink()
    with pytest.raises(ValueError, match=r"vectors\.parquet: there is no such file"):
        run(tmp_path, source=source, features=features)


def test_a_log_without_times_and_side_tables_is_enough(tmp_path):
    class Bare(Memory):
        def read(self):
            return Tables("bare", self.log.drop("timestamp_ms").lazy())

    prepared = run(tmp_path, source=Bare(tmp_path, log=log()), features={"auto": True})
    assert prepared.as_of_ms is None
    assert {s.name for s in prepared.schema.features} >= {"user_id", "item_id", "item_views"}
    assert not any(s.context for s in prepared.schema.features)


def test_no_positives_is_said_before_anything_is_cached(tmp_path):
    with pytest.raises(ValueError, match=r"no train row has a positive label \(> 0\)"):
        run(tmp_path, label=Liked(min_watch_ratio=100.0))
    assert list((tmp_path / "cache").iterdir()) == []
