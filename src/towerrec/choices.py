"""What `auto` means: decisions that depend on what the log holds."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from towerrec.data.prepare import Prepared

AUTO = "auto"


def split_node(split: Mapping[str, Any], data: Mapping[str, Any]) -> dict[str, Any]:
    """The split that `split=auto` stands for: the files' own where they bring one, otherwise rows at random."""
    if split.get("name") != AUTO:
        return dict(split)
    rest = {key: value for key, value in split.items() if key != "name"}
    if data.get("train") is not None:
        return {"_target_": "towerrec.data.splits.Given", "candidates": rest["candidates"]}
    return {"_target_": "towerrec.data.splits.RandomRows", **rest}


def loss_node(loss: Mapping[str, Any], prepared: Prepared) -> dict[str, Any]:
    """The loss that `loss=auto` stands for.

    Labels that are no classes are predicted by their squared error; likes and dislikes by binary cross-entropy; and a
    log of positives alone has nothing but the other items to be compared with.
    """
    if loss.get("name") != AUTO:
        return dict(loss)
    if not prepared.binary:
        return {"_target_": "towerrec.nn.losses.MSE"}
    labels = prepared.store.rows("train").label
    name = "BCE" if float(labels.min()) < float(labels.max()) else "InBatchSoftmax"
    return {"_target_": f"towerrec.nn.losses.{name}"}


def batch_size(num_rows: int) -> int:
    """Rows per step that `loader.batch_size=null` stands for: a power of two that gives an epoch at least 64 steps,
    between 128 and 4,096."""
    most = max(num_rows // 64, 1)
    return min(max(1 << (most.bit_length() - 1), 128), 4096)
