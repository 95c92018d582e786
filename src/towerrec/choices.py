"""What `auto` and `null` mean: decisions that depend on the log and on the loss.

Two recipes stand behind them. Labels of shown rows (a watch ratio, liked or not) are predicted row by row from ids and
features. Where the catalogue is ranked for users of whom mostly positives are known, a user is the sum of his items,
and every user draws his items from one softmax over the catalogue.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towerrec.data.prepare import Prepared
from towerrec.data.splits import Given, RandomRows
from towerrec.nn.losses import Loss, Multinomial

AUTO = "auto"

# Training rows per user and item beyond which being shown tells users apart no longer.
_DENSE = 0.05

BY_ROWS: dict[str, Any] = {
    "embedding_dim": 32,
    "use_user_id": True,
    "similarity": "dot",
    "scale": 1.0,
    "learn_scale": True,
    "profile": "none",
}
"""What `null` stands for in the model where rows are predicted or compared one by one."""

BY_USERS: dict[str, Any] = {
    "embedding_dim": 128,
    "use_user_id": False,
    "similarity": "cosine",
    "scale": 5.0,
    "learn_scale": False,
    "profile": "rows",
}
"""The same where the loss reads whole users (`Multinomial`); `positives` where every training row is one."""


def split_node(split: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The split that `split=auto` stands for: the files' own where they bring one, otherwise rows at random.

    Files without a validation file give some of their training rows for it, so that training knows when to stop.
    """
    if split.get("name") != AUTO:
        return dict(split)
    rest = {key: value for key, value in split.items() if key not in ("name", "val_of_train")}
    if data.get("train") is None:
        return {"_target_": f"{RandomRows.__module__}.{RandomRows.__name__}", **rest}
    # The configs of older runs have no such key: they trained without validation.
    val = 0.0 if data.get("val") is not None else split.get("val_of_train", 0.0)
    given = {"candidates": rest["candidates"], "val": val, "seed": rest["seed"]}
    return {"_target_": f"{Given.__module__}.{Given.__name__}", **given}


def loss_node(
    loss: Mapping[str, Any], prepared: Prepared, *, candidates: str | None, like: str | None = None
) -> dict[str, Any]:
    """The loss that `loss=auto` stands for.

    Labels that are no classes are predicted by their squared error. Likes and dislikes are predicted by binary
    cross-entropy where lists are chosen among what a user was shown, and where the log shows the average user much of
    the catalogue, so that being shown says little. Where lists are chosen from the catalogue, and where the log holds
    positives alone, the items compete; what was shown in vain weighs half as much, in all, as what was not.

    Args:
        loss: The config group.
        prepared: The log.
        candidates: What lists are chosen from; None: what the split says.
        like: Name of the loss that `auto` stood for where the model was first trained: it stands for that again.
    """
    if loss.get("name") != AUTO:
        return dict(loss)
    if like in ("mse", "bce"):
        return {"_target_": f"towerrec.nn.losses.{like.upper()}"}
    if not prepared.binary:
        return {"_target_": "towerrec.nn.losses.MSE"}
    num_rows = prepared.store.num_rows("train")
    share = prepared.store.count("train", rule=prepared.positive) / num_rows
    if share == 1.0:
        return {"_target_": "towerrec.nn.losses.Multinomial"}
    density = num_rows / (prepared.schema.num_users * prepared.schema.num_items)
    shown = (candidates or prepared.candidates) == "observed" or density > _DENSE
    if like is None and shown:
        return {"_target_": "towerrec.nn.losses.BCE"}
    return {"_target_": "towerrec.nn.losses.Multinomial", "shown_weight": min(0.5 * share / (1.0 - share), 1.0)}


def positive_share(prepared: Prepared) -> float:
    """Share of the training rows that are positives."""
    return prepared.store.count("train", rule=prepared.positive) / prepared.store.num_rows("train")


def model_node(model: Mapping[str, Any], loss: Loss, *, only_positives: bool = False) -> dict[str, Any]:
    """The model with its `null`s filled in.

    Args:
        model: The config group.
        loss: What is minimised.
        only_positives: Whether every training row is one: a profile of all rows would then hold vectors for what was
            shown in vain, as many as the items have, that nothing ever reads.
    """
    filled = BY_USERS if isinstance(loss, Multinomial) else BY_ROWS
    if only_positives and filled["profile"] == "rows":
        filled = {**filled, "profile": "positives"}
    return {key: filled[key] if value is None and key in filled else value for key, value in model.items()}


def probes_scale(model: Mapping[str, Any], loss: Loss) -> bool:
    """Whether `model.scale=null` is to be found by short fits: where it is the sharpness of one softmax per user."""
    cosine = model["similarity"] in (None, "cosine")
    return isinstance(loss, Multinomial) and loss.mode == "max" and cosine and model["scale"] is None


def watched(callbacks: Mapping[str, Any], loss: Loss) -> tuple[str, str]:
    """The validation figure that chooses the best epoch, and whether its `max` or `min` is best: the loss's own, unless
    `callbacks.checkpoint` names one."""
    checkpoint = callbacks.get("checkpoint") or {}
    if checkpoint.get("monitor") is None:
        return loss.monitor, loss.mode
    return str(checkpoint["monitor"]), str(checkpoint["mode"])


def unit(loss: Loss, *, history_length: int) -> str:
    """What `loader.unit=null` stands for: a loss with one softmax per user reads all rows of a user at once.

    A history is that of a row's moment, so where one is read, rows come one by one.
    """
    return "users" if isinstance(loss, Multinomial) and history_length == 0 else "rows"


def batch_size(number: int, unit: str) -> int:
    """What `loader.batch_size=null` stands for, by the number of rows or users that have one.

    Rows: a power of two that gives an epoch at least 64 steps, between 128 and 4,096. Users: one that gives it at least
    16 steps, between 64 and 512.
    """
    steps, least, most = (16, 64, 512) if unit == "users" else (64, 128, 4096)
    return min(max(1 << (max(number // steps, 1).bit_length() - 1), least), most)


def max_epochs(unit: str) -> int:
    """What `trainer.max_epochs=null` stands for: an epoch over users has few steps. Early stopping ends most runs
    before."""
    return 30 if unit == "users" else 10
