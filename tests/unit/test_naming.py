"""What people know items by: lines, titles and the category worth a colour."""

from dataclasses import dataclass, field

import polars as pl
import pytest
import torch

from towerrec.naming import is_category, item_categories, item_titles


@dataclass
class Encoder:
    name: str
    side: str
    vocabulary: "Vocabulary"


@dataclass
class Vocabulary:
    values: list[str]


@dataclass
class Fake:
    """The two parts of encoded tables that are read."""

    display: pl.DataFrame
    encoders: object = None
    items: object = field(default_factory=lambda: type("Items", (), {"columns": {}})())

    def __post_init__(self) -> None:
        self.encoders = self.encoders or type("Encoders", (), {"encoders": ()})()


def tables(**columns: list[str | None]) -> Fake:
    return Fake(pl.DataFrame({"item_id": list(range(len(next(iter(columns.values())))))} | columns))


def test_the_title_is_the_text_that_tells_items_apart_and_nobody_is_named_by_a_category():
    both = tables(kind=["x", "x", "y", "y"], caption=["one", "two", None, "four"])
    assert item_titles(both).to_list() == ["one", "two", None, "four"]
    assert item_titles(tables(caption=["a\n b", None, "  "])).to_list() == ["a b", None, None]  # on one line
    assert item_titles(tables(kind=["x"] * 5 + ["y"] * 5)).to_list() == [None] * 10
    assert item_titles(Fake(pl.DataFrame({"item_id": [1, 2]}))).to_list() == [None, None]


@pytest.mark.parametrize(
    "values, yes",
    [
        (["a", "b", "a", "b"], True),
        (["a"] * 19 + ["b"], False),  # nearly all are one
        (["a", "b", None, None, None], False),  # mostly not known
        ([str(i) for i in range(100)], False),  # as many as items
        ([None, None], False),
    ],
)
def test_a_category_has_few_values_known_of_most_items(values: list[str | None], yes: bool):
    assert is_category(pl.Series(values, dtype=pl.String)) is yes


def test_the_first_text_column_that_is_a_category_is_taken_and_otherwise_a_feature():
    found = item_categories(tables(caption=[str(i) for i in range(100)], kind=["x", "y"] * 50))  # type: ignore[arg-type]
    assert found is not None and found.name == "kind" and found.of.to_list()[:2] == ["x", "y"]
    fake = tables(caption=[str(i) for i in range(100)])
    encoder = Encoder("tags", "item", Vocabulary(["cat", "dog"]))
    fake.encoders = type("Encoders", (), {"encoders": (("multi", encoder),)})()
    fake.items = type("Items", (), {"columns": {"tags": torch.tensor([[2, 3], [3, 0]] * 49 + [[0, 0], [1, 0]])}})()
    found = item_categories(fake)  # type: ignore[arg-type]
    assert found is not None and found.name == "tags" and found.of.to_list()[:2] == ["cat", "dog"]
    assert found.of.to_list()[-2:] == [None, None]
    assert item_categories(tables(caption=[str(i) for i in range(100)])) is None  # type: ignore[arg-type]
