"""What each of the three scripts may be told: a dataclass per task, checked by `config`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from towerrec.config_eval import EvalConfig
from towerrec.config_loader import LoaderConfig
from towerrec.config_prior import PriorConfig, PriorCurveConfig


@dataclass
class PathsConfig:
    """Where things are kept, relative to the working directory."""

    data_dir: str = "data"
    cache_dir: str = "data/cache"
    log_dir: str = "logs"


@dataclass
class DataTaskConfig:
    """What every task that reads a log needs.

    Args:
        audit: What follows from a leak that the audit finds (`towerrec.auditing`): `fail`, `warn`, or `off`: no audit.
        progress: `auto`: bars on a terminal; `bar`: bars everywhere; `off`: none.
    """

    data: dict[str, Any] = field(default_factory=dict)
    cleaning: dict[str, Any] = field(default_factory=dict)
    label: dict[str, Any] = field(default_factory=dict)
    split: dict[str, Any] = field(default_factory=dict)
    features: dict[str, Any] = field(default_factory=dict)
    eval: EvalConfig = field(default_factory=EvalConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    seed: int = 0
    audit: str = "fail"
    progress: str = "auto"


@dataclass
class TrainConfig(DataTaskConfig):
    """`train.py`.

    Args:
        refit: Once validation has chosen the number of epochs, train anew for so many on training and validation rows
            together (`refit.fit_twice`).
        run: Run directory of a training that was stopped, to go on with by its own settings (`towerrec.resuming`).
        continue_from: Run directory to go on from, on a log with new days; what is not said is as it was there
            (`towerrec.continuing`).
        continue_checkpoint: Its `best` or `last`.
        continue_replay: Share of the rows no later than its own that are learnt from again.
    """

    model: dict[str, Any] = field(default_factory=dict)
    loss: dict[str, Any] = field(default_factory=dict)
    negatives: dict[str, Any] = field(default_factory=dict)
    optimizer: dict[str, Any] = field(default_factory=dict)
    scheduler: dict[str, Any] = field(default_factory=dict)
    trainer: dict[str, Any] = field(default_factory=dict)
    callbacks: dict[str, Any] = field(default_factory=dict)
    logger: dict[str, Any] = field(default_factory=dict)
    loader: LoaderConfig = field(default_factory=LoaderConfig)
    refit: bool = False
    run: str | None = None
    continue_from: str | None = None
    continue_checkpoint: str = "best"
    continue_replay: float = 1.0


@dataclass
class RecommendConfig:
    """`recommend.py`.

    Args:
        run: Run directory that `train.py` printed.
        checkpoint: `best` or `last`.
        n: Length of every list.
        users: File of users, or a list of ids: a `user_id` column, one id a line, or feature columns for users the log
            does not know. A column `at` says when each of them asks.
        items: File of new items with their feature columns, added to the catalogue.
        history: File of what users did since the training, or new users ever: `user_id`, `item_id` and, if known,
            `label` and `timestamp`. Models with histories or profiles read it, and it counts as seen.
        candidates: File of item ids, or a list of them; only these are recommended. With a column `user_id` each user
            has a list of his own.
        deny: File of item ids, or a list of them, that are not recommended, likewise; it wins over `candidates`.
        exclude_seen: Leave out what the user saw in training and validation, and in the history.
        similar: `true`, or a file or list of item ids: write the items most like these instead of lists for users.
        at: Moment of the request (`2020-09-01T20:00`) for models that read hour, weekday or the item's age.
        format: `parquet`, `csv` or `jsonl`; null goes by the ending of `output`, and is `parquet` where that has none.
        output: File to write; null writes `recommendations.<format>` (or `similar.<format>`) into the run
            directory. Processes that torchrun or srun started write a directory instead, of one part each; null:
            `recommendations`.
        batch_users: Users encoded at once.
        memory_mb: Megabytes of scores held at once; null takes 128 on the CPU and 2,048 on an accelerator.
        precision: `float32`, or `bfloat16` for accelerators: rough scores first, then float32, with the same lists.
        device: `auto`, `cpu`, `cuda`, `cuda:1`, ...
        prior: Freshness at retrieval.
        progress: `auto`: bars on a terminal; `bar`: bars everywhere; `off`: none.
        export: Folder to write towers, vocabularies and index into, to serve without this package; instead of lists.
        export_index: Approximate index of the export: `auto` chooses by the number of items between `flat`, `hnsw` and
            `ivf_pq`; `exact`: none.
    """

    run: str | None = None
    checkpoint: str = "best"
    n: int = 100
    users: Any = None
    items: str | None = None
    history: str | None = None
    candidates: Any = None
    deny: Any = None
    exclude_seen: bool = True
    similar: Any = None
    at: str | None = None
    format: str | None = None
    output: str | None = None
    batch_users: int = 1024
    memory_mb: float | None = None
    precision: str = "float32"
    device: str = "auto"
    prior: PriorConfig = field(default_factory=PriorConfig)
    paths: PathsConfig = field(default_factory=PathsConfig)
    progress: str = "auto"
    export: str | None = None
    export_index: str = "auto"


@dataclass
class EvaluateConfig(DataTaskConfig):
    """`evaluate.py`: exactly one of `run`, `recommendations`, `baseline` and `compare`.

    Args:
        run: Run directory; the data, label, split and features are those of its training.
        checkpoint: `best` or `last`.
        recommendations: List file of any system (`user_id`, `item_id` and `rank` or `score`), or directory of parts.
        baseline: A baseline to judge like a model.
        compare: Two or more of run directories, evaluation directories and sweeps; a sweep stands for its settings.
        compare_against: `first` compares the first with each of the others, `all` each with each.
        compare_grouped: Runs that differ in seed, fold or window only count as one setting, in `sweeps`, among `all`
            that are given, or among `none`.
        output: Directory for `metrics.json`, `per_user.parquet` and `report.html`; null: inside the run directory,
            or a fresh one under `paths.log_dir`.
        device: `auto`, `cpu`, `cuda`, ...
        prior: Freshness at retrieval, for `run`, and the curve it draws.
    """

    run: str | None = None
    checkpoint: str = "best"
    recommendations: str | None = None
    baseline: dict[str, Any] = field(default_factory=dict)
    compare: list[str] | None = None
    compare_against: str = "first"
    compare_grouped: str = "sweeps"
    output: str | None = None
    device: str = "auto"
    prior: PriorCurveConfig = field(default_factory=PriorCurveConfig)
