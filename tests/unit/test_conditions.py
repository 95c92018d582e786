"""Conditions that would take Polars minutes, or its whole stack, are refused at once."""

import polars as pl
import pytest

from towerrec.data.conditions import condition, passing

LOG = pl.DataFrame({"fold": [0, 1, 2]})


@pytest.mark.parametrize(
    "text",
    [
        " and ".join(["fold > 1"] * 30_000),
        "fold" + "+1" * 20_000 + " > 1",
        "fold" + "::int" * 8_000 + " > 1",
        "fold" + " between 0 and fold" * 60,
        "nullif(" * 60 + "fold" + ", 1)" * 60,
    ],
    ids=["and", "plus", "casts", "between", "nullif"],
)
def test_a_condition_beyond_reason_is_refused(text: str):
    with pytest.raises(ValueError, match=r"split\.test=.* at most \d+ are understood") as error:
        condition("split.test", text)
    assert len(str(error.value)) < 500


def test_long_lists_signs_and_words_in_quotes_are_no_operators():
    text = f"fold in ({', '.join(str(-n) for n in range(5_000))}, 2) or 'in and or between {'+' * 500}' = 'x'"
    assert passing(LOG, condition("split.test", text), key="split.test", text=text).tolist() == [True, False, True]


def test_a_column_called_like_a_function_is_quoted():
    with pytest.raises(ValueError, match=r"unsupported function 'user'; a column of that name .*, \"user\"$"):
        condition("split.train", "user < 20")
    assert passing(pl.DataFrame({"user": [1]}), condition("a", '"user" < 20'), key="a", text="").all()
    with pytest.raises(ValueError, match=r"unsupported function 'random'$"):
        condition("split.train", "random() < 0.5")
