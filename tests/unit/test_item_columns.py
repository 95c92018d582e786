"""Which columns of an item table say how long, since when and what about."""

import datetime
import math

import polars as pl
import pytest
import torch

from towerrec.config_eval import FactsConfig
from towerrec.item_columns import ages_in_days, durations, fact_columns, tag_column, together

ITEMS = pl.DataFrame(
    {
        "item_id": range(6),
        "tags": [["pop", "live"], ["pop"], [], None, ["live", "pop", "pop"], ["rare"]],
        "first_level_category_id": [7, 7, 8, 8, None, 9],
        "first_level_category_name": ["Music", "Music", "Sport", None, None, "Sport"],
        "topic_tag": ["cats,dogs", "cats", "dogs", None, "cats", "dogs"],
        "colour": ["red", "blue", "red", "blue", "red", "blue"],
        "vector": [[0.5, 0.5]] * 6,
        "duration_ms": [1000.0, 2000.0, 0.0, None, math.inf, 4000.0],
        "length": [10, 20, 30, 40, 50, 60],
        "born": [datetime.date(2020, 7, 1 + i) for i in range(5)] + [None],
        "since": ["2020-07-01", "2020-07-02", "2020-07-20", None, "2020-07-01", "2020-07-01"],
    }
)


def test_columns_are_found_by_canonical_name_by_type_and_by_what_their_names_speak_of():
    found = fact_columns(ITEMS, FactsConfig())
    assert (found.duration, found.date) == ("duration_ms", "born")
    # The category's name only labels its id, a vector is no tag, several words in one text are no value, and nothing
    # says that a colour is one.
    assert found.tags == ("tags", "first_level_category_id")


def test_a_config_names_other_columns():
    found = fact_columns(ITEMS, FactsConfig(duration="length", date="since", tags=["colour"]))
    assert (found.duration, found.date, found.tags) == ("length", "since", ("colour",))
    assert fact_columns(ITEMS, FactsConfig(tags=[])).tags == ()


def test_a_log_that_knows_nothing_of_its_items_has_no_columns():
    found = fact_columns(ITEMS.select("item_id"), FactsConfig())
    assert (found.duration, found.date, found.tags) == (None, None, ())


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (FactsConfig(duration="lenght"), r"eval.facts.duration: the item table has no column 'lenght': did you mean"),
        (FactsConfig(date="borne"), r"eval.facts.date: the item table has no column 'borne': did you mean 'born'"),
        (FactsConfig(tags=["tags", "tog"]), r"eval.facts.tags: the item table has no column 'tog'"),
    ],
)
def test_a_column_that_is_not_there_is_refused_by_name(config: FactsConfig, message: str):
    with pytest.raises(ValueError, match=message):
        fact_columns(ITEMS, config)


def test_a_duration_is_a_number_above_zero_or_not_known():
    expected = torch.tensor([1000, 2000, math.nan, math.nan, math.nan, 4000], dtype=torch.float64)
    torch.testing.assert_close(durations(ITEMS, "duration_ms"), expected, equal_nan=True)
    with pytest.raises(ValueError, match=r"eval\.facts\.duration=colour holds String; a duration needs numbers"):
        durations(ITEMS, "colour")


def test_ages_are_whole_days_and_what_comes_later_has_none():
    third_of_july = int(datetime.datetime(2020, 7, 3, 12, tzinfo=datetime.UTC).timestamp() * 1000)
    ages = ages_in_days(ITEMS, "born", as_of_ms=third_of_july, timezone="UTC")
    assert ages[:5].tolist() == [2, 1, 0, 0, 0] and ages[5].isnan()
    assert ages_in_days(ITEMS, "since", as_of_ms=third_of_july, timezone="UTC")[2] == 0


def test_tags_of_an_item_are_distinct_places_in_labels_the_most_frequent_first():
    column = tag_column(ITEMS, "tags")
    assert column.labels == ["pop", "live", "rare"]
    assert [{v for v in row if v >= 0} for row in column.member_IL.tolist()] == [{0, 1}, {0}, set(), set(), {0, 1}, {2}]
    assert column.member_IL.shape == (6, 2)


def test_a_category_is_called_by_its_name_where_one_stands_beside_it():
    assert tag_column(ITEMS, "first_level_category_id").labels == ["Music (7)", "Sport (8)", "Sport (9)"]


@pytest.mark.parametrize("name", ["vector", "duration_ms"])
def test_decimal_numbers_are_no_tags(name: str):
    with pytest.raises(ValueError, match=rf"eval\.facts\.tags: column '{name}' holds .*; words, codes or lists"):
        tag_column(ITEMS, name)


def test_tags_of_different_columns_are_different_tags():
    columns = [tag_column(ITEMS, name) for name in ("tags", "colour")]
    beside = together(columns)
    assert beside is not None
    assert {v for v in beside[0].tolist() if v >= 0} == {0, 1, 3 + columns[1].labels.index("red")}
    assert together([]) is None
