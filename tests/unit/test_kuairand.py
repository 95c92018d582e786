from datetime import date

import pytest

from towerrec.data.cleaning import clean
from towerrec.data.sources.kuairand import KuaiRand
from towerrec.data.splits_cold import TwoMatrices

LOG = (
    "user_id,video_id,date,hourmin,time_ms,is_click,is_like,is_follow,is_comment,is_forward,is_hate,long_view,"
    "play_time_ms,duration_ms,profile_stay_time,comment_stay_time,is_profile_enter,is_rand,tab\n"
)
ROW = "{user},{video},20220422,900,{time},1,0,0,0,0,0,1,{play},{length},0,0,0,{rand},1\n"
STANDARD = [
    LOG + ROW.format(user=0, video=5, time=1649409600123, play=6000, length=3000, rand=0),
    LOG + ROW.format(user=1, video=6, time=1650600000000, play=500, length=0, rand=0),
]
RANDOM = LOG + ROW.format(user=0, video=7, time=1650600000000, play=1000, length=4000, rand=1)


def write(folder, version="pure"):
    folder.mkdir(parents=True)
    (folder / f"log_standard_4_08_to_4_21_{version}.csv").write_text(STANDARD[0])
    (folder / f"log_standard_4_22_to_5_08_{version}.csv").write_text(STANDARD[1])
    (folder / f"log_random_4_22_to_5_08_{version}.csv").write_text(RANDOM)
    (folder / f"user_features_{version}.csv").write_text(
        "user_id,user_active_degree,onehot_feat0\n0,full_active,1\n1,UNKNOWN,\n"
    )
    (folder / f"video_features_basic_{version}.csv").write_text(
        "video_id,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,server_width,server_height,"
        "music_id,music_type,tag\n"
        '5,1,NORMAL,2022-04-01,ShortImport,1.0,3000.0,720.0,1280.0,9,9.0,"12,65"\n'
        "6,2,AD,,ShortImport,1.0,,720.0,1280.0,9,9.0,\n"
    )


@pytest.mark.parametrize(("inside", "version"), [("", "pure"), ("KuaiRand-Pure/data", "pure"), ("data", "1k")])
def test_all_parts_become_one_log_with_a_watch_ratio(tmp_path, inside, version):
    write(tmp_path / "here" / inside, version)
    source = KuaiRand(root=str(tmp_path / "here"), version=version)
    assert len(source.files()) == 5
    log = source.read().interactions.collect()
    assert log["watch_ratio"].to_list() == [2.0, None, 0.25]
    assert log["matrix"].to_list() == ["standard", "standard", "random"]
    assert log["timestamp_ms"][0] == 1649409600123
    assert log["is_click"].to_list() == [1, 1, 1]


def test_a_view_of_unknown_length_is_dropped_and_counted(tmp_path):
    write(tmp_path / "here")
    kept, counts = clean(KuaiRand(root=str(tmp_path / "here")).read().interactions, columns=["matrix"])
    assert counts == {"rows_read": 3, "zero duration_ms": 1, "rows_kept": 2}
    assert TwoMatrices(train_matrix="standard", test_matrix="random", val_fraction=0).assign(kept).to_list() == [1, 3]


def test_videos_get_the_names_of_kuairec(tmp_path):
    write(tmp_path / "here")
    items = KuaiRand(root=str(tmp_path / "here")).read().items.collect()
    assert items["feat"].to_list() == [[12, 65], None]
    assert items["upload_date"].to_list() == [date(2022, 4, 1), None]
    assert items["duration_ms"].to_list() == [3000.0, None]
    assert {"item_id", "video_width", "video_height"} <= set(items.columns)


def test_missing_logs_are_named(tmp_path):
    with pytest.raises(ValueError, match=r"log_standard_\*_pure.csv was not found.*Zenodo"):
        KuaiRand(root=str(tmp_path)).files()
    write(tmp_path / "here")
    (tmp_path / "here/log_random_4_22_to_5_08_pure.csv").unlink()
    with pytest.raises(ValueError, match="holds no log_random"):
        KuaiRand(root=str(tmp_path / "here")).files()
    assert KuaiRand(root=str(tmp_path / "here"), logs=["standard"]).read().interactions.collect().height == 2
    for wrong in ({"version": "2k"}, {"logs": ["standrad"]}, {"logs": []}):
        with pytest.raises(ValueError, match="must"):
            KuaiRand(**wrong)
