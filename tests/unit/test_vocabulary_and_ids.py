import numpy as np
import polars as pl
import pytest

from towerrec.data.ids import index_of, known_ids, rows_of
from towerrec.data.vocabulary import Vocabulary


def test_known_values_follow_the_reserved_rows_in_order():
    vocabulary = Vocabulary.fit(pl.Series(["b", "a", None, "b"]))
    assert vocabulary.cardinality == 4
    assert vocabulary.encode(pl.Series(["a", "b", "c", None])).to_list() == [2, 3, 1, 1]
    assert vocabulary.decode([0, 1, 2, 3]) == [None, None, "a", "b"]


def test_rare_values_count_as_unknown():
    vocabulary = Vocabulary.fit(pl.Series([7, 7, 8]), min_count=2)
    assert vocabulary.encode(pl.Series([7, 8])).to_list() == [2, 1]


def test_one_whole_number_is_the_same_as_integer_float_and_text():
    vocabulary = Vocabulary.fit(pl.Series([3.0, float("nan"), 5.0, None]))
    assert vocabulary.type == "int"
    for column in (
        pl.Series([3, 5]),
        pl.Series([3.0, 5.0]),
        pl.Series(["3", "5.0"]),
        pl.Series([3, 5], dtype=pl.UInt8),
    ):
        assert vocabulary.encode(column).to_list() == [2, 3]
    assert vocabulary.encode(pl.Series([3.5, float("nan"), float("inf")])).to_list() == [1, 1, 1]


def test_an_empty_vocabulary_knows_nothing_and_survives_json():
    vocabulary = Vocabulary.fit(pl.Series([None, None], dtype=pl.String))
    assert vocabulary.encode(pl.Series(["a", None])).to_list() == [1, 1]
    assert Vocabulary.from_dict(vocabulary.to_dict()) == vocabulary


def test_ids_of_log_and_side_table_together_in_order():
    ids = known_ids("user_id", pl.Series([5, 3, 5]), pl.DataFrame({"user_id": [9, 3]}, schema={"user_id": pl.Int32}))
    assert ids.to_list() == [3, 5, 9]
    with pytest.raises(ValueError, match="twice"):
        known_ids("user_id", pl.Series([5]), pl.DataFrame({"user_id": [9, 9]}))
    with pytest.raises(ValueError, match="write the ids alike"):
        known_ids("user_id", pl.Series([5]), pl.DataFrame({"user_id": ["9"]}))


@pytest.mark.parametrize("ids", [[-3, 0, 4, 9], [-(10**15), 4, 9, 10**15]], ids=["close together", "far apart"])
def test_index_of_is_the_place_among_the_ids_and_minus_one_elsewhere(ids):
    column = pl.Series([ids[3], ids[0], 5, None, ids[2], ids[1], -(2**62), 2**62])
    assert index_of(pl.Series(ids), column).tolist() == [3, 0, -1, -1, 2, 1, -1, -1]


def test_index_of_text_ids():
    got = index_of(pl.Series(["a", "c"]), pl.Series(["c", "b", None, "a"]))
    assert got.dtype == np.int32
    assert got.tolist() == [1, -1, -1, 0]


@pytest.mark.parametrize("number", [0, 1, 5, 60])  # of a few, and of as many as there are
@pytest.mark.parametrize("dtype", [pl.Int64, pl.String])
def test_every_id_is_found_in_its_row_in_any_order(number, dtype):
    rng = np.random.default_rng(number)
    ids, asked = rng.permutation(90)[:60], rng.integers(0, 90, number)
    expected = [ids.tolist().index(one) if one in ids else -1 for one in asked.tolist()]
    assert rows_of(pl.Series(ids).cast(dtype), pl.Series(asked, dtype=pl.Int64).cast(dtype)).tolist() == expected
