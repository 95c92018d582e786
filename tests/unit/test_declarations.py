from pathlib import Path

import polars as pl
import pytest
from omegaconf import OmegaConf

from towerrec.data.declarations import declaration, select
from towerrec.data.features import Columns, FeatureChoice, choose
from towerrec.data.inference import infer

USERS = pl.DataFrame({"user_id": [1, 2, 3], "age": [20, 30, 40]})
ITEMS = pl.DataFrame({"item_id": [1, 2], "caption": ["a", "b"], "day": ["2020-01-01", "2020-01-02"]})
DECLARED = {
    "user_id": {"side": "user", "kind": "id", "group": "id"},
    "item_id": {"side": "item", "kind": "id", "group": "id"},
    "age": {"side": "user", "kind": "numeric", "group": "profile"},
    "words": {"side": "item", "kind": "text", "columns": ["caption", "title"], "group": "text"},
    "hour": {"kind": "hour", "group": "time"},
    "plays": {"kind": "daily", "column": "play_cnt", "group": "daily"},
}


def chosen(*, has_time=True, daily=("play_cnt",), **plain):
    choice = FeatureChoice.from_plain({"declared": DECLARED, **plain})
    return choose(choice, Columns(USERS, ITEMS, daily, has_time))


def test_a_feature_or_a_group_is_removed_by_one_word():
    def names(**plain):
        return [feature.name for feature in chosen(**plain)[0]]

    assert names() == list(DECLARED)
    assert names(drop=["id"]) == ["age", "words", "hour", "plays"]
    assert names(drop=["age", "text"]) == ["user_id", "item_id", "hour", "plays"]
    assert names(drop="age") == names(drop=["age"])
    assert names(use=["id"]) == ["user_id", "item_id"]


def test_a_text_keeps_the_columns_that_are_there():
    features, left_out = chosen()
    assert next(f for f in features if f.name == "words").columns == ("caption",)
    assert left_out == {}


def test_what_the_data_lacks_is_an_error_or_is_left_out_with_its_reason():
    wrong = DECLARED | {"years": {"side": "user", "kind": "numeric", "column": "agee"}}
    with pytest.raises(ValueError, match=r"no column 'agee'.*'age'.*features.drop=\[years\]"):
        chosen(declared=wrong)
    features, left_out = chosen(declared=wrong, missing="drop", has_time=False, daily=())
    assert [f.name for f in features] == ["user_id", "item_id", "age", "words"]
    assert set(left_out) == {"years", "hour", "plays"}
    assert "no timestamps" in left_out["hour"]


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"drp": []}, "did you mean 'drop'"),
        ({"drop": ["texts"]}, "did you mean 'text'"),
        ({"use": ["user"]}, "did you mean 'user_id'"),
        ({"missing": "ignore"}, "'error' or 'drop'"),
        ({"drop": ["id", "profile", "time"]}, "no user feature is left"),
        ({"auto": "yes"}, "true or false"),
    ],
)
def test_a_wrong_choice_names_the_key_and_the_remedy(plain, message):
    with pytest.raises(ValueError, match=message):
        chosen(**plain)


@pytest.mark.parametrize(
    ("plain", "message"),
    [
        ({"side": "user", "kind": "categorial"}, "did you mean 'categorical'"),
        ({"side": "users", "kind": "numeric"}, "did you mean 'user'"),
        ({"kind": "numeric"}, "side is missing"),
        ({"side": "user", "kind": "numeric", "buckets": 3}, "has no use for 'buckets'"),
        ({"side": "user", "kind": "numeric", "colum": "age"}, "did you mean 'column'"),
        ({"side": "user", "kind": "numeric", "transform": "log"}, "did you mean 'log1p'"),
        ({"side": "user", "kind": "bucket", "buckets": 1}, "at least 2"),
        ({"side": "user", "kind": "text", "ngrams": [0]}, "at least 1"),
        ({"side": "item", "kind": "hour"}, "belongs to side 'user'"),
        ({"side": "item", "kind": "statistic"}, "of is missing"),
        ({"side": "item", "kind": "multi", "max_length": "long"}, "must be a number"),
    ],
)
def test_a_wrong_declaration_names_feature_rule_and_choices(plain, message):
    with pytest.raises(ValueError, match=message) as error:
        declaration("thing", plain)
    assert "features.declared.thing" in str(error.value)


def test_select_refuses_a_word_that_is_nothing():
    with pytest.raises(ValueError, match="'nothing' is not known"):
        select([declaration("a", {"side": "user", "kind": "numeric"})], use="all", drop=["nothing"])


def test_columns_are_read_for_what_they_are():
    n = 200
    users = pl.DataFrame(
        {
            "user_id": range(n),
            "level": [f"level {i % 4}" for i in range(n)],
            "flag": [i % 2 == 0 for i in range(n)],
            "code": [float(i % 100) if i % 7 else None for i in range(n)],
            "fans": [i**3 for i in range(n)],
            "height": [150 + i / 7 for i in range(n)],
            "constant": [1] * n,
            "empty": pl.Series([None] * n, dtype=pl.Int64),
        }
    )
    items = pl.DataFrame(
        {
            "item_id": range(n),
            "tags": [[i % 3] for i in range(n)],
            "clip": [[0.5, float(i)] for i in range(n)],
            "caption": [f"words {i}" for i in range(n)],
            "cover": ["UNKNOWN" if i % 2 else f"cover {i}" for i in range(n)],
            "category_id": [i % 80 * 1000 - 124 for i in range(n)],
            "category_name": [f"name {i % 80}" for i in range(n)],
            "day": pl.Series(list(range(n)), dtype=pl.Int32).cast(pl.Date),
            "fans": [i % 5 for i in range(n)],
        }
    )
    found = {feature.name: feature for feature in infer(users, items, has_time=True)}
    kinds = {name: feature.kind for name, feature in found.items()}
    assert kinds == {
        "user_id": "id",
        "level": "categorical",
        "flag": "categorical",
        "code": "categorical",
        "fans": "numeric",
        "height": "numeric",
        "user_views": "statistic",
        "user_positive_rate": "statistic",
        "item_id": "id",
        "tags": "multi",
        "clip": "vector",
        "category_id": "categorical",
        "day": "age_days",
        "item_fans": "categorical",
        "item_text": "text",
        "item_views": "statistic",
        "item_positive_rate": "statistic",
        "item_recent_positives": "statistic",
        "popularity_now": "recent",
        "item_mean_label": "statistic",
        "hour": "hour",
        "weekday": "weekday",
    }
    assert found["fans"].transform == "log1p"
    assert found["height"].transform == "none"
    assert found["item_text"].columns == ("caption", "cover")
    assert "hour" not in {feature.name for feature in infer(users, items, has_time=False)}


FILES = sorted((Path(__file__).parents[2] / "conf" / "features").glob("*.yaml"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_every_feature_set_of_the_config_is_understood(path):
    plain = OmegaConf.to_container(OmegaConf.load(path))
    choice = FeatureChoice.from_plain(plain)
    declared = [declaration(name, entry) for name, entry in choice.declared.items()]
    assert choice.auto or {feature.side for feature in declared} == {"user", "item"}


def test_the_feature_set_of_the_notebook_is_nothing_but_tags_and_nine_categories():
    plain = OmegaConf.load(next(path for path in FILES if path.stem == "notebook"))
    assert set(plain.declared) == {"tags"} | {f"onehot_feat{i}" for i in range(9, 18)}
