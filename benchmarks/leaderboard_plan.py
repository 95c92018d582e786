"""What stands on the board of real rows: tasks, and the runs of each model at it."""

from __future__ import annotations

from dataclasses import dataclass, field

TUNED = "tuned"
"""Its settings were chosen on validation rows (benchmarks/ABLATIONS.md)."""
DEFAULTS = "defaults"
"""The task's rows, split and loss, and for the rest what towerrec ships; epochs by validation, as everywhere."""


@dataclass(frozen=True)
class Model:
    """A row of the board: the command of a run without its seed and fold."""

    overrides: tuple[str, ...]
    settings: str = DEFAULTS


@dataclass(frozen=True)
class Task:
    """A table of the board.

    Attributes:
        title: The task in words.
        figures: What is shown, the first decides about the order.
        models: By name.
        left_out: Models that have nothing to say here, and why.
        remarks: What is to be known of a row, in sentences.
        beside: The model whose runs the baselines are judged beside: one that reads features, as some baselines do.
        parts: Overrides of every fold; one empty part where there are none.
        seeds: Of the repeats.
    """

    title: str
    figures: tuple[str, ...]
    models: dict[str, Model]
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: tuple[str, ...] = ()
    beside: str = "two_tower"
    parts: tuple[tuple[str, ...], ...] = ((),)
    seeds: tuple[int, ...] = (0, 1, 2)

    @property
    def of_rows(self) -> bool:
        """Whether predicted values are judged, row by row, and no lists."""
        return self.figures[0] in ("rmse", "mae", "xauc")


def _defaults(*base: str, without: tuple[str, ...] = ()) -> dict[str, Model]:
    """The shipped models at one task.

    The factors of ids alone read no features. The towers of features alone end in rectified outputs without a bias, as
    in the Keras notebook: a product of theirs is never below 0 and a probability never below a half, so that
    cross-entropy teaches them nothing, and they get the squared error that they were made for.
    """
    models = {
        "matrix_factorization": Model((*base, "model=matrix_factorization", "features=ids")),
        "two_tower": Model((*base, "model=two_tower")),
        "two_tower_features": Model((*base, "model=two_tower_features", "model.global_bias=false", "loss=mse")),
        "two_tower_dcn": Model((*base, "model=two_tower_dcn")),
    }
    return {name: model for name, model in models.items() if name not in without}


FEATURES = (
    "two_tower_features stands here as in the Keras notebook, with rectified outputs and no bias, so it learns by "
    "squared error: its probabilities would never be below a half. As shipped it has a bias."
)

UNSEEN = (
    "Systems with the very same figures know nothing of what was never seen: all their scores are equal, and the order "
    "is that of ids."
)

NO_TIMES = dict.fromkeys(
    ("two_tower_history", "two_tower_transformer"), "reads what a user liked before each row; these rows have no times"
)

TASKS = {
    "watch_ratio": Task(
        "Watch ratio: 117,113 rows, 80/20",
        ("rmse", "mae", "xauc"),
        {
            "best_watch_ratio": Model(("experiment=best_watch_ratio",), TUNED),
            "best_watch_ratio_order": Model(("experiment=best_watch_ratio_order",), TUNED),
            **_defaults("experiment=watch_ratio_sample", "refit=true"),
        },
        NO_TIMES,
    ),
    "warm": Task(
        "Liked, warm: known users, known videos",
        ("ndcg@20", "recall@100"),
        {
            "best_warm": Model(("experiment=best_warm",), TUNED),
            **_defaults("experiment=small_warm", "refit=true"),
        },
        NO_TIMES,
        (FEATURES,),
    ),
    "cold_users": Task(
        "Liked, cold users: a fifth of the users unseen",
        ("ndcg@20", "recall@100"),
        {
            "best_cold_users": Model(("experiment=best_cold_users",), TUNED),
            **_defaults("experiment=small_cold_users", "refit=true"),
        },
        NO_TIMES,
        (FEATURES, UNSEEN),
    ),
    "cold_items": Task(
        "Liked, cold videos: a fifth of the videos unseen, mean of five folds",
        ("ndcg@20", "recall@100"),
        {
            "best_cold_items": Model(("experiment=best_cold_items",), TUNED),
            **_defaults("experiment=small_cold_items", "refit=true", without=("matrix_factorization",)),
        },
        {"matrix_factorization": "knows ids only, and those of the test were never seen", **NO_TIMES},
        (FEATURES, UNSEEN),
        parts=tuple((f"split.test_remainder={j}", f"split.val_remainder={(j + 1) % 5}") for j in range(5)),
        seeds=(0,),
    ),
    "kuairand_signed": Task(
        "KuaiRand, likes and skips: the published split",
        ("ndcg@20", "recall@20"),
        {
            # The shipped defaults, whole: nothing was tuned here.
            "best_kuairand_signed": Model(("experiment=best_kuairand_signed",)),
            "matrix_factorization": Model(("experiment=best_kuairand_signed", "model=matrix_factorization")),
        },
        {
            "two_tower": "is best_kuairand_signed, which is the defaults",
            "two_tower_dcn": "crosses features, and these rows have none, so it is two_tower",
            "two_tower_features": "reads features only, and these rows have none",
            **NO_TIMES,
        },
        beside="best_kuairand_signed",
    ),
}
"""Cheapest first within a seed; the real rows have no times, so no model of histories stands here."""


def run_name(model: str, seed: int, part: int, num_parts: int) -> str:
    """Of a run's directory."""
    return f"{model}/{seed}" if num_parts == 1 else f"{model}/{seed}-{part}"
