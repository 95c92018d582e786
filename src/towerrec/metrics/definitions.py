"""What every figure means: one definition per name, shown beside the figure wherever it stands.

The rules of ties, empty users and unobserved cells are written once, here, in `RULES`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

Better = Literal["higher", "lower"]


@dataclass(frozen=True)
class Definition:
    """What a figure is.

    Attributes:
        title: As people write it, `NDCG@20`.
        text: The formula in a sentence or two; complete, so that it can be computed again from it.
        better: Which way is better; None where neither is, as such.
        source: Paper and section the formula is from; empty where it needs none.
        short: A few words for a terminal.
    """

    title: str
    text: str
    better: Better | None
    source: str = ""
    short: str = ""


RULES: dict[str, str] = {
    "users": (
        "A figure of a list is computed per user and then averaged over the users with at least one relevant item that "
        "may be listed for them; users without one are left out, and all systems are judged on the same users. "
        "Relevant items that no list may hold (seen before, no candidates) are taken out first and counted. "
        "A user may still lack a single figure: GAUC where all rows are of one class, graded NDCG where all candidates "
        "are worth nothing, variety of a list of one; the number of users stands beside each figure."
    ),
    "ties": (
        "Items of equal score are ordered by their row in the item table, the same for every system. "
        "In figures over pairs of rows (XAUC, GAUC) a pair that is scored equal counts one half."
    ),
    "lists": (
        "A list that ends early, or a cut beyond the candidates of a user, has missed the rest: the empty places count "
        "as not relevant, and an ideal list is as long as there is something for it. A cut beyond all candidates there "
        "are is refused."
    ),
    "grades": (
        "A grade below 0 counts as 0 and one above eval.gain_clip as that; of several rows of a user and an item the "
        "largest counts, for relevance too. Where a log has no grades beside 0 and 1 there is no graded NDCG."
    ),
    "unobserved": (
        "A cell without a row is never a negative where candidates are observed: such lists hold only items of the "
        "user's own judged rows, and figures of rows (errors, XAUC, GAUC, calibration) read judged rows alone. "
        "Over the whole catalogue an item without a row counts as not relevant."
    ),
    "intervals": (
        "Intervals hold 95 % of the means of users drawn with replacement (bootstrap, percentiles; Efron 1979). Errors,"
        " XAUC and calibration are of rows: there a drawn user brings all rows, since rows of a user are alike."
    ),
    "tests": (
        "Systems are compared in pairs, on the users that all of them have, by each user's difference. The p-value is "
        "that of a two-sided permutation test that gives every difference a random sign: of all sign patterns where "
        "there are few, "
        "otherwise (1 + patterns at least as extreme) / (1 + patterns drawn) (Phipson and Smyth 2010). p-values are "
        "corrected within a figure for the systems compared (Holm 1979, unless eval.correction says otherwise); a "
        "difference is called more than chance where the interval leaves out 0 and the corrected p is at most .05."
    ),
}
"""The rules that every figure shares: name -> sentences."""


DEFINITIONS: dict[str, Definition] = {
    "precision": Definition(
        "Precision@{k}",
        "Share of the first {k} places that hold a relevant item: hits / {k}, also where the list is shorter.",
        "higher",
        short="hits / {k}",
    ),
    "recall": Definition(
        "Recall@{k}",
        "Share of the user's relevant items that stand among the first {k}: hits / relevant, not hits / min(relevant, "
        "{k}), so a user with more than {k} relevant items cannot reach 1.",
        "higher",
        short="hits / relevant",
    ),
    "ndcg": Definition(
        "NDCG@{k}",
        "Sum of 1 / log2(rank + 1) over the relevant items among the first {k}, divided by that of an ideal list, "
        "which has min(relevant, {k}) relevant items at its top. A relevant item gains 1, any other 0.",
        "higher",
        "Järvelin and Kekäläinen, TOIS 2002; discount as Burges et al., ICML 2005",
        short="gain 0 or 1, ideal list of min(relevant, {k})",
    ),
    "map": Definition(
        "MAP@{k}",
        "Average precision: the precision at the rank of every hit among the first {k}, summed and divided by "
        "min(relevant, {k}), so a perfect list has 1 whatever {k}. Two other definitions are in use, which divide by "
        "all relevant items or by the hits found; their figures are not comparable.",
        "higher",
        "Buckley and Voorhees, SIGIR 2000, with the ideal of the cut",
        short="precision at each hit / min(relevant, {k})",
    ),
    "mrr": Definition(
        "MRR@{k}",
        "1 / rank of the first relevant item, 0 where none stands among the first {k}.",
        "higher",
        "Voorhees, TREC-8 1999",
        short="1 / rank of the first hit",
    ),
    "hit_rate": Definition(
        "HitRate@{k}",
        "1 where any of the first {k} items is relevant, else 0: the share of users with a hit.",
        "higher",
        short="any hit",
    ),
    "coverage": Definition(
        "Coverage@{k}",
        "Share of the candidates that stand among the first {k} of at least one judged user's list.",
        None,
        short="candidates listed for anybody / candidates",
    ),
    "rmse": Definition(
        "RMSE",
        "Root of the mean squared difference between predicted and actual value over the judged rows, in the unit of "
        "the value.",
        "lower",
        short="root of the mean squared error of rows",
    ),
    "mae": Definition(
        "MAE",
        "Mean absolute difference between predicted and actual value over the judged rows, in the unit of the value.",
        "lower",
        short="mean absolute error of rows",
    ),
    "user_rmse": Definition(
        "RMSE within users",
        "RMSE of each user's own judged rows, averaged over the users with a relevant item: every user counts the "
        "same, however many rows there are. Runs are compared by it, user by user.",
        "lower",
        short="RMSE of each user's rows, mean over users",
    ),
    "user_mae": Definition(
        "MAE within users",
        "MAE of each user's own judged rows, averaged over the users with a relevant item: every user counts the "
        "same, however many rows there are. Runs are compared by it, user by user.",
        "lower",
        short="MAE of each user's rows, mean over users",
    ),
    "xauc": Definition(
        "XAUC",
        "Share of the pairs of judged rows with different actual values, of all users together, that the predictions "
        "put in the same order; a pair predicted equal counts one half. One half is chance.",
        "higher",
        "Zhan et al., «Deconfounding Duration Bias in Watch-time Prediction» (D2Q), KDD 2022, over all pairs",
        short="pairs of rows in the right order",
    ),
    "graded_ndcg": Definition(
        "Graded NDCG@{k}",
        "Sum of gain / log2(rank + 1) over the first {k}, divided by that of the user's own candidates in the best "
        "order. The gain is how much the row was worth, its watch ratio where the log has one: as it is, or 2 to that "
        "power less 1 (eval.gain); what lies above eval.gain_clip counts as that (5 for watch ratios), what lies below "
        "0 as 0, and of several rows of a pair the largest. Users whose candidates are all worth nothing are left out.",
        "higher",
        "Järvelin and Kekäläinen, TOIS 2002; exponential gain as Burges et al., ICML 2005",
        short="gain: how much the row was worth",
    ),
    "gauc": Definition(
        "GAUC",
        "Area under the ROC curve of each user's own judged rows, the share of pairs of a relevant and another row "
        "that the scores put in the right order (equal scores: one half), averaged over users. Users whose rows are "
        "all relevant or all not are left out; one half is chance.",
        "higher",
        "per-user AUC: Zhu et al., «Optimized Cost per Click in Taobao Display Advertising», KDD 2017",
        short="AUC within each user's rows, mean over users",
    ),
    "gauc_weighted": Definition(
        "GAUC, weighted",
        "GAUC in which a user counts as often as there are judged rows (impressions) of that user: "
        "sum(rows x AUC) / sum(rows), over users with rows of both classes.",
        "higher",
        "Zhu et al., KDD 2017; as in Zhou et al., «Deep Interest Network», KDD 2018, §6.2",
        short="GAUC, users weighted by their rows",
    ),
    "rmse_seconds": Definition(
        "RMSE in seconds",
        "RMSE of the watch time: predicted and actual watch ratio times the seconds of the video, over the judged rows "
        "whose video has a known length.",
        "lower",
        short="RMSE of watch ratio x seconds of the video",
    ),
    "mae_seconds": Definition(
        "MAE in seconds",
        "MAE of the watch time: predicted and actual watch ratio times the seconds of the video, over the judged rows "
        "whose video has a known length. What papers on watch time report; only comparable on the same rows.",
        "lower",
        short="MAE of watch ratio x seconds of the video",
    ),
    "xauc_seconds": Definition(
        "XAUC in seconds",
        "XAUC of the watch time: pairs of judged rows by predicted and actual watch ratio times the seconds of the "
        "video (of at most 300,000 rows drawn at random). That longer videos are watched for longer counts here.",
        "higher",
        "Zhan et al., KDD 2022",
        short="XAUC of watch ratio x seconds of the video",
    ),
    "calibration_error": Definition(
        "Calibration error",
        "Expected calibration error: the judged rows in bins of equal size by their prediction, |mean prediction - "
        "mean actual value| of each, averaged over rows, in the unit of the value. Noise makes it larger than 0 even "
        "for a perfect model, the more so with few rows in a bin. Its interval draws users and keeps the bins; what "
        "drawing adds to the noise is taken off again.",
        "lower",
        "Naeini et al., AAAI 2015, with bins of equal size; the same of values that are no probabilities",
        short="mean |prediction - actual| of bins",
    ),
    "calibration_slope": Definition(
        "Calibration slope",
        "Slope of actual on predicted values by least squares; for probabilities that of a logistic regression of the "
        "class on the log odds of the prediction. 1 is right; below 1 predictions are too extreme, above 1 too timid. "
        "Its interval draws users, each with all rows.",
        None,
        "Cox, Biometrika 1958; Van Calster et al., Journal of Clinical Epidemiology 2016",
        short="actual on predicted, 1 is right",
    ),
    "explained": Definition(
        "Explained",
        "1 - squared error / squared deviation from the mean of the judged rows: the share of variance explained.",
        "higher",
        short="1 - squared error / variance",
    ),
    "gini": Definition(
        "Gini@{k}",
        "Gini coefficient of how often the candidates stand among the first {k} of the judged users' lists: 0 where "
        "all are shown equally often, (N - 1) / N where one of N candidates has every place. Candidates that are never "
        "shown count as 0, and every place counts once, whatever its rank. Fewer places than candidates keep it above "
        "0.",
        None,
        "Gini 1912; of recommendations Fleder and Hosanagar, Management Science 2009",
        short="inequality of exposure over the candidates",
    ),
    "novelty": Definition(
        "Novelty@{k}",
        "Mean over the first {k} items of -log2 of the share of the training users that saw the item, in bits: ten "
        "bits is what one user in a thousand saw. An item that nobody saw counts as seen by one.",
        None,
        "Mean self-information: Zhou et al., PNAS 2010",
        short="-log2 of the share of training users that saw the item",
    ),
    "popularity_percentile": Definition(
        "Popularity percentile@{k}",
        "Mean over the first {k} items of the share of the candidates with fewer training positives, those with as "
        "many counting half: .5 is a random list, 1 the most popular items.",
        None,
        short="share of candidates with fewer training positives",
    ),
    "tag_diversity": Definition(
        "Diversity by tags@{k}",
        "1 - mean Jaccard similarity (tags in common / tags of either) over all pairs of the first {k} items. Items "
        "without a tag are left out; a list with fewer than two others has no such figure. Tags are the values of the "
        "columns that the report names.",
        None,
        "Intra-list diversity: Ziegler et al., WWW 2005",
        short="1 - mean Jaccard similarity of tags over pairs",
    ),
    "vector_diversity": Definition(
        "Diversity by vectors@{k}",
        "1 - mean cosine over all pairs of the first {k} items, of the item vectors of the judged model for every "
        "system, without folded-in biases. A list of fewer than two has no such figure.",
        None,
        "Intra-list diversity: Ziegler et al., WWW 2005",
        short="1 - mean cosine of the model's item vectors over pairs",
    ),
    "duration_bias": Definition(
        "Duration bias@{k}",
        "Mean log2 duration of the first {k} items less that of the user's candidates: 0 is none, 1 twice as long, -1 "
        "half as long (geometric means, since durations spread over a hundredfold and plain means tell of the longest "
        "few). Items of unknown duration are left out on both sides.",
        None,
        short="log2 of listed duration / candidates' duration",
    ),
    "age_days": Definition(
        "Age in days@{k}",
        "Mean over the first {k} items of the whole days from the item's date to the last training row; an item of a "
        "later date has 0, one without a date is left out.",
        None,
        short="days from the item's date to the last training row",
    ),
    "item_recall": Definition(
        "Recall of items@{k}",
        "Of the relevant items of a group of items, over all judged users together, the share that stands among the "
        "first {k} of their user's list. A ratio of two sums; its interval resamples users.",
        "higher",
        short="relevant items of the group that are listed",
    ),
    "share_of_exposure": Definition(
        "Share of exposure@{k}",
        "Of the places that the lists fill up to {k}, the share held by items of the group. Beside it stand the "
        "group's share of the relevant items (what users wanted) and of the candidates (what a random list would "
        "show).",
        None,
        short="places held by the group / places",
    ),
    "share_of_relevant": Definition(
        "Share of relevant items",
        "Of the relevant items of the judged users, the share that belongs to the group.",
        None,
        short="relevant items of the group / relevant items",
    ),
    "share_of_candidates": Definition(
        "Share of candidates",
        "Of the candidates of the judged users, the share that belongs to the group.",
        None,
        short="candidates of the group / candidates",
    ),
}
"""Every figure by its name without the cut; add yours here."""


def definition(name: str) -> Definition:
    """The definition of a figure as files name it: `ndcg@20`, `rmse`; a name without its cut says «k».

    Raises:
        ValueError: If no figure has this name.
    """
    base, _, cut = name.partition("@")
    if base not in DEFINITIONS:
        raise ValueError(f"no figure is called {name!r}; there are {', '.join(DEFINITIONS)}")
    found, k = DEFINITIONS[base], cut or "k"
    return replace(found, **{f: getattr(found, f).replace("{k}", k) for f in ("title", "text", "short")})


def definitions(names: Iterable[str]) -> dict[str, Definition]:
    """One definition per figure of `names`, each once whatever its cuts: `{"NDCG@k": ...}` by title, in their order."""
    bases = dict.fromkeys(name.partition("@")[0] for name in names)
    found = [definition(base) for base in bases]
    return {one.title: one for one in found}
