"""What the lists are like and whom they serve, in sentences computed from figures beyond accuracy and slices."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from towerrec.metrics.definitions import definition
from towerrec.report.beyond import AGE, DURATION, GINI, NOVELTY, POPULARITY, TAGS, Beyond
from towerrec.report.interpret import main_metric
from towerrec.report.judge import Judged

Row = dict[str, Any]

CLEAR = 0.02
"""Differences of percentiles and shares below this are not called a lean."""


def interpret_lists(systems: Sequence[Judged], beyond: Beyond) -> list[str]:
    """What the first system's lists are like, beside what users wanted and what could have been listed.

    Args:
        systems: The judged system first, then baselines and bounds.
        beyond: What the figures were made from.
    """
    judged = systems[0]
    k = main_metric(judged.summary).split("@")[1]
    own = {name.split("@")[0]: f["mean"] for name, f in judged.summary.items() if name.endswith(f"@{k}")}
    wanted, possible = (beyond.references.get(name, {}) for name in ("relevant", "candidates"))
    sentences = []
    if POPULARITY in wanted and POPULARITY not in own:
        sentences.append("No judged user has a candidate on the list: there is nothing to say of what lists are like.")
    elif POPULARITY in wanted:
        sentences.append(_popularity(own, wanted, k))
    if DURATION in own and DURATION in wanted:
        sentences.append(_duration(own[DURATION], wanted[DURATION]))
    if AGE in own and AGE in wanted:
        sentences.append(
            f"At the end of training listed items are {own[AGE]:.0f} days old, relevant ones {wanted[AGE]:.0f} and "
            f"candidates {possible[AGE]:.0f}."
        )
    sentences += _alike(systems, f"{TAGS}@{k}")
    sentences += [
        f"There is no {definition(name).title.removesuffix('@k')}: {why}." for name, why in beyond.absent.items()
    ]
    return sentences


def interpret_slices(slices: pl.DataFrame, system: str) -> list[str]:
    """For whom and for which items a system does well or badly; groups that are small are passed over.

    Args:
        slices: The table of `report.slices`.
        system: The one to speak of.
    """
    found: list[str] = []
    known = slices.filter(~pl.col("small"))
    first = known.filter((pl.col("side") == "user") & (pl.col("system") == system))["metric"].unique(
        maintain_order=True
    )
    for metric in first.head(1):
        new = _rows(known, "new_users", system, metric)
        if len(new) == 2:
            found.append(
                f"New users ({new[0]['users']:,} without a training row) get {_with_interval(new[0])} "
                f"{definition(metric).title}, known ones {_with_interval(new[1])}."
            )
        # Where every row is a positive both are the same groups.
        of_rows, of_likes = (_rows(known, name, system, metric) for name in ("activity", "history"))
        found += _ends(of_rows, metric, "training rows")
        if [(row["users"], row["mean"]) for row in of_rows] != [(row["users"], row["mean"]) for row in of_likes]:
            found += _ends(of_likes, metric, "training positives")
    for name, what in (("cold_items", "Items without a training row"), ("popularity", "")):
        found += _exposed(known, name, system, what)
    return found


def _popularity(own: Mapping[str, float], wanted: Mapping[str, float], k: str) -> str:
    shown, relevant = own[POPULARITY], wanted[POPULARITY]
    if abs(shown - relevant) < CLEAR:
        lean = "the lists are as popular as what users like"
    else:
        lean = f"the lists lean to {'more' if shown > relevant else 'less'} popular items than users do"
    return (
        f"The first {k} places show items at popularity percentile {shown:.2f} ({2 ** -own[NOVELTY]:.1%} of the "
        f"training users saw the typical one); relevant items are at {relevant:.2f}, candidates at 0.50: {lean}. "
        f"The Gini coefficient of exposure is {own[GINI]:.2f} (0: all candidates are shown equally often)."
    )


def _duration(own: float, wanted: float) -> str:
    return (
        f"Listed items are {2**own:.2f} times as long as the user's candidates, relevant ones {2**wanted:.2f} times: "
        + (
            "no lean beyond what users like."
            if abs(own - wanted) < CLEAR
            else f"the lists lean to {'longer' if own > wanted else 'shorter'} items than users do."
        )
    )


def _alike(systems: Sequence[Judged], name: str) -> list[str]:
    own = systems[0].summary.get(name)
    chance = next((s.summary[name] for s in systems[1:] if s.name == "random" and name in s.summary), None)
    if own is None or chance is None:
        return []
    return [
        f"Two items of a list share {1 - own['mean']:.1%} of their tags, two of a random list {1 - chance['mean']:.1%}."
    ]


def _ends(rows: Sequence[Row], metric: str, of: str) -> list[str]:
    """The lowest group beside the highest, where their intervals do not overlap."""
    rows = [row for row in rows if row["group"][:1].isdigit()]
    if len(rows) < 2:
        return []
    low, high = rows[0], rows[-1]
    if low["low"] <= high["high"] and high["low"] <= low["high"]:
        return []
    better = "more" if high["mean"] > low["mean"] else "fewer"
    return [
        f"Users with {better} {of} are served better: {definition(metric).title} is {_with_interval(low)} for those "
        f"with {low['group']} and {_with_interval(high)} for those with {high['group']}."
    ]


def _exposed(known: pl.DataFrame, name: str, system: str, what: str) -> list[str]:
    """A group's share of the lists beside its share of what is relevant: the first of two, or the last of many."""
    metrics = known.filter((pl.col("slice") == name) & (pl.col("system") == system))["metric"]
    exposure = next((m for m in metrics if m.startswith("share_of_exposure")), None)
    recall = next((m for m in metrics if m.startswith("item_recall")), None)
    if exposure is None or recall is None:
        return []
    shown, wanted = _rows(known, name, system, exposure), _rows(known, name, None, "share_of_relevant")
    found = _rows(known, name, system, recall)
    place = 0 if what else -1
    if not shown or not wanted or not found or (what and not shown[0]["group"].startswith("cold")):
        return []
    group = what or f"Items with {shown[place]['group']} training positives"
    return [
        f"{group} are {wanted[place]['mean']:.1%} of the relevant items and hold {shown[place]['mean']:.1%} of the "
        f"places; {found[place]['mean']:.1%} of those relevant are listed."
    ]


def _rows(known: pl.DataFrame, name: str, system: str | None, metric: str) -> list[Row]:
    one = pl.col("system").is_null() if system is None else pl.col("system") == system
    chosen = known.filter((pl.col("slice") == name) & (pl.col("metric") == metric) & one)
    return chosen.sort("order").to_dicts()


def _with_interval(row: Row) -> str:
    return f"{row['mean']:.4f} ({row['low']:.4f} to {row['high']:.4f})"
