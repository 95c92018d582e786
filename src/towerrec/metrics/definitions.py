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
        "Relevant items that no list may hold (seen before, no candidates) are taken out first and counted."
    ),
    "ties": (
        "Items of equal score are ordered by their row in the item table, the same for every system. "
        "In figures over pairs of rows (XAUC, GAUC) a pair that is scored equal counts one half."
    ),
    "lists": (
        "A list that ends early, or a cut beyond its end, has missed the rest: the empty places count as not relevant."
    ),
    "unobserved": (
        "A cell without a row is never a negative where candidates are observed: such lists hold only items of the "
        "user's own judged rows, and figures of rows (errors, XAUC, GAUC, calibration) read judged rows alone. "
        "Over the whole catalogue an item without a row counts as not relevant."
    ),
    "intervals": (
        "Intervals hold 95 % of the means of users drawn with replacement (bootstrap, percentiles; Efron 1979); those "
        "of errors and XAUC draw rows."
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
    "xauc": Definition(
        "XAUC",
        "Share of the pairs of judged rows with different actual values, of all users together, that the predictions "
        "put in the same order; a pair predicted equal counts one half. One half is chance.",
        "higher",
        "Zhan et al., «Deconfounding Duration Bias in Watch-time Prediction» (D2Q), KDD 2022, over all pairs",
        short="pairs of rows in the right order",
    ),
    "explained": Definition(
        "Explained",
        "1 - squared error / squared deviation from the mean of the judged rows: the share of variance explained.",
        "higher",
        short="1 - squared error / variance",
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
