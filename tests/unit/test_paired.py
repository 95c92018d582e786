"""Paired tests: against all flips written out, SciPy, hand-worked corrections, chance and planted differences."""

from itertools import product

import numpy as np
import polars as pl
import pytest

from towerrec.config_eval import CORRECTIONS as CONFIGURED
from towerrec.report.correction import CORRECTIONS, TITLES, adjusted
from towerrec.report.paired import (
    against_the_first,
    all_pairs,
    difference,
    paired_difference,
    paired_table,
    sign_flip_p_values,
)

NAN = float("nan")


def of_differences(difference_UM: np.ndarray, **options) -> np.ndarray:
    """p-values [M] of differences, as those of a system beside one that has 0 everywhere."""
    return sign_flip_p_values(np.stack([difference_UM, np.zeros_like(difference_UM)], 1), [(0, 1)], **options)[0]


def all_flips(differences: list[float]) -> float:
    """The share of sign patterns whose sum is at least as far from 0 as the one found."""
    found = abs(sum(differences))
    sums = [
        abs(sum(s * d for s, d in zip(signs, differences, strict=True)))
        for signs in product((1, -1), repeat=len(differences))
    ]
    return sum(value >= found - 1e-12 for value in sums) / len(sums)


@pytest.mark.parametrize(
    ("differences", "expected"),
    [
        ([1.0, 2.0, 3.0], 2 / 8),  # only all alike reach 6
        ([1.0, 1.0, -1.0], 8 / 8),
        ([1.0, 2.0, -1.0], 6 / 8),  # of 4, 2, 2, 0 and their mirrors all but the two zeros reach 2
        ([0.0, 0.0], 1.0),
        ([5.0], 1.0),
    ],
)
def test_the_p_value_of_a_few_users_is_the_share_of_all_flips(differences, expected):
    assert all_flips(differences) == expected
    assert of_differences(np.array(differences)[:, None])[0] == expected


def test_few_users_that_differ_among_many_that_do_not_are_counted_exactly():
    differences = np.random.default_rng(0).normal(0.3, 1, 9)
    among_many = np.concatenate([np.zeros(500), differences])
    assert of_differences(among_many[:, None])[0] == pytest.approx(all_flips(list(differences)))


def test_many_users_agree_with_scipy():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed: it comes with the extra dev")
    generator = np.random.default_rng(0)
    for shift in (0.02, 0.1, 0.2):
        differences = generator.normal(shift, 1, 120)
        theirs = stats.permutation_test(
            (differences,), np.mean, permutation_type="samples", n_resamples=9999, batch=1000, rng=1
        ).pvalue
        # Each is sure to about .005, SciPy's, which doubles one tail, to .009.
        assert of_differences(differences[:, None])[0] == pytest.approx(theirs, abs=0.025)
    few = generator.normal(0.3, 1, 10)
    exact = stats.permutation_test((few,), np.mean, permutation_type="samples", n_resamples=np.inf).pvalue
    assert of_differences(few[:, None])[0] == pytest.approx(exact)


def test_a_random_p_value_is_never_0_and_counts_the_flip_that_was_found():
    differences = np.ones((60, 1))
    assert of_differences(differences, num_flips=999)[0] == 1 / 1000
    with pytest.raises(ValueError, match="at least 1"):
        of_differences(differences, num_flips=0)


def test_p_values_of_systems_that_are_alike_are_uniform():
    generator = np.random.default_rng(0)
    hard = generator.random((80, 1, 1500))
    p = sign_flip_p_values(hard + generator.exponential(1, (80, 2, 1500)), [(0, 1)], num_flips=999)[0]
    # The largest distance to the diagonal of 1,500 uniform numbers is below .045 in 99.5 of 100 cases (Kolmogorov).
    assert np.abs(np.sort(p) - (np.arange(1500) + 0.5) / 1500).max() < 0.045
    assert (p <= 0.05).mean() == pytest.approx(0.05, abs=0.015)


def test_a_p_value_does_not_depend_on_what_else_is_compared():
    values = np.random.default_rng(0).random((40, 4, 3))
    together = sign_flip_p_values(values, [(0, 1), (0, 2), (2, 3)], num_flips=500)
    for place, pair in enumerate([(0, 1), (0, 2), (2, 3)]):
        assert np.array_equal(together[place], sign_flip_p_values(values, [pair], num_flips=500)[0])


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1 are .04 .06 .06 .04, never below the one before: .04 .06 .06 .06.
    p = np.array([[0.04], [0.01], [0.03], [0.02]])
    np.testing.assert_allclose(adjusted(p, "holm")[:, 0], [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(adjusted(np.array([[0.5], [0.6]]), "holm")[:, 0], [1.0, 1.0])


def test_benjamini_hochberg_by_hand():
    # Sorted .01 .02 .04 .50 times 4/1 4/2 4/3 4/4 are .04 .04 .0533 .50.
    p = np.array([[0.04], [0.01], [0.50], [0.02]])
    np.testing.assert_allclose(adjusted(p, "benjamini_hochberg")[:, 0], [0.16 / 3, 0.04, 0.50, 0.04])


def test_corrections_agree_with_scipy_and_go_column_by_column():
    stats = pytest.importorskip("scipy.stats", reason="SciPy is not installed: it comes with the extra dev")
    p = np.random.default_rng(0).random((7, 20)) ** 3
    theirs = np.stack([stats.false_discovery_control(column) for column in p.T], 1)
    np.testing.assert_allclose(adjusted(p, "benjamini_hochberg"), theirs)
    slow = np.empty_like(p)
    for column in range(20):
        for row in range(7):
            before = [q for q in p[:, column] if q <= p[row, column]]
            slow[row, column] = min(1, max(q * (7 - sum(p[:, column] < q)) for q in before))
    np.testing.assert_allclose(adjusted(p, "holm"), slow)


def test_missing_p_values_count_for_no_comparison():
    p = np.array([[0.01], [NAN], [0.04]])
    for correction in ("holm", "benjamini_hochberg"):
        got = adjusted(p, correction)[:, 0]
        np.testing.assert_allclose(got[[0, 2]], adjusted(p[[0, 2]], correction)[:, 0])
        assert np.isnan(got[1])


def test_without_a_correction_p_values_stay_and_unknown_ones_are_refused():
    p = np.random.default_rng(0).random((3, 2))
    assert np.array_equal(adjusted(p, "none"), p)
    assert CONFIGURED == CORRECTIONS == tuple(TITLES)
    with pytest.raises(ValueError, match=r"eval\.correction=bonferroni is not known: choose from holm"):
        adjusted(p, "bonferroni")


def judged(values: np.ndarray, **more) -> pl.DataFrame:
    return pl.DataFrame({"user_idx": np.arange(len(values)), "num_relevant": 1, "ndcg@20": values, **more})


def three_systems() -> dict[str, pl.DataFrame]:
    """One that is better by .02 for everybody, one that only looks different, and their base."""
    generator = np.random.default_rng(0)
    base = generator.random(300)
    noise = generator.normal(0, 0.05, 300)
    return {
        "good": judged(base + 0.02 + noise),
        "base": judged(base),
        "alike": judged(base + generator.normal(0, 0.05, 300)),
    }


def test_a_planted_difference_is_found_and_another_is_not():
    table = paired_table(three_systems(), [("good", "base"), ("alike", "base")], num_resamples=2000)
    good, alike = (difference(table, name, "base", "ndcg@20") for name in ("good", "alike"))
    assert good.is_clear and good.low > 0 and good.mean == pytest.approx(0.02, abs=0.01)
    assert not alike.is_clear and alike.low < 0 < alike.high
    assert "p = 0.0005, corrected for 2 comparisons 0.001 (Holm)" in good.words


def test_the_family_of_a_p_value_are_the_pairs_of_one_figure():
    tables = three_systems()
    one = paired_table(tables, all_pairs(list(tables))[:1], num_resamples=500)
    three = paired_table(tables, all_pairs(list(tables)), num_resamples=500)
    assert one["family"].to_list() == [1] and three["family"].to_list() == [3] * 3
    assert three["p_value"][0] == one["p_value"][0] == one["p_adjusted"][0]
    assert three["p_adjusted"][0] == pytest.approx(3 * one["p_value"][0])
    plain = paired_table(tables, all_pairs(list(tables)), num_resamples=500, correction="none")
    assert plain["p_adjusted"].equals(plain["p_value"], check_names=False)
    assert plain["correction"].unique().to_list() == ["none"]


def test_all_pairs_and_the_first_against_the_rest():
    assert against_the_first(["a", "b", "c"]) == [("a", "b"), ("a", "c")]
    assert all_pairs(["a", "b", "c"]) == [("a", "b"), ("a", "c"), ("b", "c")]


def test_rows_of_a_paired_table_are_what_a_person_would_compute():
    first = judged(np.array([0.5, 0.5, 0.1, 0.9]))
    second = judged(np.array([0.5, 0.1, 0.2, 0.4]))
    gap = paired_difference(first, second, "ndcg@20", num_resamples=4000)
    assert gap.mean == pytest.approx((0.4 - 0.1 + 0.5) / 4)
    assert (gap.wins, gap.losses, gap.ties) == (0.5, 0.25, 0.25)
    # Of the eight flips of .4, .1 and .5 those with .4 and .5 alike reach .8: two of 1.0 and two of .8.
    assert gap.p_value == 0.5
    assert gap.users == 4


def test_a_win_is_a_lower_error():
    tables = {"first": judged(np.array([1.0, 2.0, 3.0])), "second": judged(np.array([2.0, 3.0, 3.0]))}
    tables = {name: table.rename({"ndcg@20": "rmse"}) for name, table in tables.items()}
    gap = difference(paired_table(tables, [("first", "second")], num_resamples=50), "first", "second", "rmse")
    assert gap.mean < 0 and gap.wins == pytest.approx(2 / 3) and gap.losses == 0


def test_users_who_lack_a_figure_in_one_system_are_left_out_of_it_alone():
    first = judged(np.array([0.5, 0.6, 0.7]), **{"recall@20": [0.1, None, 0.3]})
    second = judged(np.array([0.4, 0.4, 0.4]), **{"recall@20": [0.2, 0.2, NAN]})
    table = paired_table({"a": first, "b": second}, [("a", "b")], num_resamples=50)
    assert table["users"].to_list() == [3, 1]
    assert table["mean"].to_list() == pytest.approx([0.2, -0.1])
    assert table["losses"].to_list() == [0, 1]


def test_a_figure_that_nobody_has_is_passed_over_unless_it_was_asked_for():
    tables = {n: judged(np.array([0.5, v]), **{"recall@20": [None, None]}) for n, v in (("a", 0.1), ("b", 0.2))}
    tables = {n: t.with_columns(pl.col("recall@20").cast(pl.Float64)) for n, t in tables.items()}
    assert paired_table(tables, [("a", "b")], num_resamples=50)["metric"].to_list() == ["ndcg@20"]
    with pytest.raises(ValueError, match="no user has recall@20"):
        paired_table(tables, [("a", "b")], ["recall@20"], num_resamples=50)


def test_equal_systems_differ_by_nothing_at_all():
    values = np.random.default_rng(0).random(1000)
    gap = paired_difference(judged(values), judged(values), "ndcg@20", num_resamples=500)
    assert (gap.mean, gap.low, gap.high, gap.p_value, gap.ties) == (0, 0, 0, 1, 1)
    assert not gap.is_clear


def test_comparisons_that_were_not_made_and_users_that_stand_twice_are_refused():
    table = paired_table(three_systems(), [("good", "base")], num_resamples=50)
    with pytest.raises(ValueError, match="good was not compared with alike"):
        difference(table, "good", "alike", "ndcg@20")
    twice = pl.concat([judged(np.array([0.1, 0.2])), judged(np.array([0.3]))])
    with pytest.raises(ValueError, match="user_idx twice"):
        paired_difference(twice, twice, "ndcg@20")
