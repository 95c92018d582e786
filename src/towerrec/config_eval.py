"""How lists are judged, as a config says it."""

from __future__ import annotations

from dataclasses import dataclass, field

from towerrec.config_types import at_least_one, closest, one_of

GAINS = ("linear", "exponential")
CORRECTIONS = ("holm", "benjamini_hochberg", "none")
USER_SLICES = ("activity", "new_users", "history", "relevant")
ITEM_SLICES = ("cold_items", "popularity", "duration", "age")
SLICED = ("ndcg", "recall", "hit_rate", "precision", "map", "mrr")


@dataclass
class FactsConfig:
    """Columns of the item table behind figures beyond accuracy and slices.

    Args:
        duration: How long an item is, in any unit; null: `duration_ms`.
        date: Since when there is an item; null: the first column of dates.
        tags: What an item is about, lists or categories; null: every list, and categories whose name speaks of tags,
            categories, genres or topics; []: none.
    """

    duration: str | None = None
    date: str | None = None
    tags: list[str] | None = None


@dataclass
class SlicesConfig:
    """For whom and for what the figures are taken apart.

    Args:
        k: Cut of all figures of the slices; null: that of the first figure of the report.
        metrics: Ranking metrics of the groups of users.
        users: Groups of users by `activity` (training rows), `new_users` (without any), `history` (training positives)
            and `relevant` (relevant items).
        user_columns: Columns of the user table whose values are groups too.
        items: Groups of items: `cold_items` (without a training row), `popularity` (training positives), `duration` and
            `age`.
        item_columns: Columns of the item table whose values are groups too; null: those of `eval.facts.tags` that have
            at most 64 values.
        quantiles: Groups of equal size that a number is cut into.
        popularity_quantiles: The same for the popularity of items.
        max_groups: Largest values of a column that are groups of their own; the others are one together.
    """

    k: int | None = None
    metrics: list[str] = field(default_factory=lambda: ["ndcg", "recall", "hit_rate"])
    users: list[str] = field(default_factory=lambda: list(USER_SLICES))
    user_columns: list[str] = field(default_factory=list)
    items: list[str] = field(default_factory=lambda: list(ITEM_SLICES))
    item_columns: list[str] | None = None
    quantiles: int = 5
    popularity_quantiles: int = 10
    max_groups: int = 12


@dataclass
class EvalConfig:
    """How lists are judged.

    Args:
        split: The rows that are judged: `test` or `val`.
        ks: Cut-offs of the ranking metrics; null: 10, 20, 50 and 100, as far as there are candidates (`protocol.CUTS`).
        candidates: `catalogue` (all items not seen), `held_out` (of those the items in anybody's rows of that split),
            `observed` (the user's own rows of that split) or a file of item ids; null: as the split recommends.
        positive: Which labels count as relevant, such as `"> 0"` or `">= 2"`; null takes the label's own rule.
        exclude_val: Whether lists of test users leave out their validation items too, as they do their training items.
        baselines: Lists judged beside the model.
        num_resamples: Bootstrap resamples of users behind each 95 % interval, and random flips behind each p-value;
            fewer for more than 13,000 users, 1,000 at least (`report.bootstrap.enough_resamples`).
        correction: How p-values are corrected for the number of systems compared: `holm`, `benjamini_hochberg`, `none`
            (`report.correction`).
        gain: What graded NDCG counts: `linear`, how much a row was worth (its watch ratio), or `exponential`, 2 to that
            power less 1.
        gain_clip: Largest worth of a row, inf for none; null: 5 where it is a watch ratio, otherwise none.
        calibration_bins: Bins of the calibration curve, each of about equally many rows.
        num_examples: Users shown in the report.
        facts: Columns of the item table behind figures beyond accuracy.
        slices: For whom and for what the figures are taken apart.
    """

    split: str = "test"
    ks: list[int] | None = None
    candidates: str | None = None
    positive: str | None = None
    exclude_val: bool = True
    baselines: list[str] = field(default_factory=lambda: ["random", "most_viewed", "item_rate"])
    num_resamples: int = 10_000
    correction: str = "holm"
    gain: str = "linear"
    gain_clip: float | None = None
    calibration_bins: int = 20
    num_examples: int = 3
    facts: FactsConfig = field(default_factory=FactsConfig)
    slices: SlicesConfig = field(default_factory=SlicesConfig)


def check_eval(config: EvalConfig) -> None:
    """Refuse what no judgement can be made by.

    Raises:
        ValueError: Naming the key and the rule.
    """
    one_of("eval.split", config.split, ("test", "val"))
    if config.ks is not None and (not config.ks or any(k < 1 for k in config.ks)):
        raise ValueError(f"eval.ks must hold cut-offs of at least 1, for instance [10,20], got {list(config.ks)}")
    for name in ("num_resamples", "calibration_bins"):
        at_least_one(f"eval.{name}", getattr(config, name))
    one_of("eval.correction", config.correction, CORRECTIONS)
    one_of("eval.gain", config.gain, GAINS)
    if config.gain_clip is not None and not config.gain_clip > 0:
        raise ValueError(f"eval.gain_clip must be above 0, inf for no clip, got {config.gain_clip}")
    check_slices(config)


def check_slices(config: EvalConfig) -> None:
    """Refuse slices that are not known.

    Raises:
        ValueError: Naming the key and the rule.
    """
    slices = config.slices
    for key, given, known in (
        ("metrics", slices.metrics, SLICED),
        ("users", slices.users, USER_SLICES),
        ("items", slices.items, ITEM_SLICES),
    ):
        for word in given:
            if word not in known:
                raise ValueError(f"eval.slices.{key}: {word!r} is not known{closest(word, list(known))}")
    for key, value in (("quantiles", slices.quantiles), ("popularity_quantiles", slices.popularity_quantiles)):
        if value < 2:
            raise ValueError(f"eval.slices.{key} must be at least 2, got {value}")
    if slices.max_groups < 1:
        raise ValueError(f"eval.slices.max_groups must be at least 1, got {slices.max_groups}")
