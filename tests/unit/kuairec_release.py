"""A release of two users and four videos that holds every quirk of the official one."""

from pathlib import Path

LOG = "user_id,video_id,play_duration,video_duration,time,date,timestamp,watch_ratio\n"
BIG = [
    "1,10,8000,4000,2020-07-05 00:00:01.373,20200705,1593878401.373,2.0",
    "1,10,8000,4000,2020-07-05 00:00:01.373,20200705,1593878401.373,2.0",  # exact duplicate
    "1,10,8000,4000,2020-07-05 00:00:01.373,20200706,1593878401.373,2.0",  # the same event under another date
    "1,10,8001,4000,2020-07-05 00:00:01.373,20200706,1593878401.373,2.00025",  # near duplicate
    "2,11,1000,4003,2020-07-06 09:00:00,20200706,1593997200.0,0.24981",
    "2,11,1000,4003,2020-07-06 10:00:00,20200706,1594000800.0,0.24981",  # watched again
]
SMALL = [
    "1,12,500,1000,2020-07-07 10:00:00,20200707.0,1594087200.5,0.5",
    "1,13,573460,1000,,,,573.46",  # forced exposure: no time at all
    "2,13,0,1000,NaN,NaN,NaN,0.0",
]
FILES = {
    "big_matrix.csv": LOG + "\n".join(BIG) + "\n",
    "small_matrix.csv": LOG + "\n".join(SMALL) + "\n",
    "user_features.csv": (
        "user_id,user_active_degree,register_days,onehot_feat4\n1,full_active,100,2.0\n2,UNKNOWN,50,\n"
    ),
    "social_network.csv": 'user_id,friend_list\n2,"[1, 7, 9]"\n',
    "item_categories.csv": 'video_id,feat\n10,[8]\n11,"[27, 9]"\n12,[]\n13,[3]\n',
    "kuairec_caption_category.csv": (
        "video_id,manual_cover_text,caption,topic_tag,first_level_category_id,first_level_category_name,"
        "second_level_category_id,second_level_category_name,third_level_category_id,third_level_category_name\n"
        "10,UNKNOWN,one\rtwo,[],8,颜值,673,颜值随拍,-124,UNKNOWN\n"
        '11,封面,"a, b\r",[x],-124,UNKNOWN,-124,UNKNOWN,-124,UNKNOWN\n'
        '12,UNKNOWN,,"[井柏然,宋威龙]",1,a,2,b,3,c\n'
    ),
    "item_daily_features.csv": (
        "video_id,date,author_id,video_type,upload_dt,upload_type,visible_status,video_duration,video_width,"
        "video_height,music_id,video_tag_id,video_tag_name,show_cnt,collect_cnt\n"
        "10,20200706.0,5,NORMAL,2020-07-01,ShortImport,public,4002,720,1280,9,1,t,30,2\n"
        "10,20200705,5,NORMAL,2020-07-01,UNKNOWN,public,4000,720,1280,9,1,t,20,\n"
        "10,20200707,5,NORMAL,2020-07-01,ShortImport,private,4001,720,1280,9,1,t,10,\n"
        "11,20200705,6,AD,2020-06-01,LongCamera,public,,720,1280,9,1,,5,\n"
    ),
}


def write_release(folder: Path, *, without: tuple[str, ...] = ()) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in FILES.items():
        if name not in without:
            (folder / name).write_bytes(text.encode())
    return folder
