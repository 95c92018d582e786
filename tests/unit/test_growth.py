"""A log that goes on after a run: vocabularies grow, measures stay, and what was known is known beside its rows."""

import datetime
from dataclasses import replace

import numpy as np
import polars as pl
import pytest
import torch

from towerrec.auditing import seen_by_run
from towerrec.data.audit import audit
from towerrec.data.catalogue import catalogue_of
from towerrec.data.known import ContinuedStore
from towerrec.data.labels import Column, Liked
from towerrec.data.labels_debiased import Debiased
from towerrec.data.learning_rows import Earlier, Learning
from towerrec.data.past import HeldOut, Past
from towerrec.data.prepare import prepare
from towerrec.data.splits import Given
from towerrec.data.tables import Tables
from towerrec.data.vocabulary import Vocabulary
from towerrec.later import rows_of
from towerrec.schema import FIRST, PAD, UNKNOWN

DAY_MS = 86_400_000
FEATURES = {
    "declared": {
        "user_id": {"side": "user", "kind": "id", "group": "id"},
        "city": {"side": "user", "kind": "categorical"},
        "age": {"side": "user", "kind": "numeric"},
        "item_id": {"side": "item", "kind": "id", "group": "id"},
        "tags": {"side": "item", "kind": "multi"},
        "caption": {"side": "item", "kind": "text", "ngrams": [3]},
        "length": {"side": "item", "kind": "bucket", "buckets": 3},
        "age_days": {"kind": "age_days", "column": "born", "buckets": 3},
    }
}
COUNTED = {"declared": {**FEATURES["declared"], "views": {"side": "item", "kind": "statistic", "of": "views"}}}
USERS = {1: ("rome", 20), 2: ("oslo", 30), 3: ("rome", 40), 9: ("bern", 60)}
ITEMS = {10: ([1], "cats"), 11: ([1, 2], "dogs"), 12: ([2], "cats"), 20: ([2, 7, 1], "owls"), 30: ([7], "dogs")}
# user, item, day, watch ratio, split
OLD = [
    (1, 10, 1, 3.0, 1),
    (1, 12, 2, 0.1, 1),
    (2, 11, 1, 3.0, 1),
    (3, 12, 3, 2.5, 1),
    (3, 10, 4, 1.0, 2),
    (2, 12, 5, 3, 3),
]
# User 9 and items 20 are new, item 30 occurs in test rows alone; users 2 and 3 are not there.
NEW = [
    (9, 20, 6, 3.0, 1),
    (1, 20, 6, 3.0, 1),
    (9, 11, 7, 0.2, 1),
    (1, 11, 8, 3.0, 2),
    (9, 30, 9, 3.0, 3),
    (9, 10, 9, 3.0, 3),
]


# With a validation row that is a positive.
RATED = [(*row[:3], 3.0, row[4]) for row in OLD]


class Days:
    """A source over rows and over the users and items that its side tables describe."""

    name = "days"

    def __init__(self, folder, rows, users=USERS, items=ITEMS, **columns):
        self.path, self.rows, self.users, self.items, self.columns = folder / "log.bin", rows, users, items, columns
        folder.mkdir(exist_ok=True)
        if not self.path.exists():
            self.path.write_text("rows")

    def files(self):
        return [self.path]

    def settings(self):
        return {"rows": str(self.rows), "users": list(self.users), "items": list(self.items), **self.columns}

    def read(self):
        user, item, day, ratio, split = zip(*self.rows, strict=True)
        log = pl.DataFrame({"user_id": user, "item_id": item, "watch_ratio": pl.Series(ratio, dtype=pl.Float32)})
        log = log.with_columns(
            timestamp_ms=pl.Series(day) * DAY_MS, split=pl.Series(split, dtype=pl.UInt8), duration_ms=pl.lit(5000.0)
        )
        city, age = zip(*self.users.values(), strict=True)
        tags, caption = zip(*self.items.values(), strict=True)
        users = pl.DataFrame({"user_id": list(self.users), "city": city, "age": age})
        items = pl.DataFrame({"item_id": list(self.items), "tags": tags, "caption": caption})
        items = items.with_columns(length=pl.col("item_id") * 1.5, born=datetime.date(1970, 1, 1), **self.columns)
        return Tables("days", log.lazy(), users.lazy(), items.lazy())


def prepared(folder, rows, *, past=None, features=FEATURES, label=None, **source):
    how = {"source": Days(folder, rows, **source), "split": Given(), "label": label or Liked(min_watch_ratio=2.0)}
    how |= {"features": features, "past": past}
    return prepare(**how, cache_dir=folder / "cache"), how


def past_of(log) -> Past:
    held = catalogue_of(log, profile="rows")
    return Past(held, held.seen, held.history, held.profiles, held.in_log, key=log.fingerprint)


OLD_ONLY = {"users": {k: USERS[k] for k in (1, 2, 3)}, "items": {k: ITEMS[k] for k in (10, 11, 12)}}


@pytest.fixture
def old(tmp_path):
    return prepared(tmp_path / "old", OLD, **OLD_ONLY)[0]


def test_new_values_stand_behind_the_old_ones_which_keep_their_indices():
    then = Vocabulary.fit(pl.Series(["b", "d", "d"]))
    now = then.grown(pl.Series(["a", "d", "c", "c", None]))
    assert now.values == ("b", "d", "a", "c")
    assert now.encode(pl.Series(["d", "a", "z"])).to_list() == [FIRST + 1, FIRST + 2, UNKNOWN]
    assert then.grown(pl.Series(["a", "c", "c"]), min_count=2).values == ("b", "d", "c")
    assert Vocabulary.fit(pl.Series([3, 5])).grown(pl.Series(["4.0", "5", "x"])).values == (3, 5, 4)


@pytest.mark.parametrize("whole", [True, False], ids=["old and new days", "new days alone"])
def test_vocabularies_grow_by_training_rows_and_measures_stay(tmp_path, old, whole):
    new, _ = prepared(tmp_path / "new", OLD + NEW if whole else NEW, past=past_of(old))
    encoders = {encoder.name: encoder for _, encoder in new.encoders.encoders}
    before = {encoder.name: encoder for _, encoder in old.encoders.encoders}
    assert encoders["user_id"].vocabulary.values == (1, 2, 3, 9)
    assert encoders["item_id"].vocabulary.values == (10, 11, 12, 20), "item 30 has no training row"
    assert encoders["city"].vocabulary.values == ("oslo", "rome", "bern")
    assert encoders["tags"].vocabulary.values == (1, 2, 7) and (before["tags"].width, encoders["tags"].width) == (2, 3)
    grown = encoders["caption"].vocabulary.values
    assert grown[: len(before["caption"].vocabulary.values)] == before["caption"].vocabulary.values
    assert len(grown) > len(before["caption"].vocabulary.values)
    assert encoders["age"] == before["age"] and encoders["length"] == before["length"]
    assert new.encoders.context == old.encoders.context
    assert new.user_ids.to_list() == [1, 2, 3, 9] and new.item_ids.to_list() == [10, 11, 12, 20, 30]
    assert new.meta["continued"]["holds_old_days"] is whole


def test_what_the_new_tables_do_not_describe_is_as_it_was(tmp_path, old):
    now = {"users": {1: ("bern", 21), 9: USERS[9]}, "items": {20: ITEMS[20], 30: ITEMS[30], 11: ([7], "owls")}}
    new, _ = prepared(tmp_path / "new", NEW, past=past_of(old), **now)
    city = next(e for _, e in new.encoders.encoders if e.name == "city").vocabulary
    assert city.decode(new.users.columns["city"].tolist()) == ["bern", "oslo", "rome", "bern"]
    assert new.users.columns["age"][1:3].tolist() == old.users.columns["age"][1:3].tolist()
    tags = next(e for _, e in new.encoders.encoders if e.name == "tags").vocabulary
    rows = [[value for value in tags.decode(row) if value is not None] for row in new.items.columns["tags"].tolist()]
    assert rows == [[1], [7], [2], [2, 7, 1], [7]]
    assert new.items.columns["tags"].shape[1] == 3 and (new.items.columns["tags"][0, 1:] == PAD).all()
    assert new.display["caption"].to_list() == ["cats", "owls", "cats", "owls", "dogs"]
    assert (new.item_days["age_days"] == 0).all()


def test_a_log_of_the_new_days_knows_what_was_done_before(tmp_path, old):
    new, _ = prepared(tmp_path / "new", NEW, past=past_of(old))
    whole, _ = prepared(tmp_path / "whole", OLD + NEW, past=past_of(old))
    assert isinstance(new.store, ContinuedStore) and not isinstance(whole.store, ContinuedStore)
    assert len(new.store.rows("train")) == 3
    # The old validation row of user 3 is in the whole log's validation rows, and the old test row was no knowledge.
    lists = {name: log.store.seen("train", "val") for name, log in (("new", new), ("whole", whole))}
    assert _lists(lists["new"]) == _lists(lists["whole"]) == [[0, 1, 2, 3], [1], [0, 2], [1, 3]]
    assert _lists(new.store.seen("test")) == [[], [], [], [0, 4]]
    assert new.store.in_log("item").tolist() == [True] * 5
    assert new.store.in_log("user", "train").tolist() == [True] * 4
    for rule in ("liked", "shown"):
        ours, theirs = (
            log.store.profiles("train", log.positive, positives_only=rule == "liked") for log in (new, whole)
        )
        assert _lists(ours) == _lists(theirs) and ours.values.tolist() == theirs.values.tolist()
    assert _lists(new.store.positives("train", "> 0")) == _lists(whole.store.positives("train", "> 0"))
    ours, theirs = new.store.history("> 0"), whole.store.history("> 0")
    for name in ("items", "key", "first", "first_timed", "moments"):
        assert torch.equal(getattr(ours, name), getattr(theirs, name)), name


def test_days_that_come_twice_are_in_the_history_once(tmp_path, old):
    again, _ = prepared(tmp_path / "new", OLD[:1] + NEW, past=past_of(old))
    assert not again.meta["continued"]["holds_old_days"]
    assert again.store.history("> 0").items.tolist() == [0, 3, 1, 2, 3]


def test_the_audit_counts_anew_with_the_run_it_grew_from(tmp_path, old):
    for name, rows in (("new", NEW), ("whole", OLD + NEW)):
        log, how = prepared(tmp_path / name, rows, past=past_of(old))
        assert "failed" not in {finding.outcome for finding in audit(log, **how)}
        torch.Tensor.fill_(log.users.columns["age"], 9.0)
        (log.directory / "audit.json").unlink()
        assert "failed" in {finding.outcome for finding in audit(log, **how)}


def test_the_cache_depends_on_the_run_that_a_log_grew_from(tmp_path, old):
    past = past_of(old)
    first, _ = prepared(tmp_path / "new", NEW, past=past)
    again, _ = prepared(tmp_path / "new", NEW, past=past)
    other, _ = prepared(tmp_path / "new", NEW, past=replace(past, key="other"))
    alone, _ = prepared(tmp_path / "new", NEW)
    assert again.from_cache and len({first.fingerprint, other.fingerprint, alone.fingerprint}) == 3
    assert first.fingerprint == again.fingerprint


def declared(**change):
    made = {name: dict(keys) for name, keys in FEATURES["declared"].items()}
    for name, keys in change.items():
        made.pop(name, None)
        if keys is not None:
            made[name] = keys
    return {"declared": made}


@pytest.mark.parametrize(
    ("features", "words"),
    [
        (declared(city=None), "reads the feature 'city'.*leave out"),
        (
            declared(extra={"side": "item", "kind": "numeric", "column": "length"}),
            "knows no feature 'extra'.*features.drop",
        ),
        (declared(age={"side": "user", "kind": "bucket"}), "'age' was numeric of the user over age .*is bucket"),
        (
            declared(city={"side": "user", "kind": "categorical", "column": "age"}),
            "'city' was .* over city .* over age",
        ),
        (COUNTED, "knows no feature 'views'"),
    ],
    ids=["fewer", "more", "another kind", "another column", "a counted one more"],
)
def test_features_other_than_the_runs_are_named(tmp_path, old, features, words):
    with pytest.raises(ValueError, match=f"(?s){words}"):
        prepared(tmp_path / "new", NEW, past=past_of(old), features=features)


def test_counted_features_need_the_old_days(tmp_path):
    old, _ = prepared(tmp_path / "old", OLD, features=COUNTED, **OLD_ONLY)
    with pytest.raises(ValueError, match=r"'views' is counted over all training rows.*give the old days"):
        prepared(tmp_path / "new", NEW, features=COUNTED, past=past_of(old))
    whole, how = prepared(tmp_path / "whole", OLD + NEW, features=COUNTED, past=past_of(old))
    assert "failed" not in {finding.outcome for finding in audit(whole, **how)}


def test_what_was_inferred_stays_what_it_was(tmp_path):
    auto = {"auto": True, "drop": ["popularity", "freshness"]}
    many = {number: ([1], f"film {number} of cats") for number in range(100, 180)}
    rows = [(1 + n % 3, 100 + n % 80, 1 + n // 100, 3.0 * (n % 2), 1 + (n > 150) + (n > 180)) for n in range(200)]
    old, _ = prepared(tmp_path / "old", rows, features=auto, users=OLD_ONLY["users"], items=many)
    kinds = {encoder.name: kind for kind, encoder in old.encoders.encoders}
    assert kinds["item_text"] == "text", "that of many captions"
    few = {
        "users": {k: USERS[k] for k in (1, 9)},
        "items": {20: ITEMS[20], 30: ITEMS[30], 10: ITEMS[10], 11: ITEMS[11]},
    }
    new, _ = prepared(tmp_path / "new", NEW, features=auto, past=past_of(old), **few)
    assert {encoder.name: kind for kind, encoder in new.encoders.encoders} == kinds
    with pytest.raises(ValueError, match=r"knows no feature 'studio'"):
        prepared(tmp_path / "more", NEW, features=auto, past=past_of(old), **few, studio=pl.col("item_id") % 2)


def test_ids_of_another_type_and_other_labels_are_refused(tmp_path, old):
    past = past_of(old)
    names = replace(past, tables=replace(past.tables, user_ids=pl.Series("user_id", ["a", "b", "c"])))
    with pytest.raises(ValueError, match=r"'user_id' holds Int64 here and String where the run was.*text_ids=true"):
        prepared(tmp_path / "new", NEW, past=names)
    for other in (Liked(min_watch_ratio=1.0), Column(column="watch_ratio")):
        with pytest.raises(ValueError, match=r"trained on label=liked.*leave label out"):
            prepared(tmp_path / "new", NEW, past=past, label=other)


def test_a_label_keeps_what_it_learnt_from_the_first_rows(tmp_path):
    rows = [(1 + n % 3, 10 + n % 3, 1 + n, 0.1 + n % 7, 1 + (n > 40) + (n > 50)) for n in range(60)]
    old, _ = prepared(tmp_path / "old", rows, label=Debiased(), **OLD_ONLY)
    new, _ = prepared(
        tmp_path / "new", [(u, i, d, 9.0, s) for u, i, d, _, s in NEW], label=Debiased(), past=past_of(old)
    )
    assert new.meta["label_fitted"] == old.meta["label_fitted"]


def test_new_days_are_learnt_from_and_a_share_of_the_old_ones(tmp_path, old):
    whole, _ = prepared(tmp_path / "whole", OLD + NEW, past=past_of(old))
    for replay, least, most in ((0.0, 3, 3), (0.5, 3, 7), (1.0, 7, 7)):
        learnt = Learning(old.as_of_ms, replay, seed=0).rows(whole, whole.store)
        assert least <= len(learnt) <= most
        assert (learnt.timestamp_ms > old.as_of_ms).sum() == 3
    many = np.unique([len(Learning(old.as_of_ms, 0.5, seed=s).places(whole.store)) for s in range(20)])
    assert many.min() < 5 < many.max()
    assert Learning(None, 0.0, seed=0).places(whole.store) is None, "without times all rows may be new"
    with pytest.raises(ValueError, match=r"no training row is later than 1970-01-04.*continue_replay=1"):
        Learning(old.as_of_ms, 0.5, seed=0).places(old.store)


def test_a_log_of_new_days_alone_learns_old_rows_from_the_logs_of_the_runs_before(tmp_path, old):
    new, _ = prepared(tmp_path / "new", NEW, past=past_of(old))
    learnt = Learning(old.as_of_ms, 1.0, seed=0, earlier=logs_of(old)).rows(new, new.store)
    # All rows of the old days, those held out then too, for they are over, and the training rows of the new ones.
    places = zip(learnt.user_idx.tolist(), learnt.item_idx.tolist(), strict=True)
    assert list(places) == [(0, 0), (0, 2), (0, 3), (1, 1), (1, 2), (2, 2), (2, 0), (3, 3), (3, 1)]
    assert (learnt.timestamp_ms // DAY_MS).tolist() == [1, 2, 6, 1, 5, 3, 4, 6, 7]
    assert learnt.label.tolist() == [1, 0, 1, 1, 1, 1, 0, 1, 0]
    assert learnt.item_context["age_days"].shape == learnt.label.shape
    some = {len(Learning(old.as_of_ms, 0.5, s, logs_of(old)).rows(new, new.store)) for s in range(20)}
    assert min(some) >= 3 and max(some) <= 9 and len(some) > 2
    assert len(Learning(old.as_of_ms, 0.0, 0, earlier=_gone).rows(new, new.store)) == 3
    with pytest.raises(ValueError, match="gone"):
        Learning(old.as_of_ms, 0.5, 0, earlier=_gone).rows(new, new.store)


def test_rows_of_which_both_logs_tell_are_learnt_once_and_never_where_they_are_held_out_now(tmp_path, old):
    again = [(1, 10, 1, 3.0, 1), (1, 12, 2, 0.1, 2), (3, 12, 3, 2.5, 3)]
    new, _ = prepared(tmp_path / "new", again + NEW, past=past_of(old))
    assert not new.meta["continued"]["holds_old_days"]
    learnt = Learning(old.as_of_ms, 1.0, seed=0, earlier=logs_of(old)).rows(new, new.store)
    places = zip(learnt.user_idx.tolist(), learnt.item_idx.tolist(), learnt.timestamp_ms.tolist(), strict=True)
    assert [(u, i, t // DAY_MS) for u, i, t in places] == [(0, 0, 1), (0, 3, 6), (1, 1, 1), (3, 3, 6), (3, 1, 7)]


def test_older_rows_that_memory_does_not_hold_are_refused_with_the_share_that_fits(tmp_path, old, monkeypatch):
    new, _ = prepared(tmp_path / "new", NEW, past=past_of(old))
    monkeypatch.setattr("towerrec.data.learning_rows.memory_limit", lambda: 500)
    with pytest.raises(
        ValueError, match=r"the old days have 6 rows, and to learn from 100% .* share that fits, 0\.6 at"
    ):
        Learning(old.as_of_ms, 1.0, 0, logs_of(old)).rows(new, new.store)
    Learning(old.as_of_ms, 0.6, 0, logs_of(old)).rows(new, new.store)


def test_judged_rows_that_the_run_was_trained_on_are_found_in_a_log_without_its_other_rows(tmp_path, old):
    def found(rows, catalogue):
        log, _ = prepared(tmp_path / "new", rows, past=past_of(old))
        assert isinstance(log.store, ContinuedStore)
        return seen_by_run(catalogue, log, rows_of(catalogue, log), on="test")

    held = catalogue_of(old)
    assert found(NEW, held).outcome == "passed"
    watched_again = [*NEW, (1, 10, 9, 3.0, 3)]
    assert found(watched_again, held).outcome == "passed", "later than all it has learnt from"
    leak = found([*watched_again, (3, 12, 3, 2.5, 3)], held)
    assert (leak.outcome, leak.rows) == ("failed", 1) and "user 3, item 12 at 1970-01-04" in leak.text
    # A refit has learnt the validation rows too.
    taught = [*NEW, (3, 10, 4, 3.0, 3)]
    assert found(taught, held).outcome == "passed"
    assert found(taught, catalogue_of(prepared(tmp_path / "rated", RATED)[0].joined())).outcome == "failed"
    without_times = replace(held, meta=held.meta | {"as_of_ms": None})
    assert found(watched_again, without_times).outcome == "stated"


def test_what_the_run_held_out_is_known_of_days_that_are_over(tmp_path, old):
    HeldOut.of(old.store, old.positive).save(tmp_path / "held_out")
    past = replace(past_of(old), held_out=HeldOut.load(tmp_path / "held_out"))
    new, _ = prepared(tmp_path / "new", NEW, past=past)
    assert _lists(new.store.seen("train", "val")) == [[0, 1, 2, 3], [1, 2], [0, 2], [1, 3]]
    shown = new.store.profiles("train", new.positive, positives_only=False)
    assert _lists(shown) == [[0, 2, 3], [1, 2], [0, 2], [1, 3]] and shown.values.tolist() == [1, 0, 1, 1, 1, 0, 1, 0, 1]
    assert new.store.history("> 0").items.tolist() == [0, 3, 1, 2, 2, 3]
    # The day of the test row is not over when the log begins before it.
    begins = [(9, 20, 5, 3.0, 1), *NEW]
    assert _lists(prepared(tmp_path / "new", begins, past=past)[0].store.seen("train", "val"))[1] == [1]
    (tmp_path / "held_out" / "rows" / "0.npy").write_bytes(b"other")
    with pytest.raises(ValueError, match=r"held_out/rows/0\.npy"):
        HeldOut.load(tmp_path / "held_out")


def logs_of(*runs):
    return lambda: [Earlier(run.store, run.user_ids, run.item_ids) for run in runs]


def _gone():
    raise ValueError("gone")


def _lists(lists) -> list[list[int]]:
    return [lists.items[a:b].tolist() for a, b in zip(lists.offsets[:-1], lists.offsets[1:], strict=True)]
