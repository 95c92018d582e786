"""Every figure that a file shows has a definition."""

import pytest

from towerrec.metrics.definitions import DEFINITIONS, RULES, definition, definitions
from towerrec.metrics.functional import RANKING_METRICS


def test_a_definition_speaks_of_the_cut_of_its_figure():
    found = definition("ndcg@20")
    assert found.title == "NDCG@20" and "min(relevant, 20)" in found.text and found.better == "higher"
    assert definition("ndcg").title == "NDCG@k"


def test_a_figure_nobody_defined_is_refused_by_name():
    with pytest.raises(ValueError, match="no figure is called 'nfcg@20'; there are precision, recall"):
        definition("nfcg@20")


def test_definitions_stand_once_per_figure_whatever_its_cuts():
    assert list(definitions(["ndcg@10", "ndcg@20", "rmse"])) == ["NDCG@k", "RMSE"]


def test_every_ranking_metric_has_a_definition():
    assert set(RANKING_METRICS) <= set(DEFINITIONS)


@pytest.mark.parametrize("name", DEFINITIONS)
def test_a_definition_is_complete(name: str):
    found = definition(f"{name}@5" if "{k}" in DEFINITIONS[name].title else name)
    assert found.title and found.text.endswith(".") and found.short and "{k}" not in found.title + found.text
    assert found.better in ("higher", "lower", None)


def test_the_rules_of_ties_and_empty_users_are_written():
    assert {"users", "ties", "lists", "grades", "unobserved", "intervals"} <= set(RULES)
