"""What training_vs_peers.py compares: the rows of its table, their settings, their references and their goals."""

from __future__ import annotations

from dataclasses import dataclass

import environments

FEATURES = "id,onehot,category,user_active_degree,is_live_streamer,is_video_author"
TWO_TOWER = [
    "model=two_tower",
    "model.embedding_dim=64",
    "model.residual_id=false",
    "+model.feature_dims.user_id=64",
    "+model.feature_dims.item_id=64",
    "model.use_user_id=true",
    "model.user_hidden=[128]",
    "model.item_hidden=[128]",
    "model.user_bias=false",
    "model.item_bias=false",
    "model.profile=none",
    "model.similarity=dot",
]
ADAM = ["optimizer.lr=0.001", "optimizer.embedding_lr=null", "optimizer.weight_decay=0", "optimizer.embedding_decay=0"]
WARM = ["experiment=best_warm", "refit=false", "scheduler=constant", "loader.unit=rows", "split.val=null", *ADAM]


@dataclass(frozen=True)
class Rival:
    """A reference in one row of the table: its script, its options, and how many times its rate is to be reached.

    `goal` above 1: towerrec is to be so many times as fast; below: to need at most 1 / goal of its time. Where a round
    is only `part` of an epoch, the quality is not compared: it has seen less.
    """

    name: str
    script: str
    options: tuple[str, ...]
    environment: str = environments.OWN
    goal: float | None = None
    part: float = 1.0
    batch: int | None = None


HAND = 1 / 1.3


def _hand(loss: str, *, part: float = 1.0) -> tuple[Rival, ...]:
    """Both hand loops: towers for every row of the batch (`part` of an epoch), and once for every distinct one."""
    script, options = "hand_loop.py", ("--loss", loss)
    return (
        Rival("hand loop", script, (*options, "--towers", "rows"), goal=HAND, part=part),
        Rival("hand loop, distinct rows", script, (*options, "--towers", "distinct"), goal=HAND),
    )


def _idiomatic(loss: str, *, rows: float | None, batches: float | None, part: float) -> tuple[Rival, ...]:
    script, options = "idiomatic_lightning.py", ("--loss", loss, "--fetch")
    return (
        Rival("Lightning + DataLoader, row by row", script, (*options, "rows"), goal=rows, part=part),
        Rival("Lightning + DataLoader, whole batches", script, (*options, "batches"), goal=batches),
    )


@dataclass(frozen=True)
class Row:
    """A row of the table.

    Attributes:
        title: In words.
        overrides: Of `train.py`.
        label: What the score is, see `references/rows.py`.
        guard: The figure that must not be worse, and by how much it may be (noise of one seed).
        batches: Sizes at which all are compared.
        rivals: The references.
        rounds: Turns of each.
        only_positives: Whether it learns from the positives alone.
        ids_only: Whether there is nothing but ids, and each row meets a negative.
        log: Whether it reads the simulated log.
    """

    title: str
    overrides: list[str]
    label: str
    guard: tuple[str, float]
    batches: tuple[int, ...]
    rivals: tuple[Rival, ...]
    rounds: int = 3
    only_positives: bool = False
    ids_only: bool = False
    log: bool = False


ROWS = {
    "bce": Row(
        "two_tower, ids + 24 categorical features, real small labels, binary cross-entropy on all rows",
        [*WARM, "features=kuairec", f"features.use=[{FEATURES}]", *TWO_TOWER, "loss=bce"],
        "logit",
        ("bce", 0.002),
        (4096, 16384, 65536),
        (*_idiomatic("bce", rows=15.0, batches=4.0, part=0.06), *_hand("bce", part=0.25)),
        rounds=2,
    ),
    "softmax": Row(
        "the same, in-batch softmax over the positives",
        [
            *WARM,
            "features=kuairec",
            f"features.use=[{FEATURES}]",
            *TWO_TOWER,
            "model.global_bias=false",
            "loss=in_batch_softmax",
        ],
        "rank",
        ("ndcg@20", 0.005),
        (4096, 1024),
        (
            *_idiomatic("softmax", rows=3.0, batches=None, part=1.0),
            Rival("tensorflow-recommenders", "tfrs.py", (), "tensorflow", goal=2.0),
            Rival("keras-rs", "keras_rs_retrieval.py", (), "tensorflow", goal=2.0),
            *_hand("softmax"),
        ),
        only_positives=True,
    ),
    "bpr": Row(
        "matrix_factorization, ids only, BPR with one uniform negative",
        [
            *WARM,
            "data.users=null",  # the log alone, as RecBole reads it: no rows for ids that never occur
            "data.items=null",
            "model=matrix_factorization",
            "model.embedding_dim=64",
            "model.init_std=0.03",  # between the scales of RecBole's Xavier for the two tables (.024 and .037)
            "loss=bpr",
            "negatives=uniform",
            "negatives.per_row=1",
        ],
        "rank",
        ("ndcg@20", 0.005),
        (4096,),
        (Rival("RecBole BPR", "recbole_bpr.py", (), "recbole", goal=2.0), *_hand("bpr")[:1]),
        rounds=15,
        only_positives=True,
        ids_only=True,
    ),
    "notebook": Row(
        "the notebook's model on the first million rows of the simulated log, MSE",
        ["experiment=notebook"],
        "ratio",
        ("rmse", 0.002),
        (32768,),
        (
            Rival("Keras, batch 32", "keras_notebook.py", (), "tensorflow", goal=50.0, batch=32),
            Rival("Keras, our batch", "keras_notebook.py", (), "tensorflow", goal=4.0),
            *_hand("mse"),
        ),
        rounds=4,  # and one to warm up: the notebook's five epochs
        log=True,
    ),
}
