"""One row of the HParams dashboard: what sets a run apart from others, and what came out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import yaml  # comes with Hydra and Lightning

from towerrec.report.interpret import main_metric

# The knobs that everybody turns, as the run has settled them; of the rest only what the command says.
_MAIN = {
    "name": "model",
    "model.embedding_dim": "model.embedding_dim",
    "loss": "loss",
    "negatives._target_": "negatives",
    "optimizer._target_": "optimizer",
    "optimizer.lr": "optimizer.lr",
    "optimizer.embedding_lr": "optimizer.embedding_lr",
    "optimizer.weight_decay": "optimizer.weight_decay",
    "label._target_": "label",
    "split._target_": "split",
    "batch_size": "loader.batch_size",
    "max_epochs": "trainer.max_epochs",
    "seed": "seed",
}

# Words that change where a run happens and what it shows, not what it learns or is judged by.
_ELSEWHERE = ("paths", "hydra", "logger", "callbacks", "progress", "debug", "eval.ks", "eval.num_resamples")

Value = bool | float | str


def columns(settings: Mapping[str, Any], overrides: Iterable[str]) -> dict[str, Value]:
    """Names and values of a run's row.

    Args:
        settings: What the run was trained with, flat (`training.settings`); null values have no column.
        overrides: The words of its command, such as `loss=bpr`, `+model.dropout=0.1` and `~callbacks.progress`.
    """
    row = {shown: _plain(settings[name]) for name, shown in _MAIN.items() if settings.get(name) is not None}
    for name, value in map(_spoken, overrides):
        if not f"{name}.".replace("/", ".").startswith(tuple(f"{word}." for word in _ELSEWHERE)):
            # What was said may be `auto` or `null`: the column shows what it came to.
            settled = settings.get(name)
            row.setdefault(name, _plain(value if settled is None else settled))
    return row


def _spoken(word: str) -> tuple[str, Any]:
    """Key and value of an override."""
    key, given, text = word.partition("=")
    name = key.lstrip("+~").split("@")[0]
    if key.startswith("~") or not given:
        return name, "removed"
    try:
        return name, yaml.safe_load(text)
    except yaml.YAMLError:  # what Hydra understands and YAML does not stays text
        return name, text


def _plain(value: Any) -> Value:
    if isinstance(value, str):
        return value.rpartition(".")[2] if value.startswith("towerrec.") else value
    return value if isinstance(value, bool | int | float) else str(value)


def figures(judged: Mapping[str, Mapping[str, Mapping[str, Any]]], facts: Mapping[str, Any]) -> dict[str, float]:
    """The figures of a run's row by tag: the best on validation, the main ones on test, and the cost.

    TensorBoard shows five columns of figures at first, in the order of their names: cost and the watched figure on
    validation and test.

    Args:
        judged: By `val` and `test`, name -> {"mean": ...}, see `Evaluation.metrics`.
        facts: What `run.json` says.
    """
    found: dict[str, float] = {}
    watched = "" if facts["monitor"] is None else facts["monitor"].rpartition("/")[2]
    if watched:
        found[f"result/val_{watched}"] = facts["monitored"]
    for on, metrics in judged.items():
        first = watched if watched in metrics else main_metric(metrics)
        for name in main_figures(metrics, watched):
            found.setdefault(f"{'result' if name == first else 'result_more'}/{on}_{name}", metrics[name]["mean"])
    found["cost/seconds"] = facts["seconds"]
    found["cost/rows_per_s"] = facts["rows_per_second"]
    found["cost/peak_memory_mib"] = facts["peak_memory_bytes"] / 2**20
    if facts["peak_device_memory_bytes"] is not None:
        found["system/peak_device_memory_mib"] = facts["peak_device_memory_bytes"] / 2**20
    return found


def main_figures(metrics: Mapping[str, Any], watched: str) -> list[str]:
    """Of many figures the one that chose the model, NDCG and recall at the report's cut-off, GAUC, RMSE and XAUC."""
    cut = main_metric(metrics).partition("@")[2]
    wanted = (watched, f"ndcg@{cut}", f"recall@{cut}", "gauc", "rmse", "xauc")
    return [name for name in dict.fromkeys(wanted) if name in metrics]
