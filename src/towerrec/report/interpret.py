"""What the figures say, in sentences computed from them: who is better, by how much, and is it chance."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import polars as pl

from towerrec.report.interpret_values import interpret_auc, interpret_values, percent
from towerrec.report.judge import NUM_RELEVANT, Judged, Summary
from towerrec.report.paired import Difference, difference


def main_metric(figures: Collection[str]) -> str:
    """NDCG at 20, or at the cut closest to it: the one figure to name first."""
    cuts = [int(name.split("@")[1]) for name in figures if name.startswith("ndcg@")]
    if not cuts:
        raise ValueError(f"the summary has no ndcg@k; it has {', '.join(figures)}")
    return f"ndcg@{min(cuts, key=lambda k: (abs(k - 20), k))}"


def interpret(
    systems: Sequence[Judged],
    *,
    num_candidates: int,
    paired: pl.DataFrame | None = None,
    dropped: int = 0,
    values: Summary | None = None,
    constant_values: Mapping[str, Mapping[str, float]] | None = None,
) -> list[str]:
    """Sentences about the first system, beside the others.

    Args:
        systems: The judged system first, then baselines and bounds.
        num_candidates: Items that could be listed for somebody.
        paired: The first beside each of the others (`paired.paired_table`); None where it stands alone.
        dropped: Relevant items that no list may hold.
        values: RMSE, MAE and XAUC of predicted values, where the system predicts any.
        constant_values: The same of simple predictors, by name (`train mean`, `user and item bias`).
    """
    judged, others = systems[0], systems[1:]
    metric = main_metric(judged.summary)

    def against(other: Judged) -> Difference:
        assert paired is not None, "systems that stand beside the first are compared with it"
        return difference(paired, judged.name, other.name, metric)

    sentences = [_own_figure(judged, metric)]
    rivals = [s for s in others if not s.bound and s.name != "random"]
    chance = [s for s in others if s.name == "random"]
    if rivals:
        best = max(rivals, key=lambda s: s.summary[metric]["mean"])
        sentences.append(_beside(best, metric, against(best)))
    elif chance:
        sentences.append(_beside(chance[0], metric, against(chance[0])))
    if rivals and chance:
        sentences.append(_beside_chance(judged, chance[0], metric, against(chance[0])))
    sentences += [_taste(judged, bound, metric, against(bound)) for bound in others if bound.bound]
    sentences.append(_variety(judged, metric, num_candidates))
    sentences += _who_profits(judged, metric)
    if dropped:
        sentences.append(
            f"{dropped:,} relevant items could not be listed (seen before, or no candidates) and count for no system."
        )
    sentences += interpret_auc(judged.summary, judged.per_user.height)
    return sentences + interpret_values(judged.name, values or {}, constant_values or {})


def _own_figure(judged: Judged, metric: str) -> str:
    figure = judged.summary[metric]
    k = metric.split("@")[1]
    none = (judged.per_user[f"hit_rate@{k}"] == 0).mean()
    return (
        f"{judged.name} reaches {_title(metric)} {figure['mean']:.4f} (95 % interval {figure['low']:.4f} to "
        f"{figure['high']:.4f}) over {figure['users']:,} users; {percent(_number(none))} of them find nothing "
        f"relevant among the first {k}."
    )


def _beside(other: Judged, metric: str, gap: Difference) -> str:
    base = other.summary[metric]["mean"]
    share = f" ({gap.mean / base:+.1%})" if base > 0 else ""
    verdict = "better" if gap.mean > 0 else "worse"
    certain = "which is more than chance" if gap.is_clear else "which could be chance"
    return (
        f"It is {verdict} than {other.name}, the strongest baseline of those shown ({base:.4f}), by "
        f"{abs(gap.mean):.4f}{share}, {certain} when compared user by user ({gap.words}), with "
        f"{percent(gap.wins)} of the users better off and {percent(gap.losses)} worse."
    )


def _beside_chance(judged: Judged, chance: Judged, metric: str, gap: Difference) -> str:
    start, base = f"A random order scores {_figure(chance, metric)}", chance.summary[metric]["mean"]
    if not gap.is_clear:
        return f"{start}: {judged.name} cannot be told from it ({gap.words})."
    if base == 0:
        return f"{start}."
    return f"{start}: {judged.name} is at {judged.summary[metric]['mean'] / base:.1f} times that."


def _taste(judged: Judged, bound: Judged, metric: str, gap: Difference) -> str:
    start = f"The best single list for everybody, known only in hindsight, reaches {_figure(bound, metric)}"
    name, between = judged.name, gap.words
    if not gap.is_clear:
        return f"{start}; {name} cannot be told from it ({between}): taste is neither shown nor ruled out."
    if gap.mean > 0:
        return f"{start}; {name} passes it ({between}), so it knows something about users, not only about items."
    return (
        f"{start}; {name} stays below it ({between}), so these lists give no proof of personal taste: "
        "knowing the items better alone would explain such a figure."
    )


def _variety(judged: Judged, metric: str, num_candidates: int) -> str:
    k = int(metric.split("@")[1])
    coverage = judged.summary[f"coverage@{k}"]
    shown = round(coverage["mean"] * num_candidates)
    text = (
        f"The first {k} places of {coverage['users']:,} lists show {shown:,} of {num_candidates:,} candidates "
        f"({percent(coverage['mean'])})"
    )
    if shown <= 2 * k and coverage["users"] > 1:
        return f"{text}: it is nearly the same list for everybody."
    return f"{text}."


def _who_profits(judged: Judged, metric: str) -> list[str]:
    """Users with few relevant items beside users with many, when their numbers differ."""
    table = judged.per_user.select(NUM_RELEVANT, metric)
    low, high = (table[NUM_RELEVANT].quantile(q, interpolation="lower") for q in (0.25, 0.75))
    if low is None or high is None or low == high:
        return []
    few, many = table.filter(pl.col(NUM_RELEVANT) <= low), table.filter(pl.col(NUM_RELEVANT) >= high)
    # Many users have the same small number, so a quarter of them is often half.
    return [
        f"Users with {_at_most(int(low))} ({percent(few.height / table.height)} of them) get {_title(metric)} "
        f"{_number(few[metric].mean()):.4f}, those with {int(high):,} or more ({percent(many.height / table.height)}) "
        f"{_number(many[metric].mean()):.4f}."
    ]


def _at_most(number: int) -> str:
    return "one relevant item" if number == 1 else f"at most {number:,} relevant items"


def _figure(judged: Judged, metric: str) -> str:
    return f"{judged.summary[metric]['mean']:.4f}"


def _title(metric: str) -> str:
    """`ndcg@20` as people write it."""
    name, k = metric.split("@")
    known = {"ndcg": "NDCG", "map": "MAP", "mrr": "MRR", "hit_rate": "hit rate"}
    return f"{known.get(name, name)}@{k}"


def _number(value: Any) -> float:
    assert isinstance(value, int | float)
    return float(value)
