"""Which independent implementation each figure is tested against, and by which test.

`python tests/unit/agreement.py` prints it as a table. Where a library defines a figure otherwise, `relation` says how
its value becomes ours.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Agreement:
    """`test` is the test function, `relation` what is done to the other's value."""

    library: str
    function: str
    test: str
    relation: str = "equal"


_RANKING = "test_a_figure_of_a_list_is_that_of_trec_eval"
_PAIRS = "test_xauc_is_the_concordance_of_somers"
_GROUPS = "test_figures_of_item_groups_are_group_bys_of_polars"
_ERRORS = "test_errors_are_those_of_scikit_learn"

AGREEMENT: dict[str, Agreement] = {
    "precision": Agreement("pytrec_eval-terrier", "P", _RANKING),
    "recall": Agreement("pytrec_eval-terrier", "recall", _RANKING),
    "ndcg": Agreement("pytrec_eval-terrier", "ndcg_cut", _RANKING),
    "map": Agreement(
        "pytrec_eval-terrier", "map_cut", _RANKING, "x relevant / min(relevant, k): theirs divides by all relevant"
    ),
    "mrr": Agreement("pytrec_eval-terrier", "recip_rank", _RANKING, "equal, of lists cut to k: theirs has no cut"),
    "hit_rate": Agreement("pytrec_eval-terrier", "success", _RANKING),
    "coverage": Agreement("numpy", "unique", "test_coverage_is_the_distinct_items_of_numpy"),
    "graded_ndcg": Agreement(
        "scikit-learn", "ndcg_score", "test_graded_ndcg_is_that_of_scikit_learn", "equal; 0 for users we leave out"
    ),
    "gauc": Agreement("scikit-learn", "roc_auc_score", "test_gauc_is_the_roc_auc_of_every_users_rows"),
    "gauc_weighted": Agreement(
        "scikit-learn", "roc_auc_score", "test_gauc_is_the_roc_auc_of_every_users_rows", "numpy.average by rows"
    ),
    "rmse": Agreement("scikit-learn", "root_mean_squared_error", _ERRORS),
    "mae": Agreement("scikit-learn", "mean_absolute_error", _ERRORS),
    "user_rmse": Agreement(
        "scikit-learn", "root_mean_squared_error", "test_errors_within_users_are_those_of_scikit_learn", "user by user"
    ),
    "user_mae": Agreement(
        "scikit-learn", "mean_absolute_error", "test_errors_within_users_are_those_of_scikit_learn", "user by user"
    ),
    "explained": Agreement("scikit-learn", "r2_score", _ERRORS),
    "xauc": Agreement("scipy", "stats.somersd", _PAIRS, "(D + 1) / 2, actual values first"),
    "rmse_seconds": Agreement("scikit-learn", "root_mean_squared_error", "test_seconds_are_errors_of_watch_time"),
    "mae_seconds": Agreement("scikit-learn", "mean_absolute_error", "test_seconds_are_errors_of_watch_time"),
    "xauc_seconds": Agreement("scipy", "stats.somersd", "test_seconds_are_errors_of_watch_time", "(D + 1) / 2"),
    "calibration_error": Agreement(
        "scikit-learn",
        "calibration_curve",
        "test_the_calibration_curve_is_that_of_scikit_learn",
        "mean |difference| of its quantile bins; torchmetrics bins by equal width",
    ),
    "calibration_slope": Agreement(
        "scikit-learn, scipy",
        "LogisticRegression, stats.linregress",
        "test_slopes_are_those_of_regressions",
        "without a penalty, on log odds; least squares for values",
    ),
    "gini": Agreement(
        "scikit-learn", "auc", "test_gini_is_twice_the_area_beside_the_lorenz_curve", "1 - 2 x that of the Lorenz curve"
    ),
    "novelty": Agreement("scipy", "special.entr", "test_novelty_is_the_information_of_scipy", "/ share / ln 2"),
    "popularity_percentile": Agreement(
        "scipy", "stats.percentileofscore", "test_a_popularity_percentile_is_that_of_scipy", "/ 100"
    ),
    "tag_diversity": Agreement(
        "scipy", "spatial.distance.pdist", "test_diversity_by_tags_is_the_mean_jaccard_distance_of_scipy"
    ),
    "vector_diversity": Agreement(
        "scipy", "spatial.distance.pdist", "test_diversity_by_vectors_is_the_mean_cosine_distance_of_scipy"
    ),
    "duration_bias": Agreement(
        "scipy", "stats.gmean", "test_duration_bias_is_a_ratio_of_geometric_means_of_scipy", "log2 of the ratio"
    ),
    "age_days": Agreement("numpy", "datetime64", "test_age_is_the_days_of_numpys_dates"),
    "item_recall": Agreement("polars", "join, group", _GROUPS),
    "share_of_exposure": Agreement("polars", "join, group", _GROUPS),
    "share_of_relevant": Agreement("polars", "join, group", _GROUPS),
    "share_of_candidates": Agreement("polars", "join, group", _GROUPS),
}


def table() -> str:
    """All of it as a Markdown table."""
    rows = ["| figure | independent implementation | relation |", "|---|---|---|"]
    rows += [f"| {n} | {a.library}: `{a.function}` | {a.relation} |" for n, a in AGREEMENT.items()]
    return "\n".join(rows)


if __name__ == "__main__":
    print(table())
