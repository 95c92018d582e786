"""The published protocols: who is trained on, who is judged, by which label and among which videos, on a release so
small that all of it can be counted by hand."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from zoneinfo import ZoneInfo

import polars as pl
import pytest
from commands import REPOSITORY
from conftest import Workplace
from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from omegaconf import OmegaConf

from towerrec.config import build
from towerrec.data.build import labelled
from towerrec.data.prepare import prepare
from towerrec.protocol import protocol

EXPERIMENTS = ["kuairec_debiased", "kuairec_big_validation", "kuairec_sealed_small", "kuairec_unseen"]
HEADER = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
AD_IN_BIG, AD_IN_SMALL = 2, 6
RATIOS = [k / 10 for k in range(20)]
RATIOS[5], RATIOS[6], RATIOS[15] = 2.0, 2.5, 3.0


def event(user, video, ratio, day, *, partition=20200801, play=1):
    moment = datetime.fromisoformat(f"2020-08-{day}").replace(tzinfo=ZoneInfo("Asia/Shanghai"))
    return f"{user},{video},{play},10000,{moment},{partition},{moment.timestamp()},{ratio}"


def big_rows():
    """20 events of normal videos, a day apart from the 10th of August on, the last two around midnight of the 30th.

    Event k is by user k % 10 + 1 on video 1 (k < 10) or 3, but event 11 (user 2) is on video 5 of the small matrix and
    event 14 is the only one of user 11.
    """
    days = [f"{10 + k} 12:00:00" for k in range(18)] + ["29 23:59:59", "30 00:00:00"]
    users = [11 if k == 14 else k % 10 + 1 for k in range(20)]
    videos = [5 if k == 11 else 1 if k < 10 else 3 for k in range(20)]
    rows = [event(*row) for row in zip(users, videos, RATIOS, days, strict=True)]
    exact = event(1, 1, RATIOS[0], days[0], partition=20200802)
    near = event(1, 1, 3.0, days[0], play=2)
    return [rows[0], exact, near, *rows[1:], event(1, AD_IN_BIG, 0.5, "12 13:00:00")]


def small_rows():
    """Users 1 to 10, all of 4, 5 and the advertisement 6, but (3, 6) is not observed; half of the rows have no time."""
    ratio = {4: lambda user: 2.5 if user % 2 else 2.0, 5: lambda user: 1.0, AD_IN_SMALL: lambda user: 2.2}
    cells = [(user, video) for user in range(1, 11) for video in (4, 5, AD_IN_SMALL) if (user, video) != (3, 6)]
    timed = [event(user, video, ratio[video](user), "20 10:00:00") for user, video in cells[::2]]
    return timed + [f"{user},{video},1,10000,,,,{ratio[video](user)}" for user, video in cells[1::2]]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    folder = tmp_path / "release"
    folder.mkdir()
    kind = {video: "AD" if video in (AD_IN_BIG, AD_IN_SMALL) else "NORMAL" for video in range(1, 7)}
    files = {
        "big_matrix": [HEADER, *big_rows()],
        "small_matrix": [HEADER, *small_rows()],
        "item_daily_features": ["video_id,date,video_type", *(f"{v},20200801,{kind[v]}" for v in kind)],
    }
    for name, lines in files.items():
        (folder / f"{name}.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder


def composed(experiment: str, release: Path, *overrides: str):
    GlobalHydra.instance().clear()
    with initialize_config_dir(str(REPOSITORY / "conf"), version_base="1.3"):
        cfg = compose("train", [f"experiment={experiment}", f"data.root={release}", *overrides])
    plain = {name: OmegaConf.to_container(cfg[name]) for name in ("cleaning", "split", "label", "features", "eval")}
    cfg.data.data_dir = str(release)
    plain["data"] = OmegaConf.to_container(cfg.data)
    return plain


@dataclass
class Found:
    """Rows after cleaning, split and label."""

    frame: pl.DataFrame
    counts: dict[str, int]

    def of(self, split: str) -> pl.DataFrame:
        return self.frame.filter(pl.col("split") == {"train": 1, "val": 2, "test": 3}[split])

    def users(self, split: str) -> set[int]:
        return set(self.of(split)["user_id"].to_list())


def found(experiment: str, release: Path, *overrides: str) -> Found:
    cfg = composed(experiment, release, *overrides)
    tables = build(cfg["data"], "data").read()
    parts = {name: build(cfg[name], name) for name in ("cleaning", "split", "label")}
    return Found(*labelled(tables, **parts, items=tables.items.collect()))


def prepared_by(experiment: str, release: Path, folder: Path, *overrides: str):
    cfg = composed(experiment, release, "features=ids", "features.drop=[]", *overrides)
    parts = {name: build(cfg[name], name) for name in ("cleaning", "split", "label")}
    source = build(cfg["data"], "data")
    return prepare(source=source, features=cfg["features"], cache_dir=folder / "cache", **parts)


def test_debiased_trains_before_30_august_in_shanghai_on_every_distinct_event(release: Path):
    got = found("kuairec_debiased", release)
    assert got.counts["exact duplicates"] == 1
    assert "near duplicates" not in got.counts
    # 19 events before midnight, the near duplicate and the advertisement; the event of midnight is left out.
    assert got.of("train").height == 19 + 1 + 1
    assert got.counts["rows outside the split"] == 1
    assert got.users("val") | got.users("test") == set(range(1, 11))
    assert not got.users("val") & got.users("test")
    assert got.of("val").height + got.of("test").height == 29


def test_debiased_likes_what_is_above_the_80th_percentile_of_training_views(release: Path):
    got = found("kuairec_debiased", release)
    train = sorted([*RATIOS[:19], 3.0, 0.5])
    threshold = train[16]  # 21 values: place .8 * 20
    assert threshold == 1.8
    assert (
        got.frame.with_columns(liked=pl.col("watch_ratio") > threshold)["liked"]
        .cast(pl.Float32)
        .equals(got.frame["label"], check_names=False)
    )


def test_debiased_can_validate_on_the_days_after_and_test_on_the_same_users(release: Path):
    by_users = found("kuairec_debiased", release)
    by_time = found("kuairec_debiased", release, "split.val=time", "split.leave_out_val_users=true")
    assert by_time.of("val").height == 1
    assert by_time.of("val")["watch_ratio"].to_list() == pytest.approx([RATIOS[19]])
    assert by_time.users("test") == by_users.users("test")
    assert by_time.of("train").equals(by_users.of("train"))


def test_debiased_ranks_the_videos_observed_for_the_user(release: Path, tmp_path: Path):
    prepared = prepared_by("kuairec_debiased", release, tmp_path, "split.val_fraction=0.0")
    rules = protocol(prepared, on="test", ks=[1], candidates=None, positive=None)
    assert rules.candidates == "observed"
    assert rules.allowed.counts.tolist() == [3, 3, 2, *[3] * 7, 0]  # (3, 6) is not observed; user 11 is in big alone
    assert rules.candidates_per_user == pytest.approx(2.9)


def test_big_validation_judges_the_next_15_percent_of_known_users_and_normal_videos(release: Path, tmp_path: Path):
    got = found("kuairec_big_validation", release)
    assert got.counts["items other than video_type = 'NORMAL'"] == 1
    assert (got.counts["exact duplicates"], got.counts["near duplicates"]) == (1, 1)
    # Of 20 events 14 are trained on, 3 are judged but for the one of the new user 11, 3 are left out.
    assert got.of("train")["watch_ratio"].to_list() == pytest.approx(RATIOS[:14])
    assert got.of("test")["watch_ratio"].to_list() == pytest.approx(RATIOS[15:17])
    assert got.of("val").height == 0
    assert got.counts["rows outside the split"] == 4
    # Above 2, not from 2 on.
    assert got.of("train")["label"].to_list() == [0] * 6 + [1] + [0] * 7
    prepared = prepared_by("kuairec_big_validation", release, tmp_path)
    rules = protocol(prepared, on="test", ks=[1], candidates=None, positive=None)
    # User 6 (event 15) is judged; of the videos 1, 3 and 5 it has seen 1 in training.
    assert prepared.user_ids.gather(rules.users.numpy()).to_list() == [6]
    assert (rules.num_candidates, rules.candidates_per_user) == (3, 2)


def test_sealed_small_trains_on_the_first_85_percent_and_tests_on_all_users_and_normal_videos(release: Path):
    got = found("kuairec_sealed_small", release)
    assert got.of("train")["watch_ratio"].to_list() == pytest.approx(RATIOS[:17])
    assert got.of("val").height == 0
    assert got.users("test") == set(range(1, 11))
    assert got.of("test").height == 20
    assert got.counts["items other than video_type = 'NORMAL'"] == 1 + 9
    # Video 4 is liked above 2 by the odd users; 2.0 of the even ones is not above 2.
    assert set(got.of("test").filter(pl.col("label") == 1)["user_id"].to_list()) == {1, 3, 5, 7, 9}


def test_unseen_averages_all_rows_of_a_pair_and_splits_the_users(release: Path):
    got = found("kuairec_unseen", release)
    # (1, 1) has three rows, one a duplicate that counts: (0 + 0 + 3) / 3.
    assert got.counts["repeats of a pair, averaged"] == 2
    assert got.of("train").height == 20 + 1
    pair = got.of("train").filter(pl.col("user_id") == 1, pl.col("item_id") == 1)
    assert pair["watch_ratio"].to_list() == pytest.approx([1.0])
    assert got.of("train").filter(pl.col("label") == 1).height == 3  # 2.0, 2.5 and 3.0
    assert got.users("val") | got.users("test") == set(range(1, 11))
    assert not got.users("val") & got.users("test")
    others = [found("kuairec_unseen", release, f"split.seed={seed}").users("val") for seed in (1, 2)]
    assert any(other != got.users("val") for other in others)


def test_unseen_ranks_every_small_video_that_the_user_has_not_seen_in_big(release: Path, tmp_path: Path):
    prepared = prepared_by("kuairec_unseen", release, tmp_path, "split.val_fraction=0.0")
    rules = protocol(prepared, on="test", ks=[1], candidates=None, positive=None)
    assert rules.candidates == "held_out"
    assert prepared.item_ids.filter(pl.Series(rules.allowed.numpy())).to_list() == [4, 5, 6]
    seen = {int(u): rules.exclude.items[rules.exclude.offsets[u] : rules.exclude.offsets[u + 1]] for u in rules.users}
    small = {u: 3 - int(rules.allowed[items].sum()) for u, items in seen.items()}
    # User 2 saw video 5 in big; (3, 6), which the small matrix lacks, is a candidate.
    assert list(small.values()) == [3, 2, *[3] * 8]
    assert rules.candidates_per_user == pytest.approx(2.9)
    observed = protocol(prepared, on="test", ks=[1], candidates="observed", positive=None)
    assert observed.allowed.counts[:3].tolist() == [3, 3, 2]


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_a_protocol_runs_from_end_to_end_on_the_demo(workplace: Workplace, experiment: str):
    outcome = workplace.train(f"experiment={experiment}", "trainer.max_epochs=1")
    assert outcome.code == 0, outcome.err
    run = Path(outcome.last_line.removeprefix("run directory: "))
    facts = json.loads((run / "run.json").read_text(encoding="utf-8"))
    assert "by_duration" in facts["report"]["test"]
    assert "positives by length of video" in outcome.out
    rules = json.loads((run / "evaluation" / "comparison.json").read_text(encoding="utf-8"))["protocol"]
    expected = {"kuairec_big_validation": "catalogue", "kuairec_unseen": "held_out"}
    assert rules["candidates"] == expected.get(experiment, "observed")
