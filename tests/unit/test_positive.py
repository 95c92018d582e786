import numpy as np
import polars as pl
import pytest
import torch

from towerrec.positive import parse_positive, positive_mask


@pytest.mark.parametrize(
    ("rule", "expected"),
    [("> 0", (">", 0.0)), (">=2", (">=", 2.0)), (" < -1.5e-3 ", ("<", -0.0015)), ("!= .5", ("!=", 0.5))],
)
def test_a_rule_is_a_comparison_and_a_number(rule, expected):
    assert parse_positive(rule) == expected


@pytest.mark.parametrize("rule", ["", "2", "> two", ">> 2", "> 1.2.3", "> nan", "__import__('os')", "> 0 and < 2"])
def test_anything_else_is_refused_with_an_example(rule):
    with pytest.raises(ValueError, match='">= 2"'):
        parse_positive(rule)


def test_the_same_rule_works_on_every_kind_of_array():
    values, expected = [1.0, 2.0, 3.0], [False, True, True]
    assert positive_mask(torch.tensor(values), ">= 2").tolist() == expected
    assert positive_mask(np.array(values), ">= 2").tolist() == expected
    assert positive_mask(pl.Series(values), ">= 2").to_list() == expected
    assert pl.DataFrame({"a": values}).select(positive_mask(pl.col("a"), ">= 2"))["a"].to_list() == expected
