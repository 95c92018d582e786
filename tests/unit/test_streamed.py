import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from towerrec.data.cleaning import Cleaning
from towerrec.data.labels import Column, Implicit, Liked, WatchRatio
from towerrec.data.labels_debiased import Debiased
from towerrec.data.prepare import Prepared, prepare
from towerrec.data.sources.interactions import Interactions
from towerrec.data.splits import FirstRows, Given, RandomRows, Where
from towerrec.data.splits_cold import ColdUsers
from towerrec.data.splits_rolling import Rolling
from towerrec.data.splits_time import GlobalTime, LeaveLast

FEATURES = {
    "declared": {
        "user_id": {"side": "user", "kind": "id"},
        "city": {"side": "user", "kind": "categorical"},
        "activity": {"side": "user", "kind": "statistic", "of": "views"},
        "item_id": {"side": "item", "kind": "id"},
        "rate": {"side": "item", "kind": "statistic", "of": "positive_rate"},
        "mean": {"side": "item", "kind": "statistic", "of": "mean_label"},
        "hour": {"kind": "hour"},
        "weekday": {"kind": "weekday"},
    }
}
SPLITS = {
    "random": RandomRows(val=0.2, test=0.2, seed=3),
    "first_rows": FirstRows(num_rows=300, val=0.1, test=0.3, seed=1),
    "time": GlobalTime(val=0.2, test=0.2),
    "known users": GlobalTime(val=0.2, test=0.2, left_out=0.1, known_users=True),
    "dates": GlobalTime(val="2020-07-03", test="2020-07-04T12:00", timezone="Asia/Shanghai"),
    "windows": Rolling(window=1, num_windows=3, start=0.4, val=0.2, known_users=True),
    "window of days": Rolling(start="2020-07-03", days=1, val_days=0.5, train_days=1.0, timezone="Asia/Shanghai"),
    "leave_last": LeaveLast(val=1, test=2),
    "file order": LeaveLast(val=0, test=1, order="file"),
    "where": Where(train="fold < 6", val="fold = 6", test="fold > 6 AND fold < 9"),
    "given": Given(),
    "given with draw": Given(val=0.3, seed=5),
}
LABELS = {
    "liked": Liked(min_watch_ratio=1.5),
    "watch_ratio": WatchRatio(clip=3.0, log=True),
    "column": Column(column="stars", positive=">= 3"),
    "implicit": Implicit(),
}


def log(num_rows: int = 500, seed: int = 0, users: int = 20) -> pl.DataFrame:
    """Rows with repeats of every kind: nulls, equal rows, equal moments, unknown times."""
    rng = np.random.default_rng(seed)
    frame = pl.DataFrame(
        {
            "user_id": rng.integers(-3, users, num_rows),
            "item_id": rng.integers(0, 15, num_rows),
            "timestamp_ms": 1_593_561_600_000 + rng.integers(0, 60, num_rows) * 7_000_000,
            "watch_ratio": (rng.random(num_rows) * 4).astype(np.float32),
            "play_duration_ms": rng.integers(0, 9000, num_rows),
            "duration_ms": rng.integers(1, 40, num_rows) * 500,
            "stars": rng.integers(1, 6, num_rows),
            "fold": rng.integers(0, 10, num_rows),
            "split": rng.choice(["train", "train", "train", "test"], num_rows),
        }
    )
    nulls = {"user_id": 0.02, "timestamp_ms": 0.05, "watch_ratio": 0.04, "duration_ms": 0.03}
    frame = frame.with_columns(
        pl.when(pl.Series(rng.random(num_rows) < share)).then(None).otherwise(pl.col(name)).alias(name)
        for name, share in nulls.items()
    )
    again = frame[rng.integers(0, num_rows, num_rows // 10)]
    near = frame[rng.integers(0, num_rows, num_rows // 20)].with_columns(pl.col("play_duration_ms") + 1)
    return pl.concat([frame, again, near])[rng.permutation(num_rows + num_rows // 10 + num_rows // 20)]


def written(frame: pl.DataFrame, folder: Path, *, parts: int) -> str:
    folder.mkdir(parents=True, exist_ok=True)
    bounds = np.linspace(0, frame.height, parts + 1).astype(int)
    for number in range(parts):
        frame[bounds[number] : bounds[number + 1]].write_parquet(
            folder / f"part-{number:03}.parquet", row_group_size=37
        )
    return str(folder)


def both(
    place: Path, frame: pl.DataFrame, *, parts: int = 3, chunk_rows: int = 60, **more
) -> tuple[Prepared, Prepared]:
    path = written(frame, place / "log", parts=parts)
    users = place / "users.parquet"
    pl.DataFrame({"user_id": range(-5, 30), "city": [f"c{i % 4}" for i in range(35)]}).write_parquet(users)
    made = []
    for streaming in (False, True):
        source = Interactions(
            interactions=path, users=str(users), streaming=streaming, chunk_rows=chunk_rows,
            columns={"timestamp": "timestamp_ms"},
        )  # fmt: skip
        settings = {"split": SPLITS["time"], "label": LABELS["liked"], "features": FEATURES, **more}
        made.append(prepare(source=source, cache_dir=place / f"cache-{streaming}", **settings))
    return made[0], made[1]


def assert_same(whole: Prepared, streamed: Prepared, *, exact: bool = True) -> None:
    """Every file to the byte, but the report's means, which are sums in another order; `exact=False` allows the last
    bits of features that are made of such sums as well."""
    names = {str(p.relative_to(whole.directory)) for p in whole.directory.rglob("*") if p.is_file()}
    assert names == {str(p.relative_to(streamed.directory)) for p in streamed.directory.rglob("*") if p.is_file()}
    for name in names - {"report.json", "complete.json", "checked.json"}:
        a, b = whole.directory / name, streamed.directory / name
        if exact or not name.startswith(("users/", "items/", "encoders")):
            assert a.read_bytes() == b.read_bytes(), name
        elif name.endswith(".npy"):
            np.testing.assert_allclose(np.load(a), np.load(b), rtol=1e-5)
    assert_close(report_of(whole), report_of(streamed), "report")


def report_of(prepared: Prepared) -> dict:
    report = json.loads((prepared.directory / "report.json").read_text())
    del report["seconds"]
    return report


def assert_close(a, b, where: str) -> None:
    if isinstance(a, dict):
        assert a.keys() == b.keys(), where
        for key in a:
            assert_close(a[key], b[key], f"{where}.{key}")
    elif isinstance(a, float) or (isinstance(a, list) and a and isinstance(a[0], float)):
        assert b == pytest.approx(a, rel=2e-6, abs=2e-6), where
    else:
        assert a == b, where


@pytest.mark.parametrize("split", SPLITS)
def test_a_log_prepared_in_chunks_is_that_prepared_at_once(tmp_path, split):
    whole, streamed = both(tmp_path, log(), split=SPLITS[split])
    assert_same(whole, streamed)
    assert not list(streamed.directory.glob("chunks"))


@pytest.mark.parametrize("label", LABELS)
def test_so_it_is_under_every_label(tmp_path, label):
    assert_same(*both(tmp_path, log(), label=LABELS[label]), exact=LABELS[label].binary)


@pytest.mark.parametrize(
    "rules",
    [
        Cleaning(repeated_pairs="mean"),
        Cleaning(exact_duplicates=False, near_duplicates=False),
        Cleaning(untimed_duplicates=True, near_duplicates=False),
    ],
    ids=["mean of pairs", "keep duplicates", "untimed too"],
)
def test_so_it_is_under_other_rules_of_cleaning(tmp_path, rules):
    assert_same(*both(tmp_path, log(), cleaning=rules, split=SPLITS["random"]))


def test_so_it_is_without_times_and_with_words_for_ids(tmp_path):
    frame = log().with_columns(
        pl.format("u{}", "user_id").alias("user_id"), pl.lit(None, pl.Int64).alias("timestamp_ms")
    )
    features = {"declared": {name: FEATURES["declared"][name] for name in ("user_id", "item_id", "rate")}}
    path = written(frame, tmp_path / "log", parts=2)
    made = [
        prepare(
            source=Interactions(interactions=path, streaming=streaming, chunk_rows=50),
            cache_dir=tmp_path / str(streaming), split=SPLITS["random"], label=LABELS["liked"], features=features,
        )
        for streaming in (False, True)
    ]  # fmt: skip
    assert_same(*made)


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    num_rows=st.integers(30, 300),
    seed=st.integers(0, 10_000),
    users=st.integers(1, 30),
    parts=st.integers(1, 6),
    chunk_rows=st.integers(1, 400),
    split=st.sampled_from(["random", "time", "leave_last", "given with draw"]),
)
def test_wherever_files_and_chunks_end_the_store_is_the_same(
    tmp_path_factory, num_rows, seed, users, parts, chunk_rows, split
):
    place = tmp_path_factory.mktemp("streamed")
    try:
        frame = log(num_rows, seed, users)
        whole, streamed = both(
            place, frame, parts=parts, chunk_rows=chunk_rows, split=SPLITS[split], label=LABELS["implicit"]
        )
    except ValueError as error:
        assert "leaves no" in str(error)  # too few rows for this split
        return
    assert_same(whole, streamed)


@pytest.mark.parametrize(
    ("more", "remedy"),
    [
        ({"label": Debiased()}, "label=column"),
        ({"split": ColdUsers()}, "split=time"),
        ({"split": Where(train="fold < AVG(fold)", test="fold > 8")}, "write the number itself"),
        ({"features": {"auto": True}}, r"features.drop=\[popularity_now,item_recent_positives\]"),
    ],
)
def test_what_needs_all_rows_at_once_is_refused_with_a_way_out(tmp_path, more, remedy):
    path = written(log(), tmp_path / "log", parts=1)
    source = Interactions(interactions=path, streaming=True, columns={"timestamp": "timestamp_ms"})
    settings = {"split": SPLITS["time"], "label": LABELS["liked"], "features": FEATURES, **more}
    with pytest.raises(ValueError, match=remedy):
        prepare(source=source, cache_dir=tmp_path / "cache", **settings)
