"""The simulated release: its files, its flaws, and the reasons behind its clicks."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest

from towerrec.data.sources.simulator import FILES, simulate, writer
from towerrec.data.sources.simulator.big_matrix import mean_score
from towerrec.data.sources.simulator.scales import SCALES
from towerrec.data.sources.simulator.users import simulate_users
from towerrec.data.sources.simulator.videos import simulate_videos

MATRIX = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio"
HEADERS = {
    "big_matrix.csv": MATRIX,
    "small_matrix.csv": MATRIX,
    "user_features.csv": "user_id,user_active_degree,is_lowactive_period,is_live_streamer,is_video_author,"
    "follow_user_num,follow_user_num_range,fans_user_num,fans_user_num_range,friend_user_num,friend_user_num_range,"
    "register_days,register_days_range," + ",".join(f"onehot_feat{n}" for n in range(18)),
    "item_categories.csv": "video_id,feat",
    "item_daily_features.csv": "video_id,date,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,"
    "video_width,video_height,music_id,video_tag_id,video_tag_name,show_cnt,show_user_num,play_cnt,play_user_num,"
    "play_duration,complete_play_cnt,complete_play_user_num,valid_play_cnt,valid_play_user_num,long_time_play_cnt,"
    "long_time_play_user_num,short_time_play_cnt,short_time_play_user_num,play_progress,comment_stay_duration,like_cnt,"
    "like_user_num,click_like_cnt,double_click_cnt,cancel_like_cnt,cancel_like_user_num,comment_cnt,comment_user_num,"
    "direct_comment_cnt,reply_comment_cnt,delete_comment_cnt,delete_comment_user_num,comment_like_cnt,"
    "comment_like_user_num,follow_cnt,follow_user_num,cancel_follow_cnt,cancel_follow_user_num,share_cnt,"
    "share_user_num,download_cnt,download_user_num,report_cnt,report_user_num,reduce_similar_cnt,"
    "reduce_similar_user_num,collect_cnt,collect_user_num,cancel_collect_cnt,cancel_collect_user_num",
    "social_network.csv": "user_id,friend_list",
    "kuairec_caption_category.csv": "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,"
    "first_level_category_name,second_level_category_id,second_level_category_name,third_level_category_id,"
    "third_level_category_name",
}


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return simulate(tmp_path_factory.mktemp("release"), scale="tiny", seed=7)


@pytest.fixture(scope="module")
def big(release: Path) -> pl.DataFrame:
    return pl.read_csv(release / "big_matrix.csv")


@pytest.fixture(scope="module")
def small(release: Path) -> pl.DataFrame:
    return pl.read_csv(release / "small_matrix.csv")


def captions(release: Path) -> list[list[str]]:
    text = (release / "kuairec_caption_category.csv").read_bytes().decode()
    return list(csv.reader(io.StringIO(text.replace("\r", "<CR>"), newline="\n")))[1:]


def test_all_seven_files_have_the_official_headers(release: Path):
    assert {path.name for path in release.iterdir()} == set(FILES) == set(HEADERS)
    for name, header in HEADERS.items():
        assert (release / name).read_bytes().split(b"\n", 1)[0].decode() == header


def test_the_same_seed_gives_the_same_bytes_and_another_seed_other_ones(release: Path, tmp_path: Path):
    again = simulate(tmp_path / "again", scale="tiny", seed=7)
    other = simulate(tmp_path / "other", scale="tiny", seed=8)
    for name in FILES:
        assert (again / name).read_bytes() == (release / name).read_bytes(), name
        assert (other / name).read_bytes() != (release / name).read_bytes(), name


def test_sizes_are_those_of_the_scale(big: pl.DataFrame, small: pl.DataFrame):
    assert big.height == pytest.approx(15_000, rel=0.1)
    assert (big["user_id"].n_unique(), big["video_id"].n_unique()) == (150, 200)
    assert (small["user_id"].n_unique(), small["video_id"].n_unique()) == (40, 60)
    assert 0.97 < small.height / (40 * 60) < 1


def test_big_matrix_is_sorted_and_holds_full_and_near_duplicates(big: pl.DataFrame):
    assert big.select("user_id", "timestamp").equals(big.select("user_id", "timestamp").sort("user_id", "timestamp"))
    rows = big.unique()
    assert 0.06 < 1 - rows.height / big.height < 0.10
    twice = big.filter(big.is_duplicated())
    assert twice["date"].is_in([20200805, 20200831]).mean() > 0.95
    assert rows.height > rows.select("user_id", "video_id", "timestamp").unique().height


def test_dates_are_partitions_and_some_disagree_with_the_local_time(big: pl.DataFrame):
    local = big["time"].str.slice(0, 10).str.replace_all("-", "").cast(pl.Int64)
    assert big["date"].n_unique() == 28
    assert 0 < (local != big["date"]).mean() < 0.01
    expected = pl.from_epoch((big["timestamp"] * 1_000).round().cast(pl.Int64) + 28_800_000, time_unit="ms")
    assert big["time"].str.to_datetime("%Y-%m-%d %H:%M:%S%.3f", time_unit="ms").equals(expected.alias("time"))


def test_small_matrix_has_rows_without_a_time_but_every_watch_ratio(small: pl.DataFrame):
    assert small.select(pl.col("time", "date", "timestamp").is_null().mean()).row(0) == pytest.approx(
        [0.039] * 3, abs=0.02
    )
    assert small["date"].dtype == pl.Float64
    assert small["watch_ratio"].null_count() == 0
    assert not small.is_duplicated().any()


def test_no_pair_is_in_both_matrices(big: pl.DataFrame, small: pl.DataFrame):
    assert small.join(big, on=["user_id", "video_id"], how="semi").height == 0


def test_watch_ratio_is_play_over_duration_and_durations_jitter(big: pl.DataFrame):
    assert np.allclose(big["watch_ratio"], big["play_duration"] / big["video_duration"], rtol=1e-12)
    spread = big.group_by("video_id").agg(pl.col("video_duration").max() - pl.col("video_duration").min())
    assert 0 < spread["video_duration"].max() < 30


def test_captions_hold_four_bare_returns_and_empty_ones(release: Path):
    raw = (release / "kuairec_caption_category.csv").read_bytes()
    rows = captions(release)
    assert (raw.count(b"\r"), raw.count(b"\n"), len(rows)) == (4, 201, 200)
    assert {len(row) for row in rows} == {10}
    assert 0.05 < np.mean([row[2] == "" for row in rows]) < 0.2
    assert all((row[6] == "-124") == (row[7] == "UNKNOWN") for row in rows)


def test_captions_of_one_tag_share_more_characters_than_those_of_two(release: Path):
    feat = pl.read_csv(release / "item_categories.csv")["feat"]
    tags = np.array([json.loads(text)[0] for text in feat])
    texts = [set(row[2]) for row in captions(release)]
    likeness = np.array([[len(a & b) / max(1, len(a | b)) for b in texts] for a in texts])
    same = (tags[:, None] == tags) & ~np.eye(len(tags), dtype=bool)
    assert likeness[same].mean() > 1.3 * likeness[~same].mean()


def test_features_have_the_gaps_of_the_release(release: Path):
    users = pl.read_csv(release / "user_features.csv")
    gaps = {name for name in users.columns if users[name].null_count()}
    assert gaps == {"onehot_feat4", *(f"onehot_feat{n}" for n in range(12, 18))}
    daily = pl.read_csv(release / "item_daily_features.csv")
    assert not daily.select("video_id", "date").is_duplicated().any()
    assert daily["collect_cnt"].null_count() / daily.height == pytest.approx(0.2, abs=0.05)
    assert daily["video_duration"].null_count() > 0


def test_daily_counters_follow_the_views(release: Path, big: pl.DataFrame):
    daily = pl.read_csv(release / "item_daily_features.csv")
    views = big.unique(["user_id", "video_id", "timestamp"]).group_by("video_id", "date").len()
    both = daily.join(views, on=["video_id", "date"])
    assert both.select(pl.corr("play_cnt", "len", method="spearman")).item() > 0.8
    assert (daily["complete_play_cnt"] <= daily["play_cnt"]).all()


def test_friends_are_lists_of_other_users(release: Path):
    for user, friends in pl.read_csv(release / "social_network.csv").iter_rows():
        listed = json.loads(friends)
        assert 1 <= len(listed) <= 5 and user not in listed and set(listed) <= set(range(150))


def test_an_interrupted_write_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def fail(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(writer, "item_daily_features", fail)
    with pytest.raises(KeyboardInterrupt):
        simulate(tmp_path, scale="tiny", seed=0)
    assert list(tmp_path.iterdir()) == []


def test_a_release_is_never_overwritten(release: Path):
    with pytest.raises(ValueError, match="exists already"):
        simulate(release.parent, scale="tiny", seed=7)


def test_an_unknown_scale_and_a_negative_seed_are_named(tmp_path: Path):
    with pytest.raises(ValueError, match="'huge' is unknown: choose one of"):
        simulate(tmp_path, scale="huge", seed=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seed must be 0 or more, got -1"):
        simulate(tmp_path, scale="tiny", seed=-1)


def test_progress_ends_at_one_for_every_file(tmp_path: Path):
    seen: dict[str, list[float]] = {}
    simulate(tmp_path, scale="tiny", seed=0, progress=lambda name, share: seen.setdefault(name, []).append(share))
    assert {name: shares[-1] for name, shares in seen.items()} == dict.fromkeys(FILES, 1.0)
    assert all(shares == sorted(shares) for shares in seen.values())


def test_users_of_one_feature_value_agree_in_taste():
    users = simulate_users(SCALES["small"], seed=0)
    taste = users.taste / np.linalg.norm(users.taste, axis=1, keepdims=True)
    likeness = taste @ taste.T
    for feature in ("onehot_feat1", "onehot_feat6"):
        value = users.table[feature].to_numpy()
        same = (value[:, None] == value) & ~np.eye(len(value), dtype=bool)
        assert likeness[same].mean() > likeness[value[:, None] != value].mean() + 0.05


def test_views_reflect_taste_length_and_video(small: pl.DataFrame):
    # Longer watching where the simulator's own score is higher, and looping of the short videos.
    users, videos = simulate_users(SCALES["tiny"], seed=7), simulate_videos(SCALES["tiny"], seed=7)
    user, video = small["user_id"].to_numpy(), small["video_id"].to_numpy()
    score = mean_score(users, videos, user, video)
    fit = score - users.engagement[user] - videos.quality[video]
    seconds = np.log(small["play_duration"].to_numpy() + 1.0)
    assert np.corrcoef(fit, seconds)[0, 1] > 0.1
    ratio, length = small["watch_ratio"].to_numpy(), small["video_duration"].to_numpy()
    shortest, longest = np.quantile(length, [0.2, 0.8])
    assert (ratio >= 2)[length <= shortest].mean() > 3 * (ratio >= 2)[length >= longest].mean()
    assert abs(np.corrcoef(np.log(length), seconds)[0, 1]) < 0.1
    assert np.corrcoef(users.restlessness[user], ratio >= 2)[0, 1] > 0.1


def test_the_feed_shows_people_what_they_like():
    # Above what the popularity of user and video explains, viewed pairs fit the taste.
    scale = SCALES["small"]
    users, videos = simulate_users(scale, seed=0), simulate_videos(scale, seed=0)
    exposure = writer.fit_exposure(users, videos, scale, seed=0)
    events, _ = next(writer.big_matrix(users, videos, exposure, scale, seed=0))
    fit = np.einsum("nk,nk->n", users.taste[events.user], videos.topic[events.video])
    shuffled = np.random.default_rng(0).permutation(events.user)
    assert fit.mean() > np.einsum("nk,nk->n", users.taste[shuffled], videos.topic[events.video]).mean() + 0.1


def test_margins_follow_their_targets():
    scale = SCALES["small"]
    users, videos = simulate_users(scale, seed=0), simulate_videos(scale, seed=0)
    exposure = writer.fit_exposure(users, videos, scale, seed=0)
    rows = [chunk for _, chunk in writer.big_matrix(users, videos, exposure, scale, seed=0)]
    by_user = np.bincount(np.concatenate([chunk.user for chunk in rows]), minlength=scale.users)
    by_video = np.bincount(np.concatenate([chunk.video for chunk in rows]), minlength=scale.videos)
    assert by_user.sum() == pytest.approx(scale.big_rows, rel=0.03)
    assert np.corrcoef(by_user, users.rows)[0, 1] > 0.97
    assert np.corrcoef(np.log(by_video), np.log(videos.rows))[0, 1] > 0.97
    assert by_video.min() >= 1
